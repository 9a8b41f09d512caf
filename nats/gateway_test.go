package natsipc_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// The protocols of these tests have full descriptions, for a gateway knows nothing else of them.
var (
	relayed = &ipc.Protocol{Name: "test.Echo", Fingerprint: 77, Schema: `service test.Echo
method Echo test.Blob test.Blob
method Fail test.Blob test.Blob
method Block test.Blob test.Blob
method Count test.Blob test.Blob streaming:server
method Upload test.Blob test.Blob streaming:client
method Jam test.Blob test.Blob streaming:bidi
method Endless test.Blob test.Blob streaming:server
`}
	relayedNotes = &ipc.Protocol{Name: "test.Notes", Fingerprint: 78, Schema: `envelope test.Notes
table test.Notes
field 0 payload_type tag:test.Payload 0
field 1 payload test.Payload -
union test.Payload uint8
member 1 Note test.Blob
`}

	relayedEcho, relayedFail = method("Echo", ipc.Unary), method("Fail", ipc.Unary)
	relayedBlock             = method("Block", ipc.Unary)
	relayedCount             = method("Count", ipc.ServerStreaming)
	relayedUpload            = method("Upload", ipc.ClientStreaming)
	relayedJam               = method("Jam", ipc.BidiStreaming)
	relayedEndless           = method("Endless", ipc.ServerStreaming)
	relayedNote              = ipc.NewMessage(relayedNotes, ipc.MessageSpec[echo.Blob]{Name: "Note",
		ID: echo.ID("test.Notes/Note"), Encode: echo.Encode, Decode: echo.Decode})
)

func method(name string, s ipc.Streaming) *ipc.Method[echo.Blob, echo.Blob] {
	spec := echo.Spec(name)
	spec.Streaming = s
	return ipc.NewMethod(relayed, spec)
}

// domain is a place for channels on this machine.
func domain(t *testing.T) string {
	t.Helper()
	where := filepath.Join(t.TempDir(), "domain")
	l, err := ipc.Listen("probe", ipc.WithDomain(where))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return where
}

