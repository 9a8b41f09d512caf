package natsipc

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is the wire format: what doc.go describes, in bytes.

// The headers.
const (
	headCall     = "Ipcgen"      // how a call has ended, and what a message of a topic is
	headMetadata = "Ipcgen-Meta" // a pair of metadata, once for each, in their order
	headAgain    = "Ipcgen-Again"
)

// version is the version of the wire format. In version 1, the head of a request was a header of
// NATS, which costs a call more than all else of this package: it is put into a map and taken out
// of one on either side.
const version = 2

// A kind is what a request asks for.
type kind uint8

// The kinds.
const (
	kindCall   kind = iota + 1
	kindIn          // a call with items of the client
	kindOut         // a call with items of the server
	kindBoth        // a call with items both ways
	kindNote        // a one-way message, the last kind that handlers take
	kindHello       // what the server serves
	kindSchema      // the description of a protocol
	kindDefine      // the definition of a protocol
	kindHealth
	kindRecent // the messages that the publisher of a topic keeps, as items
)

// streams reports whether calls of the kind have items of the client, and of the server.
func (k kind) streams() (in, out bool) {
	return k == kindIn || k == kindBoth, k == kindOut || k == kindBoth || k == kindRecent
}

// asks reports whether requests of the kind are those of this package, for no handler.
func (k kind) asks() bool { return k > kindNote }

// untilClosed reports whether a server that shuts down still answers requests of the kind: it
// executes calls, and publishes topics, until it is closed.
func (k kind) untilClosed() bool {
	return k == kindSchema || k == kindDefine || k == kindHealth || k == kindRecent
}

// known reports whether k is a kind of this version.
func (k kind) known() bool { return k >= kindCall && k <= kindRecent }

// A request is the head of the first message of a call.
type request struct {
	kind    kind
	method  uint32
	seq     uint64
	budget  time.Duration // that is left; negative: no deadline
	epoch   uint64
	window  uint32 // of the client, for items and pieces
	longest uint32 // reply that the client takes
	size    uint32 // of the request, if it comes in pieces
}

// signature is what a request begins with, before the version.
const signature = "ipc"

// requestHead is how long the head of a request is, without the versions of the protocol that the
// client can talk to and the protocol's name, which are behind it.
const requestHead = 52

// appendHead appends the head of a request for a protocol.
func (r *request) appendHead(b []byte, protocol string, compared fingerprints) []byte {
	b = append(b, signature...)
	b = append(b, version, byte(r.kind), byte(len(compared)/8), 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	micros := int64(-1)
	if r.budget >= 0 {
		micros = r.budget.Microseconds()
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(micros))
	b = binary.LittleEndian.AppendUint64(b, r.epoch)
	b = binary.LittleEndian.AppendUint32(b, r.method)
	b = binary.LittleEndian.AppendUint32(b, r.window)
	b = binary.LittleEndian.AppendUint32(b, r.longest)
	b = binary.LittleEndian.AppendUint32(b, r.size)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(protocol)))
	return append(append(b, compared...), protocol...)
}

// parseRequest reads what appendHead has written, and returns what is behind it, too. The results
// lie in b.
func parseRequest(b []byte) (r request, protocol []byte, compared fingerprints, body []byte,
	err error) {
	if len(b) <= len(signature) || string(b[:len(signature)]) != signature {
		return r, nil, nil, nil, &ipc.Error{Code: ipc.CodeInvalidArgument,
			Outcome: ipc.NotExecuted, Msg: "this is no request of natsipc; make it with natsipc"}
	}
	if v := b[len(signature)]; v != version {
		return r, nil, nil, nil, incompatible("client", int(v), "server")
	}
	malformed := func() error {
		return &ipc.Error{Code: ipc.CodeCorrupt, Outcome: ipc.NotExecuted,
			Msg: fmt.Sprintf("malformed request %.100q", b)}
	}
	if len(b) < requestHead {
		return r, nil, nil, nil, malformed()
	}
	r = request{kind: kind(b[4]), seq: binary.LittleEndian.Uint64(b[8:]), budget: -1,
		epoch: binary.LittleEndian.Uint64(b[24:]), method: binary.LittleEndian.Uint32(b[32:]),
		window: binary.LittleEndian.Uint32(b[36:]), longest: binary.LittleEndian.Uint32(b[40:]),
		size: binary.LittleEndian.Uint32(b[44:])}
	if micros := int64(binary.LittleEndian.Uint64(b[16:])); micros >= 0 {
		r.budget = time.Duration(min(micros, math.MaxInt64/int64(time.Microsecond))) *
			time.Microsecond
	}
	versions, name := int(b[5])*8, uint64(binary.LittleEndian.Uint32(b[48:]))
	if !r.kind.known() || uint64(len(b)) < requestHead+uint64(versions)+name {
		return r, nil, nil, nil, malformed()
	}
	compared, b = b[requestHead:][:versions], b[requestHead+versions:]
	return r, b[:name], compared, b[name:], nil
}

