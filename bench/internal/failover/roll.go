package failover

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/replica"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A Rolling is what clients saw of rolling restarts.
type Rolling struct {
	Restarts      int
	Calls, Failed uint64
	Longest       time.Duration // of all calls
	Took          time.Duration // one restart of all replicas, on average
}

// Roll replaces all replicas n times while four clients call.
func Roll(n int, progress func(string)) (*Rolling, error) {
	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startGroup(dir, replica.Ballast{}, 2, group.Heartbeat{})
	if err != nil {
		return nil, err
	}
	defer s.end()
	r := &Rolling{Restarts: n}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		wg.Go(func() {
			calls, failed, longest := callUntil(&stop, s.bulk)
			mu.Lock()
			defer mu.Unlock()
			r.Calls, r.Failed, r.Longest = r.Calls+calls, r.Failed+failed, max(r.Longest, longest)
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	start := time.Now()
	for range n {
		progress("rolling restart")
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := s.keeper.(keeperHere).Roll(ctx, config(dir, replica.Ballast{}).Command)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	r.Took = time.Since(start) / time.Duration(n)
	stop.Store(true)
	wg.Wait()
	return r, nil
}

// callUntil calls until stop is set.
func callUntil(stop *atomic.Bool, c *bulk.BulkClient) (calls, failed uint64,
	longest time.Duration) {
	for !stop.Load() {
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := c.Put(ctx, new(bulk.BlockT))
		cancel()
		longest = max(longest, time.Since(start))
		calls++
		if err != nil {
			failed++
		}
	}
	return calls, failed, longest
}
