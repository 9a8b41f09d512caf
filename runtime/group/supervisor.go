package group

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A supervisor keeps a group running. All of its state belongs to the goroutine of run. Other
// goroutines pass it functions to execute, by do.
type supervisor struct {
	cfg    Config
	dir    *domain.Dir
	reg    *registry.Registry
	page   *page
	launch *launcher
	events *eventQueue
	out    *output
	board  *board

	planning chan struct{} // has one element while a function of prepare is called
	inbox    chan func()
	done     chan struct{} // closed when everything has ended
	// ctx ends the helpers: the watch of the registry and the probes.
	ctx     context.Context
	cancel  context.CancelFunc
	helpers sync.WaitGroup
	release func() bool   // detaches the group from Start's context
	rolling chan struct{} // of capacity 1; full during a Roll
	// syncWatch reports changes of the replicas' words; nil unless the group replicates.
	syncWatch *sys.DirWatch
	survivors []*joinedProcess // to adopt

	replicas []*managedReplica
	channels map[string]bool // channels of replicas that failed
	reign    reign
	// candidates is the set of the replicas that may succeed the last primary, of a group that
	// keeps a state.
	candidates uint64
	settled    bool          // all replicas were ready once
	up         chan struct{} // closed when the group is healthy for the first time
	stopping   error         // why the group shuts down; nil while it does not
	left       bool          // the group shuts down, but its adopted replicas do not
	restarts   []time.Time   // within the last Restart.Window
	degraded   bool
	late       bool      // changes are noticed late, which was logged
	moving     bool      // replicas are being replaced so that they use the present page
	checked    time.Time // when the times of the group's file were renewed
	fileErr    string    // why the group's file cannot be made again, as reported last
	endErr     error     // set before done is closed
	// quarantines counts all quarantines, quarantined the present ones.
	quarantines, quarantined int
	oomKills                 uint64 // of the machine, at the last check
	// leftBehind has the replicas that a group which has ended could not kill.
	leftBehind []error
	// seenSet is the last set that was seen of a primary, that of seenEpoch.
	seenSet, seenEpoch uint64
}

// A managedReplica is a replica as its supervisor knows it. One process after the other runs in its
// place.
type managedReplica struct {
	index int
	name  string
	state state
	// incarnation distinguishes the record of the present process from records of others.
	incarnation uint64
	proc        *process
	record      registry.Record // zero until it is registered
	answers     bool            // its server answers
	unserving   bool            // its server has answered that it does not serve yet
	abdicated   bool            // it was the primary when it gave up its registration
	served      []*ipc.Protocol // by its server; nil until it answers
	readySince  time.Time
	failures    int // in a row, each before it was ready for Restart.Window
	restarts    int
	suspicion   *ReplicaError // why the supervisor killed it
	pulse       pulse
	command     func(int) *exec.Cmd
	edition     int      // counts the commands
	told        *process // the process that was told to end
	preparing   bool     // the user's functions say what to start, see prepare
	planned     bool     // the process was told to end, to be replaced
	trouble     error    // how the previous process failed; nil once another is ready
	stranger    int      // pid of a stranger that has the replica's name
	synced      bool     // it has the state, in a group that replicates
	lossSeen    uint64   // the stamp of its last loss that was seen, see outofsync.go
	implicated  []uint64 // methods whose requests the last dead process was executing
}

type state uint8

const (
	down     state = iota // no process; a restart may be due
	starting              // being started, or started and not ready
	ready                 // registered and answering
	leaving               // alive, without registration
	dead                  // dead, and not reaped yet
)

func makeSupervisor(cfg Config, dir *domain.Dir, reg *registry.Registry, p *page) *supervisor {
	ctx, cancel := context.WithCancel(context.Background())
	p.describe(&cfg)
	s := &supervisor{
		cfg: cfg, dir: dir, reg: reg, page: p,
		launch: newLauncher(), events: newEventQueue(cfg.Service, cfg.Logger, cfg.Events),
		oomKills: sys.OOMKills(), board: newBoard(),
		planning: make(chan struct{}, 1), inbox: make(chan func()),
		done: make(chan struct{}), ctx: ctx, cancel: cancel,
		up: make(chan struct{}), reign: p.reign(), channels: make(map[string]bool),
		rolling: make(chan struct{}, 1),
	}
	for i := range cfg.Replicas {
		s.replicas = append(s.replicas,
			&managedReplica{index: i, name: replicaName(cfg.Service, i), command: cfg.Command})
	}
	s.adoptCandidates()
	return s
}

