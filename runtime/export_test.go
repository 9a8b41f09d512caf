package ipc

import (
	"context"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Raw is one side of a connection that keeps to no rules after the handshake: the test decides
// what it puts into its ring. It serves tests of what a peer can do to the other side.
type Raw struct {
	Link
	Seg *shm.Segment
	Out *shm.Producer
	In  *shm.Consumer

	longest int // payload of a record
}

// A RawHello is what a raw server offers.
type RawHello struct {
	ToServer, ToClient, MaxMessage, MaxCalls int

	Text string // descriptions; the first protocol has all of it
}

// RawOffer offers memory of whatever kind to the next client.
func RawOffer(l *Listener, h RawHello, memory shm.Memory) {
	defer memory.Close()
	link, err := l.links.Accept()
	if err != nil {
		return
	}
	defer link.Close()
	if _, err := readClientMessage(link); err != nil {
		return
	}
	geo := shm.Geometry{ToServer: h.ToServer, ToClient: h.ToClient}
	reply := serverHello{version: helloVersion, layout: shm.Version, geo: geo,
		maxMessage: uint32(h.MaxMessage), maxCalls: uint32(h.MaxCalls)}
	_ = finishHello(link, &reply, memory, geo.Size())
}

// RawAccept waits for the next client and shakes hands with it.
func RawAccept(l *Listener, h RawHello, protocols ...*Protocol) (*Raw, error) {
	link, err := l.links.Accept()
	if err != nil {
		return nil, err
	}
	if err := link.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := readClientMessage(link); err != nil {
		return nil, err
	}
	geo := shm.Geometry{ToServer: h.ToServer, ToClient: h.ToClient, Text: len(h.Text)}
	memory, err := link.NewMemory(geo.Size())
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	reply := serverHello{version: helloVersion, layout: shm.Version, geo: geo,
		maxMessage: uint32(h.MaxMessage), maxCalls: uint32(h.MaxCalls),
		window: DefaultStreamingWindow, maxStreaming: DefaultMaxStreamingCalls}
	for _, p := range protocols {
		reply.protocols = append(reply.protocols,
			protocolID{name: p.Name, fingerprint: p.Fingerprint, len: uint32(len(h.Text))})
	}
	seg, err := shm.NewSegment(memory, geo)
	if err != nil {
		return nil, err
	}
	copy(seg.Text(), h.Text)
	if err := finishHello(link, &reply, memory, geo.Size()); err != nil {
		link.Close()
		seg.Close()
		return nil, err
	}
	return newRaw(link, seg, seg.ToClient(), geo.ToClient, seg.ToServer(), geo.ToServer)
}

// RawStall connects to a server, sends the hello of a client, and then sends nothing more.
func RawStall(ctx context.Context, channel string, opts ...DialOption) (Link, error) {
	cfg := dialConfig{common: commonDefaults()}
	for _, o := range opts {
		o.applyDial(&cfg)
	}
	link, _, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, err
	}
	_, memory, err := negotiate(ctx, link, cfg, clientHelloOf(channel, cfg))
	if err != nil {
		link.Close()
		return nil, err
	}
	return link, memory.Close()
}

// RawMemory, if it is set, sees the memory of what RawDial connects before the handshake ends.
var RawMemory func(shm.Memory, *shm.Segment)

// RawDial connects to a server.
func RawDial(ctx context.Context, channel string, opts ...DialOption) (*Raw, error) {
	cfg := dialConfig{common: commonDefaults()}
	for _, o := range opts {
		o.applyDial(&cfg)
	}
	link, _, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, err
	}
	hello, memory, err := negotiate(ctx, link, cfg, clientHelloOf(channel, cfg))
	if err != nil {
		link.Close()
		return nil, err
	}
	defer memory.Close()
	seg, err := shm.MapSegment(memory, hello.geo)
	if err != nil {
		return nil, err
	}
	if RawMemory != nil {
		RawMemory(memory, seg)
	}
	if err := link.Send(verdict{}.encode()); err != nil {
		return nil, err
	}
	if err := link.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newRaw(link, seg, seg.ToServer(), hello.geo.ToServer, seg.ToClient(), hello.geo.ToClient)
}

