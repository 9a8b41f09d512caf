package group

import (
	"log/slog"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A patient is a replica that a supervisor watches in virtual time.
type patient struct {
	t *testing.T
	s *supervisor
	r *managedReplica
}

func (p *patient) beat() { wordAt(p.s.page.mem, placeOffset(0)+offBeat).Add(1) }

func (p *patient) suspected() (yes bool) {
	p.s.ask(func() { yes = p.r.suspicion != nil })
	return yes
}

// startSleeper starts a process that sleeps until kill is called. kill returns when the process is
// dead and reaped.
func startSleeper(t *testing.T) (handle *sys.Process, kill func()) {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	handle, err := sys.StartLeader(cmd, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handle.Close() })
	return handle, func() {
		cmd.Process.Kill()
		handle.Reap(func() { cmd.Wait() })
	}
}

// listen has a supervisor check the heartbeats of one ready replica while f runs.
func listen(t *testing.T, h Heartbeat, f func(*patient)) {
	supervise(t, Config{Heartbeat: h}, func(p *patient) {
		p.s.helpers.Go(p.s.listenToHearts)
		f(p)
	})
}

// supervise has a supervisor in virtual time, with one ready replica, while f runs.
func supervise(t *testing.T, cfg Config, f func(*patient)) {
	cfg.Service, cfg.Replicas, cfg.Logger = "svc", 1, slog.New(slog.DiscardHandler)
	handle, kill := startSleeper(t)
	kill()
	synctest.Test(t, func(t *testing.T) {
		s := makeSupervisor(cfg, nil, nil, &page{mem: make([]byte, placeOffset(1))})
		defer s.events.close()
		defer s.launch.close()
		r := s.replicas[0]
		r.state, r.proc = ready, &process{handle: handle} // which no signal reaches
		s.helpers.Go(func() {
			for {
				select {
				case f := <-s.inbox:
					f()
				case <-s.done:
					return
				}
			}
		})
		f(&patient{t, s, r})
		s.cancel()
		close(s.done)
		s.helpers.Wait()
	})
}

var tenths = Heartbeat{Period: 100 * time.Millisecond, Grace: time.Second}

func TestSilenceIsSuspectedAfterTheGrace(t *testing.T) {
	listen(t, tenths, func(p *patient) {
		p.beat()
		time.Sleep(tenths.Grace)
		if p.suspected() {
			t.Error("suspected within the grace")
		}
		time.Sleep(2 * tenths.Period)
		if !p.suspected() {
			t.Error("not suspected after the grace")
		}
	})
}

// Pauses as a garbage collection, or a busy machine, can cause.
func TestPausesWithinTheGraceAreForgiven(t *testing.T) {
	listen(t, tenths, func(p *patient) {
		for range 20 {
			p.beat()
			time.Sleep(tenths.Grace - tenths.Period)
		}
		if p.suspected() {
			t.Error("suspected")
		}
	})
}

// A supervisor that did not run, or whose clock was set forward, does not know that a replica was
// silent meanwhile.
func TestPausesOfTheSupervisorProveNothing(t *testing.T) {
	listen(t, tenths, func(p *patient) {
		for range 5 {
			p.beat()
			time.Sleep(tenths.Grace - tenths.Period)
			p.s.do(func() { time.Sleep(time.Hour) })
			time.Sleep(time.Hour + tenths.Grace - 2*tenths.Period)
		}
		if p.suspected() {
			t.Error("suspected after a pause of the supervisor")
		}
		time.Sleep(tenths.Grace + 2*tenths.Period)
		if !p.suspected() {
			t.Error("not suspected for its own silence")
		}
	})
}

// A supervisor that rarely runs still detects a replica that sends no heartbeat at all.
func TestSilenceIsFoundByALateSupervisor(t *testing.T) {
	for _, late := range []time.Duration{3 * tenths.Period, 3 * tenths.Grace} {
		listen(t, tenths, func(p *patient) {
			p.beat()
			looks := 0
			for ; !p.suspected() && looks < 100; looks++ {
				p.s.do(func() { time.Sleep(late) })
			}
			if looks < 5 || looks > 20 {
				t.Errorf("%v late each time: suspected after %d looks", late, looks)
			}
		})
	}
}

// A supervisor that stood still has not seen what its replicas did meanwhile, and looks before it
// finds that they were too slow.
func TestPauseOfTheSupervisorMakesNoReplicaLate(t *testing.T) {
	const limit = time.Minute
	for what, expect := range map[string]func(*patient){
		"start": func(p *patient) {
			p.r.state = starting
			p.s.expectReady(p.r, p.r.proc)
		},
		"end": func(p *patient) { p.s.expectEnd(p.r, "closed its endpoint") },
	} {
		t.Run(what, func(t *testing.T) {
			supervise(t, Config{ReadyTimeout: limit, Grace: limit}, func(p *patient) {
				p.s.ask(func() { expect(p) })
				time.Sleep(limit / 2)
				p.s.do(func() { time.Sleep(time.Hour) })
				p.s.ask(func() {})
				if p.suspected() {
					t.Error("suspected after a pause of the supervisor")
				}
				time.Sleep(limit)
				if !p.suspected() {
					t.Error("not suspected after its time")
				}
			})
		})
	}
}
