package group_test

import (
	"context"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childDelegate is a replica that announces a channel which the test itself serves.
func childDelegate(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Announce(registry.Record{Control: args[0]}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// TestConformance has clients of a group. The supervisor and its replica are real. What the replica
// serves is served by this process, since the handlers are closures of the suite.
//
// Health is that of one server. A client of a group has no method for it, because its server
// changes.
func TestConformance(t *testing.T) {
	const longest = 1 << 20
	const name = "conforming"
	conformance.TestCaller(t, conformance.Subject{Longest: longest, Lacks: conformance.Health,
		Connect: func(t *testing.T, server []ipc.ServerOption,
			client ...ipc.DialOption) conformance.Connection {
			t.Helper()
			domain := filepath.Join(t.TempDir(), "domain")
			where := ipc.WithDomain(domain)
			// The supervisor asks a server of its own for its health. Later it learns that this one
			// is gone, and has patience with the process.
			probed := ipctest.Serve(t, where, name)
			g, err := group.Start(context.Background(), group.Config{Service: name,
				Domain: domain, Replicas: 1, Grace: time.Hour,
				Command: func(int) *exec.Cmd { return childCommand("delegate", name) }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { shutdown(t, g) })
			if err := probed.Close(); err != nil {
				t.Fatal(err)
			}
			srv := ipctest.Serve(t, where, name, append(server, ipc.WithMaxMessage(longest))...)
			// The epoch of the group is not that of the suite's fences.
			client = append([]ipc.DialOption{ipc.WithEpoch(echo.NewReign(0))}, client...)
			c, err := group.Dial(context.Background(), name,
				group.DialConfig{Domain: domain, Options: client, Patience: -1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			for connected := false; !connected; {
				_, err := c.WaitConnected(context.Background())
				if err != nil && ipc.CodeOf(err) != ipc.CodeUnavailable {
					t.Fatal(err)
				}
				connected = err == nil
			}
			return conformance.Connection{Client: c, Close: c.Close, Shutdown: srv.Shutdown,
				Abort: srv.Close}
		}})
}
