package ipc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func newDomain(t testing.TB) ipc.RendezvousOption {
	return ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
}

// longEnv set to anything makes the soak tests run at their full length.
const longEnv = "IPC_TEST_LONG"

func long(short, full int) int {
	if os.Getenv(longEnv) != "" {
		return full
	}
	return short
}

// serve runs a server of the echo protocol until the test ends.
func serve(t testing.TB, domain ipc.RendezvousOption, opts ...ipc.ServerOption) *ipc.Server {
	t.Helper()
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(append([]ipc.ServerOption{echoService()}, opts...)...)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return srv
}

func dial(t testing.TB, domain ipc.RendezvousOption, opts ...ipc.DialOption) *ipc.Conn {
	t.Helper()
	c, err := ipc.Dial(context.Background(), "echo", append([]ipc.DialOption{domain}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func BenchmarkCall(b *testing.B) {
	d := newDomain(b)
	serve(b, d)
	c := dial(b, d)
	req := &blob{Data: make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipc.Invoke(context.Background(), c, methodEcho, req); err != nil {
			b.Fatal(err)
		}
	}
}

// TestServerSeesItsPeer asks, from within a handler, who calls and what the
// connection has seen.
func TestServerSeesItsPeer(t *testing.T) {
	d := newDomain(t)
	methodWho := echoMethod("Who")
	type seen struct {
		who   *ipc.Peer
		stats ipc.Stats
	}
	calls := make(chan seen, 3)
	route := ipc.Handle(methodWho, func(ctx context.Context, m *blob) (*blob, error) {
		p, ok := ipc.PeerFromContext(ctx)
		if !ok {
			return nil, ipc.Errorf(ipc.CodeInternal, "no peer")
		}
		calls <- seen{p, p.Stats()}
		return m, nil
	})
	l, err := ipc.Listen("echo", d)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(ipc.NewService(echoProtocol, route))
	go srv.Serve(context.Background(), l)
	defer srv.Close()
	c := dial(t, d)
	for range 3 {
		if _, err := ipc.Invoke(t.Context(), c, methodWho, &blob{Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	<-calls
	<-calls
	third := <-calls
	who, got := third.who, third.stats
	if who.PID != os.Getpid() || who.UID != os.Geteuid() || who.GID != os.Getegid() {
		t.Errorf("peer %d, %d, %d", who.PID, who.UID, who.GID)
	}
	// A call is in flight until its goroutine ends, a moment after its answer.
	if got.Received > 3 || got.Sent != 2 || got.SentBytes == 0 || got.CallsInFlight < 1 ||
		got.CallsInFlight > 3 {
		t.Errorf("stats in the third call: %+v", got)
	}
	if got := c.Stats(); got.Received != 3 || got.ReceivedBytes == 0 || got.Sent != 3 ||
		got.CallsInFlight != 0 {
		t.Errorf("stats of the client: %+v", got)
	}
	c.Close()
	<-who.Done()
	if got := who.Stats(); got.Received != 3 || got.ReceivedBytes == 0 || got.Sent != 3 ||
		got.CallsInFlight != 0 {
		t.Errorf("stats at the end: %+v", got)
	}
}

// blockStream is a stream of blocks that begin with a number.
var blockStream = &ipc.StreamInfo{
	Protocol: &ipc.Protocol{Name: "test.Block", Fingerprint: 7,
		Schema: "struct test.Block 8 8\nfield 0 n uint64 0\n"},
	HeaderSize: 8,
}

// writeBlock writes a block whose payload repeats its number.
func writeBlock(ctx context.Context, w *ipc.StreamWriter, n uint64, size int) error {
	return w.Write(ctx, size, func(header, payload []byte) error {
		binary.NativeEndian.PutUint64(header, n)
		for i := range payload {
			payload[i] = byte(n)
		}
		return nil
	})
}

// readBlock reads a block and checks that it is whole.
func readBlock(ctx context.Context, r *ipc.StreamReader) (n, lost uint64, err error) {
	err = r.Read(ctx, func(header, payload []byte, l uint64) error {
		n, lost = binary.NativeEndian.Uint64(header), l
		for i, b := range payload {
			if b != byte(n) {
				return fmt.Errorf("torn at byte %d", i)
			}
		}
		return nil
	})
	return n, lost, err
}

// everything is a server of the echo protocol, which reads calls in place, and of blocks.
func everything(more ...ipc.Route) []ipc.ServerOption {
	return append(blocks(), ipc.WithTrustedClients(), echoService(more...), streamingService())
}

// blocks serves the stream of blocks in both directions: it writes without end,
// and reads what there is.
func blocks() []ipc.ServerOption {
	return []ipc.ServerOption{
		ipc.HandleStreamWriter(blockStream, func(ctx context.Context, w *ipc.StreamWriter) error {
			for n := uint64(0); ; n++ {
				if err := writeBlock(ctx, w, n, int(n%4096)); err != nil {
					return err
				}
			}
		}),
		ipc.HandleStreamReader(blockStream, func(ctx context.Context, r *ipc.StreamReader) error {
			for {
				if _, _, err := readBlock(ctx, r); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
			}
		}),
	}
}