func newRaw(link Link, seg *shm.Segment, out []byte, outLen int, in []byte,
	inLen int) (*Raw, error) {
	p, err := shm.NewProducer(out, outLen)
	if err != nil {
		return nil, err
	}
	c, err := shm.NewConsumer(in, inLen)
	return &Raw{Link: link, Seg: seg, Out: p, In: c, longest: shm.MaxPayload(outLen)}, err
}

// Longest returns the length of the longest Body that a record of this side's ring can have,
// whatever its header.
func (r *Raw) Longest() int { return r.longest - record.RequestHeaderLen }

// A RawFrame is a record with a frame header; Raw ones have Body alone.
type RawFrame struct {
	Tag      uint32
	ID       uint64
	Epoch    uint64
	Method   uint32
	Code     Code
	Outcome  Outcome
	Seq      uint64
	Deadline int64
	Body     []byte
	Raw      bool
}

// Put publishes a record, unless there is no room for it. It panics if there never is: a test that
// waited for room would blame the other side.
func (r *Raw) Put(f RawFrame) (ok bool) {
	h := frame{kind: f.Tag & record.KindMask, id: f.ID, epoch: f.Epoch, method: f.Method,
		code: f.Code, outcome: f.Outcome, seq: f.Seq, deadline: f.Deadline}
	head := h.size()
	if f.Raw {
		head = 0
	}
	if n := head + len(f.Body); n > r.longest {
		panic(fmt.Sprintf("a record of %d bytes; the ring takes %d", n, r.longest))
	}
	dst, ok, err := r.Out.Reserve(head + len(f.Body))
	if !ok || err != nil {
		return false
	}
	if !f.Raw {
		h.put(dst)
	}
	copy(dst[head:], f.Body)
	if r.Out.Commit(f.Tag, len(dst)) {
		r.Notify()
	}
	return true
}

// Get returns the next record that has come, and gives its memory back.
func (r *Raw) Get() (f RawFrame, ok bool) {
	tag, rec, ok, err := r.In.Next()
	if !ok || err != nil {
		return f, false
	}
	var h frame
	if h.get(tag&record.KindMask, rec) == nil {
		f = RawFrame{ID: h.id, Epoch: h.epoch, Method: h.method, Code: h.code, Outcome: h.outcome,
			Seq: h.seq, Deadline: h.deadline}
		f.Body = append(f.Body, rec[h.size():]...)
	} else {
		f.Raw, f.Body = true, append(f.Body, rec...)
	}
	f.Tag = tag
	if r.In.Release() {
		r.Notify()
	}
	return f, true
}

// End closes the connection and unmaps its memory.
func (r *Raw) End() {
	r.Link.Close()
	r.Seg.Close()
}

// A RawStream is one side of a stream without any of the rules.
type RawStream struct {
	Link
	Mem []byte
	Geo shm.BlockGeometry

	Reads     bool // whether this side reads
	Overwrite bool

	unmap func([]byte) error
}

// RawStreamDial opens a stream as a client.
func RawStreamDial(ctx context.Context, channel string, info *StreamInfo, o StreamOptions,
	read bool, opts ...DialOption) (*RawStream, error) {
	s, mem, err := openStream(ctx, channel, info, o, read, opts)
	if err != nil {
		return nil, err
	}
	return &RawStream{Link: s.wire.(Link), Mem: mem, Geo: o.geometry(info), Reads: read,
		Overwrite: o.Policy == StreamOverwrite, unmap: s.unmap}, nil
}

