package ipc_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// textOf formats metadata in its order.
func textOf(m ipc.Metadata) string {
	var all []string
	for k, v := range m.All() {
		all = append(all, k+"="+v)
	}
	return strings.Join(all, " ")
}

// mirrors makes a service whose handlers return the metadata that they get, under the key "back-"
// and the key, and whose note handler puts it into a channel.
func mirrors(notes chan<- string) *ipc.Service {
	mirror := func(ctx context.Context) error {
		for k, v := range ipc.MetadataFromContext(ctx).All() {
			if err := ipc.SetReplyMetadata(ctx, "back-"+k, v); err != nil {
				return err
			}
		}
		return nil
	}
	return echoes(
		ipc.Handle(methodEcho, func(ctx context.Context, m *blob) (*blob, error) {
			return m, mirror(ctx)
		}),
		ipc.Handle(methodFail, func(ctx context.Context, m *blob) (*blob, error) {
			if err := mirror(ctx); err != nil {
				return nil, err
			}
			return nil, ipc.Errorf(ipc.CodeNotFound, "on purpose")
		}),
		ipc.HandleInPlace(methodAside,
			func(ctx context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var m blob
				if _, err := decodeBlob(req, &m); err != nil {
					return err
				}
				if err := mirror(ctx); err != nil {
					return err
				}
				return reply.Build(len(m.Data)+64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &m)
				})
			}),
		ipc.Receive(messageNote, func(ctx context.Context, m *blob) error {
			notes <- textOf(ipc.MetadataFromContext(ctx)) + ": " + string(m.Data)
			if err := ipc.SetReplyMetadata(ctx, "k", "v"); ipc.CodeOf(err) !=
				ipc.CodeFailedPrecondition {
				return fmt.Errorf("metadata of a reply to a message: %v", err)
			}
			return nil
		}))
}