// run runs one side of a gateway until stop is called, or the test ends.
func run(t *testing.T, side func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := side(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// soon calls f until it returns nil.
func soon(t *testing.T, what string, f func() error) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestGateway calls a server of one machine from a client of another: both talk shared memory, and
// the two sides of a gateway know neither's code.
func TestGateway(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	there, here := domain(t), domain(t)
	notes := make(chan string, 10)
	began, left := make(chan struct{}, 10), make(chan error, 10)
	endless := echo.NewEndless()
	services := []ipc.ServerOption{quiet, ipc.NewService(relayedNotes, ipc.Receive(relayedNote,
		func(ctx context.Context, m *echo.Blob) error {
			notes <- echo.TextOf(ipc.MetadataFromContext(ctx)) + ": " + string(m.Data)
			return nil
		})), ipc.NewService(relayed,
		ipc.Handle(relayedEcho, func(ctx context.Context, m *echo.Blob) (*echo.Blob, error) {
			for k, v := range ipc.MetadataFromContext(ctx).All() {
				if err := ipc.SetReplyMetadata(ctx, "back-"+k, v); err != nil {
					return nil, err
				}
			}
			return m, nil
		}),
		ipc.Handle(relayedFail, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			if string(m.Data) == "refuse" {
				return nil, &ipc.Error{Code: ipc.CodeFailedPrecondition,
					Outcome: ipc.NotExecuted, Msg: "not now"}
			}
			return nil, ipc.Errorf(ipc.CodeNotFound, "no %s", m.Data)
		}),
		ipc.Handle(relayedBlock, func(ctx context.Context, _ *echo.Blob) (*echo.Blob, error) {
			began <- struct{}{}
			<-ctx.Done()
			left <- ctx.Err()
			return nil, ctx.Err()
		}),
		ipc.HandleServerStream(relayedCount, func(_ context.Context,
			m *echo.Blob) iter.Seq2[*echo.Blob, error] {
			return echo.Counted(len(m.Data))
		}),
		ipc.HandleClientStream(relayedUpload, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
			var all echo.Blob
			for item, err := range in {
				if err != nil {
					return nil, err
				}
				all.Data = append(all.Data, item.Data...)
			}
			return &all, nil
		}),
		ipc.HandleBidiStream(relayedJam, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
			return in
		}),
		endless.Route())}
	origin := ipctest.Serve(t, ipc.WithDomain(there), "echo", services...)
	options := []ipc.Option{natsipc.WithBeat(beat)}
	out := natsipc.Gateway{Channel: "echo", NATS: options, Domain: there}
	in := natsipc.Gateway{Channel: "echo", NATS: options, Domain: here}
	outside, inside := broker.Connect(t), broker.Connect(t)
	stopExport := run(t, func(ctx context.Context) error { return out.Export(ctx, outside) })
	run(t, func(ctx context.Context) error { return in.Import(ctx, inside) })

	var c *ipc.Conn
	soon(t, "dial", func() (err error) {
		c, err = ipc.Dial(t.Context(), "echo", ipc.WithDomain(here))
		return err
	})
	defer c.Close()
	call := func(data string) error {
		rep, err := ipc.Invoke(t.Context(), c, relayedEcho, &echo.Blob{Data: []byte(data)})
		if err == nil && string(rep.Data) != data {
			t.Errorf("%d bytes came back of %d", len(rep.Data), len(data))
		}
		return err
	}
	for _, n := range []int{0, 1, 5, 1000, 1 << 20, 5 << 20} {
		if err := call(string(bytes.Repeat([]byte{7}, n))); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	var back ipc.Metadata
	ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "k", "v", "k", "w"), &back)
	if _, err := ipc.Invoke(ctx, c, relayedEcho, &echo.Blob{}); err != nil ||
		echo.TextOf(back) != "back-k=v back-k=w" {
		t.Errorf("metadata %q, %v", echo.TextOf(back), err)
	}
	fail := func(data string) error {
		_, err := ipc.Invoke(t.Context(), c, relayedFail, &echo.Blob{Data: []byte(data)})
		return err
	}
	echo.Want(t, fail("thing"), ipc.CodeNotFound, ipc.Executed, "no thing")
	echo.Want(t, fail("refuse"), ipc.CodeFailedPrecondition, ipc.NotExecuted, "not now")
	if err := ipc.Send(ipc.WithMetadata(t.Context(), "a", "b"), c, relayedNote,
		&echo.Blob{Data: []byte("hello")}); err != nil {
		t.Error(err)
	} else if s := <-notes; s != "a=b: hello" {
		t.Errorf("the note is %q", s)
	}

	echo.ExpectCounted(t, ipc.InvokeServerStream(t.Context(), c, relayedCount,
		&echo.Blob{Data: make([]byte, 3000)}), 3000)
	echo.ExpectCounted(t, ipc.InvokeBidiStream(t.Context(), c, relayedJam, echo.Counted(3000)),
		3000)
	if rep, err := ipc.InvokeClientStream(t.Context(), c, relayedUpload,
		echo.Items("a", "b", "c")); err != nil || string(rep.Data) != "abc" {
		t.Errorf("upload: %v", err)
	}
	n := 0
	for _, err := range ipc.InvokeServerStream(t.Context(), c, relayedEndless, &echo.Blob{}) {
		if err != nil {
			t.Error(err)
		}
		if n++; n == 10 {
			break
		}
	}
	<-endless.Taken
	if err := <-endless.Ended; err != context.Canceled {
		t.Errorf("the context of a stream that was left: %v", err)
	}

	blocked, cancel := context.WithCancel(t.Context())
	result := echo.Invoke(blocked, c, relayedBlock, "")
	entered(t, began, result)
	cancel()
	if err := <-left; err != context.Canceled {
		t.Errorf("the context of a call that was cancelled: %v", err)
	}
	echo.Want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)

	// The server restarts, in the middle of a call, and then the export does.
	result = echo.Invoke(t.Context(), c, relayedBlock, "")
	entered(t, began, result)
	origin.Close()
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	soon(t, "the end of the export", func() error {
		err := call("x")
		if ipc.CodeOf(err) == ipc.CodeUnavailable && ipc.OutcomeOf(err) == ipc.NotExecuted {
			return nil
		}
		return errors.Join(errors.New("the call finds a server"), err)
	})
	ipctest.Serve(t, ipc.WithDomain(there), "echo", services...)
	soon(t, "the server is back", func() error { return call("x") })
	stopExport()
	echo.Want(t, call("x"), ipc.CodeUnavailable, ipc.NotExecuted, "there is no server")
	run(t, func(ctx context.Context) error { return out.Export(ctx, outside) })
	soon(t, "the export is back", func() error { return call("x") })
}

// TestGatewayImportsNobody has an import before there is a server. The local channel is there when
// the import has found one, and ends with the import.
func TestGatewayImportsNobody(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	here := domain(t)
	waits := make(chan struct{}, 1)
	g := natsipc.Gateway{Channel: "echo", Domain: here, Log: slog.New(slog.NewTextHandler(
		writerFunc(func(line []byte) (int, error) {
			if bytes.Contains(line, []byte("the import waits")) {
				select {
				case waits <- struct{}{}:
				default:
				}
			}
			return len(line), nil
		}), nil))}
	stop := run(t, func(ctx context.Context) error {
		return g.Import(ctx, broker.ConnectInProcess(t))
	})
	<-waits
	_, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(here))
	echo.Want(t, err, ipc.CodeUnavailable, ipc.NotSent)
	serve(t, broker.ConnectInProcess(t), ipc.NewService(relayed, ipc.Handle(relayedEcho,
		func(_ context.Context, m *echo.Blob) (*echo.Blob, error) { return m, nil })))
	var c *ipc.Conn
	soon(t, "the local channel", func() error {
		c, err = ipc.Dial(t.Context(), "echo", ipc.WithDomain(here))
		return err
	})
	defer c.Close()
	if _, err := ipc.Invoke(t.Context(), c, relayedEcho, &echo.Blob{}); err != nil {
		t.Error(err)
	}
	stop()
	<-c.Done()
}

// TestGatewayThatCannot has an import at a channel that is taken: it ends, and says why.
func TestGatewayThatCannot(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	here := domain(t)
	ipctest.Serve(t, ipc.WithDomain(here), "echo", echo.Service())
	serve(t, broker.ConnectInProcess(t), echo.Service())
	g := natsipc.Gateway{Channel: "echo", Domain: here}
	err := g.Import(t.Context(), broker.ConnectInProcess(t))
	echo.Want(t, err, ipc.CodeAlreadyExists, ipc.OutcomeOf(err), "echo")
}