// RawStreamAsk asks a server for a connection of a kind, 1 for a stream, with a policy, which need
// not exist.
func RawStreamAsk(ctx context.Context, channel string, info *StreamInfo, kind, policy uint32,
	opts ...DialOption) error {
	cfg, err := dialConfigOf(opts)
	if err != nil {
		return err
	}
	link, _, err := connect(ctx, channel, cfg)
	if err != nil {
		return err
	}
	defer link.Close()
	h := clientHelloOf(channel, cfg)
	h.protocols = []protocolID{{name: info.Protocol.Name, fingerprint: info.Protocol.Fingerprint}}
	h.stream = streamHello{open: kind, depth: 1, block: uint32(info.HeaderSize),
		policy: policy}
	_, memory, err := negotiate(ctx, link, cfg, h)
	if err == nil {
		memory.Close()
	}
	return err
}

// RawStreamAccept waits for the next client and opens the stream that it asks for. early, unless
// it is nil, gets the memory before the client does.
func RawStreamAccept(l *Listener, early func(mem []byte)) (*RawStream, error) {
	link, err := l.links.Accept()
	if err != nil {
		return nil, err
	}
	s, err := rawStreamAnswer(link, early)
	if err != nil {
		link.Close()
	}
	return s, err
}

func rawStreamAnswer(link Link, early func(mem []byte)) (*RawStream, error) {
	if err := link.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	b, err := readClientMessage(link)
	if err != nil {
		return nil, err
	}
	var hello clientHello
	err = hello.decode(b)
	if err != nil {
		return nil, err
	}
	geo := hello.stream.geometry()
	memory, err := link.NewMemory(geo.Size())
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	mem, err := memory.Map(geo.Size())
	if err != nil {
		return nil, err
	}
	if early != nil {
		early(mem)
	}
	reply := serverHello{version: helloVersion, layout: shm.Version}
	for _, p := range hello.protocols {
		reply.protocols = append(reply.protocols,
			protocolID{name: p.name, fingerprint: p.fingerprint})
	}
	if err := finishHello(link, &reply, memory, geo.Size()); err != nil {
		return nil, sys.JoinErrors(err, memory.Unmap(mem))
	}
	return &RawStream{Link: link, Mem: mem, Geo: geo, Reads: hello.stream.read == 0,
		Overwrite: StreamPolicy(hello.stream.policy) == StreamOverwrite, unmap: memory.Unmap}, nil
}

// End closes the stream and unmaps its memory.
func (s *RawStream) End() error {
	return sys.JoinErrors(s.Link.Close(), s.unmap(s.Mem))
}

// The kinds of records, for raw peers.
const (
	RawRequest, RawReply, RawError = record.Request, record.Reply, record.Error
	RawCancel, RawMessage          = record.Cancel, record.Message
	RawMetadata                    = record.Metadata
	RawPiece, RawAbort             = record.Piece, record.Abort
	RawOpen, RawItem               = record.Open, record.Item
	RawEnd, RawCredit              = record.End, record.Credit
	RawMore, RawGap                = record.More, record.Gap
)

// TransportOf returns the transport that an option sets.
func TransportOf(o RendezvousOption) Transport {
	var cfg dialConfig
	o.applyDial(&cfg)
	if cfg.transport == nil {
		return socketTransport{cfg.domain}
	}
	return cfg.transport
}

// StopCounting ends the counting by method, as the server does a minute after the last request for
// its counters.
func StopCounting(s *Server) {
	s.lookout.idle.Reset(0)
	for s.lookout.observer.Load() != nil { // without taps
		time.Sleep(time.Millisecond)
	}
}

// Reading returns a function for interceptors, and until their call is answered. It reports whether
// the call is detached from the reader of its connection and, if it is not, whether another message
// has arrived. Only the goroutine of the handler may call it.
func (c *ServerCall) Reading() func() (detached, more bool) {
	j := c.passage.x.carrier.(*job)
	return func() (detached, more bool) {
		j.conn.mu.Lock()
		defer j.conn.mu.Unlock()
		return j.detached, !j.detached && j.conn.rx.ring.Ready()
	}
}

// Spinners returns how many readers may poll now or have handlers that may.
func (s *Server) Spinners() int { return int(s.spinners.n.Load()) }

// DefaultMessageMemory returns the default of WithMaxMessageMemory in this process.
func DefaultMessageMemory() int { return defaultMessageMemory() }
