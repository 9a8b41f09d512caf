package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// An activity is what a server does at the moment.
type activity struct {
	Clients  int     `json:"clients"` // without ipcctl
	Calls    float64 `json:"calls_per_second"`
	InFlight int     `json:"in_flight"`
}

// activities are those of servers by their channels. It is nil if they were not asked for.
type activities map[string]*activity

// columns returns the last columns of a line of ls.
func (a activities) columns(channel string) string {
	switch n := a[channel]; {
	case a == nil:
		return ""
	case n == nil:
		return "\t-\t-\t-"
	default:
		return fmt.Sprintf("\t%d\t%.4g\t%d", n.Clients, n.Calls, n.InFlight)
	}
}

// askFor is how long a server may take to answer, and between is the time over which its calls are
// counted.
const (
	askFor  = 2 * time.Second
	between = time.Second
)

// activitiesOf asks all live servers of a survey twice, each time by a connection of its own: no
// more are open than servers are asked at the same time.
func activitiesOf(ctx context.Context, s *survey.Survey) activities {
	first := askAll(ctx, s, countersOf)
	select {
	case <-time.After(between):
	case <-ctx.Done():
	}
	all := make(activities)
	for channel, second := range askAll(ctx, s, countersOf) {
		if c := first[channel]; c != nil && c.Since == second.Since {
			all[channel] = activityBetween(c, second)
		}
	}
	return all
}

// askAll asks all live servers of a survey, and returns the answers by channel, without those that
// do not answer.
func askAll[T any](ctx context.Context, s *survey.Survey,
	ask func(ctx context.Context, domain, channel string) (T, error)) map[string]T {
	all := make(map[string]T)
	var mu sync.Mutex
	s.EachLive(func(c survey.Channel) {
		ctx, cancel := context.WithTimeout(ctx, askFor)
		defer cancel()
		if a, err := ask(ctx, s.Domain, c.Name); err == nil {
			mu.Lock()
			all[c.Name] = a
			mu.Unlock()
		}
	})
	return all
}

// countersOf asks the server of a channel what it has counted.
func countersOf(ctx context.Context, domain, channel string) (*introspect.CountersT, error) {
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(domain))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return ipc.ReadCounters(ctx, conn)
}

// activityBetween returns what a server did between two answers.
func activityBetween(first, second *introspect.CountersT) *activity {
	a := &activity{Clients: max(0, int(second.Clients)-1), InFlight: int(second.CallsInFlight)}
	took := time.Duration(second.At - first.At)
	if from, to := done(first), done(second); to > from && took > 0 {
		a.Calls = float64(to-from) / took.Seconds()
	}
	return a
}

// done returns how many calls and messages a server has handled since it counts.
func done(c *introspect.CountersT) (n uint64) {
	for _, m := range c.Methods {
		n += m.Done
	}
	return n
}
