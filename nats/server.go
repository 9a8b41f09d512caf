package natsipc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Server executes what clients of a channel send. Several servers of one channel, on any
// machines, share the calls. Its methods are safe for concurrent use.
type Server struct {
	backend
	nc        *nats.Conn
	channel   string
	place     place
	set       settings
	name      string                   // of this one
	protocols map[string]*ipc.Protocol // of services and topics
	topics    map[string]published     // by name

	ctx    context.Context // of handlers
	cancel context.CancelCauseFunc
	status chan nats.Status
	tasks  sync.WaitGroup
	over   chan struct{} // closed when the server has ended
	drains chan struct{} // closed when it begins to shut down

	workers workers
	service micro.Service
	subs    []*nats.Subscription

	mu       sync.Mutex
	calls    map[string]*served  // by the client's subject
	numbered map[uint64]*served  // those of which a client has been told a subject
	boxes    map[string]*mailbox // by client
	lost     tombstones
	draining bool
	closed   bool
	empty    chan struct{} // closed when nothing is left, if not nil
	counts   counts
}

// A backend is what executes the calls of a server: a Handler, or the other side of a gateway.
type backend struct {
	carrier ipc.Carrier
	served  []*ipc.Protocol
	limits  ipc.Limits
	health  func(ctx context.Context, protocol string) (ipc.Health, error)
}

// handling returns the backend that runs the handlers of services.
func handling(opts []ipc.ServerOption) (*backend, error) {
	h, err := ipc.NewHandler(opts...)
	if err != nil {
		return nil, err
	}
	return &backend{h, h.Protocols(), h.Limits(), func(_ context.Context,
		protocol string) (ipc.Health, error) {
		return h.Health(protocol)
	}}, nil
}

// ErrServerClosed is the cause of contexts of handlers that a server has ended.
var ErrServerClosed = errors.New("natsipc: the server is closed")

// Serve starts a server of services at a channel, and returns when it takes calls. ctx bounds the
// start alone; contexts of handlers carry its values. The connection nc remains the caller's; see
// [Dial] for how it must have been made. The server ends with [Server.Shutdown] or [Server.Close],
// and when nc is closed.
//
// Of the options of [ipc.NewServer], those of [ipc.NewHandler] have an effect, and
// [ipc.WithMaxMessage], [ipc.WithStreamingWindow] and [ipc.WithHealth].
func Serve(ctx context.Context, nc *nats.Conn, channel string, opts ...ipc.ServerOption) (*Server,
	error) {
	b, err := handling(opts)
	if err == nil {
		var s *Server
		if s, err = serve(ctx, nc, channel, opts, b); err == nil {
			return s, nil
		}
	}
	return nil, at("serve "+channel, err)
}

