package ipc

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A transmitter writes messages into the ring to the peer. It is safe for concurrent use: the
// goroutine that holds the writer role is the producer of the ring.
type transmitter struct {
	writerRole
	limit    int // longest body of a message
	piece    int // longest payload of a record that is copied into the ring
	place    int // longest payload of one that is built there
	metadata int // longest metadata

	// What was sent. It changes under the role.
	messages uint64
	bytes    uint64
}

// init prepares the transmitter to write messages with bodies of up to limit bytes
// into a ring of that capacity.
func (t *transmitter) init(ring *shm.Producer, w wire, capacity, limit int, failFast bool) {
	t.writerRole.init(ring, w, failFast)
	t.limit = limit
	t.piece, t.place = longestRecord(capacity), shm.MaxPayload(capacity)
	t.metadata = min(MaxMetadata, capacity/8)
}

// sent is the position in the ring of a message's last record. The peer can act on the message only
// when it has that record. It is written by the holder of the writer role.
type sent struct {
	done bool
	pos  uint64
}

// write puts a message into the ring. It blocks while the ring is full, until ctx is done; if block
// is not nil, write calls it before it blocks. With failFast, only messages without block fail
// instead of blocking: a reply always waits, because its caller does. An error means that the peer
// will never see the message.
func (t *transmitter) write(ctx context.Context, f *frame, body []byte, at *sent,
	block func()) *Error {
	if len(body) > t.limit {
		return t.tooLarge(len(body))
	}
	n := f.size() + len(body)
	if n > t.piece {
		return t.writePieces(ctx, f, &content{body: body}, at, block)
	}
	dst, err := t.take(ctx, n, block)
	if err != nil {
		return err
	}
	t.writeRecord(dst, f, body, at)
	return nil
}

// writeContent is write for a content.
func (t *transmitter) writeContent(ctx context.Context, f *frame, c *content, at *sent,
	block func()) *Error {
	if c.parts == 0 {
		return t.write(ctx, f, c.body, at, block)
	}
	if len(c.body) > t.limit {
		return t.tooLarge(len(c.body))
	}
	n := f.size() + len(c.body)
	if n > t.piece {
		return t.writePieces(ctx, f, c, at, block)
	}
	dst, err := t.take(ctx, n, block)
	if err != nil {
		return err
	}
	f.put(dst)
	c.take(dst[f.size():])
	t.count(c.body, at)
	t.give(f.tag(), len(dst))
	return nil
}

// tryWrite is like write, but reports false where write would block, and for a message that takes
// more than one record.
func (t *transmitter) tryWrite(f *frame, body []byte) (done bool) {
	n := f.size() + len(body)
	if n > t.piece {
		return false
	}
	dst, failed := t.tryTake(n)
	if dst == nil {
		return failed
	}
	t.writeRecord(dst, f, body, nil)
	return true
}

// writeRecord writes a message as one record, which fills dst, and gives the role up.
func (t *transmitter) writeRecord(dst []byte, f *frame, body []byte, at *sent) {
	f.put(dst)
	copy(dst[f.size():], body)
	t.count(body, at)
	t.give(f.tag(), len(dst))
}

// count counts a message whose last record is the one that the caller, the holder of the role,
// writes.
func (t *transmitter) count(body []byte, at *sent) {
	if at != nil {
		*at = sent{true, t.position()}
	}
	t.messages++
	t.bytes += uint64(len(body))
}

// attach gives a message the metadata of o, which may be nil.
func (t *transmitter) attach(f *frame, o *outgoing) *Error {
	switch {
	case o == nil:
		return nil
	case o.err != nil:
		return o.err
	case len(o.metadata.pairs) > t.metadata:
		return metadataTooLarge(len(o.metadata.pairs), t.metadata)
	}
	f.metadata = o.metadata
	return nil
}

func (t *transmitter) tooLarge(n int) *Error {
	return &Error{Code: CodeTooLarge, Outcome: NotSent,
		Msg: fmt.Sprintf("message of %d bytes; this connection's limit is %d", n, t.limit)}
}

// writePieces writes a message that is too long for one record. Other writers wait until it is
// complete, so that the peer assembles one message at a time.
func (t *transmitter) writePieces(ctx context.Context, f *frame, c *content, at *sent,
	block func()) *Error {
	head := f.size() + record.TotalLen
	n := min(head+len(c.body), t.piece)
	dst, err := t.take(ctx, n, block)
	if err != nil {
		return err
	}
	f.put(dst)
	binary.NativeEndian.PutUint64(dst[f.size():], uint64(len(c.body)))
	c.take(dst[head:])
	t.begin(f.tag()|record.More, n)
	defer func() { t.end(c.left() == 0) }()
	for c.left() > 0 {
		n := min(c.left(), t.piece)
		dst, err := t.next(ctx, n, block)
		if err != nil {
			return err
		}
		tag := record.Piece
		if n < c.left() {
			tag |= record.More
		} else {
			t.count(c.body, at)
		}
		c.take(dst)
		t.publish(tag, n)
	}
	return nil
}

// sendMessage encodes and writes a one-way message.
func (t *transmitter) sendMessage(ctx context.Context, p *Post, epoch uint64, block func()) *Error {
	b := takeBuilder()
	message, err := encodeContent(b, func() error { return p.Message.encode(b, p.Seq, p.Body) })
	if err == nil {
		f := frame{kind: record.Message, id: p.Seq, epoch: epoch, method: p.Message.ID}
		if err = t.attach(&f, outgoingOf(ctx)); err == nil {
			err = t.writeContent(ctx, &f, &message, nil, block)
		}
	}
	message.done()
	giveBuilder(b)
	return err
}
