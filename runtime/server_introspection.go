package ipc

import (
	"cmp"
	"context"
	"errors"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file is what a server answers to tools that ask about it.

// ownRoutes returns the routes by which a server tells of itself: to everybody its health, and to
// tools the rest.
func ownRoutes(g gate, tools bool) routeTable {
	all := []*boundRoute{
		ownRoute(g, KindHealth, methodCheckHealth, (*serverConn).checkHealth),
	}
	if tools {
		all = append(all,
			introspecting(g, methodDescribe, (*serverConn).describe),
			introspecting(g, methodReadDefinition, (*serverConn).readDefinition),
			introspecting(g, methodReadCounters, (*serverConn).readCounters),
			introspecting(g, methodOpenTap, (*serverConn).openTap),
			introspecting(g, methodReadTap, (*serverConn).readTap),
			introspecting(g, methodCloseTap, (*serverConn).closeTap))
	}
	t := routeTable{make([]*boundRoute, 2<<bits.Len(uint(len(all))))}
	for _, r := range all {
		at, _ := t.probe(r.id)
		t.places[at] = r
	}
	return t
}

// introspecting binds a method of introspection to f, behind the gate and WithIntrospection.
func introspecting[Req, Rep any](g gate, m *Method[Req, Rep],
	f func(*serverConn, context.Context, *Req) (*Rep, error)) *boundRoute {
	return ownRoute(g, KindIntrospection, m,
		func(c *serverConn, ctx context.Context, req *Req) (*Rep, error) {
			if err := c.mayIntrospect(); err != nil {
				return nil, err
			}
			return f(c, ctx, req)
		})
}

// ownRoute binds a method of the server's own to f, behind the gate.
func ownRoute[Req, Rep any](g gate, kind Kind, m *Method[Req, Rep],
	f func(*serverConn, context.Context, *Req) (*Rep, error)) *boundRoute {
	route := Handle(m, nil)
	b := newBoundRoute(introspection, &route.codec)
	b.introspects = true
	b.call = func(x *execution, req any, _ uint64) (any, error) {
		c := x.carrier.(*job).conn // no Handler has such routes
		p := &passage{x: x}
		call := b.serverCall(p)
		call.Kind, call.Request = kind, req
		err := p.run(g, x.context, call, func(ctx context.Context) error {
			rep, err := f(c, ctx, req.(*Req))
			call.Reply = rep
			return err
		})
		return x.replyOf(call, err)
	}
	return b
}

// mayIntrospect applies WithIntrospection to the client.
func (c *serverConn) mayIntrospect() error {
	allow := c.srv.cfg.introspect
	err := protect(c.log, "WithIntrospection", func() error { return allow(c.peer) })
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Code: CodePermissionDenied, Outcome: NotExecuted, Err: err}
}

// ownUser is the default of WithIntrospection.
func ownUser(p Peer) error {
	if p.UID != os.Geteuid() {
		return &Error{Code: CodePermissionDenied, Outcome: NotExecuted, Msg: "the server tells " +
			"of itself to processes of its own user; WithIntrospection may allow others"}
	}
	return nil
}

// modulePath is the module that has this package.
const modulePath = "github.com/ipcgen/ipcgen"

func (c *serverConn) describe(context.Context, *introspect.DescribeT) (
	*introspect.DescriptionT, error) {
	s, cfg := c.srv, &c.srv.cfg
	d := &introspect.DescriptionT{
		Go: runtime.Version(), Pid: uint32(os.Getpid()), Started: s.started.UnixNano(),
		Fenced: cfg.fence != nil, TrustedClients: cfg.trusted, Recycling: cfg.recycle,
		Interceptors: uint32(len(cfg.interceptors)),
		Limits: &introspect.LimitsT{
			RingToServer: uint64(cfg.toServer), RingToClient: uint64(cfg.toClient),
			MaxMessage: uint64(cfg.longest()), MaxCalls: uint32(cfg.maxCalls),
			MaxConns: uint32(cfg.maxConns), MaxStreamMemory: uint64(cfg.maxStreams),
			MaxMessageMemory: uint64(cfg.maxMemory),
		},
	}
	if cfg.fence != nil {
		d.Epoch = cfg.fence.Epoch()
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		d.Program, d.Version = info.Path, info.Main.Version
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == modulePath {
				d.Runtime = m.Version
			}
		}
	}
	definitions := s.definitions()
	for _, text := range definitions {
		d.Definitions = append(d.Definitions, uint32(len(text)))
	}
	for _, p := range s.allProtocols() {
		told := &introspect.ProtocolT{Name: p.Name, Fingerprint: p.Fingerprint,
			Definition: int32(slices.Index(definitions, p.Definition)), Stream: p.stream}
		if p.kind != nil && p.kind.Describe != nil {
			told.Topic = p.kind.Describe()
		}
		d.Protocols = append(d.Protocols, told)
	}
	return d, nil
}

// definitions returns the definitions of the server's protocols, each once.
func (s *Server) definitions() (texts []string) {
	for _, p := range s.allProtocols() {
		if p.Definition != "" && !slices.Contains(texts, p.Definition) {
			texts = append(texts, p.Definition)
		}
	}
	return texts
}

// A servedProtocol is a protocol with the way in which a server serves it.
type servedProtocol struct {
	*Protocol
	stream bool
	kind   *LinkKind // nil unless it is served by links
}