// do makes run execute f, unless the group has ended.
func (s *supervisor) do(f func()) {
	select {
	case s.inbox <- f:
	case <-s.done:
	}
}

// after makes run execute f, which finds something missing, when the time d has passed. The time is
// counted in shares, and each begins when run has handled the end of the one before. So if this
// process stood still, alone or with the whole machine, that costs one share at most, and run
// handles what has happened meanwhile before f.
func (s *supervisor) after(d time.Duration, f func()) {
	s.afterShares(sys.PatienceShares, d/sys.PatienceShares, f)
}

func (s *supervisor) afterShares(n int, share time.Duration, f func()) {
	time.AfterFunc(share, func() {
		s.do(func() {
			if n > 1 {
				s.afterShares(n-1, share, f)
				return
			}
			f()
		})
	})
}

// ask makes run execute f, and blocks until f was executed and the board shows the result, or the
// group has ended.
func (s *supervisor) ask(f func()) {
	executed := make(chan struct{})
	s.do(func() {
		f()
		s.show()
		close(executed)
	})
	select {
	case <-executed:
	case <-s.done:
	}
}

// run is the goroutine of the supervisor.
func (s *supervisor) run() {
	l, err := s.listenForOrders() // before Start returns
	s.helpers.Go(func() { s.takeOrders(l, err) })
	s.helpers.Go(s.watchRegistry)
	s.helpers.Go(s.watchFile)
	if s.cfg.Heartbeat.Period > 0 {
		s.helpers.Go(s.listenToHearts)
	}
	if s.syncWatch != nil {
		s.helpers.Go(func() { s.watchSync(s.syncWatch) })
	}
	s.adoptAll(s.survivors)
	for _, r := range s.replicas {
		if r.proc == nil {
			s.start(r)
		}
	}
	for !s.ended() {
		s.show()
		(<-s.inbox)()
	}
	s.finish()
}

func (s *supervisor) ended() bool {
	if s.stopping == nil {
		return false
	}
	for _, r := range s.replicas {
		if r.state != down {
			return false
		}
	}
	return true
}

func (s *supervisor) finish() {
	s.release()
	s.cancel()
	// Helpers may still pass functions that no longer matter.
	idle := make(chan struct{})
	go func() { s.helpers.Wait(); close(idle) }()
	for waiting := true; waiting; {
		select {
		case <-s.inbox:
		case <-idle:
			waiting = false
		}
	}
	s.launch.close()
	s.sweep()
	sys.CrashPoint("group swept")
	_, gcErr := s.reg.GC()
	var pageErr error
	if s.left {
		pageErr = s.page.close()
	} else {
		pageErr = s.page.remove(s.cfg.Service)
	}
	s.endErr = sys.JoinErrors(sys.JoinErrors(s.leftBehind...), gcErr, pageErr, s.reg.Close(),
		s.dir.Close())
	s.out.close()
	s.report(Event{Kind: Stopped})
	s.events.close()
	ended := s.stopping
	if ended == errShutdown {
		ended = errEnded
	}
	s.board.set(s.status(), ended)
	close(s.done)
}

// sweep removes the endpoints of replicas that were killed and not replaced. A listener takes over
// the endpoint of a dead process, and removes it on close.
func (s *supervisor) sweep() {
	for channel := range s.channels {
		if l, err := ipc.Listen(channel, ipc.WithDomain(s.dir.Path())); err == nil {
			l.Close()
		}
	}
}

func (s *supervisor) report(ev Event) {
	ev.Time, ev.Epoch = time.Now(), s.reign.epoch
	s.events.add(ev)
}

// start starts the process of a replica that is down.
func (s *supervisor) start(r *managedReplica) {
	r.state, r.incarnation = starting, rand.Uint64()|1
	r.record, r.answers, r.served, r.suspicion, r.stranger, r.readySince = registry.Record{}, false,
		nil, nil, 0, time.Time{}
	s.page.settle(r.index)
	s.page.forgetState(r.index)
	s.page.incarnation(r.index).Store(r.incarnation)
	r.synced, r.unserving, r.abdicated = false, false, false
	s.prepare(r)
}

