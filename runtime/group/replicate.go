package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime"
)

// A replicator keeps the state of a member equal to its group's: as the primary
// it has the standbys execute what changes the state (leader.go), as a standby
// it executes what the primary sends (replicate_standby.go).
type replicator struct {
	m        *Member
	state    State
	limits   Replication
	log      *slog.Logger
	services []*ipc.Service
	invalid  error // why they cannot be replicated

	// order is held while the state changes: by a call, a restore, or the
	// beginning of a reign. It guards what follows.
	order    sync.Mutex
	at       position
	builder  *flatbuffers.Builder
	session  uint64 // of the primary that this standby listens to
	incoming []byte // the snapshot that it sends

	takeover sync.Mutex             // held while a reign begins
	leader   atomic.Pointer[leader] // of this process's last reign; nil before the first

	stop   context.CancelFunc
	server *ipc.Server
	tasks  sync.WaitGroup
	note   *os.File // the group's, to tell its supervisor of changes
}

func newReplicator(m *Member) (*replicator, error) {
	limits, on := m.page.replication()
	if !on {
		return nil, nil
	}
	if m.cfg.State == nil {
		return nil, fmt.Errorf("group %s replicates its state, but this process hands it none; "+
			"set MemberConfig.State", m.service)
	}
	log := m.cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	note, err := m.dir.Root().OpenFile(pagePath(m.service), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &replicator{m: m, state: m.cfg.State, limits: limits,
		builder: flatbuffers.NewBuilder(256),
		log:     log.With("instance", m.Name()), note: note}, nil
}

// ServerOptions returns what the instance's server needs besides options of
// its own: the services, the member as its fence, and its guard against requests that
// end the processes that execute them; in a group that keeps the
// services' state also what keeps it, for which their handlers must all be calls:
// one-way messages and calls handled in place are an error of Announce.
//
// Interceptors given before these options see every call first. Those given
// after them see it together with the handler, on the primary alone.
func (m *Member) ServerOptions(services ...*ipc.Service) []ipc.ServerOption {
	opts := []ipc.ServerOption{ipc.WithFence(m)}
	for _, s := range services {
		opts = append(opts, s)
	}
	if m.guard != nil {
		opts = append(opts, ipc.WithGuard(m.guard))
	}
	r := m.replicator
	if r == nil {
		return opts
	}
	r.services = services
	for _, s := range services {
		r.invalid = sys.JoinErrors(r.invalid, s.Applicable())
	}
	return append(opts, ipc.WithServerInterceptor(r.intercept))
}

// start begins to listen to primaries; the instance must not be registered yet.
func (r *replicator) start() error {
	if r.services == nil {
		return fmt.Errorf(
			"group %s replicates its state; make the server with Member.ServerOptions", r.m.service)
	}
	if r.invalid != nil {
		return fmt.Errorf("group %s replicates its state, which only calls may change: %w",
			r.m.service, r.invalid)
	}
	l, err := ipc.Listen(replicaChannel(r.m.Name()), ipc.WithDomain(r.m.dir.Path()))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	opts := append(r.announced(), r.standbyService(), ipc.WithMaxMessage(longestPacket),
		ipc.WithLogger(r.log))
	r.server = ipc.NewServer(opts...)
	r.tasks.Go(func() { r.server.Serve(ctx, l) })
	return nil
}

// close ends all that start and the reign began.
func (r *replicator) close() {
	defer r.note.Close()
	if r.stop == nil {
		return
	}
	r.stop()
	r.server.Close()
	r.takeover.Lock() // a reign that begins has begun
	if l := r.leader.Load(); l != nil {
		l.end(fmt.Errorf("%s is closed", r.m.Name()))
		l.tasks.Wait()
	}
	r.takeover.Unlock()
	r.tasks.Wait()
}

// follow is called with every change of the reign.
func (r *replicator) follow(now reign) {
	if now.primary != r.m.index {
		r.abdicate()
		return
	}
	r.tasks.Go(func() {
		if _, err := r.lead(); err != nil {
			r.log.Warn("cannot take over", "err", err)
		}
	})
}

// abdicate ends what this process still does as the primary of a reign that is
// over.
func (r *replicator) abdicate() {
	if l := r.leader.Load(); l != nil {
		l.end(errors.New("the reign is over"))
	}
}

// intercept stands before the handlers of the instance's server.
func (r *replicator) intercept(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	if call.Kind != ipc.KindCall {
		return next(ctx) // a stream changes no state that is kept; there are no messages
	}
	l, err := r.lead()
	if err != nil {
		return &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted, Err: err}
	}
	if call.Method.ReadOnly {
		return l.read(ctx, next)
	}
	return l.change(ctx, call, next)
}

// lead returns the leader of the present reign. When the reign has just begun it
// takes over first: it asks the standbys that live how much they have, for no
// longer than AckTimeout, and publishes which are in sync.
func (r *replicator) lead() (*leader, error) {
	if l, err := r.ruling(); l != nil || err != nil {
		return l, err
	}
	r.takeover.Lock()
	defer r.takeover.Unlock()
	if l, err := r.ruling(); l != nil || err != nil {
		return l, err
	}
	if old := r.leader.Load(); old != nil {
		r.abdicate()
		old.tasks.Wait()
	}
	l, err := r.ascend(r.m.page.reign())
	if err != nil {
		return nil, err
	}
	r.leader.Store(l)
	return l, nil
}

// ruling returns the leader of the present reign if it has taken over, and an
// error if another instance rules.
func (r *replicator) ruling() (*leader, error) {
	now := r.m.page.reign()
	if now.primary != r.m.index {
		return nil, r.m.notPrimary(now)
	}
	if l := r.leader.Load(); l != nil && l.epoch == now.epoch {
		return l, nil
	}
	return nil, nil
}

// apply executes an encoded call and returns the digest of its answer. It needs
// r.order.
func (r *replicator) apply(e *entry) uint32 {
	var reply []byte
	var err error = ipc.Unimplemented(fmt.Sprintf("method %#x", e.method))
	for _, s := range r.services {
		reply, err = s.Apply(context.Background(), r.builder, e.method, e.body)
		if ipc.CodeOf(err) != ipc.CodeUnimplemented {
			break
		}
	}
	return digestOf(reply, err)
}

// word returns a word of the instance's own page.
func (r *replicator) word(off int) word { return wordAt(r.m.place, off) }

// tell wakes the supervisor to look at the instance's words.
func (r *replicator) tell() {
	if _, err := r.note.WriteAt([]byte{0}, int64(placeOffset(r.m.index+1)-1)); err != nil {
		r.log.Error("cannot wake the supervisor", "err", err)
	}
}

// accuse has the supervisor replace a standby that does not do as the primary.
func (r *replicator) accuse(s *standby, why error) {
	setText(r.m.place, offAccusation, why.Error())
	r.word(offAccused).Store(accusation(s.place, s.rec.Incarnation))
	r.tell()
}

// within bounds what a standby may take for one step, whose work took this process as long as
// work says. A standby that executes what took the primary long is not late for that.
func (r *replicator) within(ctx context.Context, work time.Duration) (context.Context,
	context.CancelFunc) {
	return context.WithTimeout(ctx, r.limits.AckTimeout+slowness*work)
}

// slowness is how many times as long as the primary a standby may take for its work: its
// processors may be busy with others just then.
const slowness = 4

// backOff is how long the primary waits after the nth failure in a row to reach
// a standby.
func backOff(n int) time.Duration { return min(time.Millisecond<<min(n, 10), time.Second) }
