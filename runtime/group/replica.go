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
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// placeVar is the environment variable by which a supervisor tells a process
// its place: service, index and incarnation.
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

// JoinConfig configures Join; the zero value will do.
type JoinConfig struct {
	// Domain is where the replica registers; "" is the default domain, which
	// is the supervisor's for a supervised process.
	Domain string
	// Healthy, when set, is asked before each heartbeat, if the group wants any;
	// without a beat the process will be killed as hung. It should fail when the
	// service makes no progress. A process without it beats while it can run.
	Healthy func() bool
	// OnRole, when set, is called with the role and epoch the replica is
	// announced with and with each change, one at a time, before the registry
	// shows it.
	OnRole func(role registry.Role, epoch uint64)
	// State is what the group keeps, if its Config.Replication is set; it must
	// be set then. The server is to be made with Replica.ServerOptions.
	State State
	// Logger receives what happens to the state's replication; silent when nil.
	Logger *slog.Logger
}

// A Replica is this process as a replica of a service: supervised by a group,
// or alone. It is an ipc.Fence for the replica's server, which lets only the
// primary of a group answer. It is safe for concurrent use.
type Replica struct {
	cfg JoinConfig
	dir *domain.Dir

	// Set when supervised.
	service     string
	index       int
	incarnation uint64
	page        *page
	place       []byte      // this replica's own page
	claim       *os.File    // holds the right to the place
	letGo       func()      // ends the lifeline; nil without one
	replicator  *replicator // nil where the group keeps no state
	guard       *guard

	closed    atomic.Bool
	displaced atomic.Bool // others have its place, or can have it
	mu        sync.Mutex  // guards the rest
	reg       *registry.Registry
	own       *registry.Registration
	cancel    context.CancelFunc
	tasks     sync.WaitGroup
	let       func() // lets the robust futex go; may be nil
}

// Join is a step of [Run], for a process that does the steps itself. It finds out from
// the environment whether a group supervises this process, and takes its place there.
// Without a supervisor the Replica is that of a process alone: its fence admits
// everything and its role is RoleNone. Before Close, the process must have its server
// answer what it has taken, by Server.Shutdown.
//
// From Join on, a supervised process does not die when nobody reads its standard
// output or standard error any more, as after the death of a supervisor that it
// survives; what it writes then is lost.
//
// A supervised process is told so by an environment variable, which Join takes out
// of the environment: programs that this process starts are not to take its place.
// One that inherited the variable nevertheless cannot: the place belongs to the
// process that joined first, and Join fails in the other.
func Join(cfg JoinConfig) (*Replica, error) {
	dir, err := domain.Open(cfg.Domain)
	if err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg, dir: dir, index: none}
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
	if r.page, err = openPage(r.dir, r.service); err != nil {
		return fmt.Errorf("join group %s in domain %s: %w", r.service, r.dir.Path(), err)
	}
	// A server may ask its fence until it is gone, so the page stays mapped as
	// long as anybody can reach the Replica.
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
func (r *Replica) Supervised() bool { return r.page != nil }

// Index is the replica's place in its group, or -1 when it is alone.
func (r *Replica) Index() int { return r.index }

// Name is the replica's name in its group ("service.index"), or "" when it is
// alone.
func (r *Replica) Name() string {
	if !r.Supervised() {
		return ""
	}
	return replicaName(r.service, r.index)
}

// Role returns the replica's present role and the group's epoch. It is one
// atomic load.
func (r *Replica) Role() (registry.Role, uint64) {
	if !r.Supervised() {
		return registry.RoleNone, 0
	}
	defer runtime.KeepAlive(r) // and with it the page
	return r.roleIn(r.page.reign())
}

func (r *Replica) roleIn(now reign) (registry.Role, uint64) {
	if now.primary == r.index {
		return registry.RolePrimary, now.epoch
	}
	return registry.RoleStandby, now.epoch
}

// Epoch is the epoch in which this replica is the primary, or 0. It
// implements ipc.Fence.
func (r *Replica) Epoch() uint64 {
	role, epoch := r.Role()
	if role != registry.RolePrimary || r.displaced.Load() {
		return 0
	}
	return epoch
}

