package sys_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// TestPatience shows that time in which a process stood still counts as one step of its patience.
func TestPatience(t *testing.T) {
	for name, still := range map[string]time.Duration{"steady": 0, "stands still": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, looks := time.Now(), 0
				p := sys.NewPatience(10 * time.Second)
				for wait := p.Next(); wait > 0; wait = p.Next() {
					if looks++; looks == 1 {
						wait += still
					}
					time.Sleep(wait)
				}
				if d := time.Since(start); d != 10*time.Second+still || looks != 8 {
					t.Errorf("it has ended after %v and %d looks", d, looks)
				}
				if p.Next() != 0 {
					t.Error("it goes on after its end")
				}
			})
		})
	}
	if p := sys.NewPatience(-1); p.Next() != 0 {
		t.Error("a negative patience lasts")
	}
}

func TestWithin(t *testing.T) {
	for name, tt := range map[string]struct{ closes, ends time.Duration }{
		"closed":         {0, 0},
		"closed in time": {3 * time.Second, 3 * time.Second},
		"not in time":    {time.Hour, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, done := time.Now(), make(chan struct{})
				time.AfterFunc(tt.closes, func() { close(done) })
				synctest.Wait()
				within := sys.Within(10*time.Second, done)
				if d := time.Since(start); within != (tt.closes < 10*time.Second) || d != tt.ends {
					t.Errorf("%v after %v", within, d)
				}
			})
		})
	}
	if done := make(chan struct{}); sys.Within(0, done) {
		t.Error("an open channel counts as closed")
	} else if close(done); !sys.Within(-1, done) {
		t.Error("what is closed already comes too late")
	}
}