// prepare has the user's functions say what to start in the place of a replica, and starts that.
// They are called one at a time. One that does not return in ReadyTimeout has failed. The group
// does not wait for it, neither to start other replicas nor to end.
func (s *supervisor) prepare(r *managedReplica) {
	r.preparing = true
	incarnation, command, edition, page := r.incarnation, r.command, r.edition, s.page
	go func() {
		select {
		case s.planning <- struct{}{}:
		case <-s.done:
			return
		}
		plan, err := s.plan(command, r.index)
		<-s.planning
		s.do(func() {
			switch {
			case r.incarnation != incarnation || !r.preparing: // the group ends
			case err != nil:
				r.preparing = false
				s.started(r, nil, edition, err)
			default:
				r.preparing = false
				s.helpers.Go(func() {
					s.launch.jobs <- func() {
						p, err := s.launchProcess(page, plan, r.index, incarnation)
						sys.CrashPoint("group launched")
						s.helpers.Go(func() { s.do(func() { s.started(r, p, edition, err) }) })
					}
				})
			}
		})
	}()
}

// giveUpPreparing makes the replicas down for which no process is started yet. The group ends.
func (s *supervisor) giveUpPreparing() {
	for _, r := range s.replicas {
		if r.preparing {
			r.preparing, r.state = false, down
		}
	}
}

func (s *supervisor) started(r *managedReplica, p *process, edition int, err error) {
	if err != nil {
		r.state = down
		s.report(Event{Kind: Died, Replica: r.name, Cause: "not started", Err: err})
		s.failed(r, err, false)
		if edition != r.edition {
			r.trouble = nil // it was started by a command that is not wanted any more
		}
		return
	}
	s.report(Event{Kind: Started, Replica: r.name, PID: p.pid})
	s.attend(r, p)
	r.planned = edition != r.edition // of a command that is not wanted any more
	if s.stopping != nil || r.planned {
		s.stop(r)
		return
	}
	// The replica may be registered or in sync already.
	s.checkSync()
	s.checkReady(r)
	s.expectReady(r, p)
}

// attend waits for the death of a replica's process.
func (s *supervisor) attend(r *managedReplica, p *process) {
	r.proc, r.pulse = p, pulse{beat: s.page.beat(r.index)}
	alive := s.page.alive(r.index)
	s.helpers.Go(func() {
		dead := false
		err := p.wait(func() {
			dead = true
			handled := make(chan struct{})
			s.do(func() { s.died(r, p); close(handled) })
			select {
			case <-handled:
			case <-s.ctx.Done(): // the group ends, and handles nothing more
			case <-s.done:
			}
		})
		if dead {
			sys.DropRobust(alive)
		}
		s.do(func() { s.reaped(r, p, err) })
	})
}

// expectReady suspects a replica that is not ready in time.
func (s *supervisor) expectReady(r *managedReplica, p *process) {
	s.after(s.cfg.ReadyTimeout, func() {
		if r.proc == p && r.state == starting {
			s.suspect(r, s.notReady(r))
		}
	})
}

// notReady describes what a replica lacks at the end of its ReadyTimeout.
func (s *supervisor) notReady(r *managedReplica) string {
	what, advice := "did not register", ""
	switch {
	case r.unserving:
		what, advice = "registered, but did not say that it serves", "; its HealthState is "+
			"ipc.HealthNotServing"
	case r.record.Name != "":
		what = "registered, but did not answer on " + r.record.Control
	case r.stranger != 0:
		what = fmt.Sprintf("could not register, for process %d has its name,", r.stranger)
	default:
		advice = ", as group.Run and Replica.Announce do"
	}
	return fmt.Sprintf("%s within %v of its start (Config.ReadyTimeout)%s", what,
		s.cfg.ReadyTimeout, advice)
}

// suspect kills a replica that fails a check. No other process gets its place before the replica is
// seen dead.
func (s *supervisor) suspect(r *managedReplica, problem string) { s.condemn(r, problem, nil) }

// condemn kills a replica that fails a check with an error, which may be nil.
func (s *supervisor) condemn(r *managedReplica, problem string, err error) {
	if r.proc == nil || r.suspicion != nil || r.state == dead {
		return
	}
	r.suspicion = &ReplicaError{Replica: r.name, Path: r.proc.path, PID: r.proc.pid,
		Problem: problem + ", and was killed", Err: err}
	s.report(Event{Kind: Suspected, Replica: r.name, PID: r.proc.pid, Cause: problem, Err: err})
	s.kill(r)
}

