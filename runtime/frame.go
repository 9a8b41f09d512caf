package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A message is one record of a ring, or several: a first one with a frame
// header and the beginning of the body, and pieces with the rest. The kind of
// a record and the flag "more pieces follow" are its tag.
const (
	kindRequest uint32 = 1 + iota // client to server: a call
	kindReply                     // server to client: its reply
	kindError                     // server to client: its error; the body is the text
	kindCancel                    // client to server: the caller gave up
	kindMessage                   // either way: a one-way message
	kindPiece                     // either way: the next bytes of the message under way
	kindAbort                     // either way: the message under way is given up

	kindMask = 0xff
	tagMore  = 0x100 // more pieces follow
	tagGap   = 0x200 // built in place: a uint64 says how many unused bytes come before the body
)

// Lengths of frame headers. A first record with tagMore has the length of the
// whole body, a uint64, behind its header.
const (
	frameLen   = 24
	requestLen = frameLen + 16
)

// A frame is the header of a message. On the wire it is, in the machine's byte
// order: id uint64, epoch uint64, method uint32, code uint16, outcome uint8, 0
// uint8, and for a request also seq uint64, deadline int64.
type frame struct {
	kind     uint32
	id       uint64 // of the call; of a message: its sequence number
	epoch    uint64
	method   uint32
	code     Code
	outcome  Outcome
	seq      uint64
	deadline int64 // in nanoseconds of the clock that both sides share; 0: none
}

func (f *frame) size() int {
	if f.kind == kindRequest {
		return requestLen
	}
	return frameLen
}

// put writes the header to b, which is long enough.
func (f *frame) put(b []byte) {
	_ = b[frameLen-1]
	binary.NativeEndian.PutUint64(b[0:], f.id)
	binary.NativeEndian.PutUint64(b[8:], f.epoch)
	binary.NativeEndian.PutUint64(b[16:], uint64(f.method)|uint64(f.code)<<32|uint64(f.outcome)<<48)
	if f.kind == kindRequest {
		_ = b[requestLen-1]
		binary.NativeEndian.PutUint64(b[24:], f.seq)
		binary.NativeEndian.PutUint64(b[32:], uint64(f.deadline))
	}
}

var errShortFrame = errors.New("record is shorter than its frame header")

// get reads the header of a record of the given kind from shared memory.
func (f *frame) get(kind uint32, b []byte) error {
	f.kind = kind
	if len(b) < f.size() {
		return errShortFrame
	}
	f.id = binary.NativeEndian.Uint64(b[0:])
	f.epoch = binary.NativeEndian.Uint64(b[8:])
	w := binary.NativeEndian.Uint64(b[16:])
	f.method, f.code, f.outcome = uint32(w), Code(w>>32), Outcome(w>>48)
	if kind == kindRequest {
		f.seq = binary.NativeEndian.Uint64(b[24:])
		f.deadline = int64(binary.NativeEndian.Uint64(b[32:]))
	}
	return nil
}

// gapLen is the length of the word in front of a body that was built in the ring. The word holds
// the number of unused bytes between it and the body.
const gapLen = 8

// skipGap returns the body behind a gap.
func skipGap(rest []byte) ([]byte, error) {
	if len(rest) < gapLen {
		return nil, errShortFrame
	}
	gap := binary.NativeEndian.Uint64(rest)
	rest = rest[gapLen:]
	if gap > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: a gap of %d bytes in a body of %d", errBroken, gap, len(rest))
	}
	return rest[gap:], nil
}
