package ipc_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A start is something that a client can start at a server: it returns the error that the
// client sees, nil for what has no answer.
type start struct {
	kind ipc.Kind
	name string
	do   func(ctx context.Context, v ipc.RendezvousOption, c *ipc.Conn) error
}

// starts has an entry for every kind, at least.
var starts = []start{
	{ipc.KindCall, "Echo", func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
		_, err := echo(ctx, c, []byte("x"))
		return err
	}},
	{ipc.KindCall, "Aside", func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
		return aside(ctx, c, []byte("x"))
	}},
	{ipc.KindIntrospection, "Describe",
		func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
			_, err := ipc.Describe(ctx, c)
			return err
		}},
	{ipc.KindStreamingCall, "Jam",
		func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
			for _, err := range ipc.InvokeBidiStream(ctx, c, methodJam, items("x")) {
				return err
			}
			return nil
		}},
	{ipc.KindHealth, "CheckHealth",
		func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
			_, err := c.Health(ctx, "")
			return err
		}},
	{ipc.KindMessage, "Note", func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
		return note(ctx, c, "x")
	}},
	{ipc.KindStream, "test.Block",
		func(ctx context.Context, v ipc.RendezvousOption, _ *ipc.Conn) error {
			w, err := ipc.OpenStreamWriter(ctx, "echo", blockStream, ipc.StreamOptions{}, v)
			if err != nil {
				return err
			}
			defer w.Close()
			return writeBlock(ctx, w, 0, 10)
		}},
	{ipc.KindStream, "test.Block",
		func(ctx context.Context, v ipc.RendezvousOption, _ *ipc.Conn) error {
			r, err := ipc.OpenStreamReader(ctx, "echo", blockStream, ipc.StreamOptions{}, v)
			if err != nil {
				return err
			}
			defer r.Close()
			_, _, err = readBlock(ctx, r)
			return err
		}},
}

// aside makes a call in place.
func aside(ctx context.Context, c *ipc.Conn, data []byte) error {
	return asideBy(ctx, c, methodAside, data)
}

// asideBy is aside for any method.
func asideBy(ctx context.Context, c *ipc.Conn, m *ipc.Method[blob, blob], data []byte) error {
	return c.InvokeInPlace(ctx, &ipc.InPlaceCall{
		Method: m.Info(), Size: len(data) + 64,
		Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{Data: data}) },
		Read:  func([]byte) error { return nil },
	})
}

// everyKindPassesTheGate shows that interceptors see everything that a client can start, and that a
// handler does not run if an interceptor refuses.
func everyKindPassesTheGate(t *testing.T, v ipc.RendezvousOption) {
	for k, all := ipc.Kind(0), 0; ; k++ {
		n := 0
		for _, s := range starts {
			if s.kind == k {
				n++
			}
		}
		all += n
		if strings.HasPrefix(k.String(), "kind ") {
			if all != len(starts) {
				t.Errorf("%d of %d starts are of a known kind", all, len(starts))
			}
			break
		}
		if n == 0 && k != ipc.KindSubscription { // which package topic tries
			t.Errorf("nothing of kind %v is tried", k)
		}
	}
	var mu sync.Mutex
	var seen []ipc.ServerCall
	refuse := false
	handled := make(chan string, 10)
	interceptor := func(ctx context.Context, call *ipc.ServerCall,
		next func(context.Context) error) error {
		mu.Lock()
		seen = append(seen, *call)
		no := refuse
		mu.Unlock()
		if p, ok := ipc.PeerFromContext(ctx); !ok || p.PID != call.Peer.PID {
			t.Errorf("%v %s: its context knows no peer", call.Kind, call.Name)
		}
		if no {
			return ipc.Errorf(ipc.CodePermissionDenied, "not for you")
		}
		handled <- call.Name
		return next(ctx)
	}
	srv := host(t, v, append(everything(ipc.Receive(messageNote,
		func(context.Context, *blob) error {
			return nil
		})),
		ipc.WithServerInterceptor(interceptor))...)
	c := dial(t, v)
	for _, s := range starts {
		if err := s.do(t.Context(), v, c); err != nil {
			t.Errorf("%v %s: %v", s.kind, s.name, err)
		}
		if got := <-handled; got != s.name {
			t.Errorf("%s was handled in place of %s", got, s.name)
		}
	}
	mu.Lock()
	for i, call := range seen {
		s := starts[i]
		ok := call.Kind == s.kind && call.Name == s.name && call.Protocol != nil &&
			call.Peer.PID != 0 &&
			call.Method.Name == s.name && call.Method.Protocol == call.Protocol &&
			(call.Method.ID != 0) == (s.kind != ipc.KindStream) &&
			call.InPlace == (s.name == "Aside")
		if m, isBlob := call.Request.(*blob); isBlob != (s.name == "Echo" || s.name == "Note") ||
			isBlob && string(m.Data) != "x" {
			ok = false
		}
		if !ok {
			t.Errorf("%v %s was shown as %+v", s.kind, s.name, call)
		}
	}
	seen, refuse = nil, true
	mu.Unlock()
	for _, s := range starts {
		err := s.do(t.Context(), v, c)
		if s.kind == ipc.KindMessage {
			continue
		}
		if ipc.CodeOf(err) != ipc.CodePermissionDenied ||
			!strings.Contains(err.Error(), "not for you") {
			t.Errorf("refused %v %s: %v", s.kind, s.name, err)
		}
	}
	for {
		mu.Lock()
		n := len(seen)
		mu.Unlock()
		if n == len(starts) {
			break
		}
		runtime.Gosched()
	}
	select {
	case name := <-handled:
		t.Errorf("%s was handled although it was refused", name)
	default:
	}
	for srv.Refused() < 2 { // of streams
		runtime.Gosched()
	}
	mu.Lock()
	refuse = false
	mu.Unlock()
	still(t, c)
}
