package natsipc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Conn makes calls to the servers of a channel. Generated clients take it in place of an
// [ipc.Conn]. It is an [ipc.Caller] and an [ipc.Sender], and safe for concurrent use.
//
// Each call goes to any one of the servers. A Conn does not end with a server: a call that finds
// none fails with CodeUnavailable, not sent, and a later one may find another server. The one-way
// messages of a Conn go to one server as long as that is there, in their order.
type Conn struct {
	client *ipc.CarrierClient
	nc     *nats.Conn
	place  place
	set    settings
	limits ipc.Limits
	inbox  string
	made   ask.Mark // before the inbox

	requests string // where any of the servers takes them
	accepts  string // what the subjects of servers begin with

	sub    *nats.Subscription
	status chan nats.Status
	ticks  sync.WaitGroup
	over   chan struct{} // closed by Close
	ended  chan struct{} // closed when the connection to NATS is

	mu       sync.Mutex
	calls    map[string]*call
	next     uint64
	closed   bool
	longest  int                            // message that the servers take
	compared map[*ipc.Protocol]fingerprints // of the versions that a request names
	verdicts map[comparison]*ipc.Error      // of comparisons; nil: compatible

	binding chan struct{} // holds a value while a first one-way message looks for a server
	bound   string        // the server of one-way messages; guarded by mu
}

// A comparison is one of a protocol of this side with a version of the server's.
type comparison struct {
	protocol *ipc.Protocol
	theirs   uint64
}

// Dial returns a client of the servers of a channel, of which one must be there. ctx bounds Dial
// alone. The connection nc remains the caller's. It must have been made with
// nats.ReconnectBufSize(-1), as [Connect] does: otherwise what is sent while NATS is away would
// wait in its buffer, and be executed long after the call has failed.
//
// Servers send no one-way messages over NATS, so Dial refuses a service that would handle them. Of
// the other options of [ipc.Dial], those of [ipc.NewCarrierClient] have an effect, and
// [ipc.WithMaxMessage] and [ipc.WithStreamingWindow]; [ipc.WithRetry] has none.
func Dial(ctx context.Context, nc *nats.Conn, channel string, opts ...ipc.DialOption) (*Conn,
	error) {
	c, _, err := dial(ctx, nc, channel, "", opts)
	return c, err
}

// dial is Dial, with what the server says of itself that has the name, if it is there, or any one.
func dial(ctx context.Context, nc *nats.Conn, channel, server string, opts []ipc.DialOption) (
	c *Conn, h greeting, err error) {
	if c, err = newConn(nc, channel, opts); err == nil {
		if h, err = c.greetOne(ctx, server); err == nil {
			c.longest = min(c.longest, h.longest)
			return c, h, nil
		}
		c.Close()
	}
	return nil, h, at("dial "+channel, err)
}

// denied returns the error of a client whose user may not use a subject, as NATS has said since a
// mark, or may not hear answers, or nil.
func (c *Conn) denied(since ask.Mark, subject string) *ipc.Error {
	why := c.made.Denied(c.inbox)
	if why == nil {
		why = since.Denied(subject)
	}
	if why == nil {
		return nil
	}
	return &ipc.Error{Code: ipc.CodePermissionDenied, Outcome: ipc.NotSent, Err: why,
		Msg: "the user of the connection may not do what a client must; see " +
			"docs/beyond-one-machine.md for its permissions, and for its inbox"}
}

// newConn returns a client, for which there may be no server yet.
func newConn(nc *nats.Conn, channel string, opts []ipc.DialOption) (*Conn, error) {
	if err := usable(nc); err != nil {
		return nil, err
	}
	if err := noServices(opts); err != nil {
		return nil, err
	}
	c := &Conn{nc: nc, set: take(opts), inbox: nc.NewInbox(), made: ask.Now(nc),
		over: make(chan struct{}), ended: make(chan struct{}),
		calls: map[string]*call{}, compared: map[*ipc.Protocol]fingerprints{},
		verdicts: map[comparison]*ipc.Error{}, binding: make(chan struct{}, 1)}
	err := c.set.answered(nc)
	if err != nil {
		return nil, err
	}
	if c.place, err = placeOf(c.set.prefix, channel); err != nil {
		return nil, err
	}
	c.requests, c.accepts = c.place.calls(), c.place.at("")
	if c.client, err = ipc.NewCarrierClient(carrier{c}, opts...); err != nil {
		return nil, err
	}
	c.limits = c.client.Limits()
	c.longest = c.limits.MaxMessage
	if c.sub, err = nc.Subscribe(c.inbox+".>", c.dispatch); err != nil {
		return nil, sendFailed(err)
	}
	// What waits there is bounded by the credit of the calls.
	_ = c.sub.SetPendingLimits(-1, -1)
	c.status = nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	c.ticks.Go(c.watch)
	return c, nil
}

