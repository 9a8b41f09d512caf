package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// soon is how long after the end of a publisher the next one is looked for. Each further look is
// twice as long after the one before, up to hesitation: it takes in every channel of the domain,
// and there may be no publisher for days.
const soon = 200 * time.Millisecond

// A publisherWatch tells on standard error why no message of a topic comes: its publisher is
// stopped or hangs, or is gone. It also tells when the publisher answers again, or another one is
// there. While messages come, it asks nothing.
type publisherWatch struct {
	t       *terminal
	server  *reach.Server
	arrived atomic.Uint64 // messages

	mu     sync.Mutex    // also makes one line of each text
	silent bool          // was told, of the server that there is now
	gone   bool          // was told, and no other server has answered since
	gaps   int           // how often the publisher was gone
	look   time.Duration // how long until the next look for a publisher, while it is gone
	broke  chan struct{} // receives a value when it is
}

func newPublisherWatch(t *terminal, server *reach.Server) *publisherWatch {
	return &publisherWatch{t: t, server: server, broke: make(chan struct{}, 1)}
}

// start watches until the function that it returns is called.
func (w *publisherWatch) start(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer w.server.Close()
		for seen := w.arrived.Load(); w.pause(ctx); {
			if now := w.arrived.Load(); now != seen {
				seen = now
				w.comes()
				continue
			}
			w.ask(ctx)
		}
	})
	return func() { cancel(); watching.Wait() }
}

// ask asks the server that there is now, and tells what has changed.
func (w *publisherWatch) ask(ctx context.Context) {
	w.mu.Lock()
	gaps := w.gaps
	w.mu.Unlock()
	seen := w.arrived.Load()
	limited, done := context.WithTimeout(ctx, hesitation)
	pid, err := w.server.Ask(limited)
	done()
	w.mu.Lock()
	defer w.mu.Unlock()
	code := ipc.CodeOf(err)
	switch {
	case ctx.Err() != nil, w.gaps != gaps, w.arrived.Load() != seen: // no answer to what is now
	case code == ipc.CodeDeadlineExceeded && !w.silent:
		w.silent = true
		w.tell("no message comes: %s", hangs(pid))
	case code == ipc.CodeOK && w.gone:
		w.gone, w.silent = false, false
		w.tell("%s is there now; no message has come from it yet", serverIn(pid))
	case code == ipc.CodeOK && w.silent:
		w.silent = false
		w.tell("%s", recovers(pid))
	}
}

// comes notes that messages come.
func (w *publisherWatch) comes() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent {
		w.tell("messages come again")
	}
	w.gone, w.silent = false, false
}

// period returns how long to wait for the next question.
func (w *publisherWatch) period() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gone {
		return hesitation
	}
	now := w.look
	w.look = min(2*w.look, hesitation)
	return now
}

// pause waits for the time of the next question. It returns false when ctx is done.
func (w *publisherWatch) pause(ctx context.Context) bool {
	again := time.NewTimer(w.period())
	defer again.Stop()
	select {
	case <-again.C:
	case <-w.broke:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// say prints a line.
func (w *publisherWatch) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(format, args...)
}

// tell is say for those who hold mu.
func (w *publisherWatch) tell(format string, args ...any) {
	fmt.Fprintf(w.t.err, "ipcctl: "+format+"\n", args...)
}

// breaks tells that the publisher is gone.
func (w *publisherWatch) breaks(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone, w.silent, w.look = true, false, soon
	w.gaps++
	w.tell("the publisher is gone; the next one is waited for: %v", why)
	select {
	case w.broke <- struct{}{}:
	default: // it will be asked
	}
}
