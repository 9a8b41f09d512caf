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

// memberVar is the environment variable by which a supervisor tells a process
// its place: service, index and incarnation.
const memberVar = "IPCGEN_GROUP"

func formatMembership(service string, index int, incarnation uint64) string {
	return fmt.Sprintf("%s/%d/%x", service, index, incarnation)
}

func parseMembership(s string) (service string, index int, incarnation uint64, err error) {
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
	return "", 0, 0, fmt.Errorf("%s=%q is no membership; start this process by its group, or "+
		"without the variable", memberVar, s)
}

// MemberConfig configures Join; the zero value will do.
type MemberConfig struct {
	// Domain is where the instance registers; "" is the default domain, which
	// is the supervisor's for a supervised process.
	Domain string
	// Healthy, when set, is asked before each heartbeat, if the group wants any;
	// without a beat the process will be killed as hung. It should fail when the
	// service makes no progress. A process without it beats while it can run.
	Healthy func() bool
	// OnRole, when set, is called with the role and epoch the instance is
	// announced with and with each change, one at a time, before the registry
	// shows it.
	OnRole func(role registry.Role, epoch uint64)
	// State is what the group keeps, if its Config.Replication is set; it must
	// be set then. The server is to be made with Member.ServerOptions.
	State State
	// Logger receives what happens to the state's replication; silent when nil.
	Logger *slog.Logger
}

// A Member is this process as an instance of a service: supervised by a group,
// or alone. It is an ipc.Fence for the instance's server, which lets only the
// primary of a group answer. It is safe for concurrent use.
type Member struct {
	cfg MemberConfig
	dir *domain.Dir

	// Set when supervised.
	service     string
	index       int
	incarnation uint64
	page        *page
	place       []byte      // this instance's own page
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
	watch     sync.WaitGroup
	let       func() // lets the robust futex go; may be nil
}

// Join is a step of [Run], for a process that does the steps itself. It finds out from
// the environment whether a group supervises this process, and takes its place there.
// Without a supervisor the Member is that of a process alone: its fence admits
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
func Join(cfg MemberConfig) (*Member, error) {
	dir, err := domain.Open(cfg.Domain)
	if err != nil {
		return nil, err
	}
	m := &Member{cfg: cfg, dir: dir, index: none}
	if place := membership(); place != "" {
		if err := m.takePlace(place); err != nil {
			dir.Close()
			return nil, err
		}
	}
	return m, nil
}

func (m *Member) takePlace(place string) (err error) {
	if m.service, m.index, m.incarnation, err = parseMembership(place); err != nil {
		return err
	}
	if m.page, err = openPage(m.dir, m.service); err != nil {
		return fmt.Errorf("join group %s in domain %s: %w", m.service, m.dir.Path(), err)
	}
	// A server may ask its fence until it is gone, so the page stays mapped as
	// long as anybody can reach the Member.
	runtime.AddCleanup(m, func(mem []byte) { sys.UnmapFile(mem) }, m.page.mem)
	if m.place, err = openPlace(m.dir, m.service, m.index); err != nil {
		m.page.f.Close()
		return fmt.Errorf("join group %s in domain %s: %w", m.service, m.dir.Path(), err)
	}
	runtime.AddCleanup(m, func(mem []byte) { sys.UnmapFile(mem) }, m.place) // for the same reason
	if m.claim, err = m.claimPlace(); err != nil {
		m.page.f.Close()
		return fmt.Errorf("join group %s in domain %s: %w", m.service, m.dir.Path(), err)
	}
	if err := m.occupy(); err != nil {
		return fmt.Errorf("join group %s in domain %s: %w", m.service, m.dir.Path(),
			sys.JoinErrors(err, m.leavePlace()))
	}
	m.guard = newGuard(m)
	if m.replicator, err = newReplicator(m); err != nil {
		return sys.JoinErrors(err, m.leavePlace())
	}
	sys.OutliveReaders()
	m.holdLifeline()
	return nil
}

