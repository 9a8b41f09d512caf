package ipc_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// TestTransports holds the transports of this module to what those of others are held to.
func TestTransports(t *testing.T) {
	for name, open := range map[string]func(*testing.T) ipc.RendezvousOption{
		"in memory": func(*testing.T) ipc.RendezvousOption { return ipctest.NewNetwork() },
		"sockets": func(t *testing.T) ipc.RendezvousOption {
			return ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			skipWithout(t, open(t))
			conformance.TestTransport(t, func(t *testing.T) ipc.Transport {
				return ipc.TransportOf(open(t))
			})
		})
	}
}

// A faultyTransport breaks one of the rules of transports.
type faultyTransport struct {
	ipc.Transport
	rule string
}

func (f faultyTransport) Listen(channel string) (ipc.LinkListener, error) {
	l, err := f.Transport.Listen(channel)
	if f.rule == "one listener of a channel" && ipc.CodeOf(err) == ipc.CodeAlreadyExists {
		return f.Transport.Listen(channel + "2")
	}
	if err != nil {
		return nil, err
	}
	return faultyListener{l, f.rule}, nil
}

func (f faultyTransport) Dial(ctx context.Context, channel string) (ipc.Link, error) {
	l, err := f.Transport.Dial(ctx, channel)
	if err != nil {
		if f.rule == "nobody listens" {
			err = errors.New("nobody listens")
		}
		return nil, err
	}
	return faultyLink{l, f.rule, 0}, nil
}

type faultyListener struct {
	ipc.LinkListener
	rule string
}

func (f faultyListener) Accept() (ipc.Link, error) {
	l, err := f.LinkListener.Accept()
	if err != nil {
		return nil, err
	}
	return faultyLink{l, f.rule, -time.Hour}, nil
}

func (f faultyListener) Close() error {
	err := f.LinkListener.Close()
	if f.rule == "Close ends Accept" {
		err = os.ErrClosed
	}
	return err
}

type faultyLink struct {
	ipc.Link
	rule  string
	clock time.Duration
}

func (f faultyLink) Send(p []byte, m ...shm.Memory) error {
	if f.rule == "the handshake carries memory" && len(m) > 1 {
		m = m[:1]
	}
	return f.Link.Send(p, m...)
}

func (f faultyLink) Receive(p []byte) (int, []shm.Memory, error) {
	n, m, err := f.Link.Receive(p)
	if n > 0 && (f.rule == "every Dial has its Accept" || f.rule == "the handshake carries bytes") {
		p[0]++
	}
	if err != nil && f.rule == "deadlines of the handshake" {
		err = io.EOF
	}
	return n, m, err
}

func (f faultyLink) Peer() (ipc.Peer, error) {
	if f.rule == "the peers" {
		return ipc.Peer{}, nil
	}
	return f.Link.Peer()
}

func (f faultyLink) Clock() int64 {
	if f.rule == "the clock" {
		return f.Link.Clock() + int64(f.clock)
	}
	return f.Link.Clock()
}

func (f faultyLink) Wait(recheck func() bool) error {
	err := f.Link.Wait(recheck)
	switch f.rule {
	case "notifications":
		return io.EOF
	case "Close from within a Wait":
		return nil
	}
	return err
}

func (f faultyLink) Poke() {
	if f.rule == "Poke ends Wait" {
		f.Link.Close()
	}
	f.Link.Poke()
}

func (f faultyLink) Write(p []byte) (int, error) {
	switch f.rule {
	case "bytes after the handshake":
		return f.Link.Write(make([]byte, len(p)))
	case "Write does not wait":
		select {}
	}
	return f.Link.Write(p)
}

func (f faultyLink) Close() error {
	err := f.Link.Close()
	if f.rule == "Close ends both sides" {
		err = os.ErrClosed
	}
	return err
}

// faultEnv names the rule that is broken in a process of TestFaultyTransports.
const faultEnv = "IPCGEN_TRANSPORT_FAULT"

// TestFaultyTransports breaks each rule of transports, in a process of its own: TestTransport finds
// that.
func TestFaultyTransports(t *testing.T) {
	if rule := os.Getenv(faultEnv); rule != "" {
		conformance.TestTransport(t, func(*testing.T) ipc.Transport {
			return faultyTransport{ipc.TransportOf(ipctest.NewNetwork().RendezvousOption), rule}
		})
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	for _, rule := range []string{"one listener of a channel", "nobody listens",
		"every Dial has its Accept", "Close ends Accept", "the handshake carries bytes",
		"the handshake carries memory", "deadlines of the handshake", "the peers", "the clock",
		"notifications", "Poke ends Wait", "bytes after the handshake", "Write does not wait",
		"Close ends both sides", "Close from within a Wait"} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if rule == "Write does not wait" { // the process does not end
				ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
			}
			cmd := exec.CommandContext(ctx, self, "-test.run=^TestFaultyTransports$/^"+rule+"$")
			cmd.Env = append(os.Environ(), faultEnv+"="+rule)
			out, err := cmd.CombinedOutput()
			failed := "--- FAIL: TestFaultyTransports/" + strings.ReplaceAll(rule, " ", "_")
			if err == nil || ctx.Err() == nil && !strings.Contains(string(out), failed) {
				t.Errorf("the fault is not found: %v\n%s", err, out)
			}
		})
	}
}