// noServices refuses services among the options of a client, which would handle messages of a
// server.
func noServices(opts []ipc.DialOption) error {
	for _, o := range opts {
		if s, ok := o.(*ipc.Service); ok && s != nil {
			return &ipc.Error{Code: ipc.CodeUnsupported, Outcome: ipc.NotSent,
				Msg: fmt.Sprintf("the client would handle messages of %s, and servers send none "+
					"over NATS; use a streaming method or a topic", s.Protocol().Name)}
		}
	}
	return nil
}

// at returns err with the operation that has failed.
func at(op string, err error) error {
	if e, ok := err.(*ipc.Error); ok {
		told := *e
		told.Op = op
		return &told
	}
	return &ipc.Error{Code: ipc.CodeOf(err), Op: op, Err: err}
}

// made returns an error if a connection was not made for calls.
func made(nc *nats.Conn) error {
	switch {
	case nc == nil:
		return invalid("the connection to NATS is nil; look at the error of nats.Connect")
	case nc.Opts.ReconnectBufSize >= 0:
		return &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotSent,
			Msg: "the connection to NATS keeps what is sent while it is down, and sends it " +
				"later; make it by natsipc.Connect, or with nats.ReconnectBufSize(-1)"}
	}
	return nil
}

// usable returns an error if a connection cannot carry calls.
func usable(nc *nats.Conn) error {
	if err := made(nc); err != nil {
		return err
	}
	switch {
	case !nc.IsConnected():
		return &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent, Err: lastError(nc),
			Msg: "there is no connection to NATS"}
	case !nc.HeadersSupported():
		return &ipc.Error{Code: ipc.CodeUnsupported, Outcome: ipc.NotSent,
			Msg: "the NATS server has no headers; run version 2.2 or later, with headers"}
	}
	return nil
}

// lastError returns why a connection to NATS is down.
func lastError(nc *nats.Conn) error {
	if err := nc.LastError(); err != nil {
		return err
	}
	return nats.ErrConnectionClosed
}

// Invoke implements [ipc.Caller].
func (c *Conn) Invoke(ctx context.Context, call ipc.Call) error {
	return c.client.Invoke(ctx, call)
}

// Send implements [ipc.Sender]. It returns nil when a server has the message in its memory. The
// messages of a client are handled one after the other. While many wait there, Send waits too.
func (c *Conn) Send(ctx context.Context, post ipc.Post) error { return c.client.Send(ctx, post) }

// Health asks one of the servers for its health, as [ipc.Conn.Health] does. With an error it is
// [ipc.HealthNotServing].
func (c *Conn) Health(ctx context.Context, protocol string) (ipc.Health, error) {
	in := &ipc.Inbound{Body: []byte(protocol)}
	out, err := c.ask(ctx, in, kindHealth, c.place.health())
	if err == nil && len(out.Body) != 1 {
		err = corrupt("an answer of %d bytes", len(out.Body))
	}
	if err != nil {
		return ipc.HealthNotServing, at("call health", err)
	}
	return ipc.Health(out.Body[0]), nil
}

// Close ends the client. Calls in flight end with CodeUnavailable, and their handlers learn of it.
// The connection to NATS goes on. Close may be called again.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	calls := c.inFlight()
	c.mu.Unlock()
	close(c.over)
	for _, x := range calls {
		x.cancel(ipc.CodeCanceled)
		x.fail(&ipc.Error{Code: ipc.CodeUnavailable, Msg: "the client is closed"})
	}
	c.ticks.Wait()
	c.nc.RemoveStatusListener(c.status)
	_ = c.sub.Unsubscribe() // fails if the connection is closed, which is as good
	return nil
}

// inFlight returns the calls. The caller must hold c.mu.
func (c *Conn) inFlight() []*call {
	all := make([]*call, 0, len(c.calls))
	for _, x := range c.calls {
		all = append(all, x)
	}
	return all
}

// failAll ends the calls in flight that are of a kind.
func (c *Conn) failAll(err *ipc.Error, which func(*call) bool) {
	c.mu.Lock()
	calls := c.inFlight()
	c.mu.Unlock()
	for _, x := range calls {
		if which(x) {
			x.fail(err)
		}
	}
}