func (m *Member) leavePlace() error { return sys.JoinErrors(m.page.f.Close(), m.claim.Close()) }

// Supervised reports whether a group supervises this process.
func (m *Member) Supervised() bool { return m.page != nil }

// Index is the instance's place in its group, or -1 when it is alone.
func (m *Member) Index() int { return m.index }

// Name is the instance's name in its group ("service.index"), or "" when it is
// alone.
func (m *Member) Name() string {
	if !m.Supervised() {
		return ""
	}
	return instanceName(m.service, m.index)
}

// Role returns the instance's present role and the group's epoch. It is one
// atomic load.
func (m *Member) Role() (registry.Role, uint64) {
	if !m.Supervised() {
		return registry.RoleNone, 0
	}
	defer runtime.KeepAlive(m) // and with it the page
	return m.roleIn(m.page.reign())
}

func (m *Member) roleIn(r reign) (registry.Role, uint64) {
	if r.primary == m.index {
		return registry.RolePrimary, r.epoch
	}
	return registry.RoleStandby, r.epoch
}

// Epoch is the epoch in which this instance is the primary, or 0. It
// implements ipc.Fence.
func (m *Member) Epoch() uint64 {
	role, epoch := m.Role()
	if role != registry.RolePrimary || m.displaced.Load() {
		return 0
	}
	return epoch
}

// Admit refuses calls unless this instance is the primary, in the caller's
// epoch where the caller gave one. It implements ipc.Fence.
func (m *Member) Admit(epoch uint64) error {
	if m.displaced.Load() {
		return fmt.Errorf("%w: another process can have the place of this one", ipc.ErrDisplaced)
	}
	if !m.Supervised() {
		return nil
	}
	if m.closed.Load() {
		return fmt.Errorf("%s is closed", m.Name())
	}
	r := m.page.reign()
	runtime.KeepAlive(m) // and with it the page
	if r.primary != m.index {
		return m.notPrimary(r)
	}
	if epoch != 0 && epoch != r.epoch {
		return fmt.Errorf("%s acts in epoch %d, the caller in epoch %d", m.Name(), r.epoch, epoch)
	}
	return nil
}

func (m *Member) notPrimary(r reign) error {
	if r.primary == none {
		return fmt.Errorf("%s is a standby; group %s has no primary after epoch %d", m.Name(),
			m.service, r.epoch)
	}
	return fmt.Errorf("%s is a standby; the primary of epoch %d is %s", m.Name(), r.epoch,
		instanceName(m.service, r.primary))
}

// Announce registers the instance, which tells the supervisor that it serves;
// so its server must be listening. Role, epoch and incarnation are the
// Member's business, and rec.Name must be Name where a group supervises; an
// empty one is filled in. The record then follows the instance's role until
// Close.
func (m *Member) Announce(rec registry.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() || m.own != nil {
		return errors.New("announce: the member is closed or announced already")
	}
	if m.Supervised() {
		if rec.Name == "" {
			rec.Name = m.Name()
		}
		if rec.Name != m.Name() {
			return fmt.Errorf("announce %q: the group expects this process under the name %q",
				rec.Name, m.Name())
		}
		rec.Service = m.service
	}
	reg, err := registry.Open(m.dir.Path(), nil)
	if err != nil {
		return err
	}
	rec.Incarnation = m.incarnation
	m.reg = reg
	if m.replicator != nil {
		err = m.replicator.start()
	}
	if err == nil {
		err = m.register(rec)
	}
	if err != nil {
		reg.Close()
		m.reg = nil
		return err
	}
	return nil
}

