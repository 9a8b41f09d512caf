package ipc_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A lapsing is a callback that fails once, where lapse is called. The table of the behaviour
// "callbacks that do not return" has the handlers; this one has everything else that users plug in.
type lapsing struct {
	of     string // the callbacks of the API, see TestCallbacksAreTried
	server func(lapse func()) []ipc.ServerOption
	client func(lapse func()) []ipc.DialOption
	do     func(ctx context.Context, v ipc.RendezvousOption, c *ipc.Conn) error
	// silent means that the caller may see no error.
	silent bool
	// returns means that the callback must return: the end of its goroutine is not tried.
	returns bool
}

func callEcho(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
	_, err := echo(ctx, c, []byte("x"))
	return err
}

func sendNote(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
	err := note(ctx, c, "x")
	if err == nil {
		_, err = echo(ctx, c, []byte("the message was handled before"))
	}
	return err
}

func dialAgain(ctx context.Context, v ipc.RendezvousOption, _ *ipc.Conn) error {
	c, err := ipc.Dial(ctx, "echo", v)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = echo(ctx, c, []byte("x"))
	return err
}

func readCounters(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
	_, err := ipc.ReadCounters(ctx, c)
	return err
}

// A hookedFence is a fence, a guard and a source of epochs with a lapse in one method.
type hookedFence struct {
	in    string
	lapse func()
}

func (h hookedFence) hook(method string) {
	if h.in == method {
		h.lapse()
	}
}

func (h hookedFence) Epoch() uint64                            { h.hook("Epoch"); return 0 }
func (h hookedFence) Admit(uint64) error                       { h.hook("Admit"); return nil }
func (h hookedFence) Enter(uint64) (int, error)                { h.hook("Enter"); return 0, nil }
func (h hookedFence) Leave(int)                                { h.hook("Leave") }
func (h hookedFence) Enabled(context.Context, slog.Level) bool { return true }
func (h hookedFence) Handle(context.Context, slog.Record) error {
	h.hook("Handle")
	return nil
}
func (h hookedFence) WithAttrs([]slog.Attr) slog.Handler { h.hook("WithAttrs"); return h }
func (h hookedFence) WithGroup(string) slog.Handler      { return h }

// A hookedTransport is the transport of a network with a lapse in one method of it, of its
// listeners or of its links.
type hookedTransport struct {
	ipc.WatchableTransport
	hookedFence
}

type hookedListener struct {
	ipc.LinkListener
	hookedFence
}

type hookedLink struct {
	ipc.Link
	hookedFence
}

func (h hookedTransport) Listen(channel string) (ipc.LinkListener, error) {
	h.hook("Listen")
	l, err := h.WatchableTransport.Listen(channel)
	return hookedListener{l, h.hookedFence}, err
}

func (h hookedTransport) Dial(ctx context.Context, channel string) (ipc.Link, error) {
	h.hook("Dial")
	l, err := h.WatchableTransport.Dial(ctx, channel)
	if err != nil {
		return nil, err
	}
	return hookedLink{l, h.hookedFence}, nil
}

func (h hookedTransport) Watch(ctx context.Context, channel string, changed func()) error {
	h.hook("Watch")
	return h.WatchableTransport.Watch(ctx, channel, changed)
}

func (h hookedListener) Accept() (ipc.Link, error) {
	l, err := h.LinkListener.Accept()
	h.hook("Accept")
	if err != nil {
		return nil, err
	}
	return hookedLink{l, h.hookedFence}, nil
}

// Close has its effect before it panics: nothing else could end what waits for the listener.
func (h hookedListener) Close() error {
	defer h.hook("Listener.Close")
	return h.LinkListener.Close()
}

func (h hookedLink) Notify()        { h.hook("Notify"); h.Link.Notify() }
func (h hookedLink) Expect()        { h.hook("Expect"); h.Link.Expect() }
func (h hookedLink) Poke()          { h.hook("Poke"); h.Link.Poke() }
func (h hookedLink) Clock() int64   { h.hook("Clock"); return h.Link.Clock() }
func (h hookedLink) SpinPays() bool { h.hook("SpinPays"); return h.Link.SpinPays() }
func (h hookedLink) Close() error   { defer h.hook("Close"); return h.Link.Close() }

