package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

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
		Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{data}) },
		Read:  func([]byte) error { return nil },
	})
}

// everyKindPassesTheGate shows that interceptors see all that a client can start, and that
// what they refuse does not reach its handler.
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
			isBlob && string(m.data) != "x" {
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

// A callback is a place where code of the user runs. leave panics or ends the goroutine in it;
// what happens around it uses the connection and returns what the client sees.
var callbacks = []struct {
	name   string
	server func(leave func()) []ipc.ServerOption
	client func(leave func()) []ipc.DialOption
	do     func(t *testing.T, v ipc.RendezvousOption, c *ipc.Conn, leave func()) error
	silent bool // its caller sees no error, or is this process itself
}{
	{name: "handler of a call", server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.Handle(methodCrash,
			func(context.Context, *blob) (*blob, error) {
				leave()
				return nil, nil
			}))}
	}, do: crash},
	{name: "handler of a call that takes long", server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.Handle(methodCrash,
			func(context.Context, *blob) (*blob, error) {
				time.Sleep(20 * time.Millisecond)
				leave()
				return nil, nil
			}))}
	}, do: crash},
	{name: "handler of a call in place", server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.HandleInPlace(methodCrash,
			func(context.Context, []byte, *ipc.ReplyBuilder) error {
				leave()
				return nil
			}))}
	}, do: crash},
	{name: "handler of a trusted call in place", server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{ipc.WithTrustedClients(),
			echoService(ipc.HandleInPlace(methodCrash,
				func(context.Context, []byte, *ipc.ReplyBuilder) error {
					leave()
					return nil
				}))}
	}, do: crash},
	{name: "builder of a reply in place", server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.HandleInPlace(methodCrash,
			func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
				return reply.Build(100, func(*flatbuffers.Builder, uint64, uint64) { leave() })
			}))}
	}, do: crash},
	{name: "interceptor of a call", server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.Handle(methodCrash,
			func(context.Context, *blob) (*blob, error) {
				return &blob{}, nil
			})), only("Crash", leave)}
	}, do: crash},
	{name: "handler of a message", silent: true, server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.Receive(messageNote,
			func(context.Context, *blob) error {
				leave()
				return nil
			}))}
	}, do: threeNotes},
	{name: "handler of a message that takes long", silent: true,
		server: func(leave func()) []ipc.ServerOption {
			return []ipc.ServerOption{echoService(ipc.Receive(messageNote,
				func(context.Context, *blob) error {
					time.Sleep(20 * time.Millisecond)
					leave()
					return nil
				}))}
		}, do: threeNotes},
	{name: "interceptor of a message", silent: true, server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(ipc.Receive(messageNote,
			func(context.Context, *blob) error {
				return nil
			})), only("Note", leave)}
	}, do: threeNotes},
	{name: "handler of a stream", silent: true, server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(),
			ipc.HandleStreamReader(blockStream,
				func(ctx context.Context, r *ipc.StreamReader) error {
					leave()
					return nil
				})}
	}, do: openBlocks},
	{name: "reader of a block", silent: true, server: func(leave func()) []ipc.ServerOption {
		return []ipc.ServerOption{echoService(),
			ipc.HandleStreamReader(blockStream,
				func(ctx context.Context, r *ipc.StreamReader) error {
					return r.Read(ctx, func([]byte, []byte, uint64) error {
						leave()
						return nil
					})
				})}
	}, do: openBlocks},
	{name: "interceptor of a stream", silent: true, server: func(leave func()) []ipc.ServerOption {
		return append(everything(), only("test.Block", leave))
	}, do: openBlocks},
	{name: "handler of a pushed message", silent: true,
		server: func(func()) []ipc.ServerOption { return []ipc.ServerOption{echoService()} },
		client: func(leave func()) []ipc.DialOption {
			return []ipc.DialOption{echoes(ipc.Receive(messageNote,
				func(context.Context, *blob) error {
					leave()
					return nil
				}))}
		},
		do: func(t *testing.T, _ ipc.RendezvousOption, c *ipc.Conn, _ func()) error {
			for range 3 {
				if _, err := ipc.Invoke(t.Context(), c, methodNews,
					&blob{[]byte("x")}); err != nil {
					return err
				}
			}
			return nil
		}},
	{name: "builder of a request in place", server: func(func()) []ipc.ServerOption {
		return everything()
	},
		do: func(t *testing.T, _ ipc.RendezvousOption, c *ipc.Conn, leave func()) error {
			return c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: 100,
				Build: func(*flatbuffers.Builder, uint64) { leave() },
				Read:  func([]byte) error { return nil },
			})
		}},
	{name: "reader of a reply in place", server: func(func()) []ipc.ServerOption {
		return everything()
	},
		do: func(t *testing.T, _ ipc.RendezvousOption, c *ipc.Conn, leave func()) error {
			return c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: 100,
				Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{}) },
				Read: func([]byte) error {
					leave()
					return nil
				},
			})
		}},
	{name: "reader of a block at the client", server: func(func()) []ipc.ServerOption {
		return everything()
	},
		do: func(t *testing.T, v ipc.RendezvousOption, _ *ipc.Conn, leave func()) error {
			r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, ipc.StreamOptions{}, v)
			for ipc.CodeOf(err) == ipc.CodeResourceExhausted {
				r, err = ipc.OpenStreamReader(t.Context(), "echo", blockStream,
					ipc.StreamOptions{}, v)
			}
			if err != nil {
				t.Error(err)
				return err
			}
			defer r.Close()
			return r.Read(t.Context(), func([]byte, []byte, uint64) error {
				leave()
				return nil
			})
		}},
	{name: "writer of a block at the client", server: func(func()) []ipc.ServerOption {
		return everything()
	},
		do: func(t *testing.T, v ipc.RendezvousOption, _ *ipc.Conn, leave func()) error {
			w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream, ipc.StreamOptions{}, v)
			for ipc.CodeOf(err) == ipc.CodeResourceExhausted {
				w, err = ipc.OpenStreamWriter(t.Context(), "echo", blockStream,
					ipc.StreamOptions{}, v)
			}
			if err != nil {
				t.Error(err)
				return err
			}
			defer w.Close()
			return w.Write(t.Context(), 10, func([]byte, []byte) error {
				leave()
				return nil
			})
		}},
}

