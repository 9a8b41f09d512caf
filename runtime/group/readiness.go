package group

import (
	"context"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// watchRegistry tells the supervisor what its replicas publish of themselves.
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
			r.squatter = 0
			if ev.Kind != registry.Disappeared && ev.Record.Incarnation == 0 {
				r.squatter = ev.Record.PID
			}
			return
		}
		switch ev.Kind {
		case registry.Appeared:
			r.record = ev.Record
			s.probe(r)
		case registry.Changed:
			r.record = ev.Record
		case registry.Disappeared:
			s.missed(r)
		}
		return
	}
}

// farewell is how long a replica may live on after its registration has ended.
// A dying one loses its locks a moment before its pidfd tells.
const farewell = 100 * time.Millisecond

// missed kills a replica that gave up its registration and lives on.
func (s *supervisor) missed(r *replica) {
	p := r.proc
	time.AfterFunc(farewell, func() {
		s.do(func() {
			if r.proc == p && r.state == ready && s.stopping == nil {
				s.suspect(r, "gave up its registration")
			}
		})
	})
}

// probe finds out whether a registered replica answers.
func (s *supervisor) probe(r *replica) {
	incarnation, rec := r.incarnation, r.record
	s.helpers.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.ReadyTimeout)
		defer cancel()
		err := answers(ctx, s.dir.Path(), rec)
		s.do(func() {
			if r.incarnation != incarnation || r.state != starting {
				return
			}
			if err != nil {
				s.suspect(r, "registered, but does not answer: "+err.Error())
				return
			}
			r.answers = true
			s.checkReady(r)
		})
	})
}

// answers shakes hands with the server of a record. A record without a channel
// counts as answering.
func answers(ctx context.Context, domain string, rec registry.Record) error {
	if rec.Control == "" {
		return nil
	}
	conn, err := ipc.Dial(ctx, rec.Control, ipc.WithDomain(domain), ipc.WithReplyChannel(rec.Reply))
	if err != nil {
		return err
	}
	return conn.Close()
}

// checkReady makes a replica ready when it was seen both to start and to
// answer, which may happen in any order.
func (s *supervisor) checkReady(r *replica) {
	if r.state != starting || r.proc == nil || r.suspicion != nil || r.planned || !r.answers {
		return
	}
	r.state, r.readySince, r.trouble = ready, time.Now(), nil
	s.watchEarly(r)
	s.report(Event{Kind: Ready, Instance: r.name, PID: r.proc.pid})
	if s.degraded {
		s.degraded = false
		s.report(Event{Kind: Recovered, Instance: r.name})
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
