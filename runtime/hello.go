package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// The handshake has three messages: the client sends a clientHello, the server answers with a
// serverHello and the memory file, and the client sends a verdict. A message is its length, a
// uint32, and that many bytes. Numbers are in the machine's byte order; a string is its length, a
// uint32, and its bytes.
const (
	helloMagic    = 0x63706930 // "0ipc"
	helloVersion  = 3
	maxHello      = 64 << 10
	maxHelloReply = 1 << 20
	maxText       = 16 << 20 // descriptions of a server's protocols
)

// Bytes that travel on the wire after the handshake.
const goAway = 'g' // server to client: send no more calls

// A protocolID is a protocol as the handshake names it.
type protocolID struct {
	name        string
	fingerprint uint64
	at, len     uint32 // of its schema in the segment's text; server only
}

type clientHello struct {
	version, layout    uint32
	toServer, toClient uint32 // wanted ring capacities; 0: the server's choice
	maxMessage         uint32 // 0: the server's choice
	channel            string
	reply              string // the expected reply channel; empty: any
	protocols          []protocolID
	stream             streamHello
	window             uint32 // of each streaming call
}

// A streamHello says which stream the client opens, if any. The hello's protocols then name the
// struct of the stream.
type streamHello struct {
	open         uint32 // 0: this is no stream
	read         uint32 // 1: the client reads, 0: it writes
	depth, block uint32
	policy       uint32
}

func (h streamHello) geometry() shm.BlockGeometry {
	return shm.BlockGeometry{Depth: int(h.depth), Block: int(h.block)}
}

type serverHello struct {
	version, layout uint32
	code            Code // CodeOK, or the reason of a refusal
	msg             string
	geo             shm.Geometry
	maxMessage      uint32
	maxCalls        uint32 // in flight at a time
	reply           string
	protocols       []protocolID
	window          uint32 // of each streaming call
	maxStreaming    uint32 // streaming calls that are open at a time

	// Not in the message:
	text         string // of the segment
	clientWindow uint32 // from the client's hello
}

// within checks that the server has stayed within the limits of the client's hello, so that the
// server cannot make the client map or allocate more memory than the client allows.
func (h *serverHello) within(asked common) *Error {
	corrupt := func(what string, got, limit int) *Error {
		return &Error{Code: CodeCorrupt, Outcome: NotSent,
			Msg: fmt.Sprintf("the server's %s: %d bytes, the limit is %d", what, got, limit)}
	}
	ring := func(asked int) int {
		if asked <= 0 {
			return shm.MaxCapacity
		}
		return ringCapacity(asked, shm.MaxCapacity)
	}
	switch {
	case int64(h.maxMessage) > int64(asked.longest()):
		return corrupt("longest message", int(h.maxMessage), asked.longest())
	case h.geo.Text > maxText:
		return corrupt("descriptions of protocols", h.geo.Text, maxText)
	case h.geo.ToServer > ring(asked.toServer):
		return corrupt("ring to the server", h.geo.ToServer, ring(asked.toServer))
	case h.geo.ToClient > ring(asked.toClient):
		return corrupt("ring to the client", h.geo.ToClient, ring(asked.toClient))
	}
	return nil
}

func (h *clientHello) encode() []byte {
	e := newEncoder()
	e.u32(helloMagic, h.version, h.layout, h.toServer, h.toClient, h.maxMessage)
	e.str(h.channel, h.reply)
	e.protocols(h.protocols)
	st := h.stream
	e.u32(st.open, st.read, st.depth, st.block, st.policy, h.window)
	return e.end()
}

func (h *clientHello) decode(b []byte) error {
	d := decoder{b: b}
	d.magic()
	d.u32(&h.version, &h.layout, &h.toServer, &h.toClient, &h.maxMessage)
	d.str(&h.channel, &h.reply)
	d.protocols(&h.protocols)
	st := &h.stream
	d.u32(&st.open, &st.read, &st.depth, &st.block, &st.policy)
	if h.version == helloVersion { // the refusal of another one should say so
		d.u32(&h.window)
	}
	return d.err
}