// watch ends calls whose answer will not come: those in flight when the connection to NATS is lost,
// and those of which their server says nothing for too long.
func (c *Conn) watch() {
	// A beat counts if this process has run meanwhile. While it stands still it hears nobody, and
	// no clock says whose silence that was.
	began, beat := time.Now(), time.NewTimer(c.set.beat)
	defer beat.Stop()
	status := c.status
	for {
		select {
		case _, ok := <-status:
			if !ok || c.nc.IsClosed() { // nothing else will come
				status = nil
				close(c.ended)
			}
			c.failAll(&ipc.Error{Code: ipc.CodeUnavailable, Err: c.nc.LastError(),
				Msg: "the connection to NATS was lost"}, func(*call) bool { return true })
		case <-beat.C:
			if time.Since(began) < 2*c.set.beat {
				c.failAll(&ipc.Error{Code: ipc.CodeUnavailable, Msg: fmt.Sprintf(
					"nothing was heard of the server for %v", patience*c.set.beat)},
					(*call).missed)
			}
			began = time.Now()
			beat.Reset(c.set.beat)
		case <-c.over:
			return
		}
	}
}

// dispatch is the callback of the client's inbox.
func (c *Conn) dispatch(m *nats.Msg) {
	id, frames := strings.CutSuffix(m.Subject[len(c.inbox)+1:], ".f")
	c.mu.Lock()
	x := c.calls[id]
	c.mu.Unlock()
	if x == nil {
		return // late
	}
	if !frames {
		x.conclude(m)
		return
	}
	x.receive(m.Data)
}

// A call is one in flight.
type call struct {
	link
	conn  *Conn
	reply string      // its subject
	id    string      // the last token of that
	begun atomic.Bool // it was sent
	last  *nats.Msg
	tasks sync.WaitGroup // that use the body of the request
}

// conclude takes in the last message of the call, or the word that no server is there.
func (x *call) conclude(m *nats.Msg) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hear()
	if x.last == nil {
		x.last, x.complete = m, true
	}
	stir(x.stirred)
}

// cancel tells the servers that the call is over.
func (x *call) cancel(code ipc.Code) {
	if !x.begun.Load() {
		return
	}
	c := cancellation{code, x.takenItems(), x.reply}
	_ = x.nc.Publish(x.conn.place.cancels(), c.encode()) // otherwise its server learns by itself
}

// begin returns a new call, which the caller must end.
func (c *Conn) begin() (*call, *ipc.Error) {
	x := &call{conn: c}
	x.init(c.nc, c.limits)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent,
			Msg: "the client is closed"}
	}
	c.next++
	var buf [64]byte
	reply := append(append(buf[:0], c.inbox...), '.')
	x.reply = string(strconv.AppendUint(reply, c.next, 36))
	x.id = x.reply[len(reply):]
	x.gone, x.accepts = x.reply, c.accepts
	c.calls[x.id] = x
	return x, nil
}

func (x *call) end() {
	x.finish()
	x.tasks.Wait()
	x.spare()
	x.conn.mu.Lock()
	delete(x.conn.calls, x.id)
	x.conn.mu.Unlock()
}

// carrier is the Conn as what carries the calls of its client.
type carrier struct{ *Conn }

// attempts is how often a call is sent that servers refuse for a reason that may pass.
const attempts = 4

// Handle implements [ipc.Carrier].
func (c carrier) Handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
	out, err := c.handle(ctx, in)
	if err != nil {
		return out, err
	}
	return out, nil
}

func (c carrier) handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, *ipc.Error) {
	c.mu.Lock()
	longest := c.longest
	c.mu.Unlock()
	if len(in.Body) > longest {
		return ipc.Outbound{}, &ipc.Error{Code: ipc.CodeTooLarge, Outcome: ipc.NotSent,
			Msg: fmt.Sprintf("a message of %d bytes; the limit is %d; see ipc.WithMaxMessage",
				len(in.Body), longest)}
	}
	if in.OneWay {
		return c.post(ctx, in)
	}
	kind := kindCall
	switch {
	case in.In != nil && in.Out != nil:
		kind = kindBoth
	case in.In != nil:
		kind = kindIn
	case in.Out != nil:
		kind = kindOut
	}
	return c.try(ctx, in, kind, func() string { return c.requests }, nil)
}

