package group_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childLoading is a replica that says that it does not serve until it has passed the gate.
func childLoading(args []string) error {
	var health ipc.HealthState
	if err := health.Set("", ipc.HealthNotServing); err != nil {
		return err
	}
	return group.Run(context.Background(), group.RunConfig{
		Record:  registry.Record{Control: "loading_" + args[0]},
		Options: []ipc.ServerOption{ipc.WithHealth(&health)},
		Ready: func() {
			go func() {
				if waitAtGate(os.Getenv(gateVar)) == nil {
					_ = health.Set("", ipc.HealthServing)
				}
			}()
		},
	}, (&list{}).service())
}

func loadingConfig(t *testing.T) (group.Config, net.Listener) {
	gate, err := net.Listen("unix", filepath.Join(t.TempDir(), "gate"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gate.Close() })
	t.Setenv(gateVar, gate.Addr().String())
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(i int) *exec.Cmd { return childCommand("loading", string(rune('a'+i))) }
	return cfg, gate
}

// TestReadyWhenServing shows that a replica is ready when its server says that it serves, and that
// the replica that comes first is the primary although the other one answers, too.
func TestReadyWhenServing(t *testing.T) {
	cfg, gate := loadingConfig(t)
	started := make(chan *group.Group, 1)
	go func() { started <- startGroup(t, cfg) }()
	var waiting []net.Conn
	for range 2 {
		conn, err := gate.Accept()
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, conn)
	}
	// Both serve and are announced. Clients see no primary.
	c, err := group.Dial(t.Context(), "svc", group.DialConfig{Domain: cfg.Domain})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := ipc.Invoke(ctx, c, methodLast, &words{}); ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("a call to a group of which no process serves: %v", err)
	}
	select {
	case <-started:
		t.Fatal("the group has started although no process serves")
	default:
	}
	for _, conn := range waiting {
		conn.Close()
	}
	if g := <-started; g == nil || !g.Status().Healthy() {
		t.Error("the group is not healthy")
	}
	if _, err := ipc.Invoke(t.Context(), c, methodLast, &words{}); err != nil {
		t.Error(err)
	}
}

// TestNeverServing starts a group whose replicas never say that they serve.
func TestNeverServing(t *testing.T) {
	cfg, _ := loadingConfig(t)
	var err error
	// On a busy machine a replica may be late before it can say so.
	for cfg.ReadyTimeout = 300 * time.Millisecond; cfg.ReadyTimeout < time.Minute; {
		_, err = group.Start(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), "did not register") {
			break
		}
		cfg.ReadyTimeout *= 2
	}
	if err == nil || !strings.Contains(err.Error(), "HealthNotServing") {
		t.Errorf("error %v", err)
	}
	nothingLeft(t, cfg.Domain)
}