// incompatible is the error of two sides with different versions of the wire format.
func incompatible(other string, theirs int, own string) *ipc.Error {
	return &ipc.Error{Code: ipc.CodeIncompatible, Outcome: ipc.NotExecuted,
		Msg: fmt.Sprintf("the %s speaks version %d of the wire format, and the %s %d; build both "+
			"with the same version of natsipc", other, theirs, own, version)}
}

// fingerprints are those of versions of a protocol, in eight bytes each.
type fingerprints []byte

// has reports whether a version is among them.
func (f fingerprints) has(version uint64) bool {
	for ; len(f) > 0; f = f[8:] {
		if binary.LittleEndian.Uint64(f) == version {
			return true
		}
	}
	return false
}

// with returns the fingerprints with another one before them, of which as many as fit into a
// request are kept.
func (f fingerprints) with(version uint64) fingerprints {
	all := append(binary.LittleEndian.AppendUint64(nil, version), f...)
	return all[:min(len(all), 8*mostCompared)]
}

// fields takes a header apart.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) next() string {
	s, rest, _ := strings.Cut(f.rest, " ")
	f.rest = rest
	return s
}

func (f *fields) uint(base, bits int) uint64 {
	n, err := strconv.ParseUint(f.next(), base, bits)
	f.bad = f.bad || err != nil
	return n
}

// An answer is the header of the last message of a call. A message without the header is the zero
// answer: the call has succeeded.
type answer struct {
	code    ipc.Code
	outcome ipc.Outcome
	taken   uint64 // items of the client
	epoch   uint64
	frames  uint64 // that the server has sent before
	server  string // its name, for what must go to the same one; may be empty
}

func (a *answer) header() string {
	return fmt.Sprintf("%d %d %d %d %d %s", a.code, a.outcome, a.taken, a.epoch, a.frames, a.server)
}

func parseAnswer(s string) (a answer, err error) {
	f := fields{rest: s}
	a.code, a.outcome = ipc.Code(f.uint(10, 16)), ipc.Outcome(f.uint(10, 8))
	a.taken, a.epoch, a.frames = f.uint(10, 64), f.uint(10, 64), f.uint(10, 64)
	a.server = f.next()
	if f.bad || a.server != "" && !isServer(a.server) {
		return a, corrupt("malformed answer %.100q", s)
	}
	if a.code > ipc.CodeUnknown {
		a.code = ipc.CodeUnknown
	}
	if a.outcome > ipc.Executed {
		a.outcome = ipc.OutcomeUnknown
	}
	return a, nil
}

// corrupt is the error of what a server should not have sent.
func corrupt(format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: ipc.CodeCorrupt, Msg: fmt.Sprintf(format, args...)}
}

// Reasons to make a call once more, which the server has not executed.
const (
	againSchema   = "schema"   // with the fingerprint of the server's version behind it
	againDraining = "draining" // the server shuts down; another one may be there
)

// envelopes are messages with headers, to be used again: NATS copies what it is given.
var envelopes = sync.Pool{New: func() any { return &nats.Msg{Header: nats.Header{}} }}

// publish publishes a message with headers: that of an answer, if head is not empty, and metadata.
func publish(nc *nats.Conn, subject, reply, head string, m ipc.Metadata, body []byte) error {
	e := envelopes.Get().(*nats.Msg)
	e.Subject, e.Reply, e.Data = subject, reply, body
	if head != "" {
		e.Header[headCall] = []string{head}
	}
	putMetadata(e.Header, m)
	err := nc.PublishMsg(e)
	e.Data = nil
	clear(e.Header)
	envelopes.Put(e)
	return err
}

// requests are the bytes of requests, to be used again likewise.
var requests = sync.Pool{New: func() any { return new([]byte) }}

