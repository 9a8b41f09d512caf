package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime"
)

// A replicator keeps the state of a replica equal to its group's. As the primary it has the
// standbys execute the changes of the state (replicate_primary.go). As a standby it executes the
// changes that the primary sends (replicate_standby.go).
//
// Lock order: takeover, order, primary.mu.
type replicator struct {
	replica  *Replica
	state    State
	limits   Replication
	log      *slog.Logger
	services []*ipc.Service
	handler  *ipc.Handler // of the services, for the changes of another primary
	invalid  error        // why the services cannot be replicated

	// order is held while the state changes: by a call, a restore, or the beginning of a reign. It
	// guards the fields below.
	order   sync.Mutex
	at      position
	builder *flatbuffers.Builder
	session uint64 // id of the session to which this standby listens
	// lastWork is the time that this standby took for the last changes that it was sent at once,
	// and lastEnd is when it had executed them.
	lastWork time.Duration
	lastEnd  time.Time
	incoming transfer

	takeover sync.Mutex              // held while a reign begins
	primary  atomic.Pointer[primary] // of the last reign of this process; nil before the first one

	synced     kept // offSynced
	vandalised bool // the last check has found a word of the page overwritten

	stop   context.CancelFunc
	check  *sys.Check // calls republish
	server *ipc.Server
	tasks  sync.WaitGroup
	file   *os.File // the group's file, to wake its supervisor
}

func newReplicator(r *Replica) (*replicator, error) {
	if !r.terms.replicates {
		return nil, nil
	}
	if r.cfg.State == nil {
		return nil, fmt.Errorf("group %s replicates its state, but this process hands it none; "+
			"set JoinConfig.State", r.service)
	}
	file, err := r.dir.Root().OpenFile(pagePath(r.service), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &replicator{replica: r, state: r.cfg.State, limits: r.terms.limits,
		builder: flatbuffers.NewBuilder(256),
		log:     r.cfg.Logger.With("replica", r.Name()), file: file,
		synced: kept{word: wordAt(r.place, offSynced)}}, nil
}

// ServerOptions returns the options that the replica's server needs: the services, the replica as
// the fence, and a guard against requests that end the processes that execute them. In a group that
// keeps a state, it also returns the interceptor that replicates the calls of the services. All
// methods of the services must then be ordinary calls, or stream and be read_only: for one-way
// messages, calls in place and other streaming methods, [Replica.Announce] returns an error.
//
// Interceptors given before these options see every call first. Interceptors given after them see a
// call only on the primary, together with the handler. In a group that keeps a state, an
// interceptor before these options makes each call wait for the standbys by itself: the calls of a
// client then share fewer round trips. The options include [ipc.WithYield].
func (r *Replica) ServerOptions(services ...*ipc.Service) []ipc.ServerOption {
	opts := []ipc.ServerOption{ipc.WithFence(r)}
	for _, s := range services {
		opts = append(opts, s)
	}
	if r == nil {
		return opts // and the fence admits nothing
	}
	if r.guard != nil {
		opts = append(opts, ipc.WithGuard(r.guard))
	}
	keeps := r.replicator
	if keeps == nil {
		return opts
	}
	keeps.services = slices.Clone(services)
	for _, s := range services {
		if s == nil {
			keeps.invalid = errNilService
			break
		}
		keeps.invalid = sys.JoinErrors(keeps.invalid, s.Applicable())
	}
	if keeps.invalid == nil {
		keeps.handler, keeps.invalid = newHandler(services)
	}
	return append(opts, ipc.WithServerInterceptor(keeps.intercept), ipc.WithYield())
}

// start starts to listen to primaries. The replica must not be registered yet.
func (r *replicator) start() error {
	if r.services == nil {
		return fmt.Errorf(
			"group %s replicates its state; make the server with Replica.ServerOptions",
			r.replica.service)
	}
	if r.invalid != nil {
		return fmt.Errorf("group %s replicates its state, which only calls may change: %w",
			r.replica.service, r.invalid)
	}
	l, err := r.listen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.server = ipc.NewServer(append(r.announced(), r.standbyService(),
		ipc.WithMaxMessage(longestPacket), ipc.WithLogger(r.log), ipc.WithYield())...)
	r.tasks.Go(func() { r.server.Serve(ctx, l) })
	r.check = sys.NewCheck(r.republish)
	return nil
}

// listen takes the channel of this replica. A process that ends without a supervisor gives up its
// name before its channel, and the next supervisor waits for the name.
func (r *replicator) listen() (*ipc.Listener, error) {
	patience := sys.NewPatience(ipc.DefaultPatience)
	for {
		wait := patience.Next()
		l, err := ipc.Listen(replicaChannel(r.replica.Name()),
			ipc.WithDomain(r.replica.dir.Path()))
		if wait == 0 || ipc.CodeOf(err) != ipc.CodeAlreadyExists {
			return l, err
		}
		time.Sleep(min(wait, 10*time.Millisecond))
	}
}

// republish stores again what another process has overwritten in the page of this replica. Without
// that, the supervisor would take the replicas in sync for others until the end of the reign.
func (r *replicator) republish() {
	overwritten := r.synced.restore()
	if overwritten {
		r.tell()
	}
	if p := r.primary.Load(); p != nil && p.republish() {
		overwritten = true
	}
	if overwritten && !r.vandalised {
		r.log.Error("another process has overwritten the page of this replica in the group's file")
	}
	r.vandalised = overwritten
}

// A kept is a word of the page of this replica, of which the process keeps the value.
type kept struct {
	mu    sync.Mutex
	word  word
	value uint64
}

func (k *kept) store(v uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value = v
	k.word.Store(v)
}

func (k *kept) load() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value
}

