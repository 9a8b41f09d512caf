package natsipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// This file carries topics. A server publishes each message of its publishers once, and NATS takes
// it to all subscribers. What a subscriber misses it sees by the numbers of the messages.

// A published is a topic that a server publishes: by a [topic.Publisher], or a [topic.Relay].
type published interface {
	Info() (*topic.Info, error)
	Options() topic.Options
	Follow(ctx context.Context, history int,
		f func(life topic.Life, message []byte, a topic.Arrival) error) error
	Recent(ctx context.Context, history int,
		f func(life topic.Life, message []byte, a topic.Arrival) error) (topic.Life, uint64, error)
}

// topicsOf returns the topics among the options of a server.
func topicsOf(opts []ipc.ServerOption) (all []published) {
	for _, o := range opts {
		switch p := o.(type) {
		case published:
			all = append(all, p)
		case interface{ Bytes() *topic.Publisher }:
			all = append(all, p.Bytes())
		}
	}
	return all
}

// addTopics adds topics to what the server serves.
func (s *Server) addTopics(publishers []published) error {
	for _, p := range publishers {
		info, err := p.Info()
		if err != nil {
			return err
		}
		name := info.Protocol.Name
		if s.protocols[name] != nil {
			return invalid("%s is served twice", name)
		}
		s.protocols[name], s.topics[name] = info.Protocol, p
	}
	return nil
}

// greetedTopics returns what the server says of its topics.
func (s *Server) greetedTopics() (all []greetedTopic) {
	for name, p := range s.topics {
		o := p.Options()
		all = append(all, greetedTopic{s.protocols[name], o.Depth, o.MaxMessage})
	}
	slices.SortFunc(all, func(a, b greetedTopic) int {
		return strings.Compare(a.protocol.Name, b.protocol.Name)
	})
	return all
}

// publishTopics begins to publish what the publishers do, and have kept: a subscription that is
// older than its publisher gets all of that. Others know by the numbers what they have had.
func (s *Server) publishTopics() {
	for name, p := range s.topics {
		out := &outlet{server: s, nc: s.set.topicsOver(s.nc), subject: s.place.topic(name),
			protocol: s.protocols[name]}
		s.tasks.Go(func() { _ = p.Follow(s.ctx, math.MaxInt32, out.publish) })
	}
}

// An outlet publishes the messages of one topic.
type outlet struct {
	server   *Server
	nc       *nats.Conn
	subject  string
	protocol *ipc.Protocol
}

// publish publishes a message, in pieces if it must. What NATS does not take is lost, as its
// subscribers see.
func (o *outlet) publish(life topic.Life, message []byte, a topic.Arrival) error {
	h := heading{fingerprint: o.protocol.Fingerprint, server: o.server.name, life: life.ID,
		first: life.First, number: a.Number, epoch: a.Epoch, published: a.Published.UnixNano(),
		total: len(message)}
	const headers = 512 // more than the heading takes
	for {
		n := min(len(message)-h.offset, max(int(o.nc.MaxPayload())-headers, 1))
		if o.nc.PublishMsg(&nats.Msg{Subject: o.subject, Data: message[h.offset:][:n],
			Header: nats.Header{headCall: {h.encode()}}}) != nil {
			return nil
		}
		if h.offset += n; h.offset == len(message) {
			return nil
		}
	}
}

// A heading is the header of a message of a topic, or of a piece of it.
type heading struct {
	fingerprint   uint64
	server        string
	life          uint64
	first, number uint64 // of the publisher's messages; of this one
	epoch         uint64
	published     int64
	offset, total int // of the piece; of the message
}

func (h *heading) encode() string {
	return fmt.Sprintf("%d %x %s %x %d %d %d %d %d %d", version, h.fingerprint, h.server, h.life,
		h.first, h.number, h.epoch, h.published, h.offset, h.total)
}

func parseHeading(s string) (h heading, ok bool) {
	f := fields{rest: s}
	if f.uint(10, 8) != version {
		return h, false
	}
	h.fingerprint, h.server = f.uint(16, 64), f.next()
	h.life, h.first = f.uint(16, 64), f.uint(10, 64)
	h.number, h.epoch = f.uint(10, 63), f.uint(10, 64)
	h.published = int64(f.uint(10, 63))
	h.offset, h.total = int(f.uint(10, 31)), int(f.uint(10, 31))
	return h, !f.bad && h.first <= h.number && isServer(h.server)
}