func (h hookedLink) Wait(recheck func() bool) error {
	h.hook("Wait")
	return h.Link.Wait(recheck)
}

func (h hookedLink) Read(p []byte) (int, error)  { h.hook("Read"); return h.Link.Read(p) }
func (h hookedLink) Write(p []byte) (int, error) { h.hook("Write"); return h.Link.Write(p) }
func (h hookedLink) SetDeadline(t time.Time) error {
	h.hook("SetDeadline")
	return h.Link.SetDeadline(t)
}
func (h hookedLink) Peer() (ipc.Peer, error) { h.hook("Peer"); return h.Link.Peer() }

func (h hookedLink) Send(p []byte, m ...shm.Memory) error {
	h.hook("Send")
	return h.Link.Send(p, m...)
}

func (h hookedLink) Receive(p []byte) (int, []shm.Memory, error) {
	h.hook("Receive")
	return h.Link.Receive(p)
}

func (h hookedLink) NewMemory(size int) (shm.Memory, error) {
	h.hook("NewMemory")
	return h.Link.NewMemory(size)
}

// plugged are the callbacks besides handlers.
func plugged() (all []lapsing) {
	onServer := func(o func(lapse func()) ipc.ServerOption) func(func()) []ipc.ServerOption {
		return func(lapse func()) []ipc.ServerOption { return []ipc.ServerOption{o(lapse)} }
	}
	onClient := func(o func(lapse func()) ipc.DialOption) func(func()) []ipc.DialOption {
		return func(lapse func()) []ipc.DialOption { return []ipc.DialOption{o(lapse)} }
	}
	fence := func(method string) func(func()) []ipc.ServerOption {
		return onServer(func(lapse func()) ipc.ServerOption {
			return ipc.WithFence(hookedFence{method, lapse})
		})
	}
	guard := func(method string) func(func()) []ipc.ServerOption {
		return onServer(func(lapse func()) ipc.ServerOption {
			return ipc.WithGuard(hookedFence{method, lapse})
		})
	}
	allow := func(lapse func()) ipc.Option {
		return ipc.WithAuthorize(func(ipc.Peer) error { lapse(); return nil })
	}
	all = []lapsing{
		{of: "ipc.WithAuthorize.allow", do: dialAgain,
			server: onServer(func(l func()) ipc.ServerOption { return allow(l) })},
		{of: "ipc.WithClientInterceptor.i", do: callEcho,
			client: onClient(func(lapse func()) ipc.DialOption {
				return ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call,
					next ipc.Caller) error {
					lapse()
					return next.Invoke(ctx, call)
				})
			})},
		{of: "ipc.WithLogger.l", do: dialAgain, silent: true, returns: true,
			server: onServer(func(lapse func()) ipc.ServerOption {
				return ipc.WithLogger(slog.New(hookedFence{"Handle", lapse}))
			})},
		{of: "ipc.WithIntrospection.allow", do: readCounters,
			server: onServer(func(lapse func()) ipc.ServerOption {
				return ipc.WithIntrospection(func(ipc.Peer) error { lapse(); return nil })
			})},
		{of: "ipc.Fence.Admit", do: callEcho, server: fence("Admit"), returns: true},
		{of: "ipc.Fence.Admit", do: sendNote, server: fence("Admit"), silent: true, returns: true},
		{of: "ipc.Fence.Epoch", do: callEcho, server: fence("Epoch"), silent: true, returns: true},
		{of: "ipc.Guard.Enter", do: callEcho, server: guard("Enter")},
		{of: "ipc.Guard.Enter", do: sendNote, server: guard("Enter"), silent: true},
		{of: "ipc.Guard.Leave", do: callEcho, server: guard("Leave"), silent: true},
		{of: "ipc.Guard.Leave", do: sendNote, server: guard("Leave"), silent: true},
		{of: "ipc.ServerCall.AnswerAfter.wait", do: callEcho,
			server: onServer(func(lapse func()) ipc.ServerOption {
				return ipc.WithServerInterceptor(func(ctx context.Context, call *ipc.ServerCall,
					next func(context.Context) error) error {
					if err := next(ctx); err != nil || call.Kind != ipc.KindCall {
						return err
					}
					return call.AnswerAfter(func() error { lapse(); return nil })
				})
			})},
		{of: "ipc.EpochSource.Epoch", do: callEcho, silent: true, returns: true,
			client: onClient(func(lapse func()) ipc.DialOption {
				return ipc.WithEpoch(hookedFence{"Epoch", lapse})
			})},
	}
	return append(all, codecs()...)
}

