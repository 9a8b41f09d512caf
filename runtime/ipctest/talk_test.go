package ipctest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The protocol of these tests, declared as generated code would: texts, answered by the same text.

type text struct{ s string }

var talk = &ipc.Protocol{Name: "test.Talk", Fingerprint: 1}

func id(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte("test.Talk/" + s))
	return h.Sum32()
}

func encode(b *flatbuffers.Builder, _ uint64, m *text) error {
	b.Finish(b.CreateString(m.s))
	return nil
}

// decode reads the string at the root: an offset, and at its target a length and bytes.
func decode(buf []byte, m *text) (uint64, error) {
	read := func(at uint64) uint64 {
		if at+4 > uint64(len(buf)) {
			return 1 << 40
		}
		return uint64(binary.LittleEndian.Uint32(buf[at:]))
	}
	at := read(0)
	n := read(at)
	if at+4+n > uint64(len(buf)) {
		return 0, errors.New("text out of bounds")
	}
	m.s = string(buf[at+4:][:n])
	return 0, nil
}

var (
	say = ipc.NewMethod(talk, ipc.MethodSpec[text, text]{
		Name: "Say", ID: id("Say"), EncodeRequest: encode, DecodeRequest: decode,
		DecodeReply: decode,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, m *text) error {
			return encode(b, 0, m)
		},
	})
	tell = ipc.NewMessage(talk,
		ipc.MessageSpec[text]{Name: "Tell", ID: id("Tell"), Encode: encode, Decode: decode})
)

// A talker handles the protocol.
type talker struct {
	// said and told receive all texts that arrive; nil if no test reads them
	said, told chan string
	wait       func(ctx context.Context, said string) error // called before a reply; nil for none
}

func newTalker() *talker {
	return &talker{said: make(chan string, 100), told: make(chan string, 100)}
}

func (t *talker) service() *ipc.Service {
	return ipc.NewService(talk,
		ipc.Handle(say, func(ctx context.Context, m *text) (*text, error) {
			if t.said != nil {
				t.said <- m.s
			}
			if t.wait != nil {
				if err := t.wait(ctx, m.s); err != nil {
					return nil, err
				}
			}
			return m, nil
		}),
		ipc.Receive(tell, func(_ context.Context, m *text) error {
			t.told <- m.s
			return nil
		}))
}

// ask makes a call in the background.
func ask(ctx context.Context, c ipc.Caller, s string) <-chan error {
	result := make(chan error, 1)
	go func() {
		rep, err := ipc.Invoke(ctx, c, say, &text{s})
		if err == nil && rep.s != s {
			err = errors.New("the reply is " + rep.s)
		}
		result <- err
	}()
	return result
}

// want checks the code and the outcome of an error.
func want(t *testing.T, err error, code ipc.Code, outcome ipc.Outcome) {
	t.Helper()
	if ipc.CodeOf(err) != code || ipc.OutcomeOf(err) != outcome {
		t.Errorf("error %v: %v, %v; want %v, %v", err, ipc.CodeOf(err), ipc.OutcomeOf(err),
			code, outcome)
	}
}
