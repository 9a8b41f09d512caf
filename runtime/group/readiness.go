package group

import (
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// watchRegistry passes changes of the replicas' records to the supervisor.
func (s *supervisor) watchRegistry() {
	for ev, err := range s.reg.Watch(s.ctx, s.cfg.Service) {
		if s.ctx.Err() != nil {
			return
		}
		s.do(func() {
			if err != nil {
				s.shutdown(err)
			} else {
				s.noticed(ev)
			}
		})
	}
}

func (s *supervisor) noticed(ev registry.Event) {
	for _, r := range s.replicas {
		if r.name != ev.Record.Name {
			continue
		}
		if r.incarnation != ev.Record.Incarnation {
			s.sawStranger(r, ev)
			return
		}
		switch ev.Kind {
		case registry.Appeared:
			r.record = ev.Record
			s.probe(r)
		case registry.Changed:
			r.record = ev.Record
		case registry.Disappeared:
			s.resigned(r)
		}
		return
	}
}

// sawStranger records that the record under a replica's name belongs to another process, such as
// one that a person has started.
func (s *supervisor) sawStranger(r *managedReplica, ev registry.Event) {
	r.stranger = ev.Record.PID
	if ev.Kind == registry.Disappeared {
		r.stranger = 0
	}
}

// forget clears what a replica has announced. Its process may have been killed, and have left the
// files of its channel.
func (s *supervisor) forget(r *managedReplica) {
	if r.record.Control != "" {
		s.channels[r.record.Control] = true
	}
	r.record, r.answers, r.unserving = registry.Record{}, false, false
}

// resigned ends the reign of a replica that gave up its registration. Usually the replica is dying:
// the kernel releases its locks a moment before the pidfd reports the death.
func (s *supervisor) resigned(r *managedReplica) {
	if r.state == starting {
		s.forget(r) // it must register again
	}
	if r.state != ready {
		return
	}
	if sys.RobustDied(s.page.alive(r.index)) {
		s.died(r, r.proc) // publishes its requests before a promotion
		return
	}
	r.state = leaving
	if s.stopping != nil {
		if s.reign.primary == r.index {
			s.stopRest()
		}
		return
	}
	if s.reign.primary == r.index {
		r.abdicated = true
		s.elect("end of the registration of " + r.name)
	}
	s.expectEnd(r, "gave up its registration")
}

// expectEnd kills a replica that does not serve any more, if it has not ended within the grace. A
// replica with a closed endpoint may still answer calls that it has taken, so the close alone does
// not end its reign.
func (s *supervisor) expectEnd(r *managedReplica, how string) {
	p := r.proc
	s.after(s.cfg.Grace, func() {
		if r.proc == p && s.stopping == nil {
			s.suspect(r, how+" and did not end")
		}
	})
}

// probePause is the time between two attempts to connect to a replica that has no room for it.
const probePause = 200 * time.Millisecond

// probe checks whether a registered replica answers, and then waits for the end of its endpoint.
//
// A refusal for a shortage, of descriptors or of connections, is an answer. The supervisor tries
// again: for ReadyTimeout if the replica is a new one, and without end if it served before this
// supervisor. What such a replica serves is unknown until then.
func (s *supervisor) probe(r *managedReplica) {
	incarnation, rec, adopted := r.incarnation, r.record, r.adopted()
	s.helpers.Go(func() {
		patience := sys.NewPatience(s.cfg.ReadyTimeout)
		conn, err := s.shakeHands(rec)
		for ipc.CodeOf(err) == ipc.CodeResourceExhausted && (adopted || patience.Next() > 0) {
			if adopted {
				s.do(func() {
					if r.incarnation == incarnation && r.state == starting && r.record.Name != "" {
						r.answers = true
						s.checkReady(r)
					}
				})
			}
			select {
			case <-time.After(probePause):
			case <-s.ctx.Done():
				return
			}
			conn, err = s.shakeHands(rec)
		}
		if conn != nil && !adopted {
			if !s.awaitHealth(conn, func() {
				s.do(func() { r.unserving = r.unserving || r.incarnation == incarnation })
			}) {
				conn.Close()
				return // it never served; ReadyTimeout and the death of its process say more
			}
		}
		s.do(func() {
			late := adopted && r.state == ready
			if r.incarnation != incarnation || r.state != starting && !late || r.record.Name == "" {
				return
			}
			if err != nil {
				if !late { // otherwise it has answered, and its end is noticed elsewhere
					s.suspect(r, "registered, but does not answer: "+err.Error())
				}
				return
			}
			r.answers = true
			if conn != nil {
				r.served, err = conn.Protocols()
			}
			if err != nil {
				s.suspect(r, "registered, but does not say what it serves: "+err.Error())
				return
			}
			s.compareVersions(r)
			s.checkReady(r)
		})
		if conn == nil {
			return
		}
		defer conn.Close()
		select {
		case <-conn.Done():
			s.do(func() {
				if r.incarnation == incarnation {
					s.expectEnd(r, "closed its endpoint")
				}
			})
		case <-s.ctx.Done():
		}
	})
}

// awaitHealth waits until a server says that it serves. It calls unserving if the server says that
// it does not, and returns false if the connection ends before that changes. A server that says
// nothing, such as one whose interceptors refuse health checks, counts as serving.
func (s *supervisor) awaitHealth(conn *ipc.Conn, unserving func()) bool {
	for first := true; ; first = false {
		health, err := conn.Health(s.ctx, "")
		if err != nil || health != ipc.HealthNotServing {
			return conn.Err() == nil
		}
		if first {
			unserving()
		}
		select {
		case <-time.After(healthPause):
		case <-conn.Done():
			return false
		case <-s.ctx.Done():
			return false
		}
	}
}

// healthPause is the time between two health checks of a replica that does not serve yet.
const healthPause = 10 * time.Millisecond

// shakeHands connects to the server of a record as its clients do, by the smallest possible
// connection. A record without a channel counts as answering.
func (s *supervisor) shakeHands(rec registry.Record) (*ipc.Conn, error) {
	if rec.Control == "" {
		return nil, nil
	}
	ctx, stop := withPatience(s.ctx, s.cfg.ReadyTimeout)
	defer stop()
	return ipc.Dial(ctx, rec.Control, ipc.WithDomain(s.dir.Path()), ipc.WithReplyChannel(rec.Reply),
		ipc.WithRings(4096, 4096))
}

// checkReady makes a replica ready when its process has started and its server has answered, in
// either order.
func (s *supervisor) checkReady(r *managedReplica) {
	if r.state != starting || r.proc == nil || r.suspicion != nil || r.planned || !r.answers {
		return
	}
	r.state, r.readySince, r.trouble = ready, time.Now(), nil
	s.watchFutex(r)
	s.expectSync(r)
	s.report(Event{Kind: Ready, Replica: r.name, PID: r.proc.pid})
	if s.degraded {
		s.degraded = false
		s.report(Event{Kind: Recovered, Replica: r.name})
		s.rule(s.reign.epoch, s.reign.primary)
	}
	if !s.settled {
		for _, other := range s.replicas {
			if other.state != ready {
				return
			}
		}
		s.settled = true
	}
	if s.reign.primary == none {
		s.elect("ready")
	}
}
