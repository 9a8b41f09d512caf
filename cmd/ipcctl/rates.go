package main

import (
	"context"
	"errors"
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

// activitiesOf asks all live servers of a survey twice.
func activitiesOf(ctx context.Context, s *survey.Survey) activities {
	asked := askAll(ctx, s, askFirst)
	select {
	case <-time.After(between):
	case <-ctx.Done():
	}
	return askAll(ctx, s, func(ctx context.Context, _, channel string) (*activity, error) {
		if c := asked[channel]; c != nil {
			defer c.conn.Close()
			return c.activity(ctx)
		}
		return nil, errors.New("it has not answered")
	})
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

// A counted server was asked for its counters once.
type counted struct {
	conn  *ipc.Conn
	first *introspect.CountersT
}

// askFirst asks the server of a channel for the first time.
func askFirst(ctx context.Context, domain, channel string) (*counted, error) {
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(domain))
	if err != nil {
		return nil, err
	}
	first, err := ipc.ReadCounters(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &counted{conn, first}, nil
}

// activity asks the server again.
func (c *counted) activity(ctx context.Context) (*activity, error) {
	second, err := ipc.ReadCounters(ctx, c.conn)
	if err != nil {
		return nil, err
	}
	a := &activity{Clients: max(0, int(second.Clients)-1), InFlight: int(second.CallsInFlight)}
	took := time.Duration(second.At - c.first.At)
	if from, to := done(c.first), done(second); to > from && took > 0 {
		a.Calls = float64(to-from) / took.Seconds()
	}
	return a, nil
}

// done returns how many calls and messages a server has handled since it counts.
func done(c *introspect.CountersT) (n uint64) {
	for _, m := range c.Methods {
		n += m.Done
	}
	return n
}
