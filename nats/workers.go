package natsipc

import "sync/atomic"

// workers are the goroutines that execute the calls of a server. A call that finds all of them at
// work gets a new one, so that a slow handler holds up nobody. A goroutine that has executed a call
// waits for the next one: its stack has grown to what a handler needs, which costs a new goroutine
// more than its start.
type workers struct {
	calls chan *served
	idle  atomic.Int32
}

// mostIdle is how many goroutines of a server wait for calls.
const mostIdle = 64

// execute executes a call on a goroutine of its own.
func (w *workers) execute(x *served) {
	select {
	case w.calls <- x:
	default:
		go w.work(x)
	}
}

// work executes a call, and those that follow. A handler may end the goroutine, which is one of the
// workers no more then.
func (w *workers) work(x *served) {
	for x != nil {
		x.run()
		x = w.next(x.server.over)
	}
}

// next waits for a call. It returns nil if enough others wait, or none will come.
func (w *workers) next(over <-chan struct{}) (x *served) {
	if w.idle.Add(1) <= mostIdle {
		select {
		case x = <-w.calls:
		case <-over:
		}
	}
	w.idle.Add(-1)
	return x
}
