package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// errLate is the cause of the end of the context of a patience.
var errLate = errors.New("it did not answer")

// A patience limits the time for steps that follow each other, such as the calls of a session: a
// step is what this process waits for. Its context ends when a step has taken longer. A
// sys.Patience is for one wait, without a context.
//
// The time is counted in shares, by a timer that is set again after each of them. So if this
// process was stopped meanwhile, alone or with the whole machine, that costs the other side one
// share at most, and the process finds its answer before the time is over. The timer goes on for a
// share when a step ends, so that steps which are short do not set it. A step that finds it running
// gets the rest of that share in addition.
type patience struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	armed time.Duration // what the timer was set to; 0 while it does not run
	limit time.Duration // of the step
	left  time.Duration // of the step; 0 while there is none
}

func newPatience(ctx context.Context) *patience {
	w := new(patience)
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	return w
}

// withPatience returns a context that ends when one step has taken longer than limit.
func withPatience(ctx context.Context, limit time.Duration) (context.Context,
	context.CancelFunc) {
	w := newPatience(ctx)
	w.begin(limit)
	return w.ctx, w.close
}

// begin begins a step.
func (w *patience) begin(limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit, w.left = limit, limit
	share := w.share()
	if w.armed > 0 {
		w.left += share
	}
	if w.armed == 0 || w.armed > share {
		w.set(share)
	}
}

// share returns the time between two looks. The caller must hold w.mu.
func (w *patience) share() time.Duration { return max(w.limit/sys.PatienceShares, 1) }

// set sets the timer. The caller must hold w.mu.
func (w *patience) set(d time.Duration) {
	w.armed = d
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.pass)
	} else {
		w.timer.Reset(d)
	}
}

// pass is called when the timer has run out.
func (w *patience) pass() {
	w.mu.Lock()
	defer w.mu.Unlock()
	passed := w.armed
	w.armed = 0
	if w.left == 0 {
		return
	}
	if w.left = max(w.left-passed, 0); w.left > 0 {
		w.set(w.share())
		return
	}
	w.cancel(fmt.Errorf("%w within %v", errLate, w.limit.Round(time.Millisecond)))
}

// end ends a step.
func (w *patience) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = 0
}

// close ends the context.
func (w *patience) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.left = 0
	w.cancel(context.Canceled)
}
