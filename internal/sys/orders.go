package sys

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"
)

// Orders are the signals that tell a process to end, SIGINT and SIGTERM, until Stop. Service
// managers, and tools such as timeout, send the same signal several times in a row; so a process is
// told once, whatever the number of signals. Only a second SIGINT, a person's second Ctrl-C, has
// another meaning.
type Orders struct {
	Told   <-chan struct{} // closed at the first signal
	Urgent <-chan struct{} // closed at the second SIGINT

	stop func()
}

// AwaitOrders starts to receive the signals.
func AwaitOrders() *Orders {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, SIGTERM)
	told, urgent, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		for first, interrupts := true, 0; ; first = false {
			select {
			case sig := <-signals:
				if first {
					close(told)
				}
				if sig == os.Interrupt {
					interrupts++
					if interrupts == 2 {
						close(urgent)
					}
				}
			case <-over:
				return
			}
		}
	}()
	return &Orders{Told: told, Urgent: urgent, stop: sync.OnceFunc(func() {
		signal.Stop(signals)
		close(over)
	})}
}

// ErrUrgent is the cause of the end of an [Orders.Grace] context by a second SIGINT.
var ErrUrgent = errors.New("a second SIGINT")

// Grace returns a context for the work between the order to end and the end of the process. The
// context lasts for d, or until a second SIGINT; its cause is then [ErrUrgent].
func (o *Orders) Grace(d time.Duration) (context.Context, context.CancelFunc) {
	parent, cut := context.WithCancelCause(context.Background())
	ctx, cancel := context.WithTimeout(parent, d)
	go func() {
		select {
		case <-o.Urgent:
			cut(ErrUrgent)
		case <-ctx.Done():
			cut(nil)
		}
	}()
	return ctx, cancel
}

// Stop restores the default behaviour of the signals.
func (o *Orders) Stop() { o.stop() }
