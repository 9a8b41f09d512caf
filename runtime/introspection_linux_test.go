package ipc_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// TestCountersNameProcesses stops a client that the server sends messages to: the counters name its
// process, and what waits.
func TestCountersNameProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "domain")
	peers := make(chan *ipc.Peer, 1)
	l, err := ipc.Listen("echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(append(everything(), ipc.WithServerInterceptor(func(ctx context.Context,
		_ *ipc.ServerCall, next func(context.Context) error) error {
		if p, ok := ipc.PeerFromContext(ctx); ok && p.PID != os.Getpid() {
			select {
			case peers <- p:
			default:
			}
		}
		return next(ctx)
	}))...)
	go srv.Serve(context.Background(), l)
	t.Cleanup(func() { srv.Close() })
	client := startChild(t, "client", path)
	peer := <-peers
	c := dial(t, ipc.WithDomain(path))
	stopProcess(t, client)
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan bool)
	go func() {
		defer close(sent)
		for ipc.Send(ctx, peer, messageNote, &blob{Data: make([]byte, 10_000)}) == nil {
		}
	}()
	// until waits until the counters of the client's process are as they should be.
	until := func(what string, is func(p *introspect.ClientProcessT, first bool) bool) {
		t.Helper()
		var n *introspect.CountersT
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			var err error
			if n, err = ipc.ReadCounters(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			for i, p := range n.Processes {
				if int(p.Pid) == client.Process.Pid && is(p, i == 0) {
					own := slices.IndexFunc(n.Processes, func(p *introspect.ClientProcessT) bool {
						return p.Asks
					})
					if own < 0 || len(n.Processes) != 2 {
						t.Fatalf("%s: %d processes, the own one is number %d", what,
							len(n.Processes), own)
					}
					if o := n.Processes[own]; int(o.Pid) != os.Getpid() || o.Connections != 1 ||
						o.CallsInFlight != 0 || o.Waiting != 0 {
						t.Errorf("%s: the process that asks: %+v", what, *o)
					}
					return
				}
			}
		}
		t.Fatalf("%s: %+v", what, n)
	}
	until("stopped", func(p *introspect.ClientProcessT, first bool) bool {
		return first && p.Waiting&introspect.WaitingRoom != 0 && p.WaitsForRoom > 0 &&
			p.Connections > 0 && p.Received > 0 && p.SentBytes > 20_000
	})
	stop()
	<-sent
	if err := client.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until("going on", func(p *introspect.ClientProcessT, _ bool) bool { return p.Waiting == 0 })
}

// BenchmarkIntrospection compares calls of 64 bytes to a server without introspection, to one that
// is not asked, and to one that counts. The three take turns, so that other load on the machine
// affects them alike. The medians of batches are reported.
func BenchmarkIntrospection(b *testing.B) {
	const batch = 100
	names := []string{"without-ns", "unasked-ns", "counting-ns"}
	conns := make([]*ipc.Conn, len(names))
	for i := range names {
		d := newDomain(b)
		var opts []ipc.ServerOption
		if i == 0 {
			opts = append(opts, ipc.WithIntrospection(nil))
		}
		serve(b, d, opts...)
		conns[i] = dial(b, d)
	}
	if _, err := ipc.ReadCounters(b.Context(), conns[2]); err != nil {
		b.Fatal(err)
	}
	call := ipc.Call{Method: methodEcho.Info(), Request: &blob{Data: make([]byte, 64)},
		Reply: &blob{}}
	took := make([][]float64, len(names))
	for b.Loop() {
		for i, c := range conns {
			start := time.Now()
			for range batch {
				if err := c.Invoke(context.Background(), call); err != nil {
					b.Fatal(err)
				}
			}
			took[i] = append(took[i], float64(time.Since(start))/batch)
		}
	}
	for i, name := range names {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], name)
	}
}
