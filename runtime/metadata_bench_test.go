package ipc_test

import (
	"context"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// BenchmarkWithoutMetadata measures a call without metadata, and what it does because there may be
// some, in turns on one connection, so that both meet the same machine. The share is the second as
// a part of the first:
//
//	go test -run xxx -bench WithoutMetadata -count 5 ./runtime
func BenchmarkWithoutMetadata(b *testing.B) {
	d := ipc.WithDomain(b.TempDir() + "/d")
	srv := ipc.NewServer(echoService())
	l, err := ipc.Listen("bench", d)
	if err != nil {
		b.Fatal(err)
	}
	go srv.Serve(context.Background(), l)
	c, err := ipc.Dial(b.Context(), "bench", d)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close(); srv.Close() })
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	body := make([]byte, 64)
	var calls, looks time.Duration
	for b.Loop() {
		const turn = 1000
		start := time.Now()
		for range turn {
			if _, err := echo(ctx, c, body); err != nil {
				b.Fatal(err)
			}
		}
		calls += time.Since(start) / turn
		start = time.Now()
		for range turn {
			if c.ProbesMetadata(ctx) {
				b.Fatal("there is metadata")
			}
		}
		looks += time.Since(start) / turn
	}
	n := float64(b.N)
	b.ReportMetric(float64(calls)/n, "ns/call")
	b.ReportMetric(float64(looks)/n, "ns/look-up")
	b.ReportMetric(100*float64(looks)/float64(calls), "%-of-a-call")
	b.ReportMetric(0, "ns/op")
}
