package group_test

import (
	"context"
	"hash/fnv"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

var (
	methodTrap  = listMethod("Trap", false) // in place
	messageTrap = ipc.NewMessage(listProtocol, ipc.MessageSpec[words]{Name: "TrapMessage",
		ID: trapID(), Encode: encodeWords, Decode: decodeWords})
)

func trapID() uint32 {
	h := fnv.New32a()
	h.Write([]byte("test.List/TrapMessage"))
	return h.Sum32()
}

// childTrap is a replica without a state that ends at a call in place, and at a one-way message,
// whose first word is 0.
func childTrap([]string) error {
	spring := func(w words) {
		if w[0] == 0 {
			os.Exit(3)
		}
	}
	return group.Run(context.Background(), group.RunConfig{}, ipc.NewService(listProtocol,
		ipc.Handle(methodLast, func(context.Context, *words) (*words, error) {
			return &words{uint64(os.Getpid())}, nil
		}),
		ipc.Receive(messageTrap, func(_ context.Context, w *words) error {
			spring(*w)
			return nil
		}),
		ipc.HandleInPlace(methodTrap,
			func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var w words
				if _, err := decodeWords(req, &w); err != nil {
					return err
				}
				spring(w)
				return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeWords(b, 0, &w)
				})
			})))
}

// TestKillersOfEveryKind sends requests that end processes as calls in place and as one-way
// messages, again and again. After two deaths of each kind they are refused or dropped, and what is
// innocent goes on.
func TestKillersOfEveryKind(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("trap") }
	cfg.Restart = group.Restart{Delay: time.Millisecond, Intensity: 1 << 30}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c, err := group.Dial(t.Context(), "svc",
		group.DialConfig{Domain: cfg.Domain, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	inPlace := func(w words) error {
		primary, err := c.WaitConnected(t.Context())
		if err != nil {
			return err
		}
		conn, err := ipc.Dial(t.Context(), primary.Control, ipc.WithDomain(cfg.Domain))
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
			Method: methodTrap.Info(), Size: 64,
			Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeWords(b, 0, &w) },
			Read:  func([]byte) error { return nil },
		})
	}
	for kind, send := range map[string]func(w words) error{
		"in place": inPlace,
		"one way":  func(w words) error { return ipc.Send(t.Context(), c, messageTrap, &w) },
	} {
		deaths, sent := events.count(group.Died), 0
		for quarantines := g.Status().Quarantines; g.Status().Quarantines == quarantines; sent++ {
			if n := events.count(group.Died) - deaths; n > 2 {
				t.Fatalf("%s: %d processes died; events:\n%v", kind, n, &events)
			}
			_ = send(words{0, 7})
			if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		settled, err := g.WaitHealthy(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := send(words{0, 7}); kind == "in place" &&
				(ipc.CodeOf(err) != ipc.CodeFailedPrecondition ||
					!strings.Contains(err.Error(), "quarantine")) {
				t.Errorf("in place: %v", err)
			}
			if err := send(words{1, 7}); err != nil {
				t.Errorf("%s, innocent: %v", kind, err)
			}
			if _, err := ipc.Invoke(t.Context(), c, methodLast, &words{}); err != nil {
				t.Errorf("%s, beside it: %v", kind, err)
			}
		}
		if now := g.Status(); now.Epoch != settled.Epoch {
			t.Errorf("%s: a request in quarantine has ended a process; events:\n%v", kind, &events)
		}
	}
}
