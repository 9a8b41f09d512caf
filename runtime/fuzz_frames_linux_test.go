package ipc_test

import (
	"context"
	"encoding/binary"
	"iter"
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
type frameScript struct {
	rest   []byte
	opened []uint64 // streaming calls, of either side
}

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

// streamingMethods are those of which scripts open calls; the last one does not exist.
var streamingMethods = []string{"Count", "Upload", "Jam", "Endless", "Echo", "Nothing"}

// streaming is the next frame of a streaming call, which mostly keeps the rules: an opening, the
// item with a number, a credit, the half-close, an end, or a cancellation.
func (s *frameScript) streaming() ipc.RawFrame {
	kind, which, n := s.next(), s.next(), s.next()
	f := ipc.RawFrame{Epoch: uint64(which >> 7)}
	if len(s.opened) > 0 {
		f.ID = s.opened[int(which&0x3f)%len(s.opened)]
	}
	if which&0x40 != 0 {
		f.ID = uint64(which & 7)
	}
	switch kind & 7 {
	case 0:
		f.Tag, f.ID = ipc.RawOpen, uint64(which&7)
		name := streamingMethods[int(n>>2)%len(streamingMethods)]
		f.Method, f.Body = idOf("test.Echo/"+name), goodBlob
		if len(s.opened) < 16 {
			s.opened = append(s.opened, f.ID)
		}
	case 1, 2:
		f.Tag, f.Method, f.Body = ipc.RawItem, uint32(n>>1), goodBlob
		if n&1 != 0 {
			f.Body = make([]byte, 16*int(s.next()))
		}
	case 3:
		f.Tag, f.Seq, f.Deadline = ipc.RawCredit, uint64(n&15), int64(n>>4)*92
	case 4:
		f.Tag, f.Seq = ipc.RawEnd, uint64(n)
	case 5:
		f.Tag, f.Code, f.Outcome = ipc.RawEnd, ipc.Code(n&31), ipc.Outcome(n>>5)
		f.Seq = uint64(s.next())
	case 6:
		f.Tag = ipc.RawCancel
	case 7: // fields that no number of items reaches
		f.Tag = []uint32{ipc.RawOpen, ipc.RawItem, ipc.RawCredit, ipc.RawEnd}[n&3]
		f.Seq, f.Deadline, f.Method = 1<<63|uint64(n), -int64(n), ^uint32(n)
	}
	if kind&0xc0 == 0xc0 {
		f.Tag |= ipc.RawMore
		f.Body = append(binary.NativeEndian.AppendUint64(nil, uint64(s.next())<<(kind>>3&7)),
			f.Body...)
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
				if f.Tag == ipc.RawOpen && len(s.opened) < 16 {
					s.opened = append(s.opened, f.ID)
				}
			}
		case step == 0xfd:
			s.next()
			raw.Put(s.streaming())
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
		// Streaming calls: of each kind, with items, credit, half-close, cancellation and end.
		"\xfd\x00\x01\x00\xff\xfe\xfe\xfd\x03\x00\x11\xff\xfe",
		"\xfd\x00\x01\x04\xfd\x01\x00\x00\xfd\x01\x00\x02\xfd\x04\x00\x00\xff\xfe\xfe",
		"\xfd\x00\x02\x08\xfd\x01\x00\x01\x08\xff\xfe\xfd\x03\x00\x11\xfd\x05\x00\x01\x01\xff\xfe",
		"\xfd\x00\x03\x0c\xff\xfe\xfe\xfd\x03\x00\x31\xfd\x06\x00\x00\xfd\x05\x00\x01\x02\xff",
		"\xfd\x00\x01\x14\xfd\x01\x00\x00\xff\xfe\xfd\x07\x00\x01\xfd\x07\x00\x02",
		"\xfd\x00\x01\x08\xfd\xc1\x00\x00\x05\xfd\x00\x01\x08\xff\xfe",
		// And a server's side of them.
		"\xff\xfe\xfe\xfe\xfd\x01\x00\x00\xfd\x01\x01\x00\xfd\x03\x00\x01\xfd\x05\x00\x00" +
			"\x01\xff\xfe",
		"\xff\xfe\xfe\xfe\xfe\xfd\x01\x01\x00\xfd\x01\x01\x02\xfd\x05\x01\x25\x00\xff\xfe" +
			"\xfd\x05\x02\x00\x00",
		"\x02\x00\x00\x03\x00\x00\xc1\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
}

// FuzzFramesToServer plays a client.
func FuzzFramesToServer(f *testing.F) {
	frameSeeds(f)
	net := ipctest.NewNetwork().As(ipc.Peer{UID: os.Geteuid()})
	serve(f, net, ipc.WithTrustedClients(), streamingService(), ipc.WithStreamingWindow(4096),
		ipc.WithMaxStreamingCalls(4))
	honest := dial(f, net)
	f.Fuzz(func(t *testing.T, script []byte) {
		raw, err := ipc.RawDial(t.Context(), "echo", net)
		if err != nil {
			t.Fatal(err)
		}
		(&frameScript{rest: script}).play(raw)
		raw.End()
		within(t, "an honest client", func() {
			if _, err := echo(t.Context(), honest, []byte("x")); err != nil {
				t.Error(err)
			}
			n := 0
			for _, err := range count(t.Context(), honest, 3) {
				if n++; err != nil {
					t.Error(err)
				}
			}
			if n != 3 {
				t.Errorf("an honest client has got %d items", n)
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
			(&frameScript{rest: script}).play(raw)
			raw.End()
		})
		within(t, "a client", func() {
			c, err := ipc.Dial(t.Context(), "echo", net, ignoreNotes(),
				ipc.WithStreamingWindow(4096))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var calls sync.WaitGroup
			for i := range 6 {
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
						case 3:
							checkItems(t, count(ctx, c, 100))
						case 4:
							_, _ = ipc.InvokeClientStream(ctx, c, methodUpload, counted(100))
						case 5:
							checkItems(t, ipc.InvokeBidiStream(ctx, c, methodJam, counted(100)))
						}
					}
				})
			}
			calls.Wait()
		})
		played.Wait()
	})
}

// checkItems ranges over the result of a call to a server that may break any rule. An error is the
// last that it yields, and it comes without an item.
func checkItems(t *testing.T, result iter.Seq2[*blob, error]) {
	failed := false
	for item, err := range result {
		if failed || (item == nil) != (err != nil) {
			t.Errorf("a call yields %v, %v; it had failed before: %v", item, err, failed)
		}
		failed = err != nil
	}
}
