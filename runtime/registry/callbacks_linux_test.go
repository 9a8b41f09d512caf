package registry_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// TestFaultyLoops has the body of a loop over changes panic, end its goroutine, block, and close
// the registry. The loop runs on the goroutine of its user; the registry does not wait for it.
func TestFaultyLoops(t *testing.T) {
	for _, fault := range []string{"panics", "exits", "blocks", "closes"} {
		t.Run("registry.Registry.Watch.loop "+fault, func(t *testing.T) {
			domain := newDomain(t)
			r, other := open(t, domain), open(t, domain)
			own, err := other.Register(registry.Record{Name: "a"})
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			over, hit, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				for range r.Watch(context.Background(), "") {
					close(hit)
					switch fault {
					case "panics":
						panic("on purpose")
					case "exits":
						runtime.Goexit()
					case "blocks":
						<-over
					case "closes":
						_ = r.Close()
					}
					return
				}
			}()
			watchdog := time.After(time.Minute)
			await := func(what string, done <-chan struct{}) {
				select {
				case <-done:
				case <-watchdog:
					t.Fatal(what, " does not come")
				}
			}
			await("the event", hit)
			if fault != "closes" {
				if _, err := r.Lookup("a"); err != nil {
					t.Error(err)
				}
			}
			close(over)
			await("the end of the loop", ended)
			closed := make(chan struct{})
			go func() { defer close(closed); _ = r.Close() }()
			await("the end of the registry", closed)
			if _, err := other.Lookup("a"); err != nil {
				t.Error(err)
			}
		})
	}
}
