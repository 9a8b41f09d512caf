package sys_test

import (
	"sync/atomic"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// TestChecks has many Checks at work: they are called one after the other, again and again, and not
// after Stop has returned. A Check made after the last one was stopped is called, too.
func TestChecks(t *testing.T) {
	for range 2 {
		var running, overlaps atomic.Int32
		var all []*sys.Check
		var stopped [3]atomic.Bool
		called := make(chan int)
		for i := range stopped {
			all = append(all, sys.NewCheck(func() {
				if running.Add(1) > 1 || stopped[i].Load() {
					overlaps.Add(1)
				}
				called <- i
				running.Add(-1)
			}))
		}
		var calls [3]int
		for calls[0] < 2 || calls[1] < 2 || calls[2] < 2 {
			calls[<-called]++
		}
		for i, c := range all {
			done := make(chan struct{})
			go func() {
				c.Stop()
				stopped[i].Store(true)
				close(done)
			}()
			for waiting := true; waiting; {
				select {
				case <-called:
				case <-done:
					waiting = false
				}
			}
		}
		if n := overlaps.Load(); n > 0 {
			t.Errorf("%d calls beside another one, or after Stop", n)
		}
	}
}