// recent answers a request for the messages that a publisher keeps.
func (x *served) recent() error {
	name := ""
	if x.protocol != nil {
		name = x.protocol.Name
	}
	p := x.server.topics[name]
	if p == nil {
		return &ipc.Error{Code: ipc.CodeNotFound, Outcome: ipc.Executed,
			Msg: "the server has no topic " + name}
	}
	n, err := strconv.Atoi(string(x.body))
	if err != nil {
		return &ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotExecuted, Err: err}
	}
	var b []byte
	life, next, err := p.Recent(&x.ctx, n, func(life topic.Life, message []byte,
		a topic.Arrival) error {
		b = b[:0]
		for _, n := range []uint64{life.ID, life.First, a.Number, a.Epoch,
			uint64(a.Published.UnixNano())} {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		if b = append(b, message...); !x.giveBody(b) {
			return context.Canceled
		}
		return nil
	})
	if err == nil {
		b = binary.LittleEndian.AppendUint64(b[:0], life.ID)
		x.giveBody(binary.LittleEndian.AppendUint64(b, next))
	}
	return err
}

// Topics returns the source of the topics that servers of a channel publish: generated functions
// subscribe to it. A subscription may be made before there is a server.
//
// A subscription is lossy, or to the latest message. A publisher does not wait for subscribers on
// other machines, so [topic.Lossless] is refused with CodeFailedPrecondition.
func Topics(nc *nats.Conn, channel string, opts ...ipc.DialOption) topic.FeedSource {
	return &source{nc, channel, opts}
}

type source struct {
	nc      *nats.Conn
	channel string
	opts    []ipc.DialOption
}

// LinkSource implements [topic.Source].
func (s *source) LinkSource() (*ipc.LinkSource, error) {
	return nil, &ipc.Error{Code: ipc.CodeUnsupported, Outcome: ipc.NotSent,
		Msg: "NATS carries topics, and no other links"}
}

// Feed implements [topic.FeedSource].
func (s *source) Feed(ctx context.Context, info *topic.Info,
	o topic.SubscribeOptions) (topic.Feed, error) {
	if o.Policy == topic.Lossless {
		return nil, &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotSent,
			Msg: "a publisher waits for no subscriber over NATS; subscribe without Lossless"}
	}
	c, err := newConn(s.nc, s.channel, s.opts)
	if err != nil {
		return nil, err
	}
	f := &feed{conn: c, info: info, latest: o.Policy == topic.Latest,
		stirred: make(chan struct{}, 1)}
	if f.sub, err = s.nc.Subscribe(c.place.topic(info.Protocol.Name), f.take); err == nil {
		_ = f.sub.SetPendingLimits(-1, -1) // take is as fast as NATS
		err = flush(ctx, s.nc)
	}
	if err != nil {
		f.Close()
		return nil, sendFailed(err)
	}
	if err := c.denied(c.made, f.sub.Subject); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.begin(ctx, o.History); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// A feed is a subscription of a client.
type feed struct {
	conn   *Conn
	info   *topic.Info
	sub    *nats.Subscription
	latest bool // only the newest message matters

	stirred chan struct{}

	mu     sync.Mutex
	queue  []message
	bytes  int
	newest *message
	parts  message // of a message that comes in pieces
	closed bool

	met  bool       // the subscriber knows a publisher
	life uint64     // of the one that it has heard last
	seen []position // of the publishers that it has heard last, at most mostSeen
}

// A position is how far the subscriber has come with the messages of a publisher.
type position struct{ life, next uint64 }

// mostSeen is how many publishers of a topic a subscription tells from new ones. While one server
// takes the place of another, both publish.
const mostSeen = 16

// position returns how far the subscriber has come with a publisher.
func (f *feed) position(life uint64) (next uint64, known bool) {
	for _, p := range f.seen {
		if p.life == life {
			return p.next, true
		}
	}
	return 0, false
}

