package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// clicks are messages with the pid of their publisher and a count.
var clicks = &topic.Info{Protocol: &ipc.Protocol{Name: "test.Clicks", Fingerprint: 7}}

// childPublisher publishes clicks, whether it is the primary or a standby, and ends if a standby
// can.
func childPublisher([]string) error {
	p := topic.NewPublisher(clicks, topic.Options{MaxMessage: 16})
	defer p.Close()
	wrong := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg := group.RunConfig{Options: []ipc.ServerOption{p}, Ready: func() {
		go func() {
			wrong <- publishClicks(ctx, p)
			cancel()
		}()
	}}
	if err := group.Run(ctx, cfg); err != nil {
		return err
	}
	select {
	case err := <-wrong:
		return err
	default:
		return nil
	}
}

// publishClicks publishes until the publisher is closed.
func publishClicks(ctx context.Context, p *topic.Publisher) error {
	click := make([]byte, 16)
	binary.NativeEndian.PutUint64(click, uint64(os.Getpid()))
	for n := uint64(0); ; {
		binary.NativeEndian.PutUint64(click[8:], n)
		switch err := p.Publish(ctx, click); {
		case err == nil:
			n++
		case ipc.CodeOf(err) == ipc.CodeFenced && ipc.OutcomeOf(err) == ipc.NotSent:
		default:
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSubscriptionFollowsThePrimary kills the primary, again and again. The subscription gets what
// each primary has published, without a gap, and tells where the breaks were.
func TestSubscriptionFollowsThePrimary(t *testing.T) {
	d := newDomain(t)
	g := startGroup(t, group.Config{Service: "clicks", Domain: d,
		Command: func(i int) *exec.Cmd { return childCommand("publisher", strconv.Itoa(i)) }})
	c, err := group.Dial(t.Context(), "clicks", group.DialConfig{Domain: d, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	breaks := make(chan error, 100)
	s, err := topic.Subscribe(t.Context(), c, clicks, topic.SubscribeOptions{
		Policy: topic.Lossless, OnBreak: func(why error) error {
			breaks <- why
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for round := range 4 {
		status := g.Status()
		primary := status.Replicas[status.Primary]
		var last uint64
		for i := range 20 {
			m, a, err := s.Next(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			pid, n := binary.NativeEndian.Uint64(m), binary.NativeEndian.Uint64(m[8:])
			switch {
			case a.Epoch < status.Epoch && !a.Break: // from before the death
				continue
			case pid != uint64(primary.PID), a.Epoch != status.Epoch, n != a.Number, a.Lost != 0:
				t.Fatalf("round %d: message %d of process %d, %+v; the primary is %d of epoch %d",
					round, n, pid, a, primary.PID, status.Epoch)
			case i > 0 && !a.Break && last > 0 && n != last+1:
				t.Fatalf("round %d: message %d comes after %d", round, n, last)
			}
			last = n
		}
		if err := syscall.Kill(primary.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := g.WaitHealthy(t.Context(), status.Epoch); err != nil {
			t.Fatal(err)
		}
		// The rest of the dead primary's messages, and then the first one of the next.
		for {
			_, a, err := s.Next(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a.Break {
				if a.Epoch != status.Epoch+1 {
					t.Errorf("the break leads to %+v, after epoch %d", a, status.Epoch)
				}
				break
			}
		}
		if why := <-breaks; !errors.Is(why, io.ErrUnexpectedEOF) ||
			ipc.CodeOf(why) != ipc.CodeUnavailable {
			t.Errorf("round %d: the break is told as %v", round, why)
		}
	}
}

// TestSubscriptionBeforeTheGroup subscribes to a group that does not run, and survives the end of
// the client.
func TestSubscriptionBeforeTheGroup(t *testing.T) {
	d := newDomain(t)
	c, err := group.Dial(t.Context(), "clicks", group.DialConfig{Domain: d, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := topic.Subscribe(t.Context(), c, clicks, topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := s.Next(short, nil); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
		t.Errorf("without a group: %v", err)
	}
	g := startGroup(t, group.Config{Service: "clicks", Domain: d,
		Command: func(i int) *exec.Cmd { return childCommand("publisher", strconv.Itoa(i)) }})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, a, err := s.Next(ctx, nil); err != nil || a.Number != 0 || a.Epoch != 1 || a.Break {
		t.Errorf("%+v, %v", a, err)
	}
	// What is attached stays when the client is closed; the next publisher is not found.
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Next(ctx, nil); err != nil {
		t.Error(err)
	}
	status := g.Status()
	syscall.Kill(status.Replicas[status.Primary].PID, syscall.SIGKILL)
	for err == nil {
		_, _, err = s.Next(ctx, nil)
	}
	if ipc.CodeOf(err) != ipc.CodeFailedPrecondition || !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the client's end: %v", err)
	}
	if _, err := g.WaitHealthy(t.Context(), status.Epoch); err != nil {
		t.Error(fmt.Errorf("the group: %w", err))
	}
}
