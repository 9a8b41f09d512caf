package changelog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// An Entry is what one message of the log says, or several that are parts of it: the begin of a
// reign, or changes.
type Entry struct {
	// Epoch is that of the leader that has written the entry.
	Epoch uint64
	// Reign, if not nil, says that the epoch begins. Otherwise the entry has changes.
	Reign   *Reign
	Changes []Change
	// Void says that the message is not an entry: a process that is no member has written it.
	Void bool
}

// A Reign describes the leader of an epoch.
type Reign struct {
	Member      string
	Fingerprint uint64 // of its protocols
}

// A Change is a call that alters the state.
type Change struct {
	Client string // at most 255 bytes; "" if it is not known
	Number uint64 // of the call, for its client
	Method uint32
	Body   []byte
}

// Size returns the size of a change in the log.
func (c *Change) Size() int { return changeHead + len(c.Client) + len(c.Body) }

const (
	version     = 1
	kindReign   = 1
	kindChanges = 2
	kindPart    = 3 // of changes that do not fit into a message
	entryHead   = 2 + 8 + 8 + 8
	partHead    = entryHead + 4 + 4
	changeHead  = 1 + 8 + 4 + 4
)

// LongestEntry limits the changes of an entry, in bytes, whatever messages the servers take. It is
// that of a group on one machine.
const LongestEntry = 1 << 30

var errMalformed = errors.New("malformed entry")

// head returns the head of a message that follows at.
func (e *Entry) head(kind byte, at Position) []byte {
	b := []byte{version, kind}
	b = binary.LittleEndian.AppendUint64(b, at.Seq+1)
	b = binary.LittleEndian.AppendUint64(b, at.Sum)
	return binary.LittleEndian.AppendUint64(b, e.Epoch)
}

// encode returns the whole entry, as the one message that follows at.
func (e *Entry) encode(at Position) []byte {
	if e.Reign != nil {
		b := binary.LittleEndian.AppendUint64(e.head(kindReign, at), e.Reign.Fingerprint)
		return append(b, e.Reign.Member...)
	}
	b := e.head(kindChanges, at)
	for i := range e.Changes {
		c := &e.Changes[i]
		b = append(append(b, byte(len(c.Client))), c.Client...)
		b = binary.LittleEndian.AppendUint64(b, c.Number)
		b = binary.LittleEndian.AppendUint32(b, c.Method)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.Body)))
		b = append(b, c.Body...)
	}
	return b
}

// size returns the size of the changes.
func (e *Entry) size() (n int) {
	for i := range e.Changes {
		n += e.Changes[i].Size()
	}
	return n
}

// A message is one of the log.
type message struct {
	kind    byte
	follows Position // as it says
	epoch   uint64
	body    []byte
	offset  int // of a part
	total   int // size of the changes that it is a part of
}

// encodePart returns the message behind at that has the changes from offset on, as far as they fit
// into size bytes, and the length of that part.
func (e *Entry) encodePart(at Position, changes []byte, offset, size int) ([]byte, int) {
	b := e.head(kindPart, at)
	b = binary.LittleEndian.AppendUint32(b, uint32(offset))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(changes)))
	n := min(len(changes)-offset, size-partHead)
	return append(b, changes[offset:][:n]...), n
}

// parse returns a message.
func parse(b []byte) (m message, err error) {
	if len(b) < entryHead || b[0] != version {
		return m, errMalformed
	}
	m.kind = b[1]
	m.follows.Seq = binary.LittleEndian.Uint64(b[2:]) - 1
	m.follows.Sum = binary.LittleEndian.Uint64(b[10:])
	m.epoch = binary.LittleEndian.Uint64(b[18:])
	m.body = b[entryHead:]
	switch m.kind {
	case kindReign, kindChanges:
		return m, nil
	case kindPart:
		if len(b) <= partHead {
			return m, errMalformed
		}
		m.offset = int(binary.LittleEndian.Uint32(b[entryHead:]))
		m.total = int(binary.LittleEndian.Uint32(b[entryHead+4:]))
		m.body = b[partHead:]
		if m.total <= LongestEntry && m.offset+len(m.body) <= m.total {
			return m, nil
		}
	}
	return m, errMalformed
}

// entry returns the entry in a message that has a whole one. The bodies of changes lie in the
// message.
func (m *message) entry() (e Entry, err error) {
	e.Epoch = m.epoch
	rest := m.body
	if m.kind == kindReign {
		if len(rest) < 8 {
			return e, errMalformed
		}
		e.Reign = &Reign{Fingerprint: binary.LittleEndian.Uint64(rest), Member: string(rest[8:])}
		return e, nil
	}
	for len(rest) > 0 {
		n := 1 + int(rest[0])
		if len(rest) < n+changeHead-1 {
			return e, errMalformed
		}
		c := Change{Client: string(rest[1:n])}
		c.Number = binary.LittleEndian.Uint64(rest[n:])
		c.Method = binary.LittleEndian.Uint32(rest[n+8:])
		size := uint64(binary.LittleEndian.Uint32(rest[n+12:]))
		rest = rest[n+16:]
		if size > uint64(len(rest)) {
			return e, errMalformed
		}
		c.Body, rest = rest[:size:size], rest[size:]
		e.Changes = append(e.Changes, c)
	}
	return e, nil
}

// sum returns the sum of a message. The message has the sum of the one before it, so equal sums
// mean equal logs.
func sum(message []byte) uint64 {
	s := sha256.Sum256(message)
	return binary.LittleEndian.Uint64(s[:])
}
