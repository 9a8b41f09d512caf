package natsipc_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/cluster"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// benchServers starts servers within this process, and returns the URL of one. They may have no
// leader yet.
func benchServers(b testing.TB, n int, sync bool) string {
	b.Helper()
	if n == 1 {
		s := natstest.Start(b, natstest.JetStream(b.TempDir()),
			func(o *server.Options) { o.SyncAlways = sync })
		return s.ClientURL()
	}
	ports, err := cluster.Ports(2 * n)
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		cfg := cluster.Config{Name: fmt.Sprint("s", i), Client: ports[i], Peer: ports[n+i],
			Dir: filepath.Join(b.TempDir(), fmt.Sprint(i)), Sync: sync}
		for j := range n {
			if j != i {
				cfg.Routes = append(cfg.Routes, fmt.Sprintf("127.0.0.1:%d", ports[n+j]))
			}
		}
		s, err := cluster.Start(cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	return fmt.Sprintf("nats://127.0.0.1:%d", ports[0])
}

func benchConn(b testing.TB, url string) *nats.Conn {
	b.Helper()
	nc, err := natsipc.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

// benchMember joins as soon as a cluster has elected its leader.
func benchMember(b *testing.B, url, name string) (*natsipc.Member, *nats.Conn) {
	b.Helper()
	l, nc := &list{}, benchConn(b, url)
	ctx, cancel := context.WithTimeout(b.Context(), groupWatchdog)
	defer cancel()
	m, err := natsipc.JoinGroup(ctx, nc, listConfig(name, l), l.service())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.Close(ctx) // it may have lost its connection
	})
	return m, nc
}

// BenchmarkGroupChange measures changes of a replicated state, from callers at the same time.
func BenchmarkGroupChange(b *testing.B) {
	for _, k := range []struct {
		servers int
		sync    bool
	}{{1, false}, {1, true}, {3, false}, {3, true}} {
		for _, callers := range []int{1, 64} {
			name := fmt.Sprintf("servers=%d/sync=%v/callers=%d", k.servers, k.sync, callers)
			b.Run(name, func(b *testing.B) {
				url := benchServers(b, k.servers, k.sync)
				benchMember(b, url, "a")
				benchMember(b, url, "b")
				c := dialList(b, benchConn(b, url))
				appendTo(b, c, 1)
				b.SetParallelism(max(callers/2, 1)) // times the processors
				b.ResetTimer()
				if callers == 1 {
					for b.Loop() {
						appendTo(b, c, 1)
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							_, err := ipc.Invoke(b.Context(), c, methodAppend, &words{1})
							if err != nil {
								b.Error(err)
							}
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
			})
		}
	}
}

// BenchmarkGroupFailover measures the time from the end of a leader to the first change at the next
// one, with a lease of 1 s: after it has resigned, and after its connection is gone.
func BenchmarkGroupFailover(b *testing.B) {
	for _, resigns := range []bool{true, false} {
		b.Run(fmt.Sprintf("resigns=%v", resigns), func(b *testing.B) {
			url := benchServers(b, 1, false)
			c := dialList(b, benchConn(b, url))
			// Appending is idempotent by the schema of Repeat, so the client sends it again.
			leader, conn := benchMember(b, url, "m0")
			appendTo(b, c, 1)
			for i := 1; b.Loop(); i++ {
				b.StopTimer()
				next, nextConn := benchMember(b, url, fmt.Sprint("m", i))
				b.StartTimer()
				if resigns {
					closeMember(b, leader)
				} else {
					conn.Close()
				}
				invoke(b, c, methodRepeat, 1)
				leader, conn = next, nextConn
			}
		})
	}
}
