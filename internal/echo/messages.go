package echo

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Notes puts the one-way messages that it receives into a channel, which blocks the handler when it
// is full.
func Notes(into chan<- string) ipc.Route {
	return ipc.Receive(Note, func(_ context.Context, m *Blob) error {
		into <- string(m.Data)
		return nil
	})
}

// SendNote sends a one-way message.
func SendNote(ctx context.Context, to ipc.Sender, s string) error {
	return ipc.Send(ctx, to, Note, &Blob{Data: []byte(s)})
}

// Number is the i-th of a sequence of messages, padded to a length.
func Number(i, length int) string {
	return string(append(binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, length-4)...))
}

// ExpectNumbers receives the first n messages of a sequence. An error from failed ends the test.
func ExpectNumbers(t *testing.T, from <-chan string, n int, failed ...<-chan error) {
	t.Helper()
	var broken <-chan error
	if len(failed) > 0 {
		broken = failed[0]
	}
	for i := 0; i < n; {
		select {
		case s := <-from:
			if got := int(binary.BigEndian.Uint32([]byte(s))); got != i {
				t.Fatalf("message %d came in place of %d", got, i)
			}
			i++
		case err := <-broken:
			if broken = nil; err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TextOf formats metadata in its order.
func TextOf(m ipc.Metadata) string {
	var all []string
	for k, v := range m.All() {
		all = append(all, k+"="+v)
	}
	return strings.Join(all, " ")
}

// Mirrors makes a service whose handlers return the metadata that they get, under the key "back-"
// and the key, and whose note handler puts it into a channel.
func Mirrors(notes chan<- string) *ipc.Service {
	mirror := func(ctx context.Context) error {
		for k, v := range ipc.MetadataFromContext(ctx).All() {
			if err := ipc.SetReplyMetadata(ctx, "back-"+k, v); err != nil {
				return err
			}
		}
		return nil
	}
	return Of(
		ipc.Handle(Echo, func(ctx context.Context, m *Blob) (*Blob, error) {
			return m, mirror(ctx)
		}),
		ipc.Handle(Fail, func(ctx context.Context, m *Blob) (*Blob, error) {
			if err := mirror(ctx); err != nil {
				return nil, err
			}
			return nil, ipc.Errorf(ipc.CodeNotFound, "on purpose")
		}),
		ipc.HandleInPlace(Aside,
			func(ctx context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var m Blob
				if _, err := Decode(req, &m); err != nil {
					return err
				}
				if err := mirror(ctx); err != nil {
					return err
				}
				return reply.Build(len(m.Data)+64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = Encode(b, 0, &m)
				})
			}),
		ipc.Receive(Note, func(ctx context.Context, m *Blob) error {
			notes <- TextOf(ipc.MetadataFromContext(ctx)) + ": " + string(m.Data)
			if err := ipc.SetReplyMetadata(ctx, "k", "v"); ipc.CodeOf(err) !=
				ipc.CodeFailedPrecondition {
				return fmt.Errorf("metadata of a reply to a message: %v", err)
			}
			return nil
		}))
}

// A Bad is metadata that cannot be sent, and what the error says.
type Bad struct {
	Pairs []string
	Code  ipc.Code
	Text  string
}

// BadMetadata has all kinds of it, by name.
func BadMetadata() map[string]Bad {
	long := strings.Repeat("x", ipc.MaxMetadata)
	return map[string]Bad{
		"no value":       {[]string{"a", "b", "c"}, ipc.CodeInvalidArgument, `"c" has no value`},
		"an empty key":   {[]string{"", "b"}, ipc.CodeInvalidArgument, `key ""`},
		"upper case":     {[]string{"Trace", "b"}, ipc.CodeInvalidArgument, `"Trace"`},
		"a blank":        {[]string{"a b", "b"}, ipc.CodeInvalidArgument, `"a b"`},
		"an umlaut":      {[]string{"ä", "b"}, ipc.CodeInvalidArgument, `key`},
		"a long key":     {[]string{strings.Repeat("k", 256), ""}, ipc.CodeInvalidArgument, `key`},
		"a reserved key": {[]string{"ipcgen-x", ""}, ipc.CodeInvalidArgument, `"ipcgen-x"`},
		"too long":       {[]string{"k", long}, ipc.CodeTooLarge, "4096"},
	}
}