// only makes an interceptor that leaves in what is called name.
func only(name string, leave func()) ipc.ServerOption {
	return ipc.WithServerInterceptor(func(ctx context.Context, call *ipc.ServerCall,
		next func(context.Context) error) error {
		if call.Name == name {
			leave()
		}
		return next(ctx)
	})
}

func crash(t *testing.T, _ ipc.RendezvousOption, c *ipc.Conn, _ func()) error {
	_, err := ipc.Invoke(t.Context(), c, methodCrash, &blob{})
	return err
}

func threeNotes(t *testing.T, _ ipc.RendezvousOption, c *ipc.Conn, _ func()) error {
	for range 3 {
		if err := note(t.Context(), c, "x"); err != nil {
			return err
		}
	}
	return nil
}

// openBlocks opens a stream whose server leaves, and writes until that is seen.
func openBlocks(t *testing.T, v ipc.RendezvousOption, _ *ipc.Conn, _ func()) error {
	w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream, ipc.StreamOptions{Depth: 1}, v)
	for ipc.CodeOf(err) == ipc.CodeResourceExhausted { // the last one is being counted out
		w, err = ipc.OpenStreamWriter(t.Context(), "echo", blockStream,
			ipc.StreamOptions{Depth: 1}, v)
	}
	for err == nil {
		err = writeBlock(t.Context(), w, 0, 10)
	}
	if w != nil {
		w.Close()
	}
	if ipc.CodeOf(err) == ipc.CodeOK || errors.Is(err, io.EOF) {
		t.Errorf("a stream whose server has left ended with %v", err)
	}
	return nil
}

// callbacksThatDoNotReturn shows that neither a panic nor the end of a goroutine in
// whatever callback costs more than what it belongs to, and that both leave a trace.
func callbacksThatDoNotReturn(t *testing.T, v ipc.RendezvousOption) {
	var trace syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&trace, nil)))
	defer slog.SetDefault(before)
	for name, leave := range map[string]func(){
		"panic": func() { panic("on purpose") }, "exit": runtime.Goexit,
	} {
		for _, cb := range callbacks {
			t.Run(cb.name+"/"+name, func(t *testing.T) {
				expectNothingLeft(t)
				left := make(chan struct{}, 10)
				leave := func() {
					left <- struct{}{}
					leave()
				}
				srv := host(t, v,
					append(cb.server(leave), ipc.WithMaxCalls(2), ipc.WithMaxConns(2))...)
				var opts []ipc.DialOption
				if cb.client != nil {
					opts = cb.client(leave)
				}
				c := dial(t, v, opts...)
				trace.take()
				for range 5 { // more than there are places
					result, ended := make(chan error, 1), make(chan struct{})
					go func() {
						defer close(ended)
						result <- cb.do(t, v, c, leave)
					}()
					<-left
					<-ended
					select {
					case err := <-result:
						if cb.silent && err != nil || !cb.silent && err == nil {
							t.Errorf("the client sees %v", err)
						}
						if err != nil && strings.Contains(err.Error(), ".go:") {
							t.Errorf("the error has a stack: %v", err)
						}
					default: // this process's goroutine has ended
					}
					for len(left) > 0 {
						<-left
					}
					still(t, c)
				}
				if err := aside(t.Context(), c, []byte("x")); err != nil {
					t.Errorf("a call in place afterwards: %v", err)
				}
				if got := trace.take(); srv != nil &&
					!strings.Contains(got, "conformance_gate_test.go") &&
					(name == "panic" || !strings.HasSuffix(cb.name, "at the client") &&
						!strings.HasPrefix(cb.name, "reader of a reply") &&
						!strings.HasPrefix(cb.name, "builder of a request")) {
					t.Errorf("no trace is left: %q", got)
				}
			})
		}
	}
}

// A syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// take returns what was written since it was called last.
func (s *syncBuffer) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.b.String()
	s.b.Reset()
	return text
}