func (h *serverHello) encode() []byte {
	e := newEncoder()
	e.u32(helloMagic, h.version, h.layout, uint32(h.code), uint32(h.geo.ToServer),
		uint32(h.geo.ToClient),
		uint32(h.geo.Text), h.maxMessage, h.maxCalls)
	e.str(h.msg, h.reply)
	e.protocols(h.protocols)
	e.u32(h.window, h.maxStreaming)
	return e.end()
}

func (h *serverHello) decode(b []byte) error {
	d := decoder{b: b}
	var code, up, down, text uint32
	d.magic()
	d.u32(&h.version, &h.layout, &code, &up, &down, &text, &h.maxMessage, &h.maxCalls)
	d.str(&h.msg, &h.reply)
	d.protocols(&h.protocols)
	if h.version == helloVersion {
		d.u32(&h.window, &h.maxStreaming)
	}
	h.code = codeOf(code)
	h.geo = shm.Geometry{ToServer: int(up), ToClient: int(down), Text: int(text)}
	return d.err
}

// A verdict ends the handshake: CodeOK, or the reason for which the client leaves.
type verdict struct {
	code Code
	msg  string
}

func (v verdict) encode() []byte {
	e := newEncoder()
	e.u32(helloMagic, uint32(v.code))
	e.str(v.msg)
	return e.end()
}

func (v *verdict) decode(b []byte) error {
	d := decoder{b: b}
	var code uint32
	d.magic()
	d.u32(&code)
	d.str(&v.msg)
	v.code = codeOf(code)
	return d.err
}

// incompatibleVersion compares the versions that both sides announce.
func incompatibleVersion(version, layout uint32) *Error {
	if version == helloVersion && layout == shm.Version {
		return nil
	}
	return &Error{Code: CodeIncompatible, Outcome: NotSent,
		Msg: fmt.Sprintf("the peer speaks protocol version %d with memory layout %d, this side "+
			"%d with %d; build both with the same version of ipcgen's runtime",
			version, layout, helloVersion, shm.Version)}
}

// errBadHello is the cause of errors about a peer that does not speak this protocol at all.
var errBadHello = errors.New("malformed handshake")

// malformedHello is the error about a peer whose hello cannot be read.
func malformedHello(why error) *Error {
	return &Error{Code: CodeIncompatible, Outcome: NotSent, Err: why}
}

type encoder struct{ b []byte }

func newEncoder() *encoder { return &encoder{make([]byte, 4, 256)} }

func (e *encoder) u32(vs ...uint32) {
	for _, v := range vs {
		e.b = binary.NativeEndian.AppendUint32(e.b, v)
	}
}

func (e *encoder) str(ss ...string) {
	for _, s := range ss {
		e.u32(uint32(len(s)))
		e.b = append(e.b, s...)
	}
}

func (e *encoder) protocols(ps []protocolID) {
	e.u32(uint32(len(ps)))
	for _, p := range ps {
		e.str(p.name)
		e.b = binary.NativeEndian.AppendUint64(e.b, p.fingerprint)
		e.u32(p.at, p.len)
	}
}

func (e *encoder) end() []byte {
	binary.NativeEndian.PutUint32(e.b, uint32(len(e.b)-4))
	return e.b
}

type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errBadHello
		return make([]byte, 8)
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u32(vs ...*uint32) {
	for _, v := range vs {
		*v = binary.NativeEndian.Uint32(d.take(4))
	}
}

func (d *decoder) magic() {
	var m uint32
	if d.u32(&m); m != helloMagic {
		d.err = errBadHello
	}
}

func (d *decoder) str(ss ...*string) {
	for _, s := range ss {
		var n uint32
		d.u32(&n)
		*s = string(d.take(int(n)))
		if d.err != nil {
			*s = ""
		}
	}
}

func (d *decoder) protocols(ps *[]protocolID) {
	var n uint32
	d.u32(&n)
	for ; n > 0 && d.err == nil; n-- {
		var p protocolID
		d.str(&p.name)
		p.fingerprint = binary.NativeEndian.Uint64(d.take(8))
		d.u32(&p.at, &p.len)
		*ps = append(*ps, p)
	}
}

// readHello reads one message of the handshake, of at most limit bytes.
func readHello(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.NativeEndian.Uint32(head[:])
	if n > uint32(limit) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errBadHello, n, limit)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
