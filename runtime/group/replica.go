package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/internal/userlog"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// placeVar names the environment variable with which a supervisor passes a process its place:
// service, index and incarnation.
const placeVar = "IPCGEN_GROUP"

func formatPlace(service string, index int, incarnation uint64) string {
	return fmt.Sprintf("%s/%d/%x", service, index, incarnation)
}

func parsePlace(s string) (service string, index int, incarnation uint64, err error) {
	parts := strings.Split(s, "/")
	if len(parts) == 3 {
		index, err = strconv.Atoi(parts[1])
		if err == nil && index >= 0 && index < maxReplicas {
			incarnation, err = strconv.ParseUint(parts[2], 16, 64)
			if err == nil && domain.CheckName("service", parts[0]) == nil {
				return parts[0], index, incarnation, nil
			}
		}
	}
	return "", 0, 0, fmt.Errorf("%s=%q names no place of a group; start this process by "+
		"its group, or without the variable", placeVar, s)
}

// JoinConfig configures [Join]. The zero value is valid.
type JoinConfig struct {
	// Domain is the domain in which the replica registers. "" is the default domain, which for a
	// supervised process is that of its supervisor.
	Domain string
	// Healthy, when set, is called before each heartbeat of a group that wants heartbeats. It
	// should return false when the service makes no progress: without heartbeats the process is
	// killed as hung. A process without Healthy sends heartbeats for as long as it can run.
	Healthy func() bool
	// OnRole, when set, is called with the first role and epoch of the replica, and with each
	// change, one at a time, before the registry shows the change.
	OnRole func(role registry.Role, epoch uint64)
	// State is the state that a group with [Config.Replication] keeps. It is required in such a
	// group, and the server must be made with [Replica.ServerOptions].
	State State
	// Logger receives the events of the state's replication; nil means no log.
	Logger *slog.Logger
}

// A Replica is this process as a replica of a service, supervised by a group or alone. It is the
// [ipc.Fence] of the replica's server, which lets only the primary of a group answer. It is safe
// for concurrent use.
type Replica struct {
	cfg JoinConfig
	dir *domain.Dir

	// Set when supervised.
	service     string
	index       int
	incarnation uint64
	page        *page
	terms       terms
	place       []byte      // the page of this replica
	claim       *os.File    // holds the claim of the place
	letGo       func()      // ends the lifeline; nil without one
	replicator  *replicator // nil if the group keeps no state
	guard       *guard

	closed    atomic.Bool
	closing   chan struct{} // closed by the first call of Close
	displaced atomic.Bool   // another process has the place, or can have it
	mu        sync.Mutex    // guards the fields below
	reg       *registry.Registry
	own       *registry.Registration
	cancel    context.CancelFunc
	tasks     sync.WaitGroup
	let       func() // releases the robust futex; may be nil
}

// Join is the first step of [Run], for a process that does the steps itself. It reads from the
// environment whether a group supervises this process, and takes the process's place in that group.
// Without a supervisor, the Replica stands for a process alone: it admits every call, and its role
// is RoleNone. Join does not wait for the supervisor. Before [Replica.Close], the process must call
// [ipc.Server.Shutdown], so that calls that it has taken are answered.
//
// If another process has overwritten what the supervisor has set for its replicas in the group's
// file, Join waits 2 s for the supervisor to mend it, and then returns an error that matches
// [ipc.ErrCorrupt].
//
// After Join, a supervised process survives the loss of the reader of its standard output or
// standard error, as after the death of its supervisor. Later output is lost.
//
// Join removes the environment variable by which the supervisor has passed the place, because
// programs that this process starts must not take it. A program that has inherited the variable
// cannot take the place either: the place belongs to the process that joined first, and Join
// returns an error in the other.
func Join(cfg JoinConfig) (*Replica, error) {
	dir, err := domain.Open(cfg.Domain)
	if err != nil {
		return nil, err
	}
	cfg.Logger = userlog.Contain(cfg.Logger)
	r := &Replica{cfg: cfg, dir: dir, index: none, closing: make(chan struct{})}
	if place := placeFromEnv(); place != "" {
		if err := r.takePlace(place); err != nil {
			dir.Close()
			return nil, err
		}
	}
	return r, nil
}

