package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file has the messages between a primary and a standby, on a channel of the standby. Both run
// the same runtime, so the protocol is internal: four calls of little-endian numbers, as the only
// vector of a buffer.
//
//	all      head: epoch, place of the primary, incarnation of the standby, session
//	enter    -> position of the standby's state, 1 if it is whole
//	install  position, length, offset, piece of the snapshot
//	apply    entries: index, method, word of the guard, length, request -> a digest of each reply;
//	         the highest bit of the length is set if the handler ends its goroutine
//	seal     the standby is in sync

// replicaChannel returns the channel on which a standby listens to its primary.
func replicaChannel(name string) string { return name + ".state" }

// longestPacket is the length of the longest message between primary and standby. The request of a
// call must fit.
const longestPacket = 1 << 30

// A packet is a request or a reply.
type packet struct{ data []byte }

func encodePacket(b *flatbuffers.Builder, p *packet) error {
	b.Finish(b.CreateByteVector(p.data))
	return nil
}

var errPacket = errors.New("malformed packet")

// decodePacket does not copy the data.
func decodePacket(buf []byte, p *packet) error {
	c := cutter{buf}
	at := c.u32()
	if len(buf) < 4 || uint64(at) > uint64(len(buf)) {
		return errPacket
	}
	c.rest = buf[at:]
	n := c.u32()
	p.data = c.take(int(n))
	if p.data == nil {
		return errPacket
	}
	return nil
}

// replicaProtocol describes these calls. Their packets have a version, which any change of the
// format above must change, so that replicas of different runtimes do not misread each other.
var replicaProtocol = newProtocol("ipcgen.Replica", `service ipcgen.Replica
method Enter ipcgen.ReplicaPacket4 ipcgen.ReplicaPacket4
method Install ipcgen.ReplicaPacket4 ipcgen.ReplicaPacket4
method Apply ipcgen.ReplicaPacket4 ipcgen.ReplicaPacket4
method Seal ipcgen.ReplicaPacket4 ipcgen.ReplicaPacket4
`)

func replicaMethod(name string) *ipc.Method[packet, packet] {
	id := fnv.New32a()
	id.Write([]byte(replicaProtocol.Name + "/" + name))
	return ipc.NewMethod(replicaProtocol, ipc.MethodSpec[packet, packet]{
		Name: name, ID: id.Sum32(),
		EncodeRequest: func(b *flatbuffers.Builder, _ uint64, p *packet) error {
			return encodePacket(b, p)
		},
		DecodeRequest: func(buf []byte, p *packet) (uint64, error) {
			return 0, decodePacket(buf, p)
		},
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, p *packet) error {
			return encodePacket(b, p)
		},
		DecodeReply: func(buf []byte, p *packet) (uint64, error) {
			err := decodePacket(buf, p)
			p.data = append([]byte(nil), p.data...)
			return 0, err
		},
	})
}

var (
	methodEnter   = replicaMethod("Enter")
	methodInstall = replicaMethod("Install")
	methodApply   = replicaMethod("Apply")
	methodSeal    = replicaMethod("Seal")
)

// A head begins every request. The channel of a standby has the name of its replica, so a process
// that has taken the place of a dead one answers under the same name. The incarnation says which
// process the primary means, and no other process obeys: otherwise the primary, which may learn
// late of the death, would take the new process for the dead one, count on it, and drop it when it
// learns of the death.
type head struct {
	epoch       uint64
	place       int    // of the primary
	incarnation uint64 // of the standby
	session     uint64
}

const headSize = 32

func (h head) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.place))
	b = binary.LittleEndian.AppendUint64(b, h.incarnation)
	return binary.LittleEndian.AppendUint64(b, h.session)
}

// A position identifies the contents of a state: all changes up to the one with the number index of
// the primary of epoch. A primary numbers each change once, and an epoch has one primary, so states
// at one position are equal.
type position struct{ epoch, index uint64 }

func (p position) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, p.epoch)
	return binary.LittleEndian.AppendUint64(b, p.index)
}

// An entry is a call that changes the state, with the result of the primary's handler.
type entry struct {
	index  uint64
	method uint32
	body   []byte
	common []byte // as this process has understood it, for standbys of other versions
	digest uint32
	took   time.Duration // the time that the primary's handler took
	exits  bool          // the primary's handler has ended its goroutine

	// word is the request's word in the page of a replica, for the standby to publish it too.
	word uint64
	// acknowledged is set when a standby has executed the change, and lost when a session ended
	// before the standby had acknowledged it.
	acknowledged, lost atomic.Bool
}

const entryHead = 8 + 4 + 8 + 4

// exitsBit is the bit in the length of a request whose handler ends its goroutine. A request is
// shorter than longestPacket.
const exitsBit = 1 << 31

func (e *entry) size() int { return entryHead + len(e.body) }

// append appends the encoded entry, for a standby of this version or of another one.
func (e *entry) append(b []byte, another bool) []byte {
	body := e.body
	if another {
		body = e.common
	}
	b = binary.LittleEndian.AppendUint64(b, e.index)
	b = binary.LittleEndian.AppendUint32(b, e.method)
	b = binary.LittleEndian.AppendUint64(b, e.word)
	n := uint32(len(body))
	if e.exits {
		n |= exitsBit
	}
	b = binary.LittleEndian.AppendUint32(b, n)
	return append(b, body...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digestOfReply is the bit that distinguishes the digest of a reply from that of an error.
const digestOfReply = 1 << 31

// digestOf returns a digest of the answer of a handler. Errors are compared by their codes, because
// their texts may differ between processes.
func digestOf(reply []byte, err error) uint32 {
	if err != nil {
		return uint32(ipc.CodeOf(err))
	}
	return crc32.Checksum(reply, castagnoli) | digestOfReply
}

// A cutter takes numbers and bytes off a packet. At the end of the packet it returns zeros and nil.
type cutter struct{ rest []byte }

func (c *cutter) take(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.rest = nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cutter) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cutter) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (c *cutter) head() (head, error) {
	if len(c.rest) < headSize {
		return head{}, errPacket
	}
	return head{c.u64(), int(int32(c.u64())), c.u64(), c.u64()}, nil
}

func (c *cutter) position() position { return position{c.u64(), c.u64()} }

// entry returns the next entry. The body is not copied.
func (c *cutter) entry() (e *entry, err error) {
	if len(c.rest) < entryHead {
		return nil, errPacket
	}
	e = &entry{index: c.u64(), method: c.u32(), word: c.u64()}
	n := c.u32()
	e.exits = n&exitsBit != 0
	n &^= exitsBit
	if e.body = c.take(int(n)); e.body == nil {
		return nil, fmt.Errorf("%w: an entry of %d bytes is cut", errPacket, n)
	}
	return e, nil
}
