package group

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A ReplicaStatus is the state of one replica, as the supervisor knows it.
type ReplicaStatus struct {
	Index int
	Name  string
	// PID is 0 while the replica has no process.
	PID   int
	Alive bool // its process is alive, as far as the kernel has reported
	Ready bool // it is registered and answers
	// Role, Epoch, Control and Reply are from the replica's record in the registry. They are zero
	// until the replica is registered.
	Role           registry.Role
	Epoch          uint64
	Control, Reply string
	// Err is the failure of the replica's last process, until the next one is ready.
	Err error
	// InSync is set, in a group that replicates, while the replica has executed all changes that
	// were answered and the primary waits for it. After a promotion it is false for all replicas
	// until the new primary has found out which of them are in sync.
	InSync bool
	// Restarts is the number of times that the replica's process was replaced.
	Restarts int
}

// A Status is the state of a group at one moment. It is a copy, which belongs to the receiver, with
// its Replicas. The errors in it are shared, and must not be changed.
type Status struct {
	// Epoch is the number of promotions. Primary is the index of the primary, or -1.
	Epoch   uint64
	Primary int
	// Degraded means that the limit of restarts was reached, and no replica has become healthy
	// since.
	Degraded bool
	// Quarantined is the number of requests that are refused at present because they ended the
	// processes that executed them. Quarantines is the number of quarantines so far.
	Quarantined, Quarantines int
	// Replicates means that the group keeps a state.
	Replicates bool
	// OutputLost is the number of bytes of the replicas' output that Config.Stdout and
	// Config.Stderr did not take, because they failed or were too slow.
	OutputLost uint64
	Replicas   []ReplicaStatus
}

// Alive returns the number of replicas whose process is alive.
func (s Status) Alive() (n int) {
	for _, r := range s.Replicas {
		if r.Alive {
			n++
		}
	}
	return n
}

// Healthy reports whether all replicas are ready and know their roles of this epoch, one of them is
// the primary and, in a group that replicates, all are in sync.
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

func (s Status) clone() Status {
	s.Replicas = slices.Clone(s.Replicas)
	return s
}

// A board passes the last status to goroutines that wait for a change.
type board struct {
	mu      sync.Mutex
	status  Status
	changed chan struct{} // closed at the next change
	ended   error         // why there will be no further change
}

func newBoard() *board {
	return &board{changed: make(chan struct{}), status: Status{Primary: none}}
}

// get returns a status that belongs to the caller, a channel that is closed when it has changed,
// and why it will not.
func (b *board) get() (Status, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status.clone(), b.changed, b.ended
}

func (b *board) set(s Status, ended error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status, b.ended = s, ended
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait blocks until cond holds or panics, ctx is done, or the board has ended.
func (b *board) wait(ctx context.Context, log *slog.Logger,
	cond func(Status) bool) (Status, error) {
	for {
		s, changed, ended := b.get()
		holds := false
		// on this goroutine, for conditions that use t.Fatal or locks of their caller
		if err := here(log, "the condition of Group.Wait", func() {
			holds = cond(s.clone()) // it may change or keep what it gets
		}); err != nil || holds {
			return s, err
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
