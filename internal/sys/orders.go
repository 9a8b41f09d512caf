package sys

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"
)

// Orders are the signals by which a process is told to end, SIGINT and SIGTERM, until
// Stop. Service managers, and tools such as timeout, send the same signal more than once
// and at once; so one signal or many, the process is told once. Only a second SIGINT, a
// person's second Ctrl-C, says more.
type Orders struct {
	Told   <-chan struct{} // closed at the first signal
	Urgent <-chan struct{} // closed at the second SIGINT

	stop func()
}

// AwaitOrders begins to take orders.
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

// ErrUrgent is the cause with which a second SIGINT ends a context of [Orders.Grace].
var ErrUrgent = errors.New("a second SIGINT")

// Grace returns a context for what a process does between its order to end and its end. The
// context lasts d, or until a second SIGINT, whose cause is then [ErrUrgent].
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

// Stop gives the signals back.
func (o *Orders) Stop() { o.stop() }