// Admit refuses calls unless this replica is the primary, in the caller's
// epoch where the caller gave one. It implements ipc.Fence.
func (r *Replica) Admit(epoch uint64) error {
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
	runtime.KeepAlive(r) // and with it the page
	if now.primary != r.index {
		return r.notPrimary(now)
	}
	if epoch != 0 && epoch != now.epoch {
		return fmt.Errorf("%s acts in epoch %d, the caller in epoch %d", r.Name(), now.epoch, epoch)
	}
	return nil
}

func (r *Replica) notPrimary(now reign) error {
	if now.primary == none {
		return fmt.Errorf("%s is a standby; group %s has no primary after epoch %d", r.Name(),
			r.service, now.epoch)
	}
	return fmt.Errorf("%s is a standby; the primary of epoch %d is %s", r.Name(), now.epoch,
		replicaName(r.service, now.primary))
}

// Announce registers the replica, which tells the supervisor that it serves;
// so its server must be listening. Role, epoch and incarnation are the
// Replica's business, and rec.Name must be Name where a group supervises; an
// empty one is filled in. The record then follows the replica's role until
// Close.
func (r *Replica) Announce(rec registry.Record) error {
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
	// Watch before the first look, so that no change falls in between.
	dir, err := sys.WatchDir(filepath.Join(r.dir.Path(), folder))
	if err != nil {
		return err
	}
	if let, err := sys.HoldRobust(futexAt(r.place, offAlive)); err == nil {
		r.let = let // without it the pidfd alone serves
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
	if period := time.Duration(wordAt(r.page.mem, offPeriod).Load()); period > 0 {
		r.tasks.Go(func() { r.beat(ctx, period) })
	}
	r.tasks.Go(func() { r.watchPage(ctx) })
	r.watchName(ctx)
	r.tasks.Go(func() {
		defer dir.Close()
		stop := context.AfterFunc(ctx, func() { dir.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		for {
			if now := r.page.reign(); now != seen {
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

// watchName ends what this process does under a name that has become another's.
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

// watchPage ends this process, as its supervisor would, when that is dead and nobody
// can adopt the process any more, because the group's file is gone.
func (r *Replica) watchPage(ctx context.Context) {
	tick := time.NewTicker(domain.CheckPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if r.page.named(r.service) {
			continue
		}
		if there, err := r.page.supervised(); err != nil || there {
			continue
		}
		r.lost(fmt.Errorf("%w: the file of group %s in domain %s is gone, and so is its supervisor",
			ipc.ErrDisplaced, r.service, r.dir.Path()))
		return
	}
}

// lost ends what this process does, for others have its place or can have it. A process
// that was started for its place ends with it.
func (r *Replica) lost(why error) {
	r.displaced.Store(true) // it admits nothing from now on
	if r.cfg.Logger != nil {
		r.cfg.Logger.Error("this process answers nothing any more", "replica",
			r.own.Name(), "err", why)
	}
	if !r.Supervised() {
		return
	}
	if err := sys.TerminateSelf(); err != nil && r.cfg.Logger != nil {
		r.cfg.Logger.Error("cannot end this process", "err", err)
	}
}

// beat shows the supervisor that this process runs.
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

// healthy asks the service whether it makes progress. One that does not answer does not.
func (r *Replica) healthy() (ok bool) {
	if r.cfg.Healthy == nil {
		return true
	}
	_ = contain(r.cfg.Logger, "JoinConfig.Healthy", func() error {
		ok = r.cfg.Healthy()
		return nil
	})
	return ok
}

func (r *Replica) tell(role registry.Role, epoch uint64) {
	if r.cfg.OnRole != nil {
		_ = contain(r.cfg.Logger, "JoinConfig.OnRole", func() error {
			r.cfg.OnRole(role, epoch)
			return nil
		})
	}
}

// Close takes the replica out of the registry; from then on its fence admits
// nothing. It may be called again.
func (r *Replica) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Swap(true) {
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