// metadataBothWays sends metadata with calls of every size, plain and in place, whose replies and
// errors bring it back.
func metadataBothWays(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, mirrors(nil))
	c := dial(t, v)
	long := strings.Repeat("x", ipc.MaxMetadata-3-len("long"))
	back := strings.Repeat("x", ipc.MaxMetadata-3-len("back-long")) // fits on the way back, too
	for _, n := range []int{0, 1, 100, 5000, 300 << 10} {
		data := bytes.Repeat([]byte{byte(n)}, n)
		for _, pairs := range [][]string{nil, {"a", ""}, {"traceparent", "00-af-01", "a.b_c-9",
			"\x00\xff", "a.b_c-9", "again"}, {"long", back}} {
			var got ipc.Metadata
			ctx := ipc.WithReplyMetadata(t.Context(), &got)
			for i := 0; i < len(pairs); i += 2 {
				ctx = ipc.WithMetadata(ctx, pairs[i], pairs[i+1])
			}
			var wants []string
			for i := 0; i < len(pairs); i += 2 {
				wants = append(wants, "back-"+pairs[i]+"="+pairs[i+1])
			}
			wanted := strings.Join(wants, " ")
			check := func(kind string, body []byte, err error) {
				t.Helper()
				if err != nil || !bytes.Equal(body, data) || textOf(got) != wanted {
					t.Errorf("%s, %d bytes, %.40q: %d bytes with %.60q, %v", kind, n, wanted,
						len(body), textOf(got), err)
				}
				got = ipc.Metadata{}
			}
			body, err := echo(ctx, c, data)
			check("plain", body, err)
			var rep blob
			err = c.InvokeInPlace(ctx, &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: n + 64,
				Build: func(b *flatbuffers.Builder, _ uint64) {
					_ = encodeBlob(b, 0, &blob{Data: data})
				},
				Read: func(reply []byte) error {
					_, err := decodeBlob(reply, &rep)
					return err
				},
			})
			check("in place", rep.Data, err)
			_, err = ipc.Invoke(ctx, c, methodFail, &blob{Data: data})
			want(t, err, ipc.CodeNotFound, ipc.Executed)
			check("an error", data, nil)
		}
	}
	// What fits on the way there does not fit on the way back: the handler is told.
	_, err := echo(ipc.WithMetadata(t.Context(), "long", long), c, nil)
	want(t, err, ipc.CodeTooLarge, ipc.Executed, "4101 bytes", "4096")
	// The metadata of a call is that of this call alone.
	var got ipc.Metadata
	ctx := ipc.WithReplyMetadata(t.Context(), &got)
	if _, err := echo(ipc.WithMetadata(ctx, "k", "v"), c, nil); err != nil ||
		got.Get("back-k") != "v" {
		t.Errorf("%q, %v", textOf(got), err)
	}
	if _, err := echo(ctx, c, nil); err != nil || got.Len() != 0 {
		t.Errorf("%q, %v", textOf(got), err)
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

// metadataThatIsWrong gives metadata that cannot be sent. The call fails unsent.
func metadataThatIsWrong(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, mirrors(make(chan string, 10)))
	c := dial(t, v)
	long := strings.Repeat("x", ipc.MaxMetadata)
	for name, bad := range map[string]struct {
		pairs []string
		code  ipc.Code
		text  string
	}{
		"no value":       {[]string{"a", "b", "c"}, ipc.CodeInvalidArgument, `"c" has no value`},
		"an empty key":   {[]string{"", "b"}, ipc.CodeInvalidArgument, `key ""`},
		"upper case":     {[]string{"Trace", "b"}, ipc.CodeInvalidArgument, `"Trace"`},
		"a blank":        {[]string{"a b", "b"}, ipc.CodeInvalidArgument, `"a b"`},
		"an umlaut":      {[]string{"ä", "b"}, ipc.CodeInvalidArgument, `key`},
		"a long key":     {[]string{strings.Repeat("k", 256), ""}, ipc.CodeInvalidArgument, `key`},
		"a reserved key": {[]string{"ipcgen-x", ""}, ipc.CodeInvalidArgument, `"ipcgen-x"`},
		"too long":       {[]string{"k", long}, ipc.CodeTooLarge, "4096"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := ipc.WithMetadata(ipc.WithMetadata(t.Context(), bad.pairs...), "good", "one")
			_, err := echo(ctx, c, nil)
			want(t, err, bad.code, ipc.NotSent, bad.text, "Echo")
			err = c.InvokeInPlace(ctx, &ipc.InPlaceCall{Method: methodAside.Info(),
				Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{}) },
				Read:  func([]byte) error { return nil }})
			want(t, err, bad.code, ipc.NotSent, bad.text)
			want(t, note(ctx, c, "x"), bad.code, ipc.NotSent, bad.text)
			if _, err := ipc.NewMetadata(bad.pairs...); ipc.CodeOf(err) != bad.code {
				t.Error(err)
			}
			if _, err := ipc.OutgoingMetadata(ctx); ipc.CodeOf(err) != bad.code {
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

// metadataIsNotForwarded calls a server from the handler of another one.
func metadataIsNotForwarded(t *testing.T, v ipc.RendezvousOption) {
	seen := make(chan string, 1)
	host(t, v, mirrors(nil), ipc.WithServerInterceptor(func(ctx context.Context, _ *ipc.ServerCall,
		next func(context.Context) error) error {
		seen <- textOf(ipc.MetadataFromContext(ctx))
		return next(ctx)
	}))
	c := dial(t, v)
	through := ipc.WithIncomingMetadata(
		ipc.WithMetadata(t.Context(), "mine", "1"), must(ipc.NewMetadata("theirs", "2")))
	if got := textOf(ipc.MetadataFromContext(through)); got != "theirs=2" {
		t.Errorf("%q", got)
	}
	if _, err := echo(through, c, nil); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "mine=1" {
		t.Errorf("%q", got)
	}
}

// metadataOfManyCallers makes calls at the same time, each with metadata of its own.
func metadataOfManyCallers(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, mirrors(nil))
	c := dial(t, v)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for k := range 50 {
				var got ipc.Metadata
				id := fmt.Sprint(i, "/", k)
				ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "id", id), &got)
				if _, err := echo(ctx, c, make([]byte, 30*k)); err != nil ||
					textOf(got) != "back-id="+id {
					t.Errorf("%s: %q, %v", id, textOf(got), err)
				}
			}
		})
	}
	callers.Wait()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
