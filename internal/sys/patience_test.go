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
