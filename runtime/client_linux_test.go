package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestClientUnderLoad has many callers of one client under way while the server's process is
// started, killed, and told to end, again and again, and holds every answer against what the
// servers executed. Calls wait for a server as long as there is none, so that an error says
// that the outcome is unknown, or is none.
func TestClientUnderLoad(t *testing.T) {
	for name, end := range map[string]os.Signal{
		"killed": syscall.SIGKILL, "rolled": syscall.SIGTERM, "closed": syscall.SIGHUP,
	} {
		t.Run(name, func(t *testing.T) {
			expectNothingLeft(t)
			dir := t.TempDir()
			domain, path := filepath.Join(dir, "d"), filepath.Join(dir, "ledger")
			c, err := ipc.Connect("echo", ipc.WithDomain(domain), ipc.WithPatience(2*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			w := &witness{claims: map[uint64]claim{}}
			w.record(c, 16, func(form string, err error) {
				switch {
				case ipc.OutcomeOf(err) != ipc.OutcomeUnknown:
					t.Errorf("%s: a call that could have been sent again: %v", form, err)
				case form == "again" || name == "rolled":
					t.Errorf("%s: %v", form, err)
				}
			})
			rounds := 3 * outcomeRounds()
			for range rounds {
				srv := startChild(t, "recorder", domain, ledgerEnv+"="+path)
				for n := w.over.Load() + 1000; w.over.Load() < n; {
					pause(100)
				}
				if err := srv.Process.Signal(end); err != nil {
					t.Fatal(err)
				}
				<-srv.done
			}
			w.stop.Store(true)
			last := startChild(t, "recorder", domain, ledgerEnv+"="+path) // for those that wait
			w.callers.Wait()
			last.Process.Signal(syscall.SIGTERM)
			<-last.done
			w.check(t, path)
		})
	}
}

// TestClientIsAwaited starts clients in processes of their own before there is a domain.
func TestClientIsAwaited(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "d")
	client := newChild(t, "patient", domain)
	ready := make(chan bool, 1)
	go func() { ready <- client.start(t) }()
	for { // it has made the domain, or is about to
		if _, err := os.Stat(domain); err == nil {
			break
		}
		pause(100)
	}
	startChild(t, "server", domain)
	if !<-ready {
		t.Error("the client that waited did not get an answer")
	}
}

// patientRole makes a call that waits for the server.
func patientRole(domain ipc.RendezvousOption) error {
	c, err := ipc.Connect("echo", domain, ipc.WithPatience(time.Minute))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := echo(context.Background(), c, []byte("patience")); err != nil {
		return err
	}
	_, err = os.Stdout.WriteString("ready\n")
	return err
}

// patienceWhenStopped is less than the time for which TestStoppedClientIsPatient stops the client.
const patienceWhenStopped = 3 * time.Second

// stoppedRole makes a call that waits for the server, and is ready when it probably waits.
func stoppedRole(domain ipc.RendezvousOption) error {
	c, err := ipc.Connect("echo", domain, ipc.WithPatience(patienceWhenStopped))
	if err != nil {
		return err
	}
	result := invoke(context.Background(), c, methodEcho, "")
	pause(100)
	fmt.Println("ready")
	return errors.Join(<-result, c.Close())
}

// TestStoppedClientIsPatient stops a client that waits for a server for longer than its patience
// lasts. Meanwhile the server comes. The client, when it goes on, has not had the time to find it.
func TestStoppedClientIsPatient(t *testing.T) {
	t.Parallel()
	domain := filepath.Join(t.TempDir(), "d")
	client := startChild(t, "stopped", domain)
	stopProcess(t, client)
	startChild(t, "server", domain)
	time.Sleep(patienceWhenStopped + patienceWhenStopped/4)
	if err := client.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	client.succeeds(t)
}
