package ipc_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// contextThatIsDone calls everything that takes a context with one that is done. Each call fails
// without an effect.
func contextThatIsDone(t *testing.T, v ipc.RendezvousOption) {
	var executed atomic.Int32
	peers := make(chan *ipc.Peer, 1)
	count := func(ctx context.Context, m *blob) (*blob, error) {
		executed.Add(1)
		if p, ok := ipc.PeerFromContext(ctx); ok && len(m.Data) == 0 {
			peers <- p
		}
		return m, nil
	}
	blocks := make(chan error, 2)
	pushed := make(chan string, 1)
	host(t, v, ipc.WithTrustedClients(), echoes(ipc.Handle(methodEcho, count),
		ipc.HandleInPlace(methodAside,
			func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
				executed.Add(1)
				return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &blob{})
				})
			}),
		ipc.Receive(messageNote, func(context.Context, *blob) error {
			executed.Add(1)
			return nil
		})),
		ipc.HandleStreamReader(beats, func(ctx context.Context, r *ipc.StreamReader) error {
			_, _, err := readBeat(ctx, r)
			blocks <- err
			return nil
		}),
		ipc.HandleStreamWriter(beats, func(ctx context.Context, w *ipc.StreamWriter) error {
			blocks <- writeBeat(ctx, w, 1)
			<-ctx.Done()
			return nil
		}))
	c := dial(t, v, ipc.NewService(echoProtocol, notes(pushed)))
	if _, err := echo(t.Context(), c, nil); err != nil { // the one call that is made
		t.Fatal(err)
	}
	peer := <-peers
	w, err := ipc.OpenStreamWriter(t.Context(), "echo", beats, ipc.StreamOptions{}, v)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ipc.OpenStreamReader(t.Context(), "echo", beats, ipc.StreamOptions{}, v)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := <-blocks; err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for ctx, code := range map[context.Context]ipc.Code{canceled: ipc.CodeCanceled,
		late: ipc.CodeDeadlineExceeded} {
		for name, do := range map[string]func() error{
			"call in place": func() error {
				return c.InvokeInPlace(ctx, &ipc.InPlaceCall{Method: methodAside.Info(), Size: 64,
					Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{}) },
					Read:  func([]byte) error { return nil }})
			},
			"message to client": func() error { return note(ctx, peer, "x") },
			"write":             func() error { return writeBeat(ctx, w, 1) },
			"read":              func() error { _, _, err := readBeat(ctx, r); return err },
			"dial":              func() error { _, err := ipc.Dial(ctx, "echo", v); return err },
			"open": func() error {
				_, err := ipc.OpenStreamWriter(ctx, "echo", beats, ipc.StreamOptions{}, v)
				return err
			},
		} {
			t.Log(name)
			want(t, do(), code, ipc.NotSent)
		}
	}
	if n, _, err := readBeat(t.Context(), r); n != 1 || err != nil {
		t.Errorf("the block that was not read: %d, %v", n, err)
	}
	w.Close()
	if err := <-blocks; err != io.EOF {
		t.Errorf("the server read a block: %v", err)
	}
	still(t, c)
	if n := executed.Load(); n != 2 {
		t.Errorf("%d requests were executed, not 2", n)
	}
	select {
	case s := <-pushed:
		t.Errorf("the client got %q", s)
	default:
	}
}

// outcomeInPlace shows that a reply in place that is too long does not hide that its handler ran.
func outcomeInPlace(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoes(ipc.HandleInPlace(methodAside,
		func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
			return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
				_ = encodeBlob(b, 0, &blob{Data: make([]byte, 200<<10)})
			})
		})), ipc.WithMaxMessage(100<<10))
	_, err := ipc.Invoke(t.Context(), dial(t, v), methodAside, &blob{})
	want(t, err, ipc.CodeTooLarge, ipc.Executed)
}