// post sends a one-way message to the server that has the earlier ones.
func (c carrier) post(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, *ipc.Error) {
	c.mu.Lock()
	bound := c.bound
	c.mu.Unlock()
	if bound == "" {
		select {
		case c.binding <- struct{}{}:
			defer func() { <-c.binding }()
		case <-ctx.Done():
			return ipc.Outbound{}, contextError(ctx, ipc.NotSent)
		}
	}
	subject := func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bound != "" {
			return c.place.own(c.bound)
		}
		return c.requests
	}
	return c.try(ctx, in, kindNote, subject, func(server string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bound = server
	})
}

// A refusal says that a server has not executed a call, which may be sent once more.
type refusal struct {
	reason, server string
	theirs         uint64 // with againSchema
}

// try makes a call, and makes it again if it was refused for a reason that may have passed. bind is
// nil, or is told which server has taken it.
func (c carrier) try(ctx context.Context, in *ipc.Inbound, kind kind, subject func() string,
	bind func(server string)) (out ipc.Outbound, err *ipc.Error) {
	for range attempts {
		var x exchanged
		to := subject()
		x, err = c.exchangeOnce(ctx, in, kind, to)
		out = x.Outbound
		if err == nil {
			if bind != nil {
				bind(x.server)
			}
			return out, nil
		}
		nobody := bind != nil && x.nobody && to != c.requests
		if nobody || bind != nil && x.again.reason == againDraining {
			bind("") // another one may be there
			if nobody {
				continue
			}
		}
		switch x.again.reason {
		case againSchema:
			if why := c.compare(ctx, in.Protocol, x.again); why != nil {
				return out, why
			}
		case againDraining:
		default:
			return out, err
		}
	}
	return out, err
}

// ask makes a request of this package.
func (c *Conn) ask(ctx context.Context, in *ipc.Inbound, kind kind,
	subject string) (ipc.Outbound, error) {
	if ctx.Err() != nil {
		return ipc.Outbound{}, contextError(ctx, ipc.NotSent)
	}
	x, err := c.exchangeOnce(ctx, in, kind, subject)
	if err != nil {
		return x.Outbound, err
	}
	return x.Outbound, nil
}

// An exchanged is what has become of a request.
type exchanged struct {
	ipc.Outbound
	server string
	nobody bool // no server was there
	again  refusal
}

func contextError(ctx context.Context, o ipc.Outcome) *ipc.Error {
	return &ipc.Error{Code: ipc.CodeOf(ctx.Err()), Outcome: o}
}

// exchangeOnce sends a request, and waits for the end of the call.
func (c *Conn) exchangeOnce(ctx context.Context, in *ipc.Inbound, kind kind,
	subject string) (out exchanged, err *ipc.Error) {
	x, err := c.begin()
	if err != nil {
		return out, err
	}
	defer x.end()
	if kind.asks() {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop() // of what heeds NATS
	}
	if err := x.launch(ctx, in, kind, subject); err != nil {
		return out, err
	}
	var body []byte
	begun := false // a handler has given an item
	for {
		a, state := x.take()
		switch {
		case ctx.Err() != nil && state != noMore:
			x.cancel(ipc.CodeOf(ctx.Err()))
			return out, contextError(ctx, ipc.OutcomeUnknown)
		case state == item && in.Out != nil:
			begun = true
			if !in.Out(a.body) {
				x.cancel(ipc.CodeCanceled)
				return out, &ipc.Error{Code: ipc.CodeCanceled, Msg: "the client has left the call"}
			}
			x.took(a)
		case state == item:
			body = a.body
			x.took(a)
		case state == noMore:
			out, err = x.outbound(body)
			if begun && err != nil && err.Outcome != ipc.Executed {
				err.Outcome = ipc.OutcomeUnknown // whatever the server says
			}
			return out, err
		case state == broken:
			err := *x.why()
			if err.Code != ipc.CodeUnavailable {
				x.cancel(ipc.CodeCanceled)
			}
			err.Taken = max(err.Taken, x.known.Load())
			return out, &err
		default:
			select {
			case <-x.stirring():
			case <-ctx.Done():
			}
		}
	}
}

// heed ends a question if NATS says that the user of the connection may not send it, or not hear
// the answer. Otherwise the client would wait until the server counts as gone. Calls need no heed:
// they have the subject of the question with which the client has begun.
func (x *call) heed(ctx context.Context, since ask.Mark, subject string) {
	if flush(ctx, x.nc) != nil {
		return
	}
	if err := x.conn.denied(since, subject); err != nil {
		x.begun.Store(false) // no server has it
		x.fail(err)
	}
}