// codecs are the functions of generated code.
func codecs() (all []lapsing) {
	for _, in := range []string{"ipc.MethodSpec.EncodeRequest", "ipc.MethodSpec.DecodeRequest",
		"ipc.MethodSpec.EncodeReply", "ipc.MethodSpec.DecodeReply",
		"ipc.MethodSpec.RecycleRequest", "ipc.MethodSpec.RecycleReply"} {
		var m *ipc.Method[blob, blob]
		row := lapsing{of: in, do: func(ctx context.Context, _ ipc.RendezvousOption,
			c *ipc.Conn) error {
			caller := ipc.Caller(c)
			if strings.HasSuffix(in, "RecycleReply") {
				caller = ipc.NewRecycler(c)
			}
			for range 100 { // used objects are not always at hand
				if _, err := ipc.Invoke(ctx, caller, m, &blob{Data: []byte("x")}); err != nil {
					return err
				}
			}
			return nil
		}}
		row.server = func(lapse func()) []ipc.ServerOption {
			hook := func(of string) {
				if strings.HasSuffix(in, of) {
					lapse()
				}
			}
			spec := echoSpec("Codec")
			spec.EncodeRequest = func(b *flatbuffers.Builder, seq uint64, m *blob) error {
				hook(".EncodeRequest")
				return encodeBlob(b, seq, m)
			}
			spec.DecodeRequest = func(buf []byte, m *blob) (uint64, error) {
				hook(".DecodeRequest")
				return decodeBlob(buf, m)
			}
			spec.RecycleRequest = func(buf []byte, m *blob) (uint64, error) {
				hook(".RecycleRequest")
				return decodeBlob(buf, m)
			}
			spec.EncodeReply = func(b *flatbuffers.Builder, seq, _ uint64, m *blob) error {
				hook(".EncodeReply")
				return encodeBlob(b, seq, m)
			}
			spec.DecodeReply = func(buf []byte, m *blob) (uint64, error) {
				hook(".DecodeReply")
				return decodeBlob(buf, m)
			}
			spec.RecycleReply = func(buf []byte, m *blob) (uint64, error) {
				hook(".RecycleReply")
				return decodeBlob(buf, m)
			}
			m = ipc.NewMethod(echoProtocol, spec)
			opts := []ipc.ServerOption{ipc.NewService(
				&ipc.Protocol{Name: "test.Codec", Schema: "service test.Codec\n"},
				ipc.Handle(m, func(_ context.Context, m *blob) (*blob, error) { return m, nil }))}
			if strings.HasSuffix(in, "RecycleRequest") {
				opts = append(opts, ipc.WithRecycling())
			}
			return opts
		}
		all = append(all, row)
	}
	return append(append(all, messageCodecs()...), inPlaceCodecs()...)
}

