package ipc_test

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// BenchmarkItems compares the items of 64 bytes of a streaming call, from a server, with one-way
// messages of that length, from a server.
func BenchmarkItems(b *testing.B) {
	for _, v := range []struct {
		name  string
		venue func() ipc.RendezvousOption
	}{
		{"shared memory", func() ipc.RendezvousOption {
			return ipc.WithDomain(b.TempDir() + "/d")
		}},
		{"in memory", func() ipc.RendezvousOption { return ipctest.NewNetwork() }},
	} {
		body := &blob{Data: make([]byte, 64)}
		flow := streamingMethod("Flow", ipc.ServerStreaming)
		burst := echoMethod("Burst")
		svc := echoes(
			ipc.HandleServerStream(flow, func(context.Context, *blob) iter.Seq2[*blob, error] {
				return func(yield func(*blob, error) bool) {
					for yield(body, nil) {
					}
				}
			}),
			ipc.Handle(burst, func(ctx context.Context, req *blob) (*blob, error) {
				var n int
				fmt.Sscan(string(req.Data), &n)
				p, _ := ipc.PeerFromContext(ctx)
				for range n {
					if err := ipc.Send(ctx, p, messageNote, body); err != nil {
						return nil, err
					}
				}
				return &blob{}, nil
			}))
		start := func(b *testing.B, opts ...ipc.DialOption) *ipc.Conn {
			venue := v.venue()
			srv := ipc.NewServer(svc)
			l, err := ipc.Listen("bench", venue)
			if err != nil {
				b.Fatal(err)
			}
			go srv.Serve(context.Background(), l)
			c, err := ipc.Dial(b.Context(), "bench", append(opts, venue)...)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { c.Close(); srv.Close() })
			return c
		}
		b.Run(v.name+"/items", func(b *testing.B) {
			c := start(b)
			n := 0
			for _, err := range ipc.InvokeServerStream(b.Context(), c, flow, &blob{}) {
				if err != nil {
					b.Fatal(err)
				}
				if n++; n == b.N {
					break
				}
			}
		})
		b.Run(v.name+"/messages", func(b *testing.B) {
			var come atomic.Int64
			done := make(chan struct{})
			c := start(b, echoes(ipc.Receive(messageNote, func(context.Context, *blob) error {
				if come.Add(1) == int64(b.N) {
					close(done)
				}
				return nil
			})))
			_, err := ipc.Invoke(b.Context(), c, burst, &blob{Data: fmt.Append(nil, b.N)})
			if err != nil {
				b.Fatal(err)
			}
			<-done
		})
	}
}