func (r *Replica) takePlace(place string) (err error) {
	if r.service, r.index, r.incarnation, err = parsePlace(place); err != nil {
		return err
	}
	if r.page, r.terms, err = openWithTerms(r.dir, r.service); err != nil {
		return fmt.Errorf("join group %s in domain %s: %w", r.service, r.dir.Path(), err)
	}
	// A server may call its fence until the server is gone, so the page stays mapped while the
	// Replica can be reached.
	runtime.AddCleanup(r, func(mem []byte) { sys.UnmapFile(mem) }, r.page.mem)
	if r.place, err = openPlace(r.dir, r.service, r.index); err != nil {
		r.page.f.Close()
		return fmt.Errorf("join group %s in domain %s: %w", r.service, r.dir.Path(), err)
	}
	runtime.AddCleanup(r, func(mem []byte) { sys.UnmapFile(mem) }, r.place) // for the same reason
	if r.claim, err = r.claimPlace(); err != nil {
		r.page.f.Close()
		return fmt.Errorf("join group %s in domain %s: %w", r.service, r.dir.Path(), err)
	}
	if err := r.joinPlace(); err != nil {
		return fmt.Errorf("join group %s in domain %s: %w", r.service, r.dir.Path(),
			sys.JoinErrors(err, r.leavePlace()))
	}
	r.guard = newGuard(r)
	if r.replicator, err = newReplicator(r); err != nil {
		return sys.JoinErrors(err, r.leavePlace())
	}
	sys.OutliveReaders()
	r.holdLifeline()
	return nil
}

func (r *Replica) leavePlace() error { return sys.JoinErrors(r.page.f.Close(), r.claim.Close()) }

// Supervised reports whether a group supervises this process.
func (r *Replica) Supervised() bool { return r != nil && r.page != nil }

// Index returns the index of the replica in its group, or -1 without a group.
func (r *Replica) Index() int {
	if r == nil {
		return none
	}
	return r.index
}

// Name returns the name of the replica in its group ("service.index"), or "" without a group.
func (r *Replica) Name() string {
	if !r.Supervised() {
		return ""
	}
	return replicaName(r.service, r.index)
}

// Role returns the present role of the replica and the epoch of the group. It is one atomic load.
func (r *Replica) Role() (registry.Role, uint64) {
	if !r.Supervised() {
		return registry.RoleNone, 0
	}
	defer runtime.KeepAlive(r) // and of the page
	return r.roleIn(r.page.reign())
}

func (r *Replica) roleIn(now reign) (registry.Role, uint64) {
	if now.primary == r.index {
		return registry.RolePrimary, now.epoch
	}
	return registry.RoleStandby, now.epoch
}

// Epoch returns the epoch in which this replica is the primary, or 0 if it is not the primary. It
// implements [ipc.Fence].
func (r *Replica) Epoch() uint64 {
	if r == nil {
		return 0
	}
	role, epoch := r.Role()
	if role != registry.RolePrimary || r.displaced.Load() {
		return 0
	}
	return epoch
}

// Admit returns an error unless this replica is the primary, and in the caller's epoch if epoch is
// not 0. It implements [ipc.Fence].
func (r *Replica) Admit(epoch uint64) error {
	if r == nil {
		return errNilReplica
	}
	if r.displaced.Load() {
		return fmt.Errorf("%w: another process can have the place of this one", ipc.ErrDisplaced)
	}
	if !r.Supervised() {
		return nil
	}
	if r.closed.Load() {
		return fmt.Errorf("%s is closed", r.Name())
	}
	now := r.page.reign()
	runtime.KeepAlive(r) // and the page
	if now.primary != r.index {
		return r.notPrimary(now)
	}
	if epoch != 0 && epoch != now.epoch {
		return fmt.Errorf("%s acts in epoch %d, the caller in epoch %d", r.Name(), now.epoch, epoch)
	}
	return nil
}