func messageCodecs() (all []lapsing) {
	for _, in := range []string{"ipc.MessageSpec.Encode", "ipc.MessageSpec.Decode",
		"ipc.MessageSpec.Recycle"} {
		var m *ipc.Message[blob]
		row := lapsing{of: in, silent: in != "ipc.MessageSpec.Encode"}
		row.do = func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
			for range 100 { // used objects are not always at hand
				if err := ipc.Send(ctx, c, m, &blob{Data: []byte("x")}); err != nil {
					return err
				}
			}
			_, err := echo(ctx, c, []byte("the messages were handled before"))
			return err
		}
		row.server = func(lapse func()) []ipc.ServerOption {
			spec := ipc.MessageSpec[blob]{Name: "Codec", ID: idOf("test.Codec/Codec"),
				Encode: encodeBlob, Decode: decodeBlob, Recycle: decodeBlob}
			decode := func(buf []byte, m *blob) (uint64, error) {
				lapse()
				return decodeBlob(buf, m)
			}
			switch in {
			case "ipc.MessageSpec.Encode":
				spec.Encode = func(b *flatbuffers.Builder, seq uint64, m *blob) error {
					lapse()
					return encodeBlob(b, seq, m)
				}
			case "ipc.MessageSpec.Decode":
				spec.Decode = decode
			default:
				spec.Recycle = decode
			}
			p := &ipc.Protocol{Name: "test.Codec", Schema: "envelope test.Codec\n"}
			m = ipc.NewMessage(p, spec)
			opts := []ipc.ServerOption{ipc.NewService(p, ipc.Receive(m,
				func(context.Context, *blob) error { return nil }))}
			if in == "ipc.MessageSpec.Recycle" {
				opts = append(opts, ipc.WithRecycling())
			}
			return opts
		}
		all = append(all, row)
	}
	return all
}

func inPlaceCodecs() (all []lapsing) {
	for _, in := range []string{"ipc.InPlaceSpec.FinishRequest", "ipc.InPlaceSpec.OpenRequest",
		"ipc.InPlaceSpec.FinishReply", "ipc.InPlaceSpec.OpenReply"} {
		var m *ipc.InPlaceMethod[blob, blob]
		row := lapsing{of: in}
		row.do = func(ctx context.Context, _ ipc.RendezvousOption, c *ipc.Conn) error {
			return ipc.InvokeInPlace(ctx, c, m, 8,
				func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					return b.CreateByteVector([]byte("x"))
				}, func(blob) error { return nil })
		}
		row.server = func(lapse func()) []ipc.ServerOption {
			hook := func(of string) {
				if strings.HasSuffix(in, of) {
					lapse()
				}
			}
			finish := func(of string) func(*flatbuffers.Builder, uint64, uint64,
				flatbuffers.UOffsetT) {
				return func(b *flatbuffers.Builder, _, _ uint64, m flatbuffers.UOffsetT) {
					hook(of)
					b.Finish(m)
				}
			}
			open := func(of string) func([]byte) (blob, uint64, uint64, error) {
				return func(buf []byte) (m blob, _, _ uint64, err error) {
					hook(of)
					_, err = decodeBlob(buf, &m)
					return m, 0, 0, err
				}
			}
			plain := echoMethod("InPlaceCodec")
			m = ipc.NewInPlaceMethod(plain.Info(), ipc.InPlaceSpec[blob, blob]{
				FinishRequest: finish("FinishRequest"), OpenRequest: open("OpenRequest"),
				FinishReply: finish("FinishReply"), OpenReply: open("OpenReply")})
			return []ipc.ServerOption{ipc.NewService(
				&ipc.Protocol{Name: "test.Codec", Schema: "service test.Codec\n"},
				m.Route(func(_ context.Context, m blob, r ipc.InPlaceReply[blob]) error {
					return r.Build(8, func(b *flatbuffers.Builder,
						_ uint64) flatbuffers.UOffsetT {
						return b.CreateByteVector(m.Data)
					})
				}, ipc.Route{}))}
		}
		all = append(all, row)
	}
	return all
}

// TestFaultyPlugins has everything that users plug in fail once: by a panic, by the end of its
// goroutine, by blocking for a while, and by calling the package. What it belongs to fails with a
// typed error or goes on, another connection is not affected, a panic leaves a trace, and the next
// use succeeds.
func TestFaultyPlugins(t *testing.T) {
	for _, row := range plugged() {
		for _, fault := range []string{"panics", "exits", "blocks", "calls"} {
			if row.returns && fault == "exits" {
				continue
			}
			t.Run(row.of+" "+fault, func(t *testing.T) { lapseOnce(t, row, fault) })
		}
	}
}

