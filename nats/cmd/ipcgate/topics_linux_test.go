package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// gateEnv makes the test binary ipcgate, and publisherEnv makes it a publisher in a domain.
const (
	gateEnv      = "IPCGATE_TEST_GATE"
	publisherEnv = "IPCGATE_TEST_PUBLISHER"
)

// publishLevels publishes position after position, for ever.
func publishLevels(domain string) error {
	p := audio.NewLevelsPublisher(topic.Options{})
	l, err := ipc.Listen("meters", ipc.WithDomain(domain))
	if err != nil {
		return err
	}
	go func() {
		for i := uint64(0); ; i++ {
			if err := p.Publish(context.Background(), &audio.LevelsT{Position: i,
				SampleRate: uint32(os.Getpid())}); err != nil {
				panic(err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return ipc.NewServer(p).Serve(context.Background(), l)
}

// TestTopicsThroughProcesses has a publisher, the two gates and a subscriber in a process each. Any
// of the others is killed, and so is the NATS server: the subscriber goes on, its numbers are those
// of the publisher, and what it lost and what came is all that there was between two breaks.
func TestTopicsThroughProcesses(t *testing.T) {
	broker := natstest.Start(t)
	there, here := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "d")
	start := func(env string) (kill func()) {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		var stderr bytes.Buffer
		cmd.Env, cmd.Stderr = append(os.Environ(), env), &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killed := false
		kill = func() {
			if !killed {
				killed = true
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if stderr.Len() > 0 {
					t.Logf("%s: %s", env, &stderr)
				}
			}
		}
		t.Cleanup(kill)
		return kill
	}
	publisher := publisherEnv + "=" + there
	export := gateEnv + "=" + strings.Join([]string{"export", "-nats", broker.ClientURL(),
		"-domain", there, "far=meters"}, " ")
	imported := gateEnv + "=" + strings.Join([]string{"import", "-nats", broker.ClientURL(),
		"-domain", here, "far=near"}, " ")
	kills := map[string]func(){}
	for _, env := range []string{publisher, export, imported} {
		kills[env] = start(env)
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	s, err := audio.SubscribeLevels(ctx, topic.Channel("near", ipc.WithDomain(here)),
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var m audio.LevelsT
	next, seen := uint64(0), false
	read := func() topic.Arrival {
		t.Helper()
		before := m.SampleRate
		a, err := s.Next(ctx, &m)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Number != m.Position:
			t.Fatalf("message %d has the number %d", m.Position, a.Number)
		case seen && !a.Break && (a.Number != next+a.Lost || before != m.SampleRate):
			t.Fatalf("%+v behind %d, of process %d behind %d", a, next-1, m.SampleRate, before)
		}
		next, seen = a.Number+1, true
		return a
	}
	read()
	for _, env := range []string{publisher, export, imported, publisher, imported, export} {
		kills[env]()
		kills[env] = start(env)
		for !read().Break {
		}
		for range 20 {
			read()
		}
	}
	broker.Restart(t)
	after := time.Now()
	for !read().Published.After(after) {
	}
}
