// Package echo is the protocol of the runtime's own tests, and what those check again and again. It
// is declared as generated code would be, with a codec that needs no schema: a vector of bytes as
// the root of a buffer.
package echo

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"runtime"
	"slices"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/longvec"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Blob is the request and the reply of every method, and the message.
type Blob struct{ Data []byte }

// Encode writes m as the root of a buffer: a vector of bytes.
func Encode(b *flatbuffers.Builder, _ uint64, m *Blob) error {
	b.Finish(b.CreateByteVector(m.Data))
	return nil
}

// ErrMalformed is the error of Decode.
var ErrMalformed = errors.New("blob: vector out of bounds")

// Decode reads what Encode has written.
func Decode(buf []byte, m *Blob) (uint64, error) {
	data, err := dataIn(buf)
	switch {
	case err != nil:
	case m.Data == nil:
		m.Data = longvec.Own(data)
	default:
		m.Data = append(m.Data[:0], data...)
	}
	return 0, err
}

// Recycle is Decode for a blob that has its data in buf.
func Recycle(buf []byte, m *Blob) (uint64, error) {
	data, err := dataIn(buf)
	m.Data = slices.Clip(data)
	return 0, err
}

// dataIn returns the vector in a buffer.
func dataIn(buf []byte) ([]byte, error) {
	if len(buf) < 8 {
		return nil, ErrMalformed
	}
	at := uint64(binary.LittleEndian.Uint32(buf))
	if at+4 > uint64(len(buf)) {
		return nil, ErrMalformed
	}
	n := uint64(binary.LittleEndian.Uint32(buf[at:]))
	if at+4+n > uint64(len(buf)) {
		return nil, ErrMalformed
	}
	return buf[at+4 : at+4+n], nil
}

// ID returns the id of a method or message, by the name of its protocol and its own.
func ID(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// Protocol is the protocol of the methods and the message.
var Protocol = &ipc.Protocol{Name: "test.Echo", Fingerprint: 1,
	Schema: "service test.Echo\nmethod Echo test.Blob test.Blob\n"}

// Method declares a method of the protocol.
func Method(name string) *ipc.Method[Blob, Blob] {
	return ipc.NewMethod(Protocol, Spec(name))
}

// Idempotent declares an idempotent method.
func Idempotent(name string) *ipc.Method[Blob, Blob] {
	spec := Spec(name)
	spec.Idempotent = true
	return ipc.NewMethod(Protocol, spec)
}

// Spec returns the declaration of a method.
func Spec(name string) ipc.MethodSpec[Blob, Blob] {
	return ipc.MethodSpec[Blob, Blob]{
		Name: name, ID: ID("test.Echo/" + name),
		EncodeRequest: Encode, DecodeRequest: Decode, RecycleRequest: Recycle,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, m *Blob) error {
			return Encode(b, 0, m)
		},
		DecodeReply: Decode, RecycleReply: Recycle,
	}
}

// The methods, and the message, of the protocol.
var (
	Echo  = Method("Echo")  // answers with the request
	Block = Method("Block") // answers when its context is done
	Fail  = Method("Fail")  // answers with an error of the request's text
	Panic = Method("Panic")
	Crash = Method("Crash") // ends the process
	News  = Method("News")  // sends the request back as a message, then answers
	Pause = Method("Pause") // answers after as many microseconds as the request has bytes

	Aside = Method("Aside") // answers with the request, in place

	// For handlers of the tests' own.
	Long   = Method("Long")
	Refuse = Method("Refuse")
	Linger = Method("Linger")

	Note = ipc.NewMessage(Protocol, ipc.MessageSpec[Blob]{
		Name: "Note", ID: ID("test.Echo/Note"), Encode: Encode, Decode: Decode,
		Recycle: Recycle,
	})
)

// Service handles the protocol; more routes may be added.
func Service(more ...ipc.Route) *ipc.Service {
	return ipc.NewService(Protocol, append([]ipc.Route{
		ipc.Handle(Echo, func(_ context.Context, m *Blob) (*Blob, error) { return m, nil }),
		ipc.Handle(Block, func(ctx context.Context, _ *Blob) (*Blob, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}),
		ipc.Handle(Fail, func(_ context.Context, m *Blob) (*Blob, error) {
			return nil, ipc.Errorf(ipc.CodeNotFound, "%s", m.Data)
		}),
		ipc.Handle(Panic, func(context.Context, *Blob) (*Blob, error) {
			panic("on purpose")
		}),
		ipc.Handle(News, func(ctx context.Context, m *Blob) (*Blob, error) {
			p, _ := ipc.PeerFromContext(ctx)
			return &Blob{}, ipc.Send(ctx, p, Note, m)
		}),
		ipc.Handle(Pause, func(_ context.Context, m *Blob) (*Blob, error) {
			Wait(len(m.Data))
			return &Blob{}, nil
		}),
		ipc.HandleInPlace(Aside,
			func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var m Blob
				if _, err := Decode(req, &m); err != nil {
					return err
				}
				return reply.Build(len(m.Data)+64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = Encode(b, 0, &m)
				})
			}),
	}, more...)...)
}

// Wait passes so many microseconds without falling asleep.
func Wait(n int) {
	for start := time.Now(); time.Since(start) < time.Duration(n)*time.Microsecond; {
		runtime.Gosched()
	}
}

// Call calls Echo.
func Call(ctx context.Context, c ipc.Caller, data []byte) ([]byte, error) {
	rep, err := ipc.Invoke(ctx, c, Echo, &Blob{Data: data})
	if err != nil {
		return nil, err
	}
	return rep.Data, nil
}
