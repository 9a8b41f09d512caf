package machine

import (
	"encoding/binary"
	"errors"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The answers to the last changes are part of the replicated state. A change that comes once more,
// from a client that does not know what became of it, is answered from there. Every member forgets
// the same answers at the same change.

const (
	// mostAnswers is how many answers are kept.
	mostAnswers = 2048
	// longestKept is the size of the longest reply that is kept.
	longestKept = 1 << 10
)

// An answerKey is a call of a client.
type answerKey struct {
	client string
	number uint64
}

// An Outcome is what a change has led to: an encoded reply, or an error.
type Outcome struct {
	Body []byte
	Err  *ipc.Error
}

// answers are the outcomes of the last changes.
type answers struct {
	kept  map[answerKey]Outcome
	order []answerKey // a ring once it is full
	next  int         // the oldest of a full ring
}

func newAnswers() *answers { return &answers{kept: make(map[answerKey]Outcome)} }

// find returns the outcome of a call that was executed.
func (a *answers) find(key answerKey) (Outcome, bool) {
	o, ok := a.kept[key]
	return o, ok
}

// add keeps an outcome.
func (a *answers) add(key answerKey, o Outcome) {
	if len(o.Body) > longestKept {
		o = Outcome{Err: &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.Executed,
			Msg: "the call was executed before, and its reply was too long to be kept"}}
	}
	if len(a.order) < mostAnswers {
		a.order = append(a.order, key)
	} else {
		delete(a.kept, a.order[a.next])
		a.order[a.next] = key
		a.next = (a.next + 1) % mostAnswers
	}
	a.kept[key] = o
}

// append appends the answers to b, from the oldest on.
func (a *answers) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(a.order)))
	for i := range a.order {
		key := a.order[(a.next+i)%len(a.order)]
		o := a.kept[key]
		b = appendBytes(b, key.client)
		b = appendUint64(b, key.number)
		if o.Err == nil {
			b = appendBytes(append(b, 0), string(o.Body))
			continue
		}
		b = append(b, 1)
		b = binary.LittleEndian.AppendUint16(b, uint16(o.Err.Code))
		b = append(b, byte(o.Err.Outcome))
		b = appendBytes(b, o.Err.Msg)
	}
	return b
}

func appendUint64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendBytes(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

var errSnapshot = errors.New("the snapshot is damaged")

// A reader takes numbers and bytes off a snapshot.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad = true
		return make([]byte, 8) // for those who take numbers
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) bytes() []byte { return r.take(uint64(binary.LittleEndian.Uint32(r.take(4)))) }

// readAnswers reads what append has written.
func readAnswers(r *reader) (*answers, error) {
	a := newAnswers()
	for n := binary.LittleEndian.Uint32(r.take(4)); n > 0 && !r.bad; n-- {
		key := answerKey{client: string(r.bytes())}
		key.number = r.uint64()
		var o Outcome
		if r.take(1)[0] == 0 {
			o.Body = r.bytes()
		} else {
			o.Err = &ipc.Error{Code: ipc.Code(binary.LittleEndian.Uint16(r.take(2)))}
			o.Err.Outcome = ipc.Outcome(r.take(1)[0])
			o.Err.Msg = string(r.bytes())
		}
		a.add(key, o)
	}
	if r.bad || len(a.order) > mostAnswers {
		return nil, errSnapshot
	}
	return a, nil
}
