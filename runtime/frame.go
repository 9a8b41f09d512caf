package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipcgen/ipcgen/internal/record"
)

// A frame is the header of a message. On the wire it is, in the machine's byte
// order: id uint64, epoch uint64, method uint32, code uint16, outcome uint8, 0
// uint8, and for a request or an open also seq uint64, deadline int64. An end and a credit have the
// numbers of items and of bytes there, see items and bytes. A block of metadata follows, if there
// is any.
type frame struct {
	kind     uint32
	id       uint64 // of the call; of a message: its sequence number
	epoch    uint64
	method   uint32
	code     Code
	outcome  Outcome
	seq      uint64
	deadline int64 // in nanoseconds of the clock that both sides share; 0: none
	metadata Metadata
	charged  int // to the server's memory, for the body; not on the wire
}

// items and bytes are what an end or a credit says of the items that its sender has taken.
func (f *frame) items() uint64 { return f.seq }
func (f *frame) bytes() uint64 { return uint64(f.deadline) }

// size returns the length of the header, with the metadata.
func (f *frame) size() int {
	n := f.fixed()
	if f.metadata.pairs != "" {
		n += record.MetadataBlockLen(len(f.metadata.pairs))
	}
	return n
}

// fixed returns the length of the header without metadata.
func (f *frame) fixed() int { return record.HeaderOf(f.kind) }

// tag returns the tag of a record that begins with the header.
func (f *frame) tag() uint32 {
	if f.metadata.pairs != "" {
		return f.kind | record.Metadata
	}
	return f.kind
}

// put writes the header to b, which is long enough.
func (f *frame) put(b []byte) {
	_ = b[record.HeaderLen-1]
	binary.NativeEndian.PutUint64(b[0:], f.id)
	binary.NativeEndian.PutUint64(b[8:], f.epoch)
	binary.NativeEndian.PutUint64(b[16:], uint64(f.method)|uint64(f.code)<<32|uint64(f.outcome)<<48)
	if f.fixed() == record.RequestHeaderLen {
		_ = b[record.RequestHeaderLen-1]
		binary.NativeEndian.PutUint64(b[24:], f.seq)
		binary.NativeEndian.PutUint64(b[32:], uint64(f.deadline))
	}
	if f.metadata.pairs != "" {
		putMetadata(b[f.fixed():], f.metadata.pairs)
	}
}

var errShortFrame = errors.New("record is shorter than its frame header")

// get reads the header of a record with the given tag from shared memory.
func (f *frame) get(tag uint32, b []byte) error {
	f.kind, f.metadata, f.charged = tag&record.KindMask, Metadata{}, 0
	if len(b) < f.fixed() {
		return errShortFrame
	}
	f.id = binary.NativeEndian.Uint64(b[0:])
	f.epoch = binary.NativeEndian.Uint64(b[8:])
	w := binary.NativeEndian.Uint64(b[16:])
	f.method, f.code, f.outcome = uint32(w), Code(w>>32), Outcome(w>>48)
	if f.fixed() == record.RequestHeaderLen {
		f.seq = binary.NativeEndian.Uint64(b[24:])
		f.deadline = int64(binary.NativeEndian.Uint64(b[32:]))
	}
	if tag&record.Metadata != 0 {
		return f.getMetadata(b)
	}
	return nil
}

// getMetadata reads the block of metadata behind the header of a record from shared memory.
func (f *frame) getMetadata(b []byte) error {
	switch f.kind {
	case record.Cancel, record.Credit, record.Item:
		return fmt.Errorf("%w: a frame of kind %d with metadata", errBroken, f.kind)
	}
	pairs, err := getMetadata(b[f.fixed():])
	f.metadata.pairs = pairs
	return err
}

// skipGap returns the body behind a gap.
func skipGap(rest []byte) ([]byte, error) {
	if len(rest) < record.GapLen {
		return nil, errShortFrame
	}
	gap := binary.NativeEndian.Uint64(rest)
	rest = rest[record.GapLen:]
	if gap > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: a gap of %d bytes in a body of %d", errBroken, gap, len(rest))
	}
	return rest[gap:], nil
}