func serve(ctx context.Context, nc *nats.Conn, channel string, opts []ipc.ServerOption,
	b *backend) (*Server, error) {
	if err := usable(nc); err != nil {
		return nil, err
	}
	s := &Server{backend: *b, nc: nc, channel: channel, set: take(opts), name: nuid.Next(),
		over: make(chan struct{}), drains: make(chan struct{}),
		protocols: map[string]*ipc.Protocol{}, calls: map[string]*served{},
		numbered: map[uint64]*served{}, boxes: map[string]*mailbox{},
		topics: map[string]published{}, workers: workers{calls: make(chan *served)}}
	var err error
	if s.place, err = placeOf(s.set.prefix, channel); err != nil {
		return nil, err
	}
	if err := s.set.check(); err != nil {
		return nil, err
	}
	if s.set.topics != nil {
		if err := usable(s.set.topics); err != nil {
			told := *err.(*ipc.Error)
			told.Msg = "the connection of topics: " + told.Msg
			return nil, &told
		}
	}
	for _, p := range s.served {
		s.protocols[p.Name] = p
	}
	if err := s.addTopics(topicsOf(opts)); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.status = nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	s.tasks.Go(s.watch)
	if err := s.subscribe(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// subscribe makes the server reachable.
func (s *Server) subscribe(ctx context.Context) error {
	since := ask.Now(s.nc)
	for subject, take := range map[string]nats.MsgHandler{
		s.place.at(s.name) + ".*": s.takeOwn,
		s.place.cancels():         s.takeCancel,
	} {
		sub, err := s.nc.Subscribe(subject, take)
		if err != nil {
			return sendFailed(err)
		}
		s.keep(sub)
	}
	shared := []string{s.place.health()}
	for name := range s.topics {
		shared = append(shared, s.place.recent(name))
	}
	for _, subject := range shared {
		sub, err := s.nc.QueueSubscribe(subject, queue, s.takeRequest)
		if err != nil {
			return sendFailed(err)
		}
		s.keep(sub)
	}
	if err := s.register(); err != nil {
		return err
	}
	if err := flush(ctx, s.nc); err != nil {
		return sendFailed(err)
	}
	if err := since.Denied(string(s.place) + "."); err != nil {
		return &ipc.Error{Code: ipc.CodePermissionDenied, Outcome: ipc.NotSent, Err: err,
			Msg: "the user may not subscribe to the subjects of the channel"}
	}
	s.publishTopics()
	return nil
}

// flushing is the limit of a flush whose context has none: NATS flushes with no other.
const flushing = time.Minute

// bounded returns ctx, with a limit if it has no deadline.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// flush waits until NATS has taken what was sent, and has told what of it is forbidden.
func flush(ctx context.Context, nc *nats.Conn) error {
	ctx, stop := bounded(ctx, flushing)
	defer stop()
	return nc.FlushWithContext(ctx)
}

func (s *Server) keep(sub *nats.Subscription) {
	// What waits there is bounded by credit, and by the limit of calls.
	_ = sub.SetPendingLimits(-1, -1)
	s.subs = append(s.subs, sub)
}

// takeOwn takes what is for this server alone.
func (s *Server) takeOwn(m *nats.Msg) {
	token := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if token == "call" {
		s.takeRequest(m)
		return
	}
	n, err := strconv.ParseUint(token, 10, 64)
	if err != nil {
		return
	}
	s.mu.Lock()
	x := s.numbered[n]
	s.mu.Unlock()
	switch {
	case x == nil: // over
	case len(m.Data) == 0 && m.Header.Get("Status") == "503":
		x.stop(ipc.CodeCanceled, 0, errors.New("the client is gone"))
	default:
		x.receive(m.Data)
	}
}

// takeCancel learns of a call that its client has ended.
func (s *Server) takeCancel(m *nats.Msg) {
	c, ok := parseCancellation(m.Data)
	if !ok {
		return
	}
	s.mu.Lock()
	x := s.calls[c.reply]
	if x == nil && len(c.reply) <= longestReply && s.set.answers(c.reply) {
		s.lost.add(c.reply) // it may come yet
	}
	s.mu.Unlock()
	if x != nil {
		x.stop(c.code, c.taken, nil)
	}
}

// takeRequest takes the first message of a call.
func (s *Server) takeRequest(m *nats.Msg) { s.take(m.Reply, m.Header, m.Data) }

func (s *Server) take(reply string, header nats.Header, data []byte) {
	if !s.set.answers(reply) {
		s.counts.refuse()
		return // nobody learns of it
	}
	refuse := func(why error, again string) {
		s.refuse(reply, why.(*ipc.Error), again)
	}
	if len(header[headCall]) > 0 {
		refuse(incompatible("client", 1, "server"), "")
		return
	}
	r, protocol, compared, body, err := parseRequest(data)
	if err != nil {
		refuse(err, "")
		return
	}
	x := &served{server: s, request: r, protocol: s.protocols[string(protocol)], reply: reply,
		body: body}
	if x.metadata, err = getMetadata(header); err != nil {
		refuse(&ipc.Error{Code: ipc.CodeCorrupt, Outcome: ipc.NotExecuted, Err: err}, "")
		return
	}
	if why, again := s.check(x, protocol, compared); why != nil {
		refuse(why, again)
		return
	}
	x.init(s.nc, s.limits)
	x.bound(s.ctx)
	if why, again := s.enter(x); why != nil {
		x.release()
		if why != errForgotten {
			refuse(why, again)
		}
		return
	}
	if r.kind == kindNote {
		s.post(x)
		return
	}
	s.workers.execute(x)
}

// errForgotten stands for a call that its client has ended before it came.
var errForgotten = &ipc.Error{Code: ipc.CodeCanceled}

// check returns why a request is refused, and whether it is worth while to send it again.
func (s *Server) check(x *served, protocol []byte, compared fingerprints) (why *ipc.Error,
	again string) {
	if size := x.request.size; int(size) > s.limits.MaxMessage {
		return &ipc.Error{Code: ipc.CodeTooLarge, Outcome: ipc.NotExecuted, Msg: fmt.Sprintf(
			"a message of %d bytes; the limit is %d", size, s.limits.MaxMessage)}, ""
	}
	p := x.protocol
	if len(protocol) == 0 || p != nil && compared.has(p.Fingerprint) {
		return nil, ""
	}
	if p == nil {
		return &ipc.Error{Code: ipc.CodeUnimplemented, Outcome: ipc.NotExecuted, Msg: fmt.Sprintf(
			"the server does not serve protocol %.200s; it serves %s", protocol, s.names())}, ""
	}
	return &ipc.Error{Code: ipc.CodeIncompatible, Outcome: ipc.NotExecuted, Msg: "the server has " +
			"another version of protocol " + p.Name}, againSchema + " " +
			strconv.FormatUint(p.Fingerprint, 16)
}

// names lists the protocols for people.
func (s *Server) names() string {
	var names []string
	for name := range s.protocols {
		names = append(names, name)
	}
	if names == nil {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// refuse answers a request that is not executed.
func (s *Server) refuse(reply string, why *ipc.Error, again string) {
	s.counts.refuse()
	a := answer{code: why.Code, outcome: why.Outcome, server: s.name}
	out := &nats.Msg{Subject: reply, Data: []byte(text(why)),
		Header: nats.Header{headCall: {a.header()}}}
	if again != "" {
		out.Header[headAgain] = []string{again}
	}
	_ = s.nc.PublishMsg(out) // its client learns of the connection's end by itself
}

// text returns the text of an error for the other side.
func text(err *ipc.Error) string {
	switch {
	case err.Err == nil:
		return err.Msg
	case err.Msg == "":
		return err.Err.Error()
	}
	return err.Msg + ": " + err.Err.Error()
}

// enter adds a call.
func (s *Server) enter(x *served) (why *ipc.Error, again string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost.take(x.reply):
		return errForgotten, ""
	case s.draining && !x.request.kind.untilClosed():
		return &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted,
			Msg: "the server is shutting down"}, againDraining
	case len(s.calls) >= s.set.calls:
		return &ipc.Error{Code: ipc.CodeResourceExhausted, Outcome: ipc.NotExecuted,
			Msg: fmt.Sprintf("the server has %d calls, its limit; see natsipc.WithMaxCalls",
				len(s.calls))}, ""
	case s.calls[x.reply] != nil:
		return &ipc.Error{Code: ipc.CodeCorrupt, Outcome: ipc.NotExecuted,
			Msg: "the client has used a subject twice"}, ""
	}
	s.calls[x.reply] = x
	return nil, ""
}

// leave removes a call.
func (s *Server) leave(x *served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, x.reply)
	if x.number != 0 {
		delete(s.numbered, x.number)
	}
	s.whenEmpty()
}

// whenEmpty tells Shutdown when nothing is left. The caller must hold s.mu.
func (s *Server) whenEmpty() {
	if s.empty != nil && len(s.calls) == 0 && len(s.boxes) == 0 {
		close(s.empty)
		s.empty = nil
	}
}

// inFlight returns the calls.
func (s *Server) inFlight() []*served {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*served, 0, len(s.calls))
	for _, x := range s.calls {
		all = append(all, x)
	}
	return all
}

