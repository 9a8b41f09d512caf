package conformance

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// metadataBothWays sends metadata with calls of every size, whose replies and errors bring it back.
func metadataBothWays(t *testing.T, v *venue) {
	v.host(echo.Mirrors(nil))
	c := v.dial(t)
	long := strings.Repeat("x", ipc.MaxMetadata-3-len("long"))
	back := strings.Repeat("x", ipc.MaxMetadata-3-len("back-long")) // fits on the way back, too
	for _, n := range []int{0, 1, 100, 5000, v.longest(300 << 10)} {
		data := bytes.Repeat([]byte{byte(n)}, n)
		for _, pairs := range [][]string{nil, {"a", ""}, {"traceparent", "00-af-01", "a.b_c-9",
			"\x00\xff", "a.b_c-9", "again"}, {"long", back}} {
			var got ipc.Metadata
			ctx := ipc.WithReplyMetadata(t.Context(), &got)
			var all []string
			for i := 0; i < len(pairs); i += 2 {
				ctx = ipc.WithMetadata(ctx, pairs[i], pairs[i+1])
				all = append(all, "back-"+pairs[i]+"="+pairs[i+1])
			}
			want := strings.Join(all, " ")
			check := func(kind string, body []byte, err error) {
				t.Helper()
				if err != nil || !bytes.Equal(body, data) || echo.TextOf(got) != want {
					t.Errorf("%s, %d bytes, %.40q: %d bytes with %.60q, %v", kind, n, want,
						len(body), echo.TextOf(got), err)
				}
				got = ipc.Metadata{}
			}
			body, err := echo.Call(ctx, c, data)
			check("a reply", body, err)
			_, err = ipc.Invoke(ctx, c, echo.Fail, &echo.Blob{Data: data})
			echo.Want(t, err, ipc.CodeNotFound, ipc.Executed)
			check("an error", data, nil)
		}
	}
	// What fits on the way there does not fit on the way back: the handler is told.
	_, err := echo.Call(ipc.WithMetadata(t.Context(), "long", long), c, nil)
	echo.Want(t, err, ipc.CodeTooLarge, ipc.Executed, "4101 bytes", "4096")
	// The metadata of a call is that of this call alone.
	var got ipc.Metadata
	ctx := ipc.WithReplyMetadata(t.Context(), &got)
	if _, err := echo.Call(ipc.WithMetadata(ctx, "k", "v"), c, nil); err != nil ||
		got.Get("back-k") != "v" {
		t.Errorf("%q, %v", echo.TextOf(got), err)
	}
	if _, err := echo.Call(ctx, c, nil); err != nil || got.Len() != 0 {
		t.Errorf("%q, %v", echo.TextOf(got), err)
	}
}

// metadataOfMessages goes with one-way messages, and has no way back.
func metadataOfMessages(t *testing.T, v *venue) {
	got := make(chan string, 1)
	v.host(echo.Mirrors(got))
	c := v.dialSender(t)
	ctx := ipc.WithMetadata(t.Context(), "trace", "1")
	for _, n := range []int{3, v.longest(20 << 10)} {
		if err := echo.SendNote(ctx, c, string(make([]byte, n))); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != "trace=1: "+string(make([]byte, n)) {
			t.Errorf("%.40q", s)
		}
	}
	if err := echo.SendNote(t.Context(), c, "plain"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != ": plain" {
		t.Errorf("%.40q", s)
	}
}

// metadataThatIsWrong gives metadata that cannot be sent. The call fails unsent.
func metadataThatIsWrong(t *testing.T, v *venue) {
	got := make(chan string, 10)
	v.host(echo.Mirrors(got))
	c := v.dial(t)
	for name, bad := range echo.BadMetadata() {
		ctx := ipc.WithMetadata(ipc.WithMetadata(t.Context(), bad.Pairs...), "good", "one")
		t.Log(name)
		_, err := echo.Call(ctx, c, nil)
		echo.Want(t, err, bad.Code, ipc.NotSent, bad.Text, "Echo")
		if s, ok := c.(ipc.Sender); ok && v.subject.Lacks&OneWay == 0 {
			echo.Want(t, echo.SendNote(ctx, s, "x"), bad.Code, ipc.NotSent, bad.Text)
		}
	}
	echo.Still(t, c)
	if len(got) > 0 {
		t.Errorf("a message with wrong metadata was handled: %q", <-got)
	}
}

// metadataOfMany makes calls at the same time, each with metadata of its own.
func metadataOfMany(t *testing.T, v *venue) {
	v.host(echo.Mirrors(nil))
	c := v.dial(t)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for k := range 50 {
				var got ipc.Metadata
				id := fmt.Sprint(i, "/", k)
				ctx := ipc.WithReplyMetadata(ipc.WithMetadata(t.Context(), "id", id), &got)
				if _, err := echo.Call(ctx, c, make([]byte, 30*k)); err != nil ||
					echo.TextOf(got) != "back-id="+id {
					t.Errorf("%s: %q, %v", id, echo.TextOf(got), err)
				}
			}
		})
	}
	callers.Wait()
}

// metadataIsNotForwarded makes calls as the handler of another server would.
func metadataIsNotForwarded(t *testing.T, v *venue) {
	seen := make(chan string, 1)
	v.host(echo.Mirrors(nil), ipc.WithServerInterceptor(func(ctx context.Context,
		_ *ipc.ServerCall, next func(context.Context) error) error {
		seen <- echo.TextOf(ipc.MetadataFromContext(ctx))
		return next(ctx)
	}))
	c := v.dial(t)
	theirs, err := ipc.NewMetadata("theirs", "2")
	if err != nil {
		t.Fatal(err)
	}
	ctx := ipc.WithIncomingMetadata(ipc.WithMetadata(t.Context(), "mine", "1"), theirs)
	if got := echo.TextOf(ipc.MetadataFromContext(ctx)); got != "theirs=2" {
		t.Errorf("%q", got)
	}
	if _, err := echo.Call(ctx, c, nil); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "mine=1" {
		t.Errorf("%q", got)
	}
}