// kill kills the process of a replica. A process that the supervisor cannot kill is reported, and
// left behind by a group that shuts down.
func (s *supervisor) kill(r *managedReplica) {
	err := r.proc.kill()
	if err == nil {
		return
	}
	failure := &ReplicaError{Replica: r.name, Path: r.proc.path, PID: r.proc.pid,
		Problem: "cannot be killed", Err: err}
	s.report(Event{Kind: Suspected, Replica: r.name, PID: r.proc.pid, Cause: failure.Problem,
		Err: failure})
	if s.stopping != nil {
		s.leftBehind = append(s.leftBehind, failure)
		r.proc.handle.Close() // ends the wait for its death
		r.state, r.proc, r.record = down, nil, registry.Record{}
		if s.reign.primary == r.index {
			s.stopRest()
		}
	}
}

// died handles the death of a process, with everything for which others wait. The process is reaped
// later.
func (s *supervisor) died(r *managedReplica, p *process) {
	if r.proc != p || r.state == dead {
		return
	}
	r.state = dead
	s.page.withdraw(r.index)
	s.inspect(r)
	switch {
	case s.reign.primary != r.index:
	case s.stopping != nil:
		s.stopRest()
	default:
		s.elect("death of " + r.name)
	}
}

func (s *supervisor) reaped(r *managedReplica, p *process, err error) {
	if r.proc != p {
		return // left behind
	}
	s.exonerate(r, err)
	failure := r.suspicion
	if failure == nil {
		failure = &ReplicaError{Replica: r.name, Path: p.path, PID: p.pid,
			Problem: "ended", Err: err}
		if r.readySince.IsZero() {
			failure.Problem = "ended before it was ready"
		}
		if err == nil {
			failure.Problem += " with status 0"
		}
	}
	if err != nil && r.record.Control != "" {
		s.channels[r.record.Control] = true
	}
	if err != nil && s.cfg.Replication != nil {
		s.channels[replicaChannel(r.name)] = true
	}
	failure.Stderr = p.stderr.lines()
	r.state, r.proc, r.record = down, nil, registry.Record{}
	cause := failure.Problem
	if s.stopping != nil {
		cause = "shutdown"
	}
	planned := r.planned
	r.planned = false
	if planned && r.suspicion == nil && s.stopping == nil {
		s.report(Event{Kind: Died, Replica: r.name, PID: p.pid, Cause: "replacement"})
		r.restarts++
		s.start(r)
		return
	}
	s.report(Event{Kind: Died, Replica: r.name, PID: p.pid, Cause: cause, Err: failure})
	s.failed(r, failure, p.cmd == nil)
	if planned {
		r.trouble = nil // the next process has another command
	}
}

// failed decides what follows when a replica, which may have been an adopted one, is down.
func (s *supervisor) failed(r *managedReplica, err error, adopted bool) {
	r.trouble = err
	switch {
	case s.stopping != nil:
	case !s.settled:
		s.shutdown(err)
	case !adopted && s.futile(err):
		s.leave(err)
	default:
		s.restart(r)
	}
}

// restart starts a replica again, now or later.
func (s *supervisor) restart(r *managedReplica) {
	now := time.Now()
	policy := &s.cfg.Restart
	if !r.readySince.IsZero() && now.Sub(r.readySince) >= policy.Window {
		r.failures = 0
	}
	delay := policy.delay(r.failures)
	cause := "back-off"
	s.restarts = within(s.restarts, now.Add(-policy.Window))
	if len(s.restarts) >= policy.Intensity {
		allowed := s.restarts[len(s.restarts)-policy.Intensity].Add(policy.Window)
		if wait := allowed.Sub(now); wait > delay {
			delay = wait
		}
		cause = fmt.Sprintf("%d restarts in %v", len(s.restarts), policy.Window)
		if !s.degraded {
			s.degraded = true
			s.report(Event{Kind: Degraded, Cause: cause})
			s.rule(s.reign.epoch, s.reign.primary)
		}
	}
	s.restarts = append(s.restarts, now.Add(delay))
	r.failures++
	r.restarts++
	again := func() {
		if s.stopping == nil {
			s.start(r)
		}
	}
	if delay == 0 {
		again()
		return
	}
	s.report(Event{Kind: Delayed, Replica: r.name, Cause: cause, Delay: delay})
	time.AfterFunc(delay, func() { s.do(again) })
}

