package ipctest

import (
	"context"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Faults break the connections that are dialled through them. Faults are an option for [ipc.Dial]
// and for functions that pass options on to it, as a [Network] is. Without further calls they
// change nothing.
//
// The methods act on messages: requests, replies, errors that answer a request, one-way messages,
// and the openings, items and ends of streaming calls, in the order in which they reach the relay
// between the two sides. A stream of structs is memory that both sides share, so only
// [Faults.Refuse] and [Faults.Cut] affect it. The items of a streaming call are numbered, so the
// loss of one is an error of the connection. When a server ends, calls that have not reached it are
// not executed, and fail with [ipc.NotExecuted], unless a fault has lost them.
//
// The methods are safe for concurrent use, do not block, and take effect before they return.
type Faults struct {
	ipc.RendezvousOption

	mu     sync.Mutex
	refuse error
	lanes  [2]lane // by Direction
	relays map[*relay]struct{}
}

// A Direction is one of the two directions of a connection.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// An Action is the treatment of one message.
type Action int

// The actions.
const (
	// Deliver passes the message on unchanged.
	Deliver Action = iota
	// Drop discards the message.
	Drop
	// Duplicate delivers the message twice.
	Duplicate
	// Corrupt inverts all bytes of the message's body, so that its verification fails.
	Corrupt
	// Break replaces the message by a record that no peer may send. The receiver ends the
	// connection with [ipc.CodeCorrupt].
	Break
	// Cut cuts the connection instead of delivering the message; see [Faults.Cut].
	Cut
	// Hold holds the message and all later ones; see [Faults.Hold].
	Hold
)

// A lane has the rules and the count of one direction. Faults.mu guards it.
type lane struct {
	held  bool
	delay time.Duration
	count int            // messages so far
	plan  map[int]Action // by the count of the message
}

// Faulty returns Faults for connections in n. Pass them to clients in place of n.
func (n *Network) Faulty() *Faults {
	f := &Faults{relays: map[*relay]struct{}{}}
	for i := range f.lanes {
		f.lanes[i].plan = map[int]Action{}
	}
	f.RendezvousOption = ipc.WithTransport(transport{net: n, self: thisProcess(), faults: f})
	return f
}

// Dial is like [ipc.Dial], through the faults.
func (f *Faults) Dial(ctx context.Context, channel string,
	opts ...ipc.DialOption) (*ipc.Conn, error) {
	return ipc.Dial(ctx, channel, append(opts[:len(opts):len(opts)], f)...)
}

// Refuse makes every later Dial fail with err, as if err came from the transport. With nil, later
// Dials succeed again.
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

// Cut cuts all connections. Each side finds that its peer has died. Messages that have not arrived
// are lost. Later Dials succeed.
func (f *Faults) Cut() {
	f.mu.Lock()
	relays := f.relays
	f.relays = map[*relay]struct{}{}
	f.mu.Unlock()
	for r := range relays {
		r.cut()
	}
}

// Hold stops the messages of direction d until [Faults.Release], as if the receiver did not read
// any more. The messages stay in the sender's ring. Once the ring is full the sender blocks or
// fails, as configured. The notice that the sender has closed the connection waits behind the
// messages.
func (f *Faults) Hold(d Direction) { f.change(d, func(l *lane) { l.held = true }) }

// Release ends [Faults.Hold].
func (f *Faults) Release(d Direction) { f.change(d, func(l *lane) { l.held = false }) }

// Delay makes every later message of direction d arrive after an additional delay. The order of the
// messages does not change.
func (f *Faults) Delay(d Direction, by time.Duration) {
	f.change(d, func(l *lane) { l.delay = by })
}

// At chooses the treatment of one message of direction d: the n-th from now, where 1 is the next
// one.
func (f *Faults) At(d Direction, n int, a Action) {
	f.change(d, func(l *lane) { l.plan[l.count+max(n, 1)] = a })
}

// Passed returns the number of messages of direction d that have reached the relay and were not
// held.
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

// change applies a change to the rules and makes all relays check them.
func (f *Faults) change(d Direction, rule func(*lane)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rule(f.lane(d))
	for r := range f.relays {
		r.wake()
	}
}

// holds reports whether the next record must wait. inside is true if the record belongs to a
// message of which a part has passed.
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

// decide counts a message and returns its treatment.
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

// between puts a relay in front of the client's end of a link, and returns the end that the client
// gets instead.
func (f *Faults) between(toServer *link) *link {
	atClient, toClient := newLinks(toServer.self, toServer.peer, toServer.start)
	r := &relay{faults: f, client: toClient, server: toServer}
	f.mu.Lock()
	f.relays[r] = struct{}{}
	f.mu.Unlock()
	go r.readClient()
	go r.readServer()
	go r.handle(r.client, r.server)
	go r.handle(r.server, r.client)
	return atClient
}

func (f *Faults) forget(r *relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.relays, r)
}
