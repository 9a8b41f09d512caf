package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file keeps the connections of a Client: a connector for each endpoint of the resolver's
// target dials until it has a link, and again when the link has ended.

// A clientLink is a connection to an endpoint. It is the [EpochSource] of its requests: it returns
// the last epoch in which the endpoint was the server.
type clientLink struct {
	endpoint  Endpoint
	conn      *Conn
	epoch     atomic.Uint64
	wasServer bool // the endpoint was the server; guarded by the Client's mu
	// replaced is set before the client closes conn since another process is the server.
	replaced atomic.Bool
}

// Epoch implements EpochSource.
func (l *clientLink) Epoch() uint64 { return l.epoch.Load() }

// String names the server in errors.
func (l *clientLink) String() string {
	return fmt.Sprintf("%s (pid %d)", l.endpoint.Name, l.conn.Peer().PID)
}

// explain returns err, of an operation on the connection, with the reason why the client has closed
// the connection. The user of a [Client] has closed nothing.
func (l *clientLink) explain(err error) error {
	e, ok := err.(*Error)
	if !ok || !l.replaced.Load() || e.Remote || e.Code != CodeUnavailable {
		return err
	}
	told := *e
	told.Err = nil
	told.Msg = fmt.Sprintf("the server %v was lost, and another has taken its place", l)
	return &told
}

// usable reports whether the connection takes calls.
func (l *clientLink) usable() bool { return l.conn.calls.closed.Load() == nil }

// A connector keeps the connection to one endpoint, until its context ends.
type connector struct {
	endpoint Endpoint
	ctx      context.Context
	cancel   context.CancelFunc
	retry    chan struct{} // receives a value when it is worth trying again
	lastErr  error         // of the last attempt to connect; guarded by the Client's mu
}

// watchResolver asks the resolver for the server after each change, until the client is closed.
func (c *Client) watchResolver() {
	for c.ctx.Err() == nil {
		err := c.resolver.Watch(c.ctx, c.resolverChanged)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		c.mu.Lock()
		c.watchErr = err
		c.mu.Unlock()
		c.resolverChanged()
		select {
		case <-time.After(sys.CheckPeriod):
		case <-c.ctx.Done():
		}
	}
}

// resolverChanged asks the resolver for the server, and makes the connectors try again.
func (c *Client) resolverChanged() {
	c.resolve()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.connectors {
		select {
		case k.retry <- struct{}{}:
		default: // it has been told
		}
	}
}

// resolve asks the resolver for the server, and starts and stops connectors accordingly.
func (c *Client) resolve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	old := c.target
	t := c.resolver.Resolve()
	t.Endpoint = named(t.Endpoint)
	c.target = t
	wanted := make(map[string]Endpoint, len(t.Warm)+1)
	for _, e := range t.Warm {
		e = named(e)
		wanted[e.Name] = e
	}
	if t.Channel != "" {
		wanted[t.Name] = t.Endpoint
	}
	for name, k := range c.connectors {
		if wanted[name] != k.endpoint {
			k.cancel()
			delete(c.connectors, name)
		}
	}
	for name, e := range wanted {
		if c.connectors[name] == nil && e.Channel != "" {
			c.startConnector(e)
		}
	}
	if t.Name != old.Name || t.Epoch != old.Epoch || (t.Down == nil) != (old.Down == nil) {
		c.updateCurrent()
	}
}

// named returns e with a name.
func named(e Endpoint) Endpoint {
	if e.Name == "" {
		e.Name = e.Channel
	}
	return e
}

// startConnector starts a connector. The caller must hold c.mu.
func (c *Client) startConnector(e Endpoint) {
	k := &connector{endpoint: e, retry: make(chan struct{}, 1)}
	k.ctx, k.cancel = context.WithCancel(c.ctx)
	c.connectors[e.Name] = k
	c.tasks.Go(func() {
		defer k.cancel()
		for delay := shortestRetry; k.ctx.Err() == nil; {
			began := time.Now()
			if c.connectOnce(k) && time.Since(began) > delay {
				delay = shortestRetry
				continue
			}
			pause := time.NewTimer(sys.Jitter(delay))
			select {
			case <-pause.C:
				delay = min(2*delay, longestRetry)
			case <-k.retry:
				delay = shortestRetry
			case <-k.ctx.Done():
			}
			pause.Stop()
		}
	})
}

