package ipctest

import (
	"encoding/binary"

	ipc "github.com/ipcgen/ipcgen/runtime"

	"github.com/ipcgen/ipcgen/internal/record"
)

// The client of a connection without a relay sees in its ring which calls the server has not taken,
// and so not executed, when the server ends. A relay takes a call before the server does. So only
// the relay knows of such calls, and answers them when the server is gone.

// A call is a request, or the opening of a streaming call, that a pump has taken whole.
type call struct {
	tag    uint32 // of its first record
	header []byte // likewise
	at     uint64 // the position of its last record in the receiver's ring
	passed bool   // that is there
}

// note keeps a call that is on its way until the receiver has taken it.
func (p *pump) note(c *call) {
	for len(p.calls) > 0 && p.calls[0].passed && p.out.Taken(p.calls[0].at) {
		p.calls = p.calls[1:]
	}
	p.calls = append(p.calls, c)
}

// untaken returns the answers to the calls that the receiver, which is gone, has not taken. The
// pump must have ended.
func (p *pump) untaken() (answers []entry) {
	p.out.Revoke() // the receiver may be about to take one
	for _, c := range p.calls {
		if !c.passed || !p.out.Taken(c.at) {
			answers = append(answers, c.refusal())
		}
	}
	return answers
}

// refusal returns the answer to a call that was not executed.
func (c *call) refusal() entry {
	tag := record.Error
	if c.tag&record.KindMask == record.Open {
		tag = record.End
	}
	b := make([]byte, record.HeaderOf(tag))
	copy(b, c.header[:8]) // the call's id
	binary.NativeEndian.PutUint64(b[16:],
		uint64(ipc.CodeUnavailable)<<32|uint64(ipc.NotExecuted)<<48)
	return entry{tag: tag, payload: append(b, "the server is gone"...)}
}