func lapseOnce(t *testing.T, row lapsing, fault string) {
	var trace syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&trace, nil)))
	defer slog.SetDefault(before)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var armed atomic.Bool
	var other *ipc.Conn
	hit, over, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	lapse := func() {
		if !armed.CompareAndSwap(true, false) {
			return
		}
		defer close(left)
		close(hit)
		switch fault {
		case "panics":
			panic("on purpose")
		case "exits":
			runtime.Goexit()
		case "blocks":
			<-over
		case "calls":
			if _, err := echo(ctx, other, []byte("from within")); err != nil {
				t.Errorf("a call from within: %v", err)
			}
			other.Stats()
		}
	}
	network := ipctest.NewNetwork()
	opts := []ipc.ServerOption{echoService(ipc.Receive(messageNote,
		func(context.Context, *blob) error { return nil }))}
	if row.server != nil {
		opts = append(opts, row.server(lapse)...)
	}
	host(t, network, opts...)
	var dials []ipc.DialOption
	if row.client != nil {
		dials = row.client(lapse)
	}
	c := dial(t, network, dials...)
	other = dial(t, network)
	for _, conn := range []*ipc.Conn{c, other} { // the server has logged that it is connected
		if _, err := echo(ctx, conn, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	armed.Store(true)
	result, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		result <- row.do(ctx, network, c)
	}()
	await := func(what string, done <-chan struct{}) {
		select {
		case <-done:
		case <-ctx.Done():
			buf := make([]byte, 1<<20)
			t.Fatalf("%s: nothing happens\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
	await("the callback's turn", hit)
	if _, err := echo(ctx, other, []byte("beside it")); err != nil {
		t.Errorf("another connection: %v", err)
	}
	close(over)
	await("the operation", ended)
	select {
	case err := <-result:
		var typed *ipc.Error
		failed := fault == "panics" || fault == "exits"
		if failed && !row.silent && !errors.As(err, &typed) || !failed && err != nil {
			t.Errorf("the operation ends with %v", err)
		}
		if err != nil && strings.Contains(err.Error(), ".go:") {
			t.Errorf("the error has a stack: %v", err)
		}
	default: // the goroutine has ended with the callback
		if fault != "exits" {
			t.Error("the operation has not returned")
		}
	}
	await("the callback", left) // which the operation may not wait for
	if err := row.do(ctx, network, c); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if fault != "panics" || row.of == "ipc.WithLogger.l" ||
		strings.HasSuffix(row.of, "Spec.EncodeRequest") || row.of == "ipc.MessageSpec.Encode" {
		return
	}
	// A trace may come after the answer.
	for seen := ""; !strings.Contains(seen, "callbacks_test.go"); seen += trace.take() {
		if ctx.Err() != nil {
			t.Fatalf("no trace is left, but: %q", seen)
		}
		runtime.Gosched()
	}
}

// transports are the methods of a transport and of what it returns.
var transports = []string{"ipc.Transport.Listen", "ipc.Transport.Dial",
	"ipc.WatchableTransport.Listen", "ipc.WatchableTransport.Dial", "ipc.WatchableTransport.Watch",
	"ipc.LinkListener.Accept", "ipc.LinkListener.Close", "ipc.Link.Notify", "ipc.Link.Expect",
	"ipc.Link.Wait", "ipc.Link.Poke", "ipc.Link.Read", "ipc.Link.Write", "ipc.Link.Close",
	"ipc.Link.Send", "ipc.Link.Receive", "ipc.Link.SetDeadline", "ipc.Link.NewMemory",
	"ipc.Link.Peer", "ipc.Link.Clock", "ipc.Link.SpinPays"}

// TestPanickingTransport has each method of a transport panic, once at each side. Whatever used it
// fails with a typed error, nothing hangs, and the next use succeeds.
func TestPanickingTransport(t *testing.T) {
	for _, of := range transports {
		for call := range int64(3) { // the first calls, those of both sides among them
			t.Run(of, func(t *testing.T) {
				var trace syncBuffer
				before := slog.Default()
				slog.SetDefault(slog.New(slog.NewTextHandler(&trace, nil)))
				defer slog.SetDefault(before)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var calls atomic.Int64
				in := of[strings.LastIndex(of, ".")+1:]
				if of == "ipc.LinkListener.Close" {
					in = "Listener.Close"
				}
				inner := ipc.TransportOf(ipctest.NewNetwork().RendezvousOption)
				v := ipc.WithTransport(hookedTransport{inner.(ipc.WatchableTransport),
					hookedFence{in, func() {
						if calls.Add(1) == call+1 {
							panic("on purpose")
						}
					}}})
				typed := func(what string, err error) {
					if e := new(ipc.Error); err != nil && !errors.As(err, &e) &&
						err != ipc.ErrServerClosed {
						t.Errorf("%s: an error without a type: %v", what, err)
					}
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range 3 {
						s := ipc.NewServer(echoService())
						served := make(chan error, 1)
						l, err := ipc.Listen("echo", v)
						for tries := 0; err != nil && tries < 3; tries++ {
							typed("Listen", err)
							l, err = ipc.Listen("echo", v)
						}
						if err != nil {
							t.Error(err)
							return
						}
						go func() { served <- s.Serve(ctx, l) }()
						c, err := ipc.Connect("echo", v)
						if err != nil {
							t.Error(err)
							return
						}
						short, stop := context.WithTimeout(ctx, time.Second/2)
						_, err = echo(short, c, []byte("x"))
						stop()
						typed("a call", err)
						typed("Client.Close", c.Close())
						_ = s.Close()
						typed("Serve", <-served)
					}
				}()
				select {
				case <-done:
				case <-ctx.Done():
					buf := make([]byte, 1<<20)
					t.Fatalf("it hangs\n%s", buf[:runtime.Stack(buf, true)])
				}
				// what has panicked may still be about to log that
				const here = "callbacks_test.go"
				for text := ""; calls.Load() > call && !strings.Contains(text, here); {
					if text += trace.take(); ctx.Err() != nil {
						t.Fatal("no trace is left")
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
}

// A hookedResolver finds the channel "echo", with a lapse in one method.
type hookedResolver struct{ hookedFence }

func (r hookedResolver) Resolve() ipc.Target {
	r.hook("Resolve")
	return ipc.Target{Endpoint: ipc.Endpoint{Channel: "echo"}}
}

func (r hookedResolver) Watch(ctx context.Context, changed func()) error {
	r.hook("Watch")
	changed()
	<-ctx.Done()
	return ctx.Err()
}

// TestFaultyResolver has a resolver fail, again and again. Calls fail with its reason when their
// patience ends, and succeed when it does what it should.
func TestFaultyResolver(t *testing.T) {
	for _, of := range []string{"ipc.Resolver.Resolve", "ipc.Resolver.Watch"} {
		for name, fault := range map[string]func(){"panics": func() { panic("on purpose") },
			"exits": runtime.Goexit} {
			if of == "ipc.Resolver.Resolve" && name == "exits" {
				continue // it must return
			}
			method := of[strings.LastIndex(of, ".")+1:]
			t.Run(of+" "+name, func(t *testing.T) {
				slog.SetDefault(slog.New(slog.DiscardHandler))
				network := ipctest.NewNetwork()
				host(t, network, echoService())
				var armed atomic.Bool
				armed.Store(true)
				c, err := ipc.NewClient(hookedResolver{hookedFence{method,
					func() {
						if armed.Load() {
							fault()
						}
					}}}, network, ipc.WithPatience(100*time.Millisecond))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, err = echo(t.Context(), c, []byte("x"))
				if of == "ipc.Resolver.Resolve" {
					want(t, err, ipc.CodeUnavailable, ipc.NotSent, "Resolver.Resolve panicked")
				}
				armed.Store(false)
				for give := time.Now().Add(time.Minute); ; {
					if _, err = echo(t.Context(), c, []byte("x")); err == nil {
						break
					}
					if time.Now().After(give) {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// TestFaultyGeneratedCallbacks has handlers, builders and readers that generated code takes fail.
// Generated code passes them on to the functions that the other tests try.
func TestFaultyGeneratedCallbacks(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	boom := func() { panic("on purpose") }
	network := ipctest.NewNetwork()
	host(t, network, audio.NewAudioControlInPlaceService(panicky{},
		audio.AudioControlInPlaceHandlers{ // "audio.AudioControlInPlaceHandlers.SetParam"
			SetParam: func(context.Context, audio.SetParam, ipc.InPlaceReply[audio.Ack]) error {
				panic("on purpose") // "ipc.InPlaceMethod.Route.f"
			},
			GetParam: func(_ context.Context, _ audio.GetParam,
				r ipc.InPlaceReply[audio.ParamValue]) error {
				return r.Build(64, // "ipc.InPlaceReply.Build.build"
					func(*flatbuffers.Builder, uint64) flatbuffers.UOffsetT { boom(); return 0 })
			},
		}), audio.NewControlMsgService(panicky{}))
	c := dial(t, network, audio.NewReplyMsgService(panicky{}))
	client, inPlace := audio.NewAudioControlClient(c), audio.NewAudioControlInPlaceClient(c)
	ctx := t.Context()
	internal := func(what string, err error) {
		t.Helper()
		if ipc.CodeOf(err) != ipc.CodeInternal {
			t.Errorf("%s: %v", what, err)
		}
	}
	err := func(_ any, err error) error { return err }
	build := func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
		audio.SetParamStart(b)
		return audio.SetParamEnd(b)
	}
	bad := func(*flatbuffers.Builder) flatbuffers.UOffsetT { boom(); return 0 }
	for range 5 {
		internal("audio.AudioControlInPlaceHandlers.SetParam ipc.InPlaceMethod.Route.f",
			err(client.SetParam(ctx, &audio.SetParamT{})))
		internal("audio.AudioControlInPlaceHandlers.GetParam ipc.InPlaceReply.Build.build",
			err(client.GetParam(ctx, &audio.GetParamT{})))
		internal("audio.AudioControl.StartStream",
			err(client.StartStream(ctx, &audio.StartStreamT{})))
		internal("audio.AudioControl.StopStream", err(client.StopStream(ctx, &audio.StopStreamT{})))
		if e := inPlace.SetParam(ctx, 8, bad, func(audio.Ack) error { return nil }); e == nil {
			t.Error("audio.AudioControlInPlaceClient.SetParam.build ipc.InvokeInPlace.build")
		}
		internal("audio.AudioControlInPlaceClient.SetParam.read ipc.InvokeInPlace.read",
			inPlace.SetParam(ctx, 8, build, func(audio.Ack) error { boom(); return nil }))
		if e := audio.NewControlMsgSender(c).SendSetParam(ctx, &audio.SetParamT{}); e != nil {
			t.Errorf("audio.ControlMsgHandler.HandleSetParam "+
				"audio.ReplyMsgHandler.HandleAck %v", e)
		}
	}
	// A caller or sender of the user's own, on the goroutine of its user: the panic is theirs.
	theirs := func(what string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: the panic has vanished", what)
			}
		}()
		f()
	}
	theirs("ipc.Caller.Invoke", func() {
		_, _ = audio.NewAudioControlClient(panicky{}).SetParam(ctx, &audio.SetParamT{})
	})
	theirs("ipc.Sender.Send", func() {
		_ = audio.NewControlMsgSender(panicky{}).SendSetParam(ctx, &audio.SetParamT{})
	})
}

// TestFaultyGeneratedStreams has the functions fail that generated streams and topics take. A row
// is the callback, and what makes it fail.
func TestFaultyGeneratedStreams(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	network := ipctest.NewNetwork()
	ctx := t.Context()
	block := func(*audio.AudioBufferHeader, []byte) error { return nil }
	// The handler of the stream that clients read serves it, and then panics.
	levels := audio.NewLevelsPublisher(topic.Options{})
	defer levels.Close()
	host(t, network, levels,
		audio.HandleAudioBufferHeaderReader(
			func(context.Context, *audio.AudioBufferHeaderReader) error { panic("on purpose") }),
		audio.HandleAudioBufferHeaderWriter(
			func(ctx context.Context, w *audio.AudioBufferHeaderWriter) error {
				if err := w.Write(ctx, 0, block); err != nil {
					return err
				}
				panic("on purpose")
			}))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := audio.OpenAudioBufferHeaderWriter(ctx, "echo", ipc.StreamOptions{Depth: 1}, network)
	must(err)
	defer w.Close()
	r, err := audio.OpenAudioBufferHeaderReader(ctx, "echo", ipc.StreamOptions{}, network)
	must(err)
	defer r.Close()
	sub, err := audio.SubscribeLevels(ctx, topic.Channel("echo", network),
		topic.SubscribeOptions{History: 1})
	must(err)
	defer sub.Close()
	must(levels.Publish(ctx, &audio.LevelsT{}))
	other, err := audio.OpenAudioBufferHeaderWriter(ctx, "echo", ipc.StreamOptions{}, network)
	must(err)
	defer other.Close()
	for _, c := range []struct {
		of string
		do func() error
	}{
		{"audio.AudioBufferHeaderWriter.Write.f", func() error {
			return other.Write(ctx, 0, func(*audio.AudioBufferHeader, []byte) error {
				panic("on purpose")
			})
		}},
		{"audio.AudioBufferHeaderReader.Read.f", func() error {
			return r.Read(ctx, func(*audio.AudioBufferHeader, []byte, uint64) error {
				panic("on purpose")
			})
		}},
		{"audio.HandleAudioBufferHeaderWriter.f", func() error {
			return r.Read(ctx, func(*audio.AudioBufferHeader, []byte, uint64) error { return nil })
		}},
		{"audio.HandleAudioBufferHeaderReader.f", func() error {
			for {
				if err := w.Write(ctx, 0, block); err != nil {
					return err
				}
			}
		}},
	} {
		if err := c.do(); ipc.CodeOf(err) != ipc.CodeInternal {
			t.Errorf("%s: %v", c.of, err)
		}
	}
	// Topics call functions on the goroutine of their user: the panic is theirs, and does no harm.
	for what, f := range map[string]func(){
		"audio.LevelsPublisher.Write.fill": func() {
			_ = levels.Write(ctx, func(*audio.Levels) error { panic("on purpose") })
		},
		"audio.LevelsSubscription.Read.read": func() {
			_ = sub.Read(ctx, func(*audio.Levels, topic.Arrival) error { panic("on purpose") })
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic has vanished", what)
				}
			}()
			f()
		}()
	}
	must(levels.Publish(ctx, &audio.LevelsT{Position: 7}))
	for l, err := range sub.All(ctx) {
		must(err)
		if l.Position == 7 {
			break
		}
	}
}

// A panicky panics in every handler.
type panicky struct {
	audio.UnimplementedAudioControl
	audio.UnimplementedControlMsgHandler
	audio.UnimplementedReplyMsgHandler
}

func (panicky) StartStream(ctx context.Context, _ *audio.StartStreamT) (*audio.AckT, error) {
	p, _ := ipc.PeerFromContext(ctx)
	if err := audio.NewReplyMsgSender(p).SendAck(ctx, &audio.AckT{}); err != nil {
		return nil, err
	}
	panic("on purpose")
}

// HandleAck is "audio.ReplyMsgHandler.HandleAck".
func (panicky) HandleAck(context.Context, *audio.AckT) error { panic("on purpose") }

// Invoke is that of a caller that a user has made.
func (panicky) Invoke(context.Context, ipc.Call) error { panic("on purpose") }

// Send is that of a sender that a user has made.
func (panicky) Send(context.Context, ipc.Post) error { panic("on purpose") }

func (panicky) StopStream(context.Context, *audio.StopStreamT) (*audio.AckT, error) {
	panic("on purpose")
}

func (panicky) HandleSetParam(context.Context, *audio.SetParamT) error { panic("on purpose") }
