package group_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childScarce is a replica that takes all descriptors of its process at SIGHUP, and gives them back
// at SIGUSR2.
func childScarce([]string) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE,
		&syscall.Rlimit{Cur: 100, Max: 100}); err != nil {
		return err
	}
	orders := make(chan os.Signal, 1)
	signal.Notify(orders, syscall.SIGHUP, syscall.SIGUSR2)
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	ln, err := ipc.Listen("scarce")
	if err != nil {
		return err
	}
	srv := ipc.NewServer(ipc.WithFence(r))
	go srv.Serve(context.Background(), ln)
	if err := r.Announce(registry.Record{Control: "scarce"}); err != nil {
		return err
	}
	var hoard []*os.File
	for {
		switch <-orders {
		case syscall.SIGHUP:
			for {
				f, err := os.Open("/")
				if err != nil {
					break
				}
				hoard = append(hoard, f)
			}
		case syscall.SIGUSR2:
			for _, f := range hoard {
				f.Close()
			}
			hoard = nil
		}
	}
}

func scarceConfig(domain string) group.Config {
	return group.Config{
		Service: "svc", Domain: domain, Replicas: 1,
		ReadyTimeout: time.Minute,
		Command:      func(int) *exec.Cmd { return childCommand("scarce") },
	}
}

func init() { children["scarce"] = childScarce }

// A primary whose process has no descriptors is not killed by a supervisor that adopts it: it says
// that it has none.
func TestPrimaryWithoutDescriptorsIsAdopted(t *testing.T) {
	d := newDomain(t)
	host := childCommand("host", d, "scarce", "survive")
	pid := runHost(t, host)[0]
	host.Process.Kill()
	host.Wait()
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	dial := func() (*ipc.Conn, error) {
		return ipc.Dial(t.Context(), "scarce", ipc.WithDomain(d))
	}
	awaitCode := func(code ipc.Code) {
		t.Helper()
		for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			c, err := dial()
			if err == nil {
				c.Close()
			}
			if ipc.CodeOf(err) == code {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("dial: %v", err)
			}
		}
	}
	awaitCode(ipc.CodeResourceExhausted)
	cfg := scarceConfig(d)
	cfg.Survive = true
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg) // returns when the replica is ready
	if got := g.Status().Replicas[0].PID; got != pid || events.has(group.Suspected) {
		t.Errorf("process %d is in place of %d; events:\n%v", got, pid, &events)
	}
	awaitCode(ipc.CodeResourceExhausted)
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	awaitCode(ipc.CodeOK)
	if got := g.Status().Replicas[0].PID; got != pid {
		t.Errorf("process %d is in place of %d; events:\n%v", got, pid, &events)
	}
}
