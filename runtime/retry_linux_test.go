package ipc_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestRetriesUnderLoad has many callers with a policy under way while the server's process is
// killed, told to end, and stopped for longer than an attempt may take, again and again, and holds
// every answer against what the servers executed.
func TestRetriesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	domain, path := filepath.Join(dir, "d"), filepath.Join(dir, "ledger")
	c, err := ipc.Connect("echo", ipc.WithDomain(domain), ipc.WithPatience(2*time.Minute),
		ipc.WithTimeout(2*time.Minute),
		ipc.WithRetry(ipc.RetryPolicy{Attempts: 1000, AttemptTimeout: 20 * time.Millisecond,
			Backoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond, MaxTokens: 1e6}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &witness{claims: map[uint64]claim{}}
	w.record(c, 8, func(form string, err error) {
		if form == "again" || ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
			t.Errorf("%s: a call that could have been tried again: %v", form, err)
		}
	})
	for round := range 3 * outcomeRounds() {
		srv := startChild(t, "recorder", domain, ledgerEnv+"="+path)
		for n := w.over.Load() + 300; w.over.Load() < n; {
			pause(100)
		}
		if round%3 == 0 {
			stopProcess(t, srv)
			for retries := c.Stats().Retries + 20; c.Stats().Retries < retries; {
				pause(100)
			}
			if err := srv.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		end := []os.Signal{syscall.SIGKILL, syscall.SIGTERM}[round%2]
		if err := srv.Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		<-srv.done
	}
	w.stop.Store(true)
	last := startChild(t, "recorder", domain, ledgerEnv+"="+path) // for those that wait
	w.callers.Wait()
	if err := last.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-last.done
	w.check(t, path)
	t.Logf("%+v", c.Stats())
}