// launch sends the first message of a call, and begins to send what follows it.
func (x *call) launch(ctx context.Context, in *ipc.Inbound, kind kind, subject string) *ipc.Error {
	c := x.conn
	r := request{kind: kind, method: in.Method, seq: in.Seq, budget: -1, epoch: in.Epoch,
		window: uint32(min(x.window, math.MaxUint32)), longest: uint32(x.longest)}
	if d, ok := ctx.Deadline(); ok {
		r.budget = max(time.Until(d), 0)
	}
	var protocol string
	var compared fingerprints
	if p := in.Protocol; p != nil {
		protocol, compared = p.Name, c.comparedWith(p)
	}
	var since ask.Mark
	if kind.asks() {
		since = ask.Now(c.nc)
	}
	x.begun.Store(true)
	err := r.publish(c.nc, subject, x.reply, protocol, compared, in.Metadata, in.Body)
	pieces := errors.Is(err, nats.ErrMaxPayload) && len(in.Body) > 0
	if pieces {
		r.size = uint32(len(in.Body))
		err = r.publish(c.nc, subject, x.reply, protocol, compared, in.Metadata, nil)
	}
	if err != nil {
		x.begun.Store(false)
		return sendFailed(err)
	}
	switch {
	case in.In != nil:
		go x.sendItems(ctx, in)
	case pieces:
		x.tasks.Go(func() { _ = x.sendBody(ctx, in.Body, true) })
	}
	if kind.asks() {
		x.tasks.Go(func() { x.heed(ctx, since, subject) })
	}
	return nil
}

// sendItems sends the items of the client.
func (x *call) sendItems(ctx context.Context, in *ipc.Inbound) {
	if x.awaitOpen(ctx) != nil {
		return // a call that is refused may be made once more
	}
	for item, err := range in.In {
		if err == nil {
			err = x.sendBody(ctx, item, false)
		}
		if err == nil {
			continue
		}
		if err == errOver {
			return
		}
		var e *ipc.Error
		if !errors.As(err, &e) {
			e = sendFailed(err)
		}
		told := *e
		told.Outcome = ipc.OutcomeUnknown // the call has begun
		x.fail(&told)
		return
	}
	_ = x.send(frameClose, false, nil)
}

// longestText is how much of an error's text a client takes.
const longestText = 4 << 10

// outbound returns the result of a call that its last message ends. body came before, in pieces.
func (x *call) outbound(body []byte) (out exchanged, err *ipc.Error) {
	x.mu.Lock()
	m, accepted, got := x.last, x.to != "", uint64(x.got)
	x.mu.Unlock()
	if m == nil {
		return out, corrupt("the server has sent a frame that only clients send")
	}
	out.Owned = true // NATS has made memory for it
	if len(m.Header) == 0 && got == 0 {
		if body == nil {
			body = m.Data
		}
		out.Body = body
		return out, nil
	}
	if m.Header.Get("Status") == "503" && len(m.Data) == 0 {
		if accepted {
			return out, &ipc.Error{Code: ipc.CodeUnavailable, Taken: x.known.Load(),
				Msg: "the server that had the call is gone"}
		}
		out.nobody = true
		return out, &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent,
			Err: nats.ErrNoResponders, Msg: "there is no server at " + string(x.conn.place) +
				"; start one, or compare the prefixes and the servers of NATS"}
	}
	a, failed := answer{}, error(nil)
	if h := m.Header.Get(headCall); h != "" {
		a, failed = parseAnswer(h)
	}
	if failed == nil {
		out.Metadata, failed = getMetadata(m.Header)
	}
	if failed == nil && a.frames != got {
		failed = lost("%d frames came of %d", got, a.frames)
	}
	if failed != nil {
		return out, failed.(*ipc.Error)
	}
	out.Epoch, out.Taken, out.server = a.epoch, a.taken, a.server
	if a.code == ipc.CodeOK {
		if out.Body = m.Data; body != nil {
			out.Body = body
		}
		return out, nil
	}
	err = &ipc.Error{Code: a.code, Outcome: a.outcome, Remote: true, Taken: a.taken,
		Msg: strings.ToValidUTF8(string(m.Data[:min(len(m.Data), longestText)]), "\uFFFD")}
	// A server that has taken the call has not refused it: what came would come once more.
	if h := m.Header.Get(headAgain); h != "" && got == 0 {
		f := fields{rest: h}
		out.again = refusal{reason: f.next(), server: a.server, theirs: f.uint(16, 64)}
	}
	return out, err
}
