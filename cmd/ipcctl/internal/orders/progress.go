package orders

import (
	"context"
	"fmt"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// supervised gives an order to a supervisor, and tells what it changes until it is carried out.
func (o *Order) supervised(ctx context.Context, limit time.Duration, tell func(string),
	op *group.Operator, give func(context.Context) (group.Status, error)) (err error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tell(fmt.Sprintf("the order goes to the supervisor (pid %d)", op.Supervisor()))
	watching, stop := context.WithCancel(limited)
	p := progress{tell: tell, before: o.Before}
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(watching, op) })
	o.After, err = give(limited)
	stop()
	watch.Wait()
	switch {
	case err == nil:
		p.show(o.After)
	case ctx.Err() != nil:
		tell("interrupted; the supervisor carries the order out")
	case ipc.CodeOf(err) == ipc.CodeUnavailable:
		err = fmt.Errorf("the supervisor (pid %d) has ended meanwhile; ipcctl ls shows what "+
			"lives: %w", op.Supervisor(), err)
	case limited.Err() != nil || ipc.CodeOf(err) == ipc.CodeDeadlineExceeded:
		// The supervisor may have seen the end of the time first.
		err = fmt.Errorf("not done within %v; ipcctl ls shows the replicas: %w", limit, err)
	}
	return err
}

// A progress tells what changes in a group.
type progress struct {
	tell   func(string)
	before group.Status
	silent bool // the supervisor has not answered
}

// progressPeriod is the period at which the state of a group is asked for, and silence the time
// after which a supervisor without an answer is reported.
const (
	progressPeriod = 100 * time.Millisecond
	silence        = 3 * time.Second
)

func (p *progress) watch(ctx context.Context, o *group.Operator) {
	tick := time.NewTicker(progressPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		short, cancel := context.WithTimeout(ctx, silence)
		s, err := o.Status(short)
		cancel()
		switch {
		case err == nil:
			p.silent = false
			p.show(s)
		case ctx.Err() == nil && ipc.CodeOf(err) == ipc.CodeDeadlineExceeded && !p.silent:
			p.silent = true
			p.tell(fmt.Sprintf("the supervisor (pid %d) does not answer; it hangs or is stopped",
				o.Supervisor()))
		}
	}
}

// show tells the difference between the last state and the next.
func (p *progress) show(s group.Status) {
	for i := range min(len(s.Replicas), len(p.before.Replicas)) {
		was, is := p.before.Replicas[i], s.Replicas[i]
		if was.PID != 0 && was.PID != is.PID {
			p.tell(fmt.Sprintf("%s: pid %d has ended", is.Name, was.PID))
		}
		if is.Err != nil && was.Err == nil {
			p.tell(is.Err.Error())
		}
		if is.Ready && (!was.Ready || was.PID != is.PID) {
			p.tell(fmt.Sprintf("%s: pid %d is ready", is.Name, is.PID))
		}
	}
	if s.Primary >= 0 && (s.Primary != p.before.Primary || s.Epoch != p.before.Epoch) {
		p.tell(fmt.Sprintf("%s is the primary, in epoch %d", processOf(s, s.Primary), s.Epoch))
	}
	p.before = s
}
