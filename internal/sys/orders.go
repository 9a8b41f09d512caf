package sys

import (
	"os"
	"os/signal"
	"sync"
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

// Stop gives the signals back.
func (o *Orders) Stop() { o.stop() }
