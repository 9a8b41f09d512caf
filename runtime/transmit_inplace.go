package ipc

import (
	"context"
	"encoding/binary"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/record"
)

// shortInPlace is the length of a record up to which a message is built in the memory of its
// builder and copied. That is faster: a builder reads what it has written, and in the ring it waits
// for each cache line, which the peer has read last. The copy leaves no gap that the peer reads.
const shortInPlace = 256

// An inPlaceBody describes a body that is built in the ring. The builder is not part of it: the
// compiler cannot tell fields apart, and would allocate the function, and what it uses, for each
// call.
type inPlaceBody struct {
	size  int // expected, in bytes
	build func(*flatbuffers.Builder)
}

// encode builds the body with b, in the memory that b has.
func (m inPlaceBody) encode(b *flatbuffers.Builder) ([]byte, *Error) {
	return encode(b, func() error { m.build(b); return nil })
}

// writeInPlace is like write, but builds the body in the ring, with b. A body that is short, longer
// than expected, or too long for one record is built in the builder's own memory and copied. Other
// writers wait while the body is built.
func (t *transmitter) writeInPlace(ctx context.Context, f *frame, b *flatbuffers.Builder,
	m inPlaceBody, at *sent, block func()) (err *Error) {
	head := f.size() + record.GapLen
	n := (head + max(m.size, 0) + 7) &^ 7
	if n > t.place || n <= shortInPlace {
		body, err := m.encode(b)
		if err != nil {
			return err
		}
		return t.write(ctx, f, body, at, block)
	}
	slot, err := t.take(ctx, n, block)
	if err != nil {
		return err
	}
	own := b.Bytes
	body, err := t.buildIn(b, slot[head:n:n], m)
	if err != nil || !within(body, slot[head:]) {
		t.drop()
		defer func() { b.Bytes = own }()
		if err != nil {
			return err
		}
		return t.write(ctx, f, body, at, block) // the builder has grown out of the slot
	}
	b.Bytes = own
	if len(body) > t.limit {
		t.drop()
		return t.tooLarge(len(body))
	}
	f.put(slot)
	binary.NativeEndian.PutUint64(slot[f.size():], uint64(n-head-len(body)))
	t.count(body, at)
	t.give(f.tag()|record.Gap, n)
	return nil
}

// buildIn builds a body in slot. The caller must hold the writer role, and restore the builder's
// own memory afterwards. If build ends its goroutine (runtime.Goexit), buildIn restores the memory
// and drops the role.
func (t *transmitter) buildIn(b *flatbuffers.Builder, slot []byte,
	m inPlaceBody) (body []byte, err *Error) {
	own, returned := b.Bytes, false
	defer func() {
		if !returned {
			b.Bytes = own
			t.drop()
		}
	}()
	b.Bytes = slot
	body, err = m.encode(b)
	returned = true
	return body, err
}

// within reports whether body, which a builder has finished, ends at the end of slot. The body of a
// builder that has grown lies in other memory.
func within(body, slot []byte) bool {
	return len(body) > 0 && len(body) <= len(slot) && &body[len(body)-1] == &slot[len(slot)-1]
}