// delay returns the wait before the next start after n failures in a row.
func (p *Restart) delay(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := p.Delay
	for range n - 1 {
		if d >= p.MaxDelay {
			break
		}
		d *= 2
	}
	return sys.Jitter(min(d, p.MaxDelay))
}

func within(times []time.Time, since time.Time) []time.Time {
	for len(times) > 0 && times[0].Before(since) {
		times = times[1:]
	}
	return times
}

// elect makes the first ready replica the primary. Before the group has settled it waits for all
// replicas, so that the first replica becomes the primary of a new group.
func (s *supervisor) elect(cause string) {
	if !s.settled || s.stopping != nil {
		return
	}
	s.endReign()
	if r, lost := s.successor(); r != nil {
		s.rule(s.reign.epoch+1, r.index)
		s.report(Event{Kind: Promoted, Replica: r.name, PID: r.proc.pid, Cause: cause})
		if lost {
			s.stateLost(r)
		}
		return
	}
	s.rule(s.reign.epoch, none)
	s.report(Event{Kind: Vacant, Cause: cause})
}

// rule publishes the reign.
func (s *supervisor) rule(epoch uint64, primary int) {
	s.reign = reign{epoch: epoch, primary: primary, phase: phaseServing}
	switch {
	case s.stopping != nil:
		s.reign.phase = phaseClosing
	case s.degraded:
		s.reign.phase = phaseDegraded
	}
	if err := s.page.setReign(s.reign); err != nil {
		s.events.log(slog.LevelError, "waking those who follow the group", "err", err)
	}
}

// shutdown tells the replicas to end, and kills them after the grace. The primary comes first: it
// answers the calls that it has taken while it still is the primary, and may need the standbys for
// that. They follow when it has ended.
func (s *supervisor) shutdown(cause error) {
	if s.stopping != nil {
		return
	}
	s.stopping = cause
	s.report(Event{Kind: Stopping, Cause: cause.Error()})
	if p := s.reign.primary; p != none && s.replicas[p].state == ready {
		s.rule(s.reign.epoch, p)
		s.stop(s.replicas[p])
		return
	}
	s.stopRest()
}

// stopRest ends the reign, and tells all replicas to end.
func (s *supervisor) stopRest() {
	s.rule(s.reign.epoch, none)
	s.giveUpPreparing()
	for _, r := range s.replicas {
		if r.proc != nil && r.state != dead {
			s.stop(r)
		}
	}
}

// stop tells a replica, once, to end, and kills it after the grace.
func (s *supervisor) stop(r *managedReplica) {
	p := r.proc
	if r.told == p {
		return
	}
	r.told = p
	s.page.wordOf(r.index, offTold).Store(r.incarnation)
	sys.CrashPoint("group end ordered")
	if err := p.terminate(); err != nil {
		s.events.log(slog.LevelWarn, "replica cannot be told to end", "replica", r.name, "pid",
			p.pid, "err", err)
	}
	s.killAfterGrace(r)
}

func (s *supervisor) killAfterGrace(r *managedReplica) {
	p := r.proc
	s.after(s.cfg.Grace, func() {
		if r.proc == p {
			s.kill(r)
		}
	})
}

func (s *supervisor) killAll() {
	for _, r := range s.replicas {
		if r.proc != nil {
			s.kill(r)
		}
	}
}

func (s *supervisor) show() {
	status := s.status()
	s.board.set(status, nil)
	if status.Healthy() && !s.wasUp() {
		close(s.up)
	}
}

// wasUp reports whether the group was healthy once.
func (s *supervisor) wasUp() bool {
	select {
	case <-s.up:
		return true
	default:
		return false
	}
}

func (s *supervisor) status() Status {
	st := Status{Epoch: s.reign.epoch, Primary: s.reign.primary, Degraded: s.degraded,
		Replicates:  s.cfg.Replication != nil,
		Quarantined: s.quarantined, Quarantines: s.quarantines}
	for _, r := range s.replicas {
		one := ReplicaStatus{Index: r.index, Name: r.name, Restarts: r.restarts,
			Ready: r.state == ready, Role: r.record.Role, Epoch: r.record.Epoch,
			Control: r.record.Control, Reply: r.record.Reply, Err: r.trouble,
			InSync: s.cfg.Replication != nil && s.countedOn(r)}
		if r.proc != nil {
			one.PID, one.Alive = r.proc.pid, r.state != dead
		}
		st.Replicas = append(st.Replicas, one)
	}
	return st
}
