package changelog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// An Entry is a message of the log: the begin of a reign, or changes.
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
	entryHead   = 2 + 8 + 8 + 8
	changeHead  = 1 + 8 + 4 + 4
)

var errMalformed = errors.New("malformed entry")

// encode returns the message of e that follows at.
func (e *Entry) encode(at Position) []byte {
	kind := byte(kindChanges)
	if e.Reign != nil {
		kind = kindReign
	}
	b := []byte{version, kind}
	b = binary.LittleEndian.AppendUint64(b, at.Seq+1)
	b = binary.LittleEndian.AppendUint64(b, at.Sum)
	b = binary.LittleEndian.AppendUint64(b, e.Epoch)
	if e.Reign != nil {
		b = binary.LittleEndian.AppendUint64(b, e.Reign.Fingerprint)
		return append(b, e.Reign.Member...)
	}
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

// decode returns the entry of a message, and the position that the message says it follows. The
// bodies of changes lie in the message.
func decode(b []byte) (e Entry, at Position, err error) {
	if len(b) < entryHead || b[0] != version || b[1] != kindReign && b[1] != kindChanges {
		return e, at, errMalformed
	}
	at.Seq = binary.LittleEndian.Uint64(b[2:]) - 1
	at.Sum = binary.LittleEndian.Uint64(b[10:])
	e.Epoch = binary.LittleEndian.Uint64(b[18:])
	rest := b[entryHead:]
	if b[1] == kindReign {
		if len(rest) < 8 {
			return e, at, errMalformed
		}
		e.Reign = &Reign{Fingerprint: binary.LittleEndian.Uint64(rest), Member: string(rest[8:])}
		return e, at, nil
	}
	for len(rest) > 0 {
		n := 1 + int(rest[0])
		if len(rest) < n+changeHead-1 {
			return e, at, errMalformed
		}
		c := Change{Client: string(rest[1:n])}
		c.Number = binary.LittleEndian.Uint64(rest[n:])
		c.Method = binary.LittleEndian.Uint32(rest[n+8:])
		size := uint64(binary.LittleEndian.Uint32(rest[n+12:]))
		rest = rest[n+16:]
		if size > uint64(len(rest)) {
			return e, at, errMalformed
		}
		c.Body, rest = rest[:size:size], rest[size:]
		e.Changes = append(e.Changes, c)
	}
	return e, at, nil
}

// sum returns the sum of a message. The message has the sum of the one before it, so equal sums
// mean equal logs.
func sum(message []byte) uint64 {
	s := sha256.Sum256(message)
	return binary.LittleEndian.Uint64(s[:])
}
