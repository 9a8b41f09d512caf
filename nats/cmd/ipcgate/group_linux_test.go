package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// replicaEnv makes the test binary a replica of a group, of one of these kinds.
const (
	replicaEnv    = "IPCGATE_TEST_REPLICA"
	replicaFirst  = "first"
	replicaRolled = "rolled" // it serves a further protocol
)

func TestMain(m *testing.M) {
	if args := os.Getenv(gateEnv); args != "" {
		os.Exit(run(context.Background(), strings.Fields(args), os.Stdout, os.Stderr))
	}
	if domain := os.Getenv(publisherEnv); domain != "" {
		fmt.Fprintln(os.Stderr, publishLevels(domain))
		os.Exit(1)
	}
	if os.Getenv(replicaEnv) == "" {
		os.Exit(m.Run())
	}
	levels := audio.NewLevelsPublisher(topic.Options{})
	go publishForever(levels, 1)
	var health ipc.HealthState
	options := []ipc.ServerOption{levels, ipc.WithHealth(&health)}
	if os.Getenv(replicaEnv) == replicaRolled {
		options = append(options, echo.Service())
	}
	if err := group.Run(context.Background(), group.RunConfig{Options: options},
		audio.NewAudioControlService(pidTeller{health: &health})); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pidTeller answers with its process, which is not well any more if it is told so.
type pidTeller struct {
	audio.UnimplementedAudioControl
	health *ipc.HealthState
}

// unwell is the parameter that makes a server say that it does not serve.
const unwell = 13

// SetParam implements audio.AudioControl.
func (p pidTeller) SetParam(_ context.Context, m *audio.SetParamT) (*audio.AckT, error) {
	if m.ParamId == unwell {
		return &audio.AckT{}, p.health.Set("", ipc.HealthNotServing)
	}
	return nil, ipc.Errorf(ipc.CodeNotFound, "pid %d", os.Getpid())
}

// startEngine starts the group engine in a domain. The caller must shut it down.
func startEngine(t *testing.T, domain string) *group.Group {
	g, err := group.Start(t.Context(), group.Config{Service: "engine", Domain: domain,
		Command: replica(t, replicaFirst)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// replica returns the command of a replica of a kind.
func replica(t *testing.T, kind string) func(int) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(int) *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), replicaEnv+"="+kind)
		return cmd
	}
}

// TestExportOfRolledGroup rolls an exported group to a command that serves a further protocol. The
// export serves what the group does, and has the health of the primary.
func TestExportOfRolledGroup(t *testing.T) {
	broker := natstest.Start(t)
	there := filepath.Join(t.TempDir(), "d")
	g := startEngine(t, there)
	defer g.Shutdown(context.Background())
	start(t, gate("export", "-nats", broker.ClientURL(), "-domain", there, "audio=group:engine"))
	nc := broker.Connect(t)
	expect := func(what string, fine func(*natsipc.Conn) (bool, error)) {
		t.Helper()
		for limit := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			c, err := natsipc.Dial(t.Context(), nc, "audio")
			ok := false
			if err == nil {
				ok, err = fine(c)
				c.Close()
			}
			if ok && err == nil {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	healthy := func(want ipc.Health) func(*natsipc.Conn) (bool, error) {
		return func(c *natsipc.Conn) (bool, error) {
			h, err := c.Health(t.Context(), "")
			return h == want, err
		}
	}
	serves := func(name string) func(*natsipc.Conn) (bool, error) {
		return func(c *natsipc.Conn) (bool, error) {
			all, err := c.Protocols(t.Context())
			return slices.ContainsFunc(all, func(p *ipc.Protocol) bool {
				return p.Name == name
			}), err
		}
	}
	expect("it serves", serves("audio.AudioControl"))
	expect("it is well", healthy(ipc.HealthServing))
	if err := g.Roll(t.Context(), replica(t, replicaRolled)); err != nil {
		t.Fatal(err)
	}
	expect("it serves what is new", serves(echo.Service().Protocol().Name))
	expect("it is well", healthy(ipc.HealthServing))
	expect("it is told", func(c *natsipc.Conn) (bool, error) {
		_, err := audio.NewAudioControlClient(c).SetParam(t.Context(),
			&audio.SetParamT{ParamId: unwell})
		return true, err
	})
	expect("it is not well", healthy(ipc.HealthNotServing))
}

// TestExportOfGroup exports a group whose primary is killed: calls over NATS follow the next one.
func TestExportOfGroup(t *testing.T) {
	broker := natstest.Start(t)
	there := filepath.Join(t.TempDir(), "d")
	g := startEngine(t, there)
	defer g.Shutdown(context.Background())
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"export", "-nats", broker.ClientURL(), "-domain", there,
			"audio=group:engine"}, new(bytes.Buffer), &stderr)
	}()
	nc := broker.Connect(t)
	primary := func(other int) (pid int) {
		t.Helper()
		for limit := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			c, err := natsipc.Dial(ctx, nc, "audio")
			if err == nil {
				_, err = audio.NewAudioControlClient(c).SetParam(ctx, &audio.SetParamT{})
				c.Close()
			}
			if _, text, ok := strings.Cut(fmt.Sprint(err), "pid "); ok {
				if _, err := fmt.Sscan(text, &pid); err == nil && pid != other {
					return pid
				}
			}
			if time.Now().After(limit) {
				t.Fatal(err)
			}
		}
	}
	first := primary(0)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	primary(first)
	cancel()
	if status := <-ended; status != 0 {
		t.Errorf("status %d: %s", status, &stderr)
	}
}
