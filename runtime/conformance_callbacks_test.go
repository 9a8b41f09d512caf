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

// A callback is a place where code of the user runs. leave panics or ends the goroutine in it;
// what happens around it uses the connection and returns what the client sees.
var callbacks = []struct {
	name   string
	server func(leave func()) []ipc.ServerOption
	client func(leave func()) []ipc.DialOption
	do     func(t *testing.T, v ipc.RendezvousOption, c *ipc.Conn, leave func()) error
	silent bool   // its caller sees no error, or is this process itself
	of     string // the callback of the API, see TestCallbacksAreTried
}{
	{of: "ipc.Handle.f",
		name: "handler of a call", server: func(leave func()) []ipc.ServerOption {
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
	{of: "ipc.HandleInPlace.f",
		name: "handler of a call in place", server: func(leave func()) []ipc.ServerOption {
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
	{of: "ipc.ReplyBuilder.Build.build",
		name: "builder of a reply in place", server: func(leave func()) []ipc.ServerOption {
			return []ipc.ServerOption{echoService(ipc.HandleInPlace(methodCrash,
				func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
					return reply.Build(100, func(*flatbuffers.Builder, uint64, uint64) { leave() })
				}))}
		}, do: crash},
	{of: "ipc.WithServerInterceptor.i",
		name: "interceptor of a call", server: func(leave func()) []ipc.ServerOption {
			return []ipc.ServerOption{echoService(ipc.Handle(methodCrash,
				func(context.Context, *blob) (*blob, error) {
					return &blob{}, nil
				})), only("Crash", leave)}
		}, do: crash},
	{of: "ipc.Receive.f",
		name: "handler of a message", silent: true, server: func(leave func()) []ipc.ServerOption {
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
	{of: "ipc.HandleStreamReader.f",
		name: "handler of a stream", silent: true, server: func(leave func()) []ipc.ServerOption {
			return []ipc.ServerOption{echoService(),
				ipc.HandleStreamReader(blockStream,
					func(ctx context.Context, r *ipc.StreamReader) error {
						leave()
						return nil
					})}
		}, do: openBlocks},
	{of: "ipc.HandleStreamWriter.f",
		name: "handler of a stream that is read",
		server: func(leave func()) []ipc.ServerOption {
			return []ipc.ServerOption{echoService(), ipc.HandleStreamWriter(blockStream,
				func(context.Context, *ipc.StreamWriter) error {
					leave()
					return nil
				})}
		},
		do: func(t *testing.T, v ipc.RendezvousOption, _ *ipc.Conn, _ func()) error {
			r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, ipc.StreamOptions{}, v)
			for ipc.CodeOf(err) == ipc.CodeResourceExhausted {
				r, err = ipc.OpenStreamReader(t.Context(), "echo", blockStream,
					ipc.StreamOptions{}, v)
			}
			if err != nil {
				return err
			}
			defer r.Close()
			_, _, err = readBlock(t.Context(), r)
			return err
		}},
	{of: "ipc.StreamReader.Read.f",
		name: "reader of a block", silent: true, server: func(leave func()) []ipc.ServerOption {
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
					&blob{Data: []byte("x")}); err != nil {
					return err
				}
			}
			return nil
		}},
	{of: "ipc.InPlaceCall.Build",
		name: "builder of a request in place", server: func(func()) []ipc.ServerOption {
			return everything()
		},
		do: func(t *testing.T, _ ipc.RendezvousOption, c *ipc.Conn, leave func()) error {
			return c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: 100,
				Build: func(*flatbuffers.Builder, uint64) { leave() },
				Read:  func([]byte) error { return nil },
			})
		}},
	{of: "ipc.InPlaceCall.Read",
		name: "reader of a reply in place", server: func(func()) []ipc.ServerOption {
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
	{of: "ipc.StreamWriter.Write.fill",
		name: "writer of a block at the client", server: func(func()) []ipc.ServerOption {
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

// callbacksThatDoNotReturn has every callback panic or end its goroutine. Only the operation to
// which the callback belongs fails, and the log has a record of it.
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
					!strings.Contains(got, "conformance_callbacks_test.go") &&
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