// longestKept is the longest request whose memory is used again.
const longestKept = 128 << 10

// publish publishes a request, whose head is before its body. It has headers only for metadata.
func (r *request) publish(nc *nats.Conn, subject, reply, protocol string, compared fingerprints,
	m ipc.Metadata, body []byte) error {
	if len(body) > longestKept && int64(len(body)) > nc.MaxPayload() {
		return nats.ErrMaxPayload // before it is copied
	}
	buf := requests.Get().(*[]byte)
	b := append(r.appendHead((*buf)[:0], protocol, compared), body...)
	if cap(b) <= longestKept {
		*buf = b
	}
	defer requests.Put(buf)
	if m.Len() == 0 {
		return nc.PublishRequest(subject, reply, b)
	}
	return publish(nc, subject, reply, "", m, b)
}

// putMetadata adds metadata to headers. NATS headers are lines of text, and lose their order, so
// all pairs are values of one header, and bytes that a line cannot have are escaped.
func putMetadata(h nats.Header, m ipc.Metadata) {
	for k, v := range m.All() {
		h[headMetadata] = append(h[headMetadata], k+"="+escape(v))
	}
}

// getMetadata reads metadata from headers.
func getMetadata(h nats.Header) (m ipc.Metadata, err error) {
	all := h[headMetadata]
	if len(all) == 0 {
		return m, nil
	}
	pairs := make([]string, 0, 2*len(all))
	for _, pair := range all {
		k, v, ok := strings.Cut(pair, "=")
		if v, err = unescape(v); !ok || err != nil {
			return m, corrupt("malformed metadata %.100q", pair)
		}
		pairs = append(pairs, k, v)
	}
	return ipc.NewMetadata(pairs...)
}

// escape writes '%', blanks and all bytes that are no visible ASCII as '%' and two digits.
func escape(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }
	at := 0
	for at < len(s) && plain(s[at]) {
		at++
	}
	if at == len(s) {
		return s
	}
	b := []byte(s[:at])
	for ; at < len(s); at++ {
		if c := s[at]; plain(c) {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	return string(b)
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", strconv.ErrSyntax
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", err
		}
		b, i = append(b, byte(n)), i+2
	}
	return string(b), nil
}

// A frame is what the sides of a call send each other between its first message and its last one.
// Its head has the kind, whether more pieces of the same body follow, and its number.
type frame struct {
	kind   frameKind
	more   bool
	number uint32 // from 1 on in each direction; 0 for a beat
	body   []byte
}

type frameKind uint8

const (
	frameItem   frameKind = iota + 1 // an item, a request or a reply, or a piece of it
	frameClose                       // there are no more items of the client
	frameCredit                      // bytes and items that were taken so far
	frameAccept                      // the server takes the call; its window and its subject
	frameBeat                        // the server still has the call
)

const frameHead = 8

// appendHead appends the head of a frame.
func (f *frame) appendHead(b []byte) []byte {
	b = append(b, byte(f.kind), 0, 0, 0)
	if f.more {
		b[len(b)-3] = 1
	}
	return binary.LittleEndian.AppendUint32(b, f.number)
}

func parseFrame(b []byte) (f frame, err error) {
	if len(b) < frameHead || b[0] == 0 || frameKind(b[0]) > frameBeat {
		return f, corrupt("malformed frame of %d bytes", len(b))
	}
	f = frame{frameKind(b[0]), b[1] == 1, binary.LittleEndian.Uint32(b[4:]), b[frameHead:]}
	if f.kind == frameCredit && len(f.body) != 16 || f.kind == frameAccept && len(f.body) < 5 {
		return f, corrupt("malformed frame of kind %d with %d bytes", f.kind, len(f.body))
	}
	return f, nil
}

// A cancellation is the message that ends a call from its client's side.
type cancellation struct {
	code  ipc.Code
	taken uint64 // items of the server
	reply string // the client's subject of the call
}

func (c *cancellation) encode() []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(c.code))
	b = binary.LittleEndian.AppendUint64(b, c.taken)
	return append(b, c.reply...)
}

func parseCancellation(b []byte) (c cancellation, ok bool) {
	if len(b) < 11 {
		return c, false
	}
	c = cancellation{ipc.Code(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint64(b[2:]),
		string(b[10:])}
	if c.code != ipc.CodeDeadlineExceeded {
		c.code = ipc.CodeCanceled
	}
	return c, true
}