// restore stores the value again if the word has another one.
func (k *kept) restore() (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed = k.word.Load() != k.value
	if changed {
		k.word.Store(k.value)
	}
	return changed
}

// close ends the goroutines of start and of the reign.
func (r *replicator) close() {
	defer r.file.Close()
	if r.stop == nil {
		return
	}
	r.stop()
	r.check.Stop()
	r.server.Close()
	r.takeover.Lock() // waits for a reign that is beginning
	if p := r.primary.Load(); p != nil {
		p.end(fmt.Errorf("%s is closed", r.replica.Name()))
		p.tasks.Wait()
	}
	r.takeover.Unlock()
	r.tasks.Wait()
}

// reignChanged is called after every change of the reign.
func (r *replicator) reignChanged(now reign) {
	if now.primary != r.replica.index {
		r.abdicate()
		return
	}
	r.tasks.Go(func() {
		if _, err := r.asPrimary(); err != nil {
			r.log.Warn("cannot take over", "err", err)
		}
	})
}

// abdicate ends the work of this process as the primary of a reign that is over.
func (r *replicator) abdicate() {
	if p := r.primary.Load(); p != nil {
		p.end(errors.New("the reign is over"))
	}
}

// intercept is called before the handlers of the replica's server.
func (r *replicator) intercept(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	if call.Kind != ipc.KindCall && call.Kind != ipc.KindStreamingCall {
		return next(ctx) // a stream does not change the kept state, and there are no messages
	}
	p, err := r.asPrimary()
	if err != nil {
		return &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted, Err: err}
	}
	switch {
	case call.Kind == ipc.KindStreamingCall:
		return p.stream(ctx, call, next) // read_only, see start
	case call.Method.ReadOnly:
		return p.read(ctx, call, next)
	}
	return p.change(ctx, call, next)
}

// asPrimary returns the primary of the present reign. If the reign has just begun, it first takes
// over: it asks the standbys for their positions, and publishes which of them are in sync.
func (r *replicator) asPrimary() (*primary, error) {
	if p, _, err := r.ruling(); p != nil || err != nil {
		return p, err
	}
	r.takeover.Lock()
	defer r.takeover.Unlock()
	p, now, err := r.ruling()
	if p != nil || err != nil {
		return p, err
	}
	if former := r.primary.Load(); former != nil {
		r.abdicate()
		former.tasks.Wait()
	}
	if p, err = r.beginReign(now); err != nil {
		return nil, err
	}
	r.primary.Store(p)
	return p, nil
}

// ruling returns the present reign, its primary if it has taken over, and an error if another
// replica is the primary.
func (r *replicator) ruling() (p *primary, now reign, err error) {
	now = r.replica.page.reign()
	if now.primary != r.replica.index {
		return nil, now, r.replica.notPrimary(now)
	}
	if p := r.primary.Load(); p != nil && p.epoch == now.epoch {
		return p, now, nil
	}
	return nil, now, nil
}

// setSynced stores whether this process has the state.
func (r *replicator) setSynced(s syncState) {
	r.synced.store(packSync(r.replica.incarnation, s))
}

func (r *replicator) isSynced(s syncState) bool {
	return r.synced.load() == packSync(r.replica.incarnation, s)
}

// apply executes an encoded call and returns the digest of its answer. The caller must hold
// r.order.
func (r *replicator) apply(e *entry) uint32 {
	answer, err := r.handler.Handle(context.Background(), &ipc.Inbound{Method: e.method,
		Body: e.body, Builder: r.builder})
	return digestOf(answer.Body, err)
}

// newHandler returns the handler of services for changes that the primary has sent.
func newHandler(services []*ipc.Service) (*ipc.Handler, error) {
	opts := make([]ipc.ServerOption, len(services))
	for i, s := range services {
		opts[i] = s
	}
	return ipc.NewHandler(opts...)
}

// word returns a word of the page of this replica.
func (r *replicator) word(off int) word { return wordAt(r.replica.place, off) }

// tell wakes the supervisor to check the words of this replica.
func (r *replicator) tell() {
	if _, err := r.file.WriteAt([]byte{0}, int64(placeOffset(r.replica.index+1)-1)); err != nil {
		r.log.Error("cannot wake the supervisor", "err", err)
	}
}

// accuse makes the supervisor replace a standby that does not act as the primary does.
func (r *replicator) accuse(s *standby, why error) {
	setText(r.replica.place, offAccusation, accusationRoom, why.Error())
	r.word(offAccused).Store(accusation(s.place, s.rec.Incarnation))
	r.tell()
}

// within limits the time that a standby may take for one step, see limit.
func (r *replicator) within(ctx context.Context, work time.Duration) (context.Context,
	context.CancelFunc) {
	return withPatience(ctx, r.limit(work))
}

// limit returns the time that a standby may take for one step. work is the time that this process
// took for the work in that step: a standby that executes a slow change is not late.
func (r *replicator) limit(work time.Duration) time.Duration {
	return r.limits.AckTimeout + slowness*work
}

// slowness is the factor by which a standby may be slower than the primary, because its processors
// may be busy.
const slowness = 4

// backOff returns the time for which the primary waits after the nth failure in a row to reach a
// standby.
func backOff(n int) time.Duration { return min(time.Millisecond<<min(n, 10), time.Second) }
