package ipc_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// metadataInPlace sends metadata with calls in place of every size, whose replies bring it back.
func metadataInPlace(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, mirrors(nil))
	c := dial(t, v)
	back := strings.Repeat("x", ipc.MaxMetadata-3-len("back-long")) // fits on the way back, too
	for _, n := range []int{0, 1, 100, 5000, 300 << 10} {
		data := bytes.Repeat([]byte{byte(n)}, n)
		for _, pairs := range [][]string{nil, {"a", ""}, {"traceparent", "00-af-01"},
			{"long", back}} {
			var got ipc.Metadata
			ctx, want := ipc.WithReplyMetadata(t.Context(), &got), ""
			if pairs != nil {
				ctx = ipc.WithMetadata(ctx, pairs...)
				want = "back-" + pairs[0] + "=" + pairs[1]
			}
			var rep blob
			err := c.InvokeInPlace(ctx, &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: n + 64,
				Build: func(b *flatbuffers.Builder, _ uint64) {
					_ = encodeBlob(b, 0, &blob{Data: data})
				},
				Read: func(reply []byte) error {
					_, err := decodeBlob(reply, &rep)
					return err
				},
			})
			if err != nil || !bytes.Equal(rep.Data, data) || textOf(got) != want {
				t.Errorf("%d bytes, %.40q: %d bytes with %.60q, %v", n, want, len(rep.Data),
					textOf(got), err)
			}
		}
	}
}

// metadataOfMessages sends messages with metadata both ways.
func metadataOfMessages(t *testing.T, v ipc.RendezvousOption) {
	up, down := make(chan string, 1), make(chan string, 1)
	peers := make(chan *ipc.Peer, 1)
	host(t, v, mirrors(up), ipc.WithServerInterceptor(func(ctx context.Context,
		call *ipc.ServerCall, next func(context.Context) error) error {
		if p, ok := ipc.PeerFromContext(ctx); ok && call.Kind == ipc.KindCall {
			peers <- p
		}
		return next(ctx)
	}))
	c := dial(t, v, mirrors(down))
	still(t, c)
	server := <-peers
	ctx := ipc.WithMetadata(t.Context(), "trace", "1")
	for i, way := range []struct {
		to   ipc.Sender
		from <-chan string
	}{{c, up}, {server, down}} {
		for _, n := range []int{3, 20 << 10} {
			if err := note(ctx, way.to, string(make([]byte, n))); err != nil {
				t.Fatal(err)
			}
			if got := <-way.from; got != "trace=1: "+string(make([]byte, n)) {
				t.Errorf("way %d: %.40q", i, got)
			}
		}
		if err := note(t.Context(), way.to, "plain"); err != nil {
			t.Fatal(err)
		}
		if got := <-way.from; got != ": plain" {
			t.Errorf("way %d: %.40q", i, got)
		}
	}
}

// metadataThatIsWrong gives metadata that cannot be sent. The call in place fails unsent.
func metadataThatIsWrong(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, mirrors(nil))
	c := dial(t, v)
	for name, bad := range badMetadata() {
		t.Run(name, func(t *testing.T) {
			ctx := ipc.WithMetadata(ipc.WithMetadata(t.Context(), bad.Pairs...), "good", "one")
			err := c.InvokeInPlace(ctx, &ipc.InPlaceCall{Method: methodAside.Info(),
				Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{}) },
				Read:  func([]byte) error { return nil }})
			want(t, err, bad.Code, ipc.NotSent, bad.Text)
			if _, err := ipc.NewMetadata(bad.Pairs...); ipc.CodeOf(err) != bad.Code {
				t.Error(err)
			}
			if _, err := ipc.OutgoingMetadata(ctx); ipc.CodeOf(err) != bad.Code {
				t.Error(err)
			}
		})
	}
	if err := ipc.SetReplyMetadata(t.Context(), "k", "v"); ipc.CodeOf(err) !=
		ipc.CodeFailedPrecondition {
		t.Error(err)
	}
	still(t, c)
}

// metadataOfSmallRings has a lower limit on connections whose rings are small.
func metadataOfSmallRings(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, mirrors(nil))
	c := dial(t, v, ipc.WithRings(4096, 4096))
	for _, n := range []int{0, 5000, 300 << 10} {
		ctx := ipc.WithMetadata(t.Context(), "key", strings.Repeat("x", 500))
		if got, err := echo(ctx, c, make([]byte, n)); err != nil || len(got) != n {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
	}
	_, err := echo(ipc.WithMetadata(t.Context(), "key", strings.Repeat("x", 507)), c, nil)
	want(t, err, ipc.CodeTooLarge, ipc.NotSent, "513 bytes", "512")
	_, err = echo(ipc.WithMetadata(t.Context(), "key", strings.Repeat("x", 506)), c, nil)
	want(t, err, ipc.CodeTooLarge, ipc.Executed, "517 bytes", "512") // back-key
	still(t, c)
}

// TestMetadataOfAHandlerAlone calls a handler as a unit test does, in a context that has metadata.
func TestMetadataOfAHandlerAlone(t *testing.T) {
	handler := func(ctx context.Context) (string, error) {
		tenant := ipc.MetadataFromContext(ctx).Get("tenant")
		return tenant, ipc.SetReplyMetadata(ctx, "server", "mixer-1")
	}
	m, err := ipc.NewMetadata("tenant", "blue")
	if err != nil {
		t.Fatal(err)
	}
	if tenant, err := handler(ipc.WithIncomingMetadata(t.Context(), m)); err != nil ||
		tenant != "blue" {
		t.Errorf("with metadata: %q, %v", tenant, err)
	}
	_, err = handler(t.Context())
	want(t, err, ipc.CodeFailedPrecondition, ipc.Executed)
}