// come says how far the subscriber has come with a publisher, which is the one that it has heard
// last.
func (f *feed) come(life, next uint64) {
	f.seen = slices.DeleteFunc(f.seen, func(p position) bool { return p.life == life })
	if len(f.seen) == mostSeen {
		f.seen = f.seen[1:]
	}
	f.seen = append(f.seen, position{life, next})
	f.met, f.life = true, life
}

// A message is one that has come.
type message struct {
	heading
	body []byte
}

// How much a subscription keeps that is not read yet.
const (
	mostMessages = 4096
	mostBytes    = 32 << 20
)

// take is the callback of the subscription.
func (f *feed) take(m *nats.Msg) {
	h, ok := parseHeading(m.Header.Get(headCall))
	if !ok {
		return // something else publishes there
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := message{h, m.Data}
	if len(m.Data) != h.total {
		if p, ok = f.piece(h, m.Data); !ok {
			return
		}
	}
	f.put(p)
}

// piece takes in a piece of a message. ok is true with the last one. The caller must hold f.mu.
func (f *feed) piece(h heading, data []byte) (p message, ok bool) {
	switch {
	case h.total > f.conn.limits.MaxMessage:
		return p, false
	case h.offset == 0:
		f.parts = message{h, make([]byte, 0, min(h.total, 1<<20))}
	case h.life != f.parts.life || h.number != f.parts.number || h.offset != len(f.parts.body) ||
		h.total != f.parts.total:
		return p, false // a piece is lost, and so the message
	}
	f.parts.body = append(f.parts.body, data...)
	if len(f.parts.body) < h.total {
		return p, false
	}
	p, f.parts = f.parts, message{}
	return p, true
}

// put keeps a message, and gives up the oldest ones if there are too many. The caller must hold
// f.mu.
func (f *feed) put(p message) {
	f.newest = &p
	f.queue = append(f.queue, p)
	f.bytes += len(p.body)
	for len(f.queue) > 1 && (f.latest || len(f.queue) > mostMessages || f.bytes > mostBytes) {
		f.drop()
	}
	stir(f.stirred)
}

// drop removes the oldest message. The caller must hold f.mu.
func (f *feed) drop() (p message) {
	p = f.queue[0]
	f.queue[0] = message{}
	f.queue = f.queue[1:]
	f.bytes -= len(p.body)
	return p
}

// begin gets messages from before the subscription, which are those that the publisher keeps. The
// subscription begins behind the last one that there is when the publisher answers. Only servers
// that publish the topic are asked, so that its number is the one that messages go on with.
func (f *feed) begin(ctx context.Context, history int) error {
	p := f.past(history)
	subject := f.conn.place.recent(f.info.Protocol.Name)
	_, err := carrier{f.conn}.try(ctx, &ipc.Inbound{Protocol: f.info.Protocol,
		Body: strconv.AppendInt(nil, int64(p.wanted), 10), Out: p.take}, kindRecent,
		func() string { return subject }, nil)
	switch {
	case err == nil:
	case err.Code == ipc.CodeUnavailable && (err.Remote || errors.Is(err, nats.ErrNoResponders)):
		return nil // there is no publisher yet
	default:
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(p.all); n > 0 && (f.newest == nil || f.newest.life == p.life) &&
		(f.newest == nil || f.newest.number < p.next) {
		f.newest = &p.all[n-1]
	}
	later := slices.DeleteFunc(f.queue, func(m message) bool {
		return m.life == p.life && m.number < p.next
	})
	keep := min(history, len(p.all))
	if f.latest {
		if keep = min(1, len(p.all)); len(later) > 0 {
			keep = 0
		}
	}
	past := p.all[len(p.all)-keep:]
	begins := p.next
	if keep > 0 {
		begins = past[0].number
	}
	f.come(p.life, begins)
	f.queue, f.bytes = append(past[:keep:keep], later...), 0
	for _, m := range f.queue {
		f.bytes += len(m.body)
	}
	stir(f.stirred)
	return nil
}

// A past is what a publisher has kept.
type past struct {
	protocol *ipc.Protocol
	wanted   int
	all      []message
	bytes    int
	life     uint64 // of the publisher
	next     uint64 // number of its next message
}

func (f *feed) past(history int) *past {
	return &past{protocol: f.info.Protocol, // one at least, for Latest
		wanted: min(max(history, 1), mostMessages)}
}

// take takes an item of the answer of a publisher.
func (p *past) take(b []byte) bool {
	if len(b) == 16 {
		p.life, p.next = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		return true
	}
	if len(b) < 40 {
		return false
	}
	h := heading{fingerprint: p.protocol.Fingerprint,
		life: binary.LittleEndian.Uint64(b), first: binary.LittleEndian.Uint64(b[8:]),
		number:    binary.LittleEndian.Uint64(b[16:]),
		epoch:     binary.LittleEndian.Uint64(b[24:]),
		published: int64(binary.LittleEndian.Uint64(b[32:])), total: len(b) - 40}
	p.all = append(p.all, message{h, slices.Clone(b[40:])})
	p.bytes += h.total
	for len(p.all) > 1 && (len(p.all) > p.wanted || p.bytes > mostBytes) {
		p.bytes -= p.all[0].total
		p.all = p.all[1:]
	}
	return h.first <= h.number
}

// Next implements [topic.Feed].
func (f *feed) Next(ctx context.Context, buf []byte) ([]byte, topic.Arrival, error) {
	for {
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			return buf, topic.Arrival{}, &ipc.Error{Code: ipc.CodeUnavailable,
				Msg: "the subscription is closed"}
		}
		if len(f.queue) > 0 {
			p := f.drop()
			f.mu.Unlock()
			a, ok, err := f.accept(ctx, p)
			if err != nil {
				return buf, a, err
			}
			if ok {
				return append(buf[:0], p.body...), a, nil
			}
			continue
		}
		f.mu.Unlock()
		select {
		case <-f.stirred:
		case <-f.conn.ended:
			return buf, topic.Arrival{}, &ipc.Error{Code: ipc.CodeUnavailable,
				Err: nats.ErrConnectionClosed, Msg: "the connection to NATS"}
		case <-ctx.Done():
			return buf, topic.Arrival{}, contextError(ctx, ipc.NotExecuted)
		}
	}
}

// accept says of a message what its subscriber learns. ok is false for one that it has had.
func (f *feed) accept(ctx context.Context, p message) (a topic.Arrival, ok bool, err error) {
	if err := f.compare(ctx, p); err != nil {
		return a, false, err
	}
	a = topic.Arrival{Number: p.number, Epoch: p.epoch, Published: time.Unix(0, p.published),
		Break: f.met && p.life != f.life}
	next, known := f.position(p.life)
	switch {
	case !known: // all of its messages came since the subscription began
		a.Lost = p.number - p.first
	case p.number < next:
		return a, false, nil
	default:
		a.Lost = p.number - next
	}
	f.come(p.life, p.number+1)
	return a, true, nil
}

// compare compares the publisher's version of the messages with the subscriber's.
func (f *feed) compare(ctx context.Context, p message) error {
	own := f.info.Protocol
	if p.fingerprint == own.Fingerprint || f.conn.comparedWith(own).has(p.fingerprint) {
		return nil
	}
	err := f.conn.compare(ctx, own, refusal{server: p.server, theirs: p.fingerprint})
	if err != nil {
		return err
	}
	return nil
}

// Latest implements [topic.Feed].
func (f *feed) Latest(ctx context.Context, buf []byte) ([]byte, topic.Arrival, bool, error) {
	f.mu.Lock()
	p := f.newest
	f.mu.Unlock()
	if p == nil {
		return buf, topic.Arrival{}, false, nil
	}
	if err := f.compare(ctx, *p); err != nil {
		return buf, topic.Arrival{}, false, err
	}
	return append(buf[:0], p.body...), topic.Arrival{Number: p.number, Epoch: p.epoch,
		Published: time.Unix(0, p.published)}, true, nil
}

// Close implements [topic.Feed].
func (f *feed) Close() error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	stir(f.stirred)
	var err error
	if f.sub != nil {
		err = f.sub.Unsubscribe()
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = nil
	}
	return errors.Join(err, f.conn.Close())
}