// watch tells clients of calls that take long that the server still has them, and ends calls when
// the connection to NATS is lost, for their clients have given them up.
func (s *Server) watch() {
	tick := time.NewTicker(s.set.beat)
	defer tick.Stop()
	status := s.status
	for {
		select {
		case _, ok := <-status:
			if !ok {
				status = nil
			}
			for _, x := range s.inFlight() {
				x.stop(ipc.CodeUnavailable, 0, errors.New("the connection to NATS was lost"))
			}
			if s.nc.IsClosed() {
				go s.Close()
			}
		case <-tick.C:
			for _, x := range s.inFlight() {
				x.beat(s.set.beat)
			}
		case <-s.over:
			return
		}
	}
}

// Shutdown ends the server gracefully. Other servers of the channel get further calls. Shutdown
// blocks until all calls are answered, and all one-way messages handled. If ctx is done before, it
// closes the server as Close does and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		close(s.drains)
	}
	var empty chan struct{}
	if !s.closed && len(s.calls)+len(s.boxes) > 0 {
		if s.empty == nil {
			s.empty = make(chan struct{})
		}
		empty = s.empty
	}
	s.mu.Unlock()
	if s.service != nil {
		_ = s.service.Stop() // fails if the connection is closed, which is as good
	}
	if empty != nil {
		select {
		case <-empty:
		case <-s.over:
		case <-ctx.Done():
			s.Close()
			return ctx.Err()
		}
	}
	s.Close()
	return nil
}

// Close ends the server at once. It cancels the contexts of running handlers, and does not wait for
// them. At the clients, calls in flight end with CodeUnavailable and OutcomeUnknown. Close may be
// called again.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.over
		return nil
	}
	s.closed = true
	if !s.draining {
		s.draining = true
		close(s.drains)
	}
	s.mu.Unlock()
	if s.service != nil {
		_ = s.service.Stop()
	}
	for _, sub := range s.subs {
		_ = sub.Unsubscribe()
	}
	for _, x := range s.inFlight() { // before their handlers can answer that they were cancelled
		x.abort()
	}
	s.cancel(ErrServerClosed)
	_ = s.nc.FlushTimeout(time.Second) // so that clients know, if they can
	close(s.over)
	s.tasks.Wait()
	s.nc.RemoveStatusListener(s.status)
	return nil
}

// Done returns a channel that is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.over }

// tombstones are the subjects of calls whose end came before they did: the last ones.
type tombstones struct {
	all   map[string]struct{}
	order []string
}

const mostTombstones = 4096

// longestReply is how long the subject of a call may be that is kept. By default, NATS has no
// longer ones: a cancellation names it in its data, which is not bounded so.
const longestReply = 4 << 10

func (t *tombstones) add(reply string) {
	if t.all == nil {
		t.all = map[string]struct{}{}
	}
	if _, ok := t.all[reply]; ok {
		return
	}
	if len(t.order) == mostTombstones {
		delete(t.all, t.order[0])
		t.order = t.order[1:]
	}
	t.all[reply] = struct{}{}
	t.order = append(t.order, reply)
}

// take reports whether a call has ended before it came.
func (t *tombstones) take(reply string) bool {
	_, ok := t.all[reply]
	return ok
}
