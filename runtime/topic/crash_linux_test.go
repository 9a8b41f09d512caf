//go:build ipccrash

package topic_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// crashRounds is how many visits of each point are tried.
func crashRounds() int {
	if n, err := strconv.Atoi(os.Getenv("IPC_CRASH_ROUNDS")); err == nil {
		return n
	}
	return 3
}

// keepGoing continues the child whenever it has stopped, until it has ended.
func (c *child) keepGoing() {
	for {
		select {
		case <-c.done:
			return
		case <-time.After(time.Millisecond):
			if c.stopped() {
				_ = c.Process.Signal(syscall.SIGCONT)
			}
		}
	}
}

// crashPoints returns the points of the topic's memory that a child has reached, as it says itself.
func crashPoints(t *testing.T, said string, needed ...string) (points []string) {
	t.Helper()
	for line := range strings.Lines(said) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "crash point: "); ok &&
			strings.HasPrefix(p, "topic ") {
			points = append(points, p)
		}
	}
	for _, p := range needed {
		if !slices.Contains(points, p) {
			t.Fatalf("%q is not among the points %q", p, points)
		}
	}
	return points
}

// eachCrash calls f for each point, visit and action, with what makes a child obey.
func eachCrash(points []string, f func(action, point string, visit int, env string)) {
	for _, point := range points {
		for visit := 1; visit <= crashRounds(); visit++ {
			for _, action := range []string{"kill", "stop"} {
				f(action, point, visit,
					fmt.Sprintf("%s=%s:%s:%d", sys.CrashEnv, action, point, visit))
			}
		}
	}
}

// TestCrashPublisher kills and stops a publisher at every store. A lossless subscriber gets exactly
// what was published before, whole and in order, and learns of the death.
func TestCrashPublisher(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	run := func(stderr io.Writer, env string) (n uint64, why error) {
		c := startChild(t, "publisher", path, stderr, env)
		go c.keepGoing()
		from := topic.Channel(channelName, ipc.WithDomain(path))
		s, err := topic.Subscribe(within(t), from, meter,
			breaking(topic.Lossless))
		if err != nil {
			t.Fatal(env, err)
		}
		n, why = readAll(t, s, c)
		if err := s.Close(); err != nil {
			t.Error(env, err)
		}
		<-c.done
		return n, why
	}
	var said bytes.Buffer
	if n, why := run(&said, sys.CrashEnv+"=list"); n != messages || died(why) {
		t.Fatal(n, why)
	}
	points := crashPoints(t, said.String(), "topic join", "topic cleared", "topic index",
		"topic publish", "topic published", "topic starved")
	eachCrash(points, func(action, point string, visit int, env string) {
		n, why := run(io.Discard, env)
		switch {
		case action == "stop" && (n != messages || ipc.CodeOf(why) != ipc.CodeUnavailable ||
			died(why)):
			t.Errorf("%s: %d messages, %v", env, n, why)
		case action == "kill" && point == "topic join" && n == 0:
		case action == "kill" && !died(why) && n != messages:
			t.Errorf("%s: %d messages, %v", env, n, why)
		case action == "kill" && point == "topic published" && n != uint64(visit):
			t.Errorf("%s: %d messages", env, n)
		case action == "kill" && slices.Contains([]string{"topic header", "topic index",
			"topic publish"}, point) && n != uint64(visit)-1:
			t.Errorf("%s: %d messages", env, n)
		}
	})
}

// TestCrashSubscriber kills and stops a lossless subscriber at every store, one that copies and one
// that reads in place. The publisher and another lossless subscriber go on.
func TestCrashSubscriber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	where := ipc.WithDomain(path)
	run := func(stderr io.Writer, env ...string) {
		p := topic.NewPublisher(meter, topic.Options{Depth: 4})
		l, err := ipc.Listen(channelName, where)
		if err != nil {
			t.Fatal(err)
		}
		srv := ipc.NewServer(p)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(t.Context(), l) }()
		s, err := topic.Subscribe(within(t), topic.Channel(channelName, where), meter,
			topic.SubscribeOptions{Policy: topic.Lossless})
		if err != nil {
			t.Fatal(err)
		}
		heardOf(t, p, 1)
		read := make(chan struct{})
		go func() {
			defer close(read)
			for n := range uint64(messages) {
				expect(t, s, n)
			}
		}()
		c := startChild(t, "subscriber", path, stderr, env...)
		go c.keepGoing()
		for n := range uint64(messages) {
			if n%8 == 0 {
				time.Sleep(2 * time.Millisecond) // lets the subscriber come to where it sleeps
			}
			if err := p.Publish(within(t), message(n)); err != nil {
				t.Fatal(env, err)
			}
		}
		<-read
		<-c.done
		if err := s.Close(); err != nil {
			t.Error(env, err)
		}
		if err := srv.Shutdown(within(t)); err != nil {
			t.Error(env, err)
		}
		<-served
		if n := p.Subscribers(); n != 0 {
			t.Error(env, n, "subscribers")
		}
		if err := p.Close(); err != nil {
			t.Error(env, err)
		}
	}
	for _, mode := range []string{"copy=1", inPlaceEnv + "=1"} {
		var said bytes.Buffer
		run(&said, sys.CrashEnv+"=list", mode)
		needed := []string{"topic next", "topic moved", "topic slept", "topic awake"}
		if mode != "copy=1" {
			needed = append(needed, "topic claimed", "topic release")
		}
		points := crashPoints(t, said.String(), needed...)
		eachCrash(points, func(action, point string, visit int, env string) {
			run(io.Discard, env, mode)
		})
	}
}

// readAll reads messages until the publisher is gone, and returns how many there were and why. The
// subscription need not have found the publisher when that one ended.
func readAll(t testing.TB, s *topic.Subscription, publisher *child) (n uint64, why error) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	go func() {
		<-publisher.done
		time.AfterFunc(10*time.Second, cancel) // only if Subscribe came too late
	}()
	for ; ; n++ {
		if n%8 == 7 {
			time.Sleep(2 * time.Millisecond) // lets the publisher come to where it waits
		}
		b, a, err := s.Next(ctx, nil)
		if err != nil {
			return n, err
		}
		if err := checkMessage(b, n); err != nil || a.Number != n || a.Lost != 0 {
			t.Fatalf("%+v, not %d: %v", a, n, err)
		}
	}
}