func (m *Member) register(rec registry.Record) (err error) {
	if !m.Supervised() {
		rec.Role, rec.Epoch = registry.RoleNone, 0
		if m.own, err = m.reg.Register(rec); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		m.cancel = cancel
		m.watchName(ctx)
		return nil
	}
	// Watch before the first look, so that no change falls in between.
	dir, err := sys.WatchDir(filepath.Join(m.dir.Path(), folder))
	if err != nil {
		return err
	}
	if let, err := sys.HoldRobust(futexAt(m.place, offAlive)); err == nil {
		m.let = let // without it the pidfd alone serves
	}
	sys.CrashPoint("group futex held")
	seen := m.page.reign()
	rec.Role, rec.Epoch = m.roleIn(seen)
	m.tell(rec.Role, rec.Epoch)
	if m.own, err = m.reg.Register(rec); err != nil {
		dir.Close()
		return err
	}
	sys.CrashPoint("group registered")
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	own := m.own
	if period := time.Duration(wordAt(m.page.mem, offPeriod).Load()); period > 0 {
		m.watch.Go(func() { m.beat(ctx, period) })
	}
	m.watch.Go(func() { m.watchPage(ctx) })
	m.watchName(ctx)
	m.watch.Go(func() {
		defer dir.Close()
		stop := context.AfterFunc(ctx, func() { dir.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		for {
			if now := m.page.reign(); now != seen {
				seen = now
				role, epoch := m.roleIn(now)
				if m.replicator != nil {
					m.replicator.follow(now)
				}
				m.tell(role, epoch)
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
func (m *Member) watchName(ctx context.Context) {
	own := m.own
	m.watch.Go(func() {
		select {
		case <-own.Done():
			m.lost(fmt.Errorf("%w: %w", ipc.ErrDisplaced, own.Err()))
		case <-ctx.Done():
		}
	})
}

// watchPage ends this process, as its supervisor would, when that is dead and nobody
// can adopt the process any more, because the group's file is gone.
func (m *Member) watchPage(ctx context.Context) {
	tick := time.NewTicker(domain.CheckPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if m.page.named(m.service) {
			continue
		}
		if there, err := m.page.supervised(); err != nil || there {
			continue
		}
		m.lost(fmt.Errorf("%w: the file of group %s in domain %s is gone, and so is its supervisor",
			ipc.ErrDisplaced, m.service, m.dir.Path()))
		return
	}
}

// lost ends what this process does, for others have its place or can have it. A process
// that was started for its place ends with it.
func (m *Member) lost(why error) {
	m.displaced.Store(true) // it admits nothing from now on
	if m.cfg.Logger != nil {
		m.cfg.Logger.Error("this process answers nothing any more", "instance",
			m.own.Name(), "err", why)
	}
	if !m.Supervised() {
		return
	}
	if err := sys.TerminateSelf(); err != nil && m.cfg.Logger != nil {
		m.cfg.Logger.Error("cannot end this process", "err", err)
	}
}

// beat shows the supervisor that this process runs.
func (m *Member) beat(ctx context.Context, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	word := wordAt(m.place, offBeat)
	for {
		if m.healthy() {
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
func (m *Member) healthy() (ok bool) {
	if m.cfg.Healthy == nil {
		return true
	}
	_ = contain(m.cfg.Logger, "MemberConfig.Healthy", func() error {
		ok = m.cfg.Healthy()
		return nil
	})
	return ok
}

func (m *Member) tell(role registry.Role, epoch uint64) {
	if m.cfg.OnRole != nil {
		_ = contain(m.cfg.Logger, "MemberConfig.OnRole", func() error {
			m.cfg.OnRole(role, epoch)
			return nil
		})
	}
}

// Close takes the instance out of the registry; from then on its fence admits
// nothing. It may be called again.
func (m *Member) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Swap(true) {
		return nil
	}
	var errs []error
	if m.own != nil {
		errs = append(errs, m.own.Close())
	}
	if m.cancel != nil {
		m.cancel()
	}
	if m.letGo != nil {
		m.letGo()
	}
	m.watch.Wait()
	if m.replicator != nil {
		m.replicator.close()
	}
	if m.reg != nil {
		errs = append(errs, m.reg.Close())
	}
	if m.let != nil {
		m.let()
	}
	if m.page != nil {
		errs = append(errs, m.leavePlace())
	}
	return sys.JoinErrors(append(errs, m.dir.Close())...)
}
