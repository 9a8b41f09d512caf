package ipc_test

import (
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestPingPong makes round trips without deadlines. Pauses of random length on both sides let the
// other side fall asleep now and then, and messages that fill the rings make both sides wait for
// room. A lost wake-up would hang the test.
func TestPingPong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	startChild(t, "server", path)
	c := dial(t, ipc.WithDomain(path))
	rnd := rand.New(rand.NewPCG(7, 8))
	for i := range long(50_000, 10_000_000) {
		method, length := methodEcho, 0
		if side := rnd.IntN(64); side < 2 {
			// Around the time for which a side spins, where falling asleep and
			// being woken meet.
			if n := rnd.IntN(200); side == 0 {
				pause(n)
			} else {
				method, length = methodPause, n
			}
		} else if rnd.IntN(64) == 0 {
			length = rnd.IntN(3 * ipc.DefaultRingCapacity)
		}
		if _, err := ipc.Invoke(t.Context(), c, method,
			&blob{Data: make([]byte, length)}); err != nil {
			t.Fatalf("round trip %d: %v", i, err)
		}
	}
	if s := c.Stats(); s.Sleeps == 0 || s.WakeupsSent == 0 || s.Spins == 0 || s.WaitsForRoom == 0 {
		t.Errorf("nobody ever slept, or spun, or waited for room: %+v", s)
	}
}

// TestRandomKills kills the server and the clients at random moments under load, over and over. The
// processes that live learn of each death, and nothing is left behind.
func TestRandomKills(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	path := filepath.Join(t.TempDir(), "d")
	for range long(10, 2000) {
		before := footprintNow(t)
		srv := startChild(t, "server", path)
		client := startChild(t, "client", path)
		c, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path))
		if err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for i := range 4 {
			callers.Go(func() {
				for {
					if _, err := echo(t.Context(), c, make([]byte, i*i*1000)); err != nil {
						if ipc.CodeOf(err) != ipc.CodeUnavailable {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for start, d := time.Now(),
			time.Duration(rnd.IntN(3000))*time.Microsecond; time.Since(start) < d; {
			runtime.Gosched()
		}
		if rnd.IntN(2) == 0 {
			client.kill()
		}
		srv.kill()
		callers.Wait()
		c.Close()
		client.kill()
		settle(t, "after a kill", before)
	}
}
