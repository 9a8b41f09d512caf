package natsipc

import (
	"context"
	"errors"
	"sync"

	ipc "github.com/ipcgen/ipcgen/runtime"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
	"github.com/ipcgen/ipcgen/nats/internal/changelog"
	"github.com/ipcgen/ipcgen/nats/internal/lease"
	"github.com/ipcgen/ipcgen/nats/internal/machine"
)

// A reign is the time of this member as the leader. Its only writer of the log is run, which
// stores the changes that wait as one entry, executes them, and answers.
type reign struct {
	member *Member
	held   *lease.Held

	mu      sync.Mutex
	waiting []*proposal
	stirred chan struct{} // has an element when some wait
	ended   error
}

// A proposal is a change that a caller waits for.
type proposal struct {
	change changelog.Change
	sent   bool // it may be in the log; guarded by reign.mu
	done   chan struct{}
	result machine.Outcome // valid when done is closed
}

const (
	// mostBatch limits the changes of one entry, in number and bytes. A longer change is one alone.
	mostBatch      = 1024
	mostBatchBytes = 256 << 10
)

// valid reports whether the reign goes on at this moment.
func (r *reign) valid() bool { return r != nil && r.held.Valid() }

// propose has a change stored and executed. It returns when that is done or ctx ends.
func (r *reign) propose(ctx context.Context, c changelog.Change) (machine.Outcome, *ipc.Error) {
	p := &proposal{change: c, done: make(chan struct{})}
	r.mu.Lock()
	if r.ended != nil {
		r.mu.Unlock()
		return machine.Outcome{}, fenced(ipc.NotExecuted, r.ended)
	}
	r.waiting = append(r.waiting, p)
	r.mu.Unlock()
	r.stir()
	select {
	case <-p.done:
		return p.result, nil
	case <-ctx.Done():
		return machine.Outcome{}, r.withdraw(ctx, p)
	}
}

// withdraw takes back a change whose caller waits no longer.
func (r *reign) withdraw(ctx context.Context, p *proposal) *ipc.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &ipc.Error{Code: ipc.CodeOf(ctx.Err()),
		Msg: "the change was not confirmed by the log in time"}
	if p.sent {
		return e
	}
	e.Outcome, e.Msg = ipc.NotExecuted, "the change was not written to the log in time"
	for i, q := range r.waiting {
		if q == p {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			break
		}
	}
	return e
}

func (r *reign) stir() {
	select {
	case r.stirred <- struct{}{}:
	default:
	}
}

// take returns the next changes, and waits for some. It returns none when ctx ends.
func (r *reign) take(ctx context.Context) []*proposal {
	for {
		r.mu.Lock()
		n, size := 0, 0
		for n < len(r.waiting) && n < mostBatch {
			size += r.waiting[n].change.Size()
			if n > 0 && size > min(mostBatchBytes, r.member.log.MaxSize()) {
				break
			}
			n++
		}
		batch := r.waiting[:n:n]
		for _, p := range batch {
			p.sent = true
		}
		r.waiting = r.waiting[n:]
		more := len(r.waiting) > 0
		r.mu.Unlock()
		if n > 0 {
			if more {
				r.stir()
			}
			return batch
		}
		select {
		case <-r.stirred:
		case <-ctx.Done():
			return nil
		}
	}
}

// run writes, executes and answers changes until ctx ends, which ends with the lease, or the log
// has a message of another member. at is the position of the message that began the reign.
func (r *reign) run(ctx context.Context, at changelog.Position) error {
	m := r.member
	for {
		batch := r.take(ctx)
		if batch == nil {
			return context.Cause(ctx)
		}
		e := changelog.Entry{Epoch: r.held.Epoch(), Changes: make([]changelog.Change, len(batch))}
		for i, p := range batch {
			e.Changes[i] = p.change
		}
		to, err := m.append(ctx, at, &e)
		var refused *changelog.RefusedError
		switch {
		case err == nil:
			at = to
			done := m.machine.Apply(e, to)
			if len(done) < len(batch) { // the machine has failed, and ends the member
				r.answer(batch, fenced(ipc.OutcomeUnknown, ErrVersion))
				return ErrVersion
			}
			for i, o := range done {
				batch[i].end(o)
			}
			m.maybeSnapshot(ctx)
			continue
		case errors.As(err, &refused):
			at = to
			r.answer(batch, m.refused(ctx, refused))
			continue
		case errors.Is(err, changelog.ErrBehind), errors.Is(err, changelog.ErrUnsent):
			r.answer(batch, fenced(ipc.NotExecuted, err))
		default:
			r.answer(batch, fenced(ipc.OutcomeUnknown, err))
		}
		return err
	}
}

func (p *proposal) end(o machine.Outcome) {
	p.result = o
	close(p.done)
}

func (r *reign) answer(batch []*proposal, err *ipc.Error) {
	for _, p := range batch {
		p.end(machine.Outcome{Err: err})
	}
}

// end ends the reign for those who wait and those who come. Nothing of theirs was written.
func (r *reign) end(why error) {
	r.mu.Lock()
	if why == nil {
		why = errors.New("the member is closed")
	}
	r.ended = why
	waiting := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	r.answer(waiting, fenced(ipc.NotExecuted, why))
}

// fenced is the error of a change whose leader does not rule any more.
func fenced(o ipc.Outcome, why error) *ipc.Error {
	return &ipc.Error{Code: ipc.CodeFenced, Outcome: o,
		Msg: "the reign of this member is over: " + why.Error()}
}

// refused is the error of a change that the server does not store.
func (m *Member) refused(ctx context.Context, err *changelog.RefusedError) *ipc.Error {
	e := &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted, Msg: err.Error()}
	switch {
	case errors.Is(err, changelog.ErrTooLong):
		e.Code, e.Msg = ipc.CodeTooLarge, err.Err.Error()+"; see GroupConfig.MaxLogBytes"
	case err.Full():
		e.Code, e.Msg = ipc.CodeResourceExhausted, m.explained(ctx, ask.Now(m.nc), err).Error()
	}
	return e
}
