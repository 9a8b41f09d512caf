package ipc_test

import (
	"bytes"
	"os"
	"runtime"
	"testing"
	"time"
)

// A footprint is what this process has of that which connections take.
// Goroutines that are about to end and memory that is about to be unmapped
// count still.
type footprint struct {
	descriptors, goroutines int
	mappings                int // of memory shared with another process
}

func footprintNow(t testing.TB) footprint {
	t.Helper()
	// The netpoller opens descriptors of its own when it is first needed.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return footprint{len(fds), runtime.NumGoroutine(), bytes.Count(maps, []byte("/memfd:"))}
}

func (f footprint) within(g footprint) bool {
	return f.descriptors <= g.descriptors && f.goroutines <= g.goroutines &&
		f.mappings <= g.mappings
}

// settle waits until no more is left than there was.
func settle(t testing.TB, what string, before footprint) {
	t.Helper()
	var now footprint
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		if now = footprintNow(t); now.within(before) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%s: %+v is left; there was %+v", what, now, before)
}
