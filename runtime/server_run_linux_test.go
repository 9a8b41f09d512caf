package ipc_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// runnerRole runs a server whose method Block answers once the process gets SIGUSR1.
func runnerRole(domain ipc.RendezvousOption) error {
	gate := make(chan os.Signal, 1)
	signal.Notify(gate, syscall.SIGUSR1)
	srv := ipc.NewServer(ipc.WithGrace(5*time.Minute), ipc.NewService(echoProtocol,
		ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) { return m, nil }),
		ipc.Handle(methodBlock, func(context.Context, *blob) (*blob, error) {
			<-gate
			return &blob{}, nil
		})))
	return readyOnce(domain, func() error { return srv.Run(context.Background(), "echo", domain) })
}

// TestSignalsDuringDrain sends signals to a server that drains already. SIGTERM, however often,
// changes nothing, and neither does a first SIGINT; a second one ends the server at once.
func TestSignalsDuringDrain(t *testing.T) {
	const term, interrupt = syscall.SIGTERM, syscall.SIGINT
	for name, tt := range map[string]struct {
		first syscall.Signal
		then  []syscall.Signal
		cut   bool
	}{
		"SIGTERM again and again":       {term, []syscall.Signal{term, term, term}, false},
		"SIGTERM and then SIGINT":       {term, []syscall.Signal{interrupt}, false},
		"SIGINT and then SIGTERM":       {interrupt, []syscall.Signal{term, term}, false},
		"SIGINT again":                  {interrupt, []syscall.Signal{interrupt}, true},
		"SIGTERM and then SIGINT twice": {term, []syscall.Signal{interrupt, interrupt}, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			srv := startChild(t, "runner", path)
			c := dial(t, ipc.WithDomain(path))
			result := invoke(t.Context(), c, methodBlock, "")
			for c.Stats().Sent == 0 {
				time.Sleep(time.Millisecond)
			}
			still(t, c) // so the call before it has been taken
			if err := syscall.Kill(srv.Process.Pid, tt.first); err != nil {
				t.Fatal(err)
			}
			for {
				if _, err := echo(t.Context(), c, nil); err != nil {
					// A client that is slow to learn of it may send the call in vain.
					o := ipc.NotSent
					if ipc.OutcomeOf(err) == ipc.NotExecuted {
						o = ipc.NotExecuted
					}
					want(t, err, ipc.CodeUnavailable, o, "shutting down")
					break
				}
			}
			for _, sig := range tt.then {
				if err := syscall.Kill(srv.Process.Pid, sig); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond) // so that equal signals do not become one
			}
			for over := false; tt.cut && !over; {
				select {
				case <-srv.done:
					over = true
				case <-time.After(20 * time.Millisecond):
					_ = syscall.Kill(srv.Process.Pid, interrupt) // two may have become one
				}
			}
			if tt.cut {
				want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
			} else {
				if err := syscall.Kill(srv.Process.Pid, syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				if err := <-result; err != nil {
					t.Errorf("the call that was taken: %v", err)
				}
			}
			<-srv.done
			if srv.ProcessState.Success() == tt.cut {
				t.Errorf("the server: %v", srv.ProcessState)
			}
		})
	}
}