// connectOnce connects to an endpoint and waits until the connection takes no more calls. A process
// that the resolver no longer names may still answer calls that it has taken, so a connection is
// closed only when the client is closed or another process is the server.
func (c *Client) connectOnce(k *connector) (connected bool) {
	c.mu.Lock()
	k.lastErr = nil
	c.mu.Unlock()
	l := &clientLink{endpoint: k.endpoint}
	cfg := c.cfg.dial
	cfg.retry = nil // the client itself tries again
	if cfg.reply == "" {
		cfg.reply = k.endpoint.Reply
	}
	if cfg.epoch == nil {
		cfg.epoch = l
	}
	conn, err := dialChannel(k.ctx, k.endpoint.Channel, cfg)
	c.mu.Lock()
	if err != nil {
		k.lastErr = withoutOutcome(err)
		c.broadcast()
		c.mu.Unlock()
		return false
	}
	l.conn = conn
	c.links[l.endpoint.Name] = l
	c.open[l] = struct{}{}
	c.updateCurrent()
	c.mu.Unlock()
	select {
	case <-conn.Done():
	case <-conn.leaving:
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links[l.endpoint.Name] == l {
		delete(c.links, l.endpoint.Name)
	}
	c.updateCurrent()
	c.tasks.Go(func() { c.retire(l) })
	return true
}

// retire lets a connection answer the calls that the server has taken.
func (c *Client) retire(l *clientLink) {
	select {
	case <-l.conn.Done():
	case <-c.ctx.Done():
		l.conn.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, l)
}

// updateCurrent chooses the current connection and wakes the calls that wait for it. The caller
// must hold c.mu.
func (c *Client) updateCurrent() {
	var l *clientLink
	if c.target.Name != "" {
		l = c.links[c.target.Name]
	}
	if l != nil {
		l.epoch.Store(c.target.Epoch)
		l.wasServer = true
	}
	c.current.Store(l)
	for old := range c.open {
		if !old.wasServer || c.target.Name == "" || old.endpoint.Name == c.target.Name || c.closed {
			continue
		}
		// Another endpoint is the server now. The old one refuses requests that it has not
		// taken yet, and does not answer those that it has taken. So calls need not wait
		// until its connection ends.
		old.wasServer = false
		if c.links[old.endpoint.Name] == old {
			delete(c.links, old.endpoint.Name) // it must not be chosen again
		}
		old.replaced.Store(true)
		c.tasks.Go(func() { old.conn.Close() })
	}
	c.version.Add(1)
	c.broadcast()
}

// broadcast wakes the calls that wait for a change. The caller must hold c.mu.
func (c *Client) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// failFast returns the reason why a call must not wait any longer, or nil. here is true if there is
// a server. The caller must hold c.mu.
func (c *Client) failFast(here bool) error {
	if here {
		return nil
	}
	k := c.connectors[c.target.Name]
	switch {
	case c.target.Down != nil:
		return c.target.Down
	case k != nil && permanent(k.lastErr):
		return k.lastErr
	case c.cfg.patience == 0 && (k == nil || k.lastErr != nil):
		return c.absence()
	}
	return nil
}

// waitReason returns what a call waits for, and what delays it.
func (c *Client) waitReason() error {
	c.resolve() // Absent may have changed alone, which nothing tells of
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.absence()
	if c.watchErr != nil {
		return fmt.Errorf("%w (changes are noticed late: %w)", err, c.watchErr)
	}
	if trouble := sys.WatchTrouble(); trouble != nil {
		return fmt.Errorf("%w (changes are noticed late: %w)", err, trouble)
	}
	return err
}

// absence returns the reason why there is no server. The caller must hold c.mu.
func (c *Client) absence() error {
	k := c.connectors[c.target.Name]
	switch {
	case c.target.Absent != nil:
		return c.target.Absent
	case c.target.Name == "":
		return errors.New("there is no server")
	case k != nil && k.lastErr != nil:
		return fmt.Errorf("no connection to %s: %w", c.target.Name, k.lastErr)
	}
	return fmt.Errorf("no connection to %s yet", c.target.Name)
}
