package ipc_test

import (
	"context"
	"slices"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

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
