package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// replicaEnv makes the test binary a replica of a group.
const replicaEnv = "IPCGATE_TEST_REPLICA"

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
	if err := group.Run(context.Background(), group.RunConfig{Options: []ipc.ServerOption{levels}},
		audio.NewAudioControlService(pidTeller{})); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pidTeller answers with its process.
type pidTeller struct {
	audio.UnimplementedAudioControl
}

// SetParam implements audio.AudioControl.
func (pidTeller) SetParam(context.Context, *audio.SetParamT) (*audio.AckT, error) {
	return nil, ipc.Errorf(ipc.CodeNotFound, "pid %d", os.Getpid())
}

// startEngine starts the group engine in a domain. The caller must shut it down.
func startEngine(t *testing.T, domain string) *group.Group {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g, err := group.Start(t.Context(), group.Config{Service: "engine", Domain: domain,
		Command: func(int) *exec.Cmd {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), replicaEnv+"=1")
			return cmd
		}})
	if err != nil {
		t.Fatal(err)
	}
	return g
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
