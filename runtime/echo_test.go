package ipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"runtime"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The tests' own protocol, declared as generated code would, with a codec that
// needs no schema: a byte vector as the root of a buffer.

type blob struct{ data []byte }

func encodeBlob(b *flatbuffers.Builder, _ uint64, m *blob) error {
	b.Finish(b.CreateByteVector(m.data))
	return nil
}

var errMalformed = errors.New("blob: vector out of bounds")

func decodeBlob(buf []byte, m *blob) (uint64, error) {
	if len(buf) < 8 {
		return 0, errMalformed
	}
	at := uint64(binary.LittleEndian.Uint32(buf))
	if at+4 > uint64(len(buf)) {
		return 0, errMalformed
	}
	n := uint64(binary.LittleEndian.Uint32(buf[at:]))
	if at+4+n > uint64(len(buf)) {
		return 0, errMalformed
	}
	m.data = append(m.data[:0], buf[at+4:at+4+n]...)
	return 0, nil
}

func idOf(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

var echoProtocol = &ipc.Protocol{Name: "test.Echo", Fingerprint: 1,
	Schema: "service test.Echo\nmethod Echo test.Blob test.Blob\n"}

func echoMethod(name string) *ipc.Method[blob, blob] {
	return ipc.NewMethod(echoProtocol, echoSpec(name))
}

func idempotentMethod(name string) *ipc.Method[blob, blob] {
	spec := echoSpec(name)
	spec.Idempotent = true
	return ipc.NewMethod(echoProtocol, spec)
}

func echoSpec(name string) ipc.MethodSpec[blob, blob] {
	return ipc.MethodSpec[blob, blob]{
		Name: name, ID: idOf("test.Echo/" + name),
		EncodeRequest: encodeBlob, DecodeRequest: decodeBlob,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, m *blob) error {
			return encodeBlob(b, 0, m)
		},
		DecodeReply: decodeBlob,
	}
}

var (
	methodEcho  = echoMethod("Echo")  // answers with the request
	methodBlock = echoMethod("Block") // answers when its context is done
	methodFail  = echoMethod("Fail")  // answers with an error of the request's text
	methodPanic = echoMethod("Panic")
	methodCrash = echoMethod("Crash") // ends the process
	methodNews  = echoMethod("News")  // sends the request back as a message, then answers
	methodPause = echoMethod("Pause") // answers after as many microseconds as the request has bytes

	methodAside = echoMethod("Aside") // answers with the request, in place

	// For handlers of the tests' own.
	methodLong   = echoMethod("Long")
	methodRefuse = echoMethod("Refuse")
	methodLinger = echoMethod("Linger")

	messageNote = ipc.NewMessage(echoProtocol, ipc.MessageSpec[blob]{
		Name: "Note", ID: idOf("test.Echo/Note"), Encode: encodeBlob, Decode: decodeBlob,
	})
)

// echoService handles the protocol; more routes may be added.
func echoService(more ...ipc.Route) *ipc.Service {
	return ipc.NewService(echoProtocol, append([]ipc.Route{
		ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) { return m, nil }),
		ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}),
		ipc.Handle(methodFail, func(_ context.Context, m *blob) (*blob, error) {
			return nil, ipc.Errorf(ipc.CodeNotFound, "%s", m.data)
		}),
		ipc.Handle(methodPanic, func(context.Context, *blob) (*blob, error) {
			panic("on purpose")
		}),
		ipc.Handle(methodNews, func(ctx context.Context, m *blob) (*blob, error) {
			p, _ := ipc.PeerFromContext(ctx)
			return &blob{}, ipc.Send(ctx, p, messageNote, m)
		}),
		ipc.Handle(methodPause, func(_ context.Context, m *blob) (*blob, error) {
			pause(len(m.data))
			return &blob{}, nil
		}),
		ipc.HandleInPlace(methodAside,
			func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var m blob
				if _, err := decodeBlob(req, &m); err != nil {
					return err
				}
				return reply.Build(len(m.data)+64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &m)
				})
			}),
	}, more...)...)
}

// pause passes so many microseconds without falling asleep.
func pause(n int) {
	for start := time.Now(); time.Since(start) < time.Duration(n)*time.Microsecond; {
		runtime.Gosched()
	}
}

func echo(ctx context.Context, c ipc.Caller, data []byte) ([]byte, error) {
	rep, err := ipc.Invoke(ctx, c, methodEcho, &blob{data})
	if err != nil {
		return nil, err
	}
	return rep.data, nil
}
