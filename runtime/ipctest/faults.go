package ipctest

import (
	"context"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Faults break the connections that are dialled through them. They are an option for
// ipc.Dial and everything that passes options on to it, as a Network is. As long as
// nothing else is said, all goes through unchanged.
//
// Messages are requests, replies, errors that answer a request, and one-way
// messages, in the order in which they reach the relay between the two sides. Of a
// stream of blocks, which lies in place in memory that both sides share, only
// Refuse and Cut affect anything.
//
// The methods are safe for concurrent use, and take effect before they return.
type Faults struct {
	ipc.RendezvousOption

	mu     sync.Mutex
	refuse error
	lanes  [2]lane // by Direction
	relays map[*relay]struct{}
}

// A Direction is one of the two ways through a connection.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// An Action is what happens to one message.
type Action int

// The actions.
const (
	// Deliver passes the message on.
	Deliver Action = iota
	// Drop loses it.
	Drop
	// Duplicate delivers it twice.
	Duplicate
	// Corrupt inverts all bytes of its body, so that it fails verification.
	Corrupt
	// Break replaces it by what no peer may send. The receiver ends the connection
	// with CodeCorrupt.
	Break
	// Cut cuts the connection in its place; see Faults.Cut.
	Cut
	// Hold holds it, and whatever comes after it; see Faults.Hold.
	Hold
)

// A lane is what happens in one direction. Faults.mu guards it.
type lane struct {
	held  bool
	delay time.Duration
	count int            // messages so far
	plan  map[int]Action // by the count of the message
}

// Faulty returns an option that is like n for those who dial, with faults in the way.
func (n *Network) Faulty() *Faults {
	f := &Faults{relays: map[*relay]struct{}{}}
	for i := range f.lanes {
		f.lanes[i].plan = map[int]Action{}
	}
	f.RendezvousOption = ipc.WithTransport(transport{net: n, self: thisProcess(), faults: f})
	return f
}

// Dial is ipc.Dial through the faults.
func (f *Faults) Dial(ctx context.Context, channel string,
	opts ...ipc.DialOption) (*ipc.Conn, error) {
	return ipc.Dial(ctx, channel, append(opts[:len(opts):len(opts)], f)...)
}

// Refuse makes every later Dial fail with err, as if it came from the transport. nil lets
// them through again.
func (f *Faults) Refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = err
}

func (f *Faults) refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refuse
}

// Cut cuts all connections: each side finds that the other has died, and
// messages that have not arrived are lost.
func (f *Faults) Cut() {
	f.mu.Lock()
	relays := f.relays
	f.relays = map[*relay]struct{}{}
	f.mu.Unlock()
	for r := range relays {
		r.cut()
	}
}

// Hold lets no message of that direction through until Release, as if the
// receiver did not read any more. They stay in the sender's ring; once it is full,
// the sender waits or fails, as configured. The news that the sender has
// closed the connection waits behind them.
func (f *Faults) Hold(d Direction) { f.change(d, func(l *lane) { l.held = true }) }

// Release ends Hold.
func (f *Faults) Release(d Direction) { f.change(d, func(l *lane) { l.held = false }) }

// Delay makes every later message of that direction arrive that much later. Their
// order does not change.
func (f *Faults) Delay(d Direction, by time.Duration) {
	f.change(d, func(l *lane) { l.delay = by })
}

// At does something to one message of that direction: the n-th from now, where 1
// is the next one.
func (f *Faults) At(d Direction, n int, a Action) {
	f.change(d, func(l *lane) { l.plan[l.count+max(n, 1)] = a })
}

// Passed is how many messages of that direction have reached the relay, and
// were not held.
func (f *Faults) Passed(d Direction) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lane(d).count
}

func (f *Faults) lane(d Direction) *lane {
	if d == ToClient {
		return &f.lanes[ToClient]
	}
	return &f.lanes[ToServer]
}

// change changes the rules and makes all relays look at them.
func (f *Faults) change(d Direction, rule func(*lane)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rule(f.lane(d))
	for r := range f.relays {
		r.wake()
	}
}

// holds reports whether the next record may not pass. inside is true where
// it belongs to a message of which something has passed.
func (f *Faults) holds(d Direction, inside bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lane(d)
	if !inside && l.plan[l.count+1] == Hold {
		delete(l.plan, l.count+1)
		l.held = true
	}
	return l.held
}

// decide counts a message and says what happens to it.
func (f *Faults) decide(d Direction) Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lane(d)
	l.count++
	a := l.plan[l.count]
	delete(l.plan, l.count)
	return a
}

func (f *Faults) delay(d Direction) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lane(d).delay
}

// between puts a relay in front of the client's end of a link and returns the
// end for the client instead.
func (f *Faults) between(toServer *link) *link {
	atClient, toClient := newLinks(toServer.self, toServer.peer, toServer.start)
	r := &relay{faults: f, client: toClient, server: toServer}
	f.mu.Lock()
	f.relays[r] = struct{}{}
	f.mu.Unlock()
	go r.readClient()
	go r.readServer()
	go r.heed(r.client, r.server)
	go r.heed(r.server, r.client)
	return atClient
}

func (f *Faults) forget(r *relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.relays, r)
}
