package group

import (
	"context"
	"sync"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A ReplicaStatus is the state of one replica.
type ReplicaStatus struct {
	Index int
	Name  string
	// PID is 0 while no process runs in this place.
	PID   int
	Alive bool // its process lives, as far as the kernel has told
	Ready bool // it is registered and answers
	// Role, Epoch, Control and Reply are from its record in the registry: what
	// the replica says of itself. Zero until it is registered.
	Role           registry.Role
	Epoch          uint64
	Control, Reply string
	// Err is how the last process in this place failed, until the next is
	// ready.
	Err error
	// InSync is set, in a group that replicates, while the replica has all
	// that was answered, and the primary waits for it. A new primary first finds
	// out who is; until then nobody is in sync.
	InSync bool
	// Restarts counts how often its process was replaced.
	Restarts int
}

// A Status is the state of a group at one moment.
type Status struct {
	// Epoch numbers the promotions; Primary is the index of the primary, or -1.
	Epoch   uint64
	Primary int
	// Degraded means that the limit of restarts was reached and no replica has
	// become healthy since.
	Degraded bool
	// Quarantined is how many requests are refused at present because they ended the
	// processes that executed them, and Quarantines how many were put in quarantine so far.
	Quarantined, Quarantines int
	// Replicates means that the group keeps a state.
	Replicates bool
	// OutputLost counts the bytes of the replicas' output that Config.Stdout and
	// Config.Stderr did not take: they failed, or were too slow.
	OutputLost uint64
	Replicas   []ReplicaStatus
}

// Alive returns the number of replicas whose process lives.
func (s Status) Alive() (n int) {
	for _, r := range s.Replicas {
		if r.Alive {
			n++
		}
	}
	return n
}

// Healthy reports whether all replicas are ready, one of them is the primary,
// and all know their roles of this epoch and have the state, if there is one.
func (s Status) Healthy() bool {
	for _, r := range s.Replicas {
		want := registry.RoleStandby
		if r.Index == s.Primary {
			want = registry.RolePrimary
		}
		if !r.Ready || r.Role != want || r.Epoch != s.Epoch || s.Replicates && !r.InSync {
			return false
		}
	}
	return s.Primary != none
}

// A board shows the last status to those who wait for a change.
type board struct {
	mu      sync.Mutex
	status  Status
	changed chan struct{} // closed at the next change
	ended   error         // why there will be no change
}

func newBoard() *board {
	return &board{changed: make(chan struct{}), status: Status{Primary: none}}
}

func (b *board) get() (Status, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.changed, b.ended
}

func (b *board) set(s Status, ended error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status, b.ended = s, ended
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait blocks until cond holds, ctx is done or the board has ended.
func (b *board) wait(ctx context.Context, cond func(Status) bool) (Status, error) {
	for {
		s, changed, ended := b.get()
		if cond(s) {
			return s, nil
		}
		if ended != nil {
			return s, ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}
