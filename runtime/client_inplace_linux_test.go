package ipc_test

import (
	"bytes"
	"context"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestInPlace makes calls that are built and read in the ring, with enough room, too little and
// none. The server reads requests in the ring or copies them.
func TestInPlace(t *testing.T) {
	for name, opts := range map[string][]ipc.ServerOption{"copied": nil,
		"in place": {ipc.WithTrustedClients()}} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			methodBack := echoMethod("Back")
			back := ipc.HandleInPlace(methodBack,
				func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
					var m blob
					if _, err := decodeBlob(req, &m); err != nil {
						return err
					}
					return reply.Build(len(m.Data)+64, func(b *flatbuffers.Builder, _, _ uint64) {
						_ = encodeBlob(b, 0, &m)
					})
				})
			l, err := ipc.Listen("echo", d)
			if err != nil {
				t.Fatal(err)
			}
			srv := ipc.NewServer(append(opts, echoService(back))...)
			go srv.Serve(context.Background(), l)
			defer srv.Close()
			c := dial(t, d)
			for _, n := range []int{0, 1, 100, 5000, 100_000, 1 << 20} {
				for _, size := range []int{0, n / 2, n + 64, 2*n + 100} {
					want := bytes.Repeat([]byte{byte(n), byte(size)}, n/2+1)[:n]
					err := c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
						Method: methodBack.Info(), Size: size,
						Build: func(b *flatbuffers.Builder, seq uint64) {
							_ = encodeBlob(b, seq, &blob{Data: want})
						},
						Read: func(reply []byte) error {
							var got blob
							if _, err := decodeBlob(reply, &got); err != nil {
								return err
							}
							if !bytes.Equal(got.Data, want) {
								t.Errorf("%d bytes in %d: %d others came back", n, size,
									len(got.Data))
							}
							return nil
						},
					})
					if err != nil {
						t.Fatalf("%d bytes in %d: %v", n, size, err)
					}
				}
			}
			if _, err := echo(t.Context(), c, []byte("plain")); err != nil {
				t.Error(err)
			}
		})
	}
}

func BenchmarkInPlace(b *testing.B) {
	d := newDomain(b)
	methodBack := echoMethod("Back")
	serve(b, d, ipc.WithTrustedClients(),
		ipc.NewService(&ipc.Protocol{Name: "test.Back"}, ipc.HandleInPlace(methodBack,
			func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					b.StartObject(0)
					b.Finish(b.EndObject())
				})
			})))
	c := dial(b, d)
	call := &ipc.InPlaceCall{
		Method: methodBack.Info(), Size: 64,
		Build: func(b *flatbuffers.Builder, _ uint64) { b.StartObject(0); b.Finish(b.EndObject()) },
		Read:  func([]byte) error { return nil },
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.InvokeInPlace(context.Background(), call); err != nil {
			b.Fatal(err)
		}
	}
}
