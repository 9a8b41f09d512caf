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
	headCall     = "Ipcgen"      // what a request asks for, and how a call has ended
	headMetadata = "Ipcgen-Meta" // a pair of metadata, once for each, in their order
	headAgain    = "Ipcgen-Again"
)

// version is the version of the wire format.
const version = "1"

// A kind is what a request asks for.
type kind string

// The kinds.
const (
	kindCall   kind = "call"
	kindIn     kind = "in"     // a call with items of the client
	kindOut    kind = "out"    // a call with items of the server
	kindBoth   kind = "both"   // a call with items both ways
	kindNote   kind = "note"   // a one-way message
	kindHello  kind = "hello"  // what the server serves
	kindSchema kind = "schema" // the description of a protocol
	kindDefine kind = "define" // the definition of a protocol
	kindHealth kind = "health"
	kindRecent kind = "recent" // the messages that the publisher of a topic keeps, as items
)

// streams reports whether calls of the kind have items of the client, and of the server.
func (k kind) streams() (in, out bool) {
	return k == kindIn || k == kindBoth, k == kindOut || k == kindBoth || k == kindRecent
}

// known reports whether k is a kind of this version.
func (k kind) known() bool {
	switch k {
	case kindCall, kindIn, kindOut, kindBoth, kindNote, kindHello, kindSchema, kindDefine,
		kindHealth, kindRecent:
		return true
	}
	return false
}

// A request is the header of the first message of a call.
type request struct {
	kind     kind
	method   uint32
	seq      uint64
	budget   time.Duration // that is left; negative: no deadline
	epoch    uint64
	compared string // fingerprints of versions that the client can talk to, with commas
	window   uint64 // of the client, for items and pieces
	longest  uint64 // reply that the client takes
	size     uint64 // of the request, if it comes in pieces
	protocol string
}

// header returns the request as a header.
func (r *request) header() string {
	var buf [192]byte
	b := append(buf[:0], version+" "...)
	b = append(b, r.kind...)
	b = strconv.AppendUint(append(b, ' '), uint64(r.method), 16)
	b = strconv.AppendUint(append(b, ' '), r.seq, 10)
	if b = append(b, ' '); r.budget < 0 {
		b = append(b, '-')
	} else {
		b = strconv.AppendInt(b, r.budget.Microseconds(), 10)
	}
	b = strconv.AppendUint(append(b, ' '), r.epoch, 10)
	b = append(append(b, ' '), r.compared...)
	b = strconv.AppendUint(append(b, ' '), r.window, 10)
	b = strconv.AppendUint(append(b, ' '), r.longest, 10)
	b = strconv.AppendUint(append(b, ' '), r.size, 10)
	return string(append(append(b, ' '), r.protocol...))
}

// parseRequest reads what header has written.
func parseRequest(s string) (r request, err error) {
	f := fields{rest: s}
	if v := f.next(); v != version {
		return r, &ipc.Error{Code: ipc.CodeIncompatible, Outcome: ipc.NotExecuted,
			Msg: fmt.Sprintf("the client speaks version %.20q of the wire format, and the server "+
				"%s; build both with the same version of natsipc", v, version)}
	}
	r.kind = kind(f.next())
	r.method = uint32(f.uint(16, 32))
	r.seq = f.uint(10, 64)
	if r.budget = -1; f.peek() != "-" {
		micros := min(f.uint(10, 63), math.MaxInt64/uint64(time.Microsecond))
		r.budget = time.Duration(micros) * time.Microsecond
	} else {
		f.next()
	}
	r.epoch = f.uint(10, 64)
	r.compared = f.next()
	r.window = f.uint(10, 32)
	r.longest = f.uint(10, 32)
	r.size = f.uint(10, 32)
	r.protocol = f.next()
	if f.bad || !r.kind.known() {
		return r, &ipc.Error{Code: ipc.CodeCorrupt, Outcome: ipc.NotExecuted,
			Msg: fmt.Sprintf("malformed request %.100q", s)}
	}
	return r, nil
}

// fields takes a header apart.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) peek() string {
	s, _, _ := strings.Cut(f.rest, " ")
	return s
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
	if f.bad {
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

// publish publishes a message with the header of a request or an answer, and metadata.
func publish(nc *nats.Conn, subject, reply, head string, m ipc.Metadata, body []byte) error {
	e := envelopes.Get().(*nats.Msg)
	e.Subject, e.Reply, e.Data = subject, reply, body
	e.Header[headCall] = append(e.Header[headCall][:0], head)
	putMetadata(e.Header, m)
	err := nc.PublishMsg(e)
	e.Data = nil
	delete(e.Header, headMetadata)
	envelopes.Put(e)
	return err
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
