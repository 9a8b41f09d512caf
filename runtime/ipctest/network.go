package ipctest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Network is a domain within this process. Its channels are visible only to users of the same
// Network. A Network is an option for [ipc.Listen] and [ipc.Dial], and for functions that pass
// options on to them. It needs no Close. It is safe for concurrent use.
type Network struct {
	ipc.RendezvousOption

	start     time.Time
	mu        sync.Mutex
	listeners map[string]*listener
	watchers  map[chan struct{}]string // by the channel's name; told when it is served
}

// NewNetwork returns a network without channels.
func NewNetwork() *Network {
	n := &Network{start: time.Now(), listeners: map[string]*listener{},
		watchers: map[chan struct{}]string{}}
	n.RendezvousOption = ipc.WithTransport(transport{net: n, self: thisProcess()})
	return n
}

// thisProcess returns the identity of ends for which the test has not chosen another.
func thisProcess() ipc.Peer {
	return ipc.Peer{PID: os.Getpid(), UID: os.Geteuid(), GID: os.Getegid()}
}

// Listen is like [ipc.Listen], in this network.
func (n *Network) Listen(channel string, opts ...ipc.ListenOption) (*ipc.Listener, error) {
	return ipc.Listen(channel, append(opts[:len(opts):len(opts)], n)...)
}

// Dial is like [ipc.Dial], in this network.
func (n *Network) Dial(ctx context.Context, channel string,
	opts ...ipc.DialOption) (*ipc.Conn, error) {
	return ipc.Dial(ctx, channel, append(opts[:len(opts):len(opts)], n)...)
}

// As returns an option that is like n, but gives the side that uses it the identity p. It serves
// tests of authorization, and of handlers that depend on their caller.
func (n *Network) As(p ipc.Peer) ipc.RendezvousOption {
	return ipc.WithTransport(transport{net: n, self: p})
}

// A transport is a network as one side sees it.
type transport struct {
	net    *Network
	self   ipc.Peer
	faults *Faults // between this side and the servers that it dials; nil for none
}

// Listen implements ipc.Transport.
func (t transport) Listen(channel string) (ipc.LinkListener, error) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if t.net.listeners[channel] != nil {
		return nil, &ipc.Error{Code: ipc.CodeAlreadyExists,
			Msg: fmt.Sprintf("channel %s is served in this network already; close the other "+
				"listener or choose another name", channel)}
	}
	l := &listener{net: t.net, self: t.self, channel: channel, wake: make(chan struct{}, 1)}
	t.net.listeners[channel] = l
	for told, name := range t.net.watchers {
		if name != channel {
			continue
		}
		select {
		case told <- struct{}{}:
		default: // the watcher will look anyway
		}
	}
	return l, nil
}

// Watch implements ipc.WatchableTransport.
func (t transport) Watch(ctx context.Context, channel string, changed func()) error {
	told := make(chan struct{}, 1)
	t.net.mu.Lock()
	t.net.watchers[told] = channel
	t.net.mu.Unlock()
	defer func() {
		t.net.mu.Lock()
		defer t.net.mu.Unlock()
		delete(t.net.watchers, told)
	}()
	for {
		changed()
		select {
		case <-told:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Dial implements ipc.Transport.
func (t transport) Dial(_ context.Context, channel string) (ipc.Link, error) {
	if t.faults != nil {
		if err := t.faults.refused(); err != nil {
			return nil, err
		}
	}
	t.net.mu.Lock()
	l := t.net.listeners[channel]
	t.net.mu.Unlock()
	if l == nil {
		return nil, nobody(channel)
	}
	atClient, atServer := newLinks(t.self, l.self, t.net.start)
	if !l.offer(atServer) {
		return nil, nobody(channel)
	}
	if t.faults != nil {
		return t.faults.between(atClient), nil
	}
	return atClient, nil
}

func nobody(channel string) error {
	return &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent,
		Msg: fmt.Sprintf("no process serves channel %s in this network; start the server first",
			channel)}
}

// A listener is a channel that is being served.
type listener struct {
	net     *Network
	self    ipc.Peer
	channel string
	wake    chan struct{} // receives a value when Accept must check again

	mu      sync.Mutex
	waiting []*link
	closed  bool
}

// offer queues the server's end of a link. It returns false after Close.
func (l *listener) offer(end *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.waiting = append(l.waiting, end)
	l.poke()
	return true
}

func (l *listener) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // Accept will check anyway
	}
}

// Accept implements ipc.LinkListener.
func (l *listener) Accept() (ipc.Link, error) {
	for {
		if end, err := l.next(); end != nil || err != nil {
			return end, err
		}
		<-l.wake
	}
}

func (l *listener) next() (ipc.Link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, os.ErrClosed
	}
	if len(l.waiting) == 0 {
		return nil, nil
	}
	end := l.waiting[0]
	l.waiting = l.waiting[1:]
	return end, nil
}

// Close implements ipc.LinkListener. It closes the connections of clients that wait to be accepted.
func (l *listener) Close() error {
	l.net.mu.Lock()
	delete(l.net.listeners, l.channel)
	l.net.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, end := range l.waiting {
		end.Close()
	}
	l.waiting = nil
	l.poke()
	return nil
}