func (r *Replica) notPrimary(now reign) error {
	if now == unreadable {
		return fmt.Errorf("%s cannot read who is the primary: the file of group %s was "+
			"overwritten; its supervisor makes it again", r.Name(), r.service)
	}
	if now.primary == none {
		return fmt.Errorf("%s is a standby; group %s has no primary after epoch %d", r.Name(),
			r.service, now.epoch)
	}
	return fmt.Errorf("%s is a standby; the primary of epoch %d is %s", r.Name(), now.epoch,
		replicaName(r.service, now.primary))
}

// Announce registers the replica, which tells the supervisor that the replica serves. Its server
// must be listening before. Announce sets the Role, Epoch and Incarnation of rec. In a group,
// rec.Name must be [Replica.Name] or empty. The record follows the role of the replica until
// [Replica.Close]. Announce returns an error if the replica is closed or was announced before, if
// the name is taken, or if the services cannot be replicated.
func (r *Replica) Announce(rec registry.Record) error {
	if r == nil {
		return fmt.Errorf("announce: %w", errNilReplica)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() || r.own != nil {
		return errors.New("announce: the replica is closed or announced already")
	}
	if r.Supervised() {
		if rec.Name == "" {
			rec.Name = r.Name()
		}
		if rec.Name != r.Name() {
			return fmt.Errorf("announce %q: the group expects this process under the name %q",
				rec.Name, r.Name())
		}
		rec.Service = r.service
	}
	reg, err := registry.Open(r.dir.Path(), nil)
	if err != nil {
		return err
	}
	rec.Incarnation = r.incarnation
	r.reg = reg
	if r.replicator != nil {
		err = r.replicator.start()
	}
	if err == nil {
		err = r.register(rec)
	}
	if err != nil {
		reg.Close()
		r.reg = nil
		return err
	}
	return nil
}

func (r *Replica) register(rec registry.Record) (err error) {
	if !r.Supervised() {
		rec.Role, rec.Epoch = registry.RoleNone, 0
		if r.own, err = r.reg.Register(rec); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		r.cancel = cancel
		r.watchName(ctx)
		return nil
	}
	// Start the watch before the first load, so that no change falls in between.
	dir, err := sys.WatchDir(filepath.Join(r.dir.Path(), folder))
	if err != nil {
		return err
	}
	if let, err := sys.HoldRobust(futexAt(r.place, offAlive)); err == nil {
		r.let = let // without it, only the pidfd reports the death
	}
	sys.CrashPoint("group futex held")
	seen := r.page.reign()
	rec.Role, rec.Epoch = r.roleIn(seen)
	r.tell(rec.Role, rec.Epoch)
	if r.own, err = r.reg.Register(rec); err != nil {
		dir.Close()
		return err
	}
	sys.CrashPoint("group registered")
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	own := r.own
	if period := r.terms.period; period > 0 {
		r.tasks.Go(func() { r.beat(ctx, period) })
	}
	r.tasks.Go(func() { r.watchPage(ctx) })
	r.watchName(ctx)
	r.tasks.Go(func() {
		defer dir.Close()
		stop := context.AfterFunc(ctx, func() { dir.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		for {
			now := r.page.reign()
			if now == unreadable {
				// No event tells that it is there again.
				select {
				case <-time.After(sys.CheckPeriod):
					continue
				case <-ctx.Done():
					return
				}
			}
			if now != seen {
				seen = now
				role, epoch := r.roleIn(now)
				if r.replicator != nil {
					r.replicator.reignChanged(now)
				}
				r.tell(role, epoch)
				sys.CrashPoint("group role told")
				own.SetRole(role, epoch)
				sys.CrashPoint("group role stored")
			}
			if dir.Next(func(string, bool) {}) != nil {
				return
			}
		}
	})
	return nil
}

// watchName ends the work of this process under its name once the name belongs to another process.
func (r *Replica) watchName(ctx context.Context) {
	own := r.own
	r.tasks.Go(func() {
		select {
		case <-own.Done():
			r.lost(fmt.Errorf("%w: %w", ipc.ErrDisplaced, own.Err()))
		case <-ctx.Done():
		}
	})
}

// watchPage ends this process, as its supervisor would, when the supervisor is dead and no other
// one can adopt the process, because the group's file is gone. It ends with ctx.
func (r *Replica) watchPage(ctx context.Context) {
	orphaned := make(chan struct{}, 1)
	check := sys.NewCheck(func() {
		if r.page.named(r.service) {
			return
		}
		if there, err := r.page.supervised(); err != nil || there {
			return
		}
		select {
		case orphaned <- struct{}{}:
		default:
		}
	})
	defer check.Stop()
	select {
	case <-orphaned:
		r.lost(fmt.Errorf("%w: the file of group %s in domain %s is gone, and so is its supervisor",
			ipc.ErrDisplaced, r.service, r.dir.Path()))
	case <-ctx.Done():
	}
}

// lost ends the work of this process, because others have its place or can have it. A process that
// a supervisor has started is told to end.
func (r *Replica) lost(why error) {
	r.displaced.Store(true) // from now on it admits no call
	r.cfg.Logger.Error("this process answers nothing any more", "replica", r.own.Name(), "err", why)
	if !r.Supervised() {
		return
	}
	if err := sys.TerminateSelf(); err != nil {
		r.cfg.Logger.Error("cannot end this process", "err", err)
	}
}

// beat sends heartbeats to the supervisor.
func (r *Replica) beat(ctx context.Context, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	word := wordAt(r.place, offBeat)
	for {
		if r.healthy() {
			word.Add(1)
			sys.CrashPoint("group beat")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// healthy calls JoinConfig.Healthy. The service makes no progress while that call blocks.
func (r *Replica) healthy() bool {
	if r.cfg.Healthy == nil {
		return true
	}
	ok, _ := await(r.closing, r.cfg.Logger, "JoinConfig.Healthy", func() (bool, error) {
		return r.cfg.Healthy(), nil
	})
	return ok
}

// tell calls JoinConfig.OnRole. Close does not wait for that, and may be called by it.
func (r *Replica) tell(role registry.Role, epoch uint64) {
	if r.cfg.OnRole == nil {
		return
	}
	_, _ = await(r.closing, r.cfg.Logger, "JoinConfig.OnRole", func() (struct{}, error) {
		r.cfg.OnRole(role, epoch)
		return struct{}{}, nil
	})
}

// Close removes the replica from the registry, and makes its fence refuse all calls. It blocks
// until the goroutines of the replica have ended, but not for calls of [JoinConfig.OnRole] and
// [JoinConfig.Healthy]. It may be called again.
func (r *Replica) Close() error {
	if r == nil {
		return errNilReplica
	}
	first := !r.closed.Swap(true)
	if first {
		close(r.closing) // before the lock, which a call of OnRole may hold up
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !first {
		return nil
	}
	var errs []error
	if r.own != nil {
		errs = append(errs, r.own.Close())
	}
	if r.cancel != nil {
		r.cancel()
	}
	if r.letGo != nil {
		r.letGo()
	}
	r.tasks.Wait()
	if r.replicator != nil {
		r.replicator.close()
	}
	if r.reg != nil {
		errs = append(errs, r.reg.Close())
	}
	if r.let != nil {
		r.let()
	}
	if r.page != nil {
		errs = append(errs, r.leavePlace())
	}
	return sys.JoinErrors(append(errs, r.dir.Close())...)
}
