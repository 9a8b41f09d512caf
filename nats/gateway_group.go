package natsipc

import (
	"context"
	"slices"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file exports groups. Calls and topics follow the primary by the client of the group. What an
// export says of the group, it asks of the primary.

// A followedGroup is a group that is exported.
type followedGroup struct {
	*group.Client
	where []ipc.DialOption
	beat  time.Duration

	mu   sync.Mutex
	at   group.Connection
	conn *ipc.Conn // to the primary that was found last
}

// follow follows a group, of which there must be a primary.
func (g *Gateway) follow(ctx context.Context, opts []ipc.DialOption) (*local, error) {
	c, err := group.Dial(ctx, g.Group, group.DialConfig{Domain: g.Domain, Options: opts})
	if err != nil {
		return nil, err
	}
	f := &followedGroup{Client: c, where: opts, beat: take(opts).beat}
	if g.Domain != "" {
		f.where = append(slices.Clone(opts), ipc.WithDomain(g.Domain))
	}
	// The gateway says why it waits, and tries again. A beat may be shorter than a look takes.
	within, stop := context.WithTimeout(ctx, DefaultBeat)
	conn, err := f.primary(within)
	stop()
	var protocols []*ipc.Protocol
	if err == nil {
		protocols, err = conn.Protocols()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	done := make(chan struct{})
	return &local{caller: c, source: c, protocols: protocols, health: f.health, done: done,
		gone: "the group serves other protocols or topics than before",
		watch: func(exported *introspect.DescriptionT) {
			watch.Go(func() { f.watch(watching, protocols, exported, done) })
		},
		close: func() {
			stop()
			watch.Wait()
			f.close()
		}}, nil
}

func (f *followedGroup) close() {
	f.mu.Lock()
	if f.conn != nil {
		f.conn.Close()
	}
	f.mu.Unlock()
	_ = f.Close() // the files of the registry are of no use any more
}

// primary returns a connection to the primary, and waits for one as the calls of a client do.
func (f *followedGroup) primary(ctx context.Context) (*ipc.Conn, error) {
	at, err := f.WaitConnected(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil && f.at == at && f.conn.Err() == nil {
		return f.conn, nil
	}
	conn, err := ipc.Dial(ctx, at.Control, f.where...)
	if err != nil {
		return nil, err
	}
	if f.conn != nil {
		f.conn.Close()
	}
	f.conn, f.at = conn, at
	return conn, nil
}

// health is that of the primary. A group without one does not serve: calls wait. A primary that
// shuts down is about to be replaced, for which health waits a beat.
func (f *followedGroup) health(ctx context.Context, protocol string) (ipc.Health, error) {
	ctx, stop := context.WithTimeout(ctx, f.beat)
	defer stop()
	for {
		conn, err := f.primary(ctx)
		var h ipc.Health
		if err == nil {
			h, err = conn.Health(ctx, protocol)
		}
		switch {
		case ipc.CodeOf(err) == ipc.CodeNotFound:
			return ipc.HealthNotServing, err
		case err == nil && h != ipc.HealthDraining:
			return h, nil
		}
		select {
		case <-time.After(firstPause):
		case <-ctx.Done():
			return ipc.HealthNotServing, nil
		}
	}
}

// watch closes changed when a primary serves something else than what was exported. described is
// nil if the primary did not tell of its topics.
func (f *followedGroup) watch(ctx context.Context, protocols []*ipc.Protocol,
	described *introspect.DescriptionT, changed chan<- struct{}) {
	exported := shape(protocols, described)
	beat := time.NewTicker(f.beat)
	defer beat.Stop()
	var known *ipc.Conn
	for {
		conn, err := f.primary(ctx)
		var gone <-chan struct{}
		if err == nil {
			gone = conn.Done()
		}
		if err == nil && conn != known {
			now, err := shapeOf(ctx, conn, described != nil)
			switch {
			case err != nil: // it is tried again
			case now == exported:
				known = conn
			default:
				close(changed)
				return
			}
		}
		select {
		case <-gone:
		case <-beat.C:
		case <-ctx.Done():
			return
		}
	}
}

// shapeOf returns the shape of what a server serves.
func shapeOf(ctx context.Context, c *ipc.Conn, topics bool) (string, error) {
	protocols, err := c.Protocols()
	if err != nil {
		return "", err
	}
	var described *introspect.DescriptionT
	if topics {
		if described, err = ipc.Describe(ctx, c); err != nil {
			return "", err
		}
	}
	return shape(protocols, described), nil
}

// shape is that of a greeting that says the same.
func shape(protocols []*ipc.Protocol, described *introspect.DescriptionT) string {
	h := greeting{protocols: protocols}
	if described != nil {
		for _, p := range described.Protocols {
			if t := p.Topic; t != nil {
				h.topics = append(h.topics, greetedTopic{&ipc.Protocol{Name: p.Name,
					Fingerprint: p.Fingerprint}, int(t.Depth), int(t.MaxMessage)})
			}
		}
	}
	return h.shape()
}