// allProtocols returns the protocols of the server's services, streams and topics.
func (s *Server) allProtocols() (all []servedProtocol) {
	all = s.handler.served()
	for _, r := range s.cfg.streams {
		if !slices.ContainsFunc(all, func(p servedProtocol) bool {
			return p.Protocol == r.info.Protocol
		}) {
			all = append(all, servedProtocol{Protocol: r.info.Protocol, stream: true})
		}
	}
	for _, k := range s.cfg.kinds {
		all = append(all, servedProtocol{Protocol: k.Protocol, kind: k})
	}
	return all
}

// longestPart is how much of a definition one reply has.
const longestPart = 256 << 10

func (c *serverConn) readDefinition(_ context.Context, req *introspect.ReadDefinitionT) (
	*introspect.DefinitionPartT, error) {
	texts := c.srv.definitions()
	if uint64(req.Definition) >= uint64(len(texts)) {
		return nil, Errorf(CodeNotFound, "the server has %d definitions, and no number %d",
			len(texts), req.Definition)
	}
	text := texts[req.Definition]
	text = text[min(len(text), int(req.Offset)):]
	n := min(len(text), longestPart, max(1, c.tx.limit-around))
	return &introspect.DefinitionPartT{Data: []byte(text[:n])}, nil
}

func (c *serverConn) readCounters(context.Context, *introspect.ReadCountersT) (
	*introspect.CountersT, error) {
	s := c.srv
	since := s.lookout.count(&s.handler.routes)
	s.mu.Lock()
	sum, clients, memory := s.ended, len(s.conns), s.streamBytes
	conns := make([]*serverConn, 0, clients)
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	inFlight := 0
	var processes clientProcesses
	running := make(map[*boundRoute]uint32)
	for _, other := range conns {
		stats := other.readStats()
		other.countRunning(running)
		inFlight += stats.CallsInFlight
		sum.add(&stats)
		processes.add(other, &stats, other == c)
	}
	all := &introspect.CountersT{
		At: time.Now().UnixNano(), Clients: uint32(clients), StreamsMemory: uint64(memory),
		MessagesMemory: uint64(max(0, s.messageBytes.Load())),
		CallsInFlight:  uint32(inFlight),
		Received:       sum.Received, ReceivedBytes: sum.ReceivedBytes,
		Sent: sum.Sent, SentBytes: sum.SentBytes, Dropped: sum.Dropped, Malformed: sum.Malformed,
		WaitsForRoom: sum.WaitsForRoom, Refused: s.refused.Load(), Corrupted: s.corrupted.Load(),
		Since: since.UnixNano(), Processes: processes.list(),
	}
	for _, r := range s.handler.routes.places {
		if r == nil {
			continue
		}
		if counts := r.counts.Load(); counts != nil {
			m := counts.read()
			m.Protocol, m.Name, m.Message = r.protocol.Name, r.name, r.receive != nil
			m.Streaming = r.stream != nil
			// What hangs has often begun before a tool asks, and was not counted.
			m.InFlight = max(m.InFlight, running[r])
			all.Methods = append(all.Methods, m)
		}
	}
	return all, nil
}

// add adds those counters of another connection that a server shows.
func (s *Stats) add(o *Stats) {
	s.Sent += o.Sent
	s.SentBytes += o.SentBytes
	s.Received += o.Received
	s.ReceivedBytes += o.ReceivedBytes
	s.Dropped += o.Dropped
	s.Malformed += o.Malformed
	s.WaitsForRoom += o.WaitsForRoom
}

// mostProcesses is how many processes of clients a server tells of.
const mostProcesses = 64

// clientProcesses sums up connections by the processes of the clients.
type clientProcesses struct {
	all   []*introspect.ClientProcessT
	byPID map[uint32]*introspect.ClientProcessT
}

// add adds a connection; asks is true of the one that asks.
func (p *clientProcesses) add(c *serverConn, stats *Stats, asks bool) {
	pid := uint32(c.peer.PID)
	one := p.byPID[pid]
	if one == nil {
		one = &introspect.ClientProcessT{Pid: pid}
		if p.byPID == nil {
			p.byPID = make(map[uint32]*introspect.ClientProcessT)
		}
		p.byPID[pid] = one
		p.all = append(p.all, one)
	}
	one.Connections++
	one.Asks = one.Asks || asks
	one.Waiting |= c.waits()
	one.CallsInFlight += uint32(stats.CallsInFlight)
	one.Received += stats.Received
	one.ReceivedBytes += stats.ReceivedBytes
	one.Sent += stats.Sent
	one.SentBytes += stats.SentBytes
	one.WaitsForRoom += stats.WaitsForRoom
}

// list returns the processes, those first that matter most.
func (p *clientProcesses) list() []*introspect.ClientProcessT {
	slices.SortFunc(p.all, func(a, b *introspect.ClientProcessT) int {
		rank := func(c *introspect.ClientProcessT) int {
			if c.Waiting != 0 || c.CallsInFlight > 0 {
				return 0
			}
			return 1
		}
		return cmp.Or(rank(a)-rank(b), cmp.Compare(b.Received+b.Sent, a.Received+a.Sent),
			cmp.Compare(a.Pid, b.Pid))
	})
	return p.all[:min(len(p.all), mostProcesses)]
}

// countRunning adds the calls of the connection that goroutines of their own run, by their methods.
func (c *serverConn) countRunning(by map[*boundRoute]uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.detached {
		by[j.route]++
	}
	for _, f := range c.streams {
		by[f.job.route]++
	}
}

// waits returns what waits now, of the client and the server.
func (c *serverConn) waits() (w introspect.Waiting) {
	if c.tx.hasWaiters() {
		w |= introspect.WaitingRoom
	}
	if c.full.Load() || c.refusing.Load() {
		w |= introspect.WaitingReplies
	}
	if c.paused.Load() {
		w |= introspect.WaitingMessages
	}
	return w
}
