package ipc_test

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// These fuzzers play one side of a connection by a script: each step sends a frame of any kind,
// with any flag, id, length and body, at whatever state the connection is in. The other side must
// neither panic nor hang, and other connections go on.

// A frameScript makes frames of bytes.
type frameScript struct{ rest []byte }

func (s *frameScript) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

// frame is the next frame. seen is the last one that the other side has sent.
func (s *frameScript) frame(seen ipc.RawFrame) ipc.RawFrame {
	kind, which, body := s.next(), s.next(), s.next()
	methods := []string{"Echo", "Note", "Aside", "Fail", "Panic", "News", "Pause", "None"}
	f := ipc.RawFrame{
		Tag: uint32(kind&15) | uint32(kind&0x30)<<4,
		ID: []uint64{0, seen.ID, seen.ID | 1, seen.ID + 1<<19, 1 << 19, 2 << 19,
			1 << 63}[which%7],
		Epoch:  uint64(which >> 7),
		Method: idOf("test.Echo/" + methods[which>>3&7]),
		Code:   ipc.Code(body & 31), Outcome: ipc.Outcome(body & 7),
		Raw: kind>>6 == 3,
	}
	if kind>>6 == 2 {
		f.Deadline = int64(body)
	}
	switch body & 3 {
	case 0:
		f.Body = goodBlob
	case 1:
		f.Body = seen.Body
	case 2:
		f.Body = make([]byte, 16*int(body>>2))
		for i := range min(len(f.Body), 8) {
			f.Body[i] = s.next()
		}
	}
	metadata := kind&0x30 == 0x20 && which>>6 == 3 // besides, the flag of a gap
	if metadata {
		f.Tag |= ipc.RawMetadata
	}
	if f.Tag&ipc.RawMore != 0 {
		n := []uint64{0, 1, uint64(len(f.Body)), uint64(len(f.Body)) + 16, 1 << 20,
			1 << 40}[s.next()%6]
		f.Body = append(binary.NativeEndian.AppendUint64(nil, n), f.Body...)
	}
	if metadata {
		pairs := pair(string('a'+s.next()&31), string(f.Body))
		f.Body = append(block(len(pairs)-int(s.next()&1), pairs), f.Body...)
	}
	return f
}

// play sends the frames of the script, and takes what comes.
func (s *frameScript) play(raw *ipc.Raw) {
	var seen ipc.RawFrame
	for len(s.rest) > 0 {
		switch step := s.rest[0]; {
		case step == 0xff: // let the other side get on
			s.next()
			time.Sleep(50 * time.Microsecond)
		case step == 0xfe:
			s.next()
			if f, ok := raw.Get(); ok {
				seen = f
			}
		default:
			raw.Put(s.frame(seen))
		}
	}
}

// frameSeeds are scripts that reach what there is.
func frameSeeds(f *testing.F) {
	for _, seed := range []string{
		"\x01\x05\x00\xff\xfe",                             // a call
		"\x05\x0c\x00\xff",                                 // a message
		"\x11\x05\x00\x03\x06\x00\x02\xff\xfe",             // a call in pieces
		"\x11\x05\x00\x04\x07\x00\x00\x01\x05\x00\xff",     // and one that is abandoned
		"\x01\x15\x00\x04\x05\x00\xff\xfe\xfe",             // a call in place, and its cancel
		"\xfe\x02\x01\x01\x03\x01\x04\xff\xfe\x02\x01\x00", // replies, to a client
		"\x21\xc5\x00\x00\x00\x25\xcd\x00\x00\x01\xff\xfe", // metadata
		"\x02\x00\x00\x03\x00\x00\xc1\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
}

// FuzzFramesToServer plays a client.
func FuzzFramesToServer(f *testing.F) {
	frameSeeds(f)
	net := ipctest.NewNetwork().As(ipc.Peer{UID: os.Geteuid()})
	serve(f, net, ipc.WithTrustedClients())
	honest := dial(f, net)
	f.Fuzz(func(t *testing.T, script []byte) {
		raw, err := ipc.RawDial(t.Context(), "echo", net)
		if err != nil {
			t.Fatal(err)
		}
		(&frameScript{script}).play(raw)
		raw.End()
		within(t, "an honest client", func() {
			if _, err := echo(t.Context(), honest, []byte("x")); err != nil {
				t.Error(err)
			}
		})
	})
}

// FuzzFramesToClient plays a server, while a client makes calls of every form.
func FuzzFramesToClient(f *testing.F) {
	frameSeeds(f)
	net := ipctest.NewNetwork().As(ipc.Peer{UID: os.Geteuid()})
	l, err := ipc.Listen("echo", net)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	f.Fuzz(func(t *testing.T, script []byte) {
		var played sync.WaitGroup
		played.Go(func() {
			raw, err := ipc.RawAccept(l, ipc.RawHello{ToServer: 16 << 10, ToClient: 16 << 10,
				MaxMessage: 1 << 20, MaxCalls: 4}, echoProtocol)
			if err != nil {
				t.Error(err)
				return
			}
			(&frameScript{script}).play(raw)
			raw.End()
		})
		within(t, "a client", func() {
			c, err := ipc.Dial(t.Context(), "echo", net, ignoreNotes())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var calls sync.WaitGroup
			for i := range 3 {
				calls.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
					defer cancel()
					for c.Err() == nil && ctx.Err() == nil {
						switch i {
						case 0:
							_, _ = echo(ctx, c, make([]byte, 100))
						case 1:
							_ = c.InvokeInPlace(ctx, &ipc.InPlaceCall{
								Method: methodAside.Info(), Size: 200,
								Build: func(b *flatbuffers.Builder, _ uint64) {
									_ = encodeBlob(b, 0, &blob{Data: make([]byte, 100)})
								},
								Read: readTwice,
							})
						case 2:
							_ = ipc.Send(ctx, c, messageNote, &blob{Data: make([]byte, 50)})
							<-ctx.Done()
						}
					}
				})
			}
			calls.Wait()
		})
		played.Wait()
	})
}
