package ipc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A peer that exceeds the limits of docs/protocol.md: what it makes the other side keep is
// bounded, and is given back.

// rawDial connects a raw client to the server of the echo channel.
func rawDial(t *testing.T, v ipc.RendezvousOption, opts ...ipc.DialOption) *ipc.Raw {
	t.Helper()
	raw, err := ipc.RawDial(t.Context(), "echo", append(opts, v)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.End)
	return raw
}

// inundate sends n requests, waiting for room, until the connection ends; it never reads an
// answer. It reports how many were sent before the server stopped to read, for a second of the time
// in which this process ran.
func inundate(raw *ipc.Raw, n int, request func(i int) ipc.RawFrame) (sent int) {
	for stuck := sys.NewPatience(time.Second); sent < n; {
		if raw.Put(request(sent)) {
			sent++
			stuck = sys.NewPatience(time.Second)
		} else if stuck.Next() == 0 {
			break
		} else {
			time.Sleep(10 * time.Microsecond)
		}
	}
	return sent
}

// expectFew fails the test while this process has more than so many goroutines, or, after a
// garbage collection, so many bytes of heap.
func expectFew(t *testing.T, goroutines int, heap uint64) {
	t.Helper()
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	if n := runtime.NumGoroutine(); n > goroutines || mem.HeapAlloc > heap {
		t.Errorf("%d goroutines, %d bytes of heap", n, mem.HeapAlloc)
	}
}

// TestOneIDForManyCalls sends calls under the id of one that is in flight. The server ends
// the connection, and with it the call.
func TestOneIDForManyCalls(t *testing.T) {
	expectNothingLeft(t)
	d := newDomain(t)
	srv := serve(t, d)
	raw := rawDial(t, d)
	inundate(raw, 20_000, func(int) ipc.RawFrame {
		return ipc.RawFrame{Tag: ipc.RawRequest, ID: 8, Method: methodBlock.Info().ID,
			Body: goodBlob}
	})
	expectFew(t, 200, 64<<20)
	for srv.Conns() > 0 {
		runtime.Gosched()
	}
	if srv.Corrupted() != 1 {
		t.Errorf("the server counts %d corruptions", srv.Corrupted())
	}
	still(t, dial(t, d))
}

// TestManyCallsAtOnce exceeds the number of calls in flight, without reading the refusals. The
// server reads no further than it can answer.
func TestManyCallsAtOnce(t *testing.T) {
	for name, request := range map[string]func(i int) ipc.RawFrame{
		"handlers that take long": func(i int) ipc.RawFrame {
			return ipc.RawFrame{Tag: ipc.RawRequest, ID: uint64(i+1) << 3,
				Method: methodBlock.Info().ID, Body: goodBlob}
		},
		"handlers that are fast": func(i int) ipc.RawFrame {
			return ipc.RawFrame{Tag: ipc.RawRequest, ID: uint64(i+1) << 3,
				Method: methodEcho.Info().ID, Body: goodBlob}
		},
		"methods that do not exist": func(i int) ipc.RawFrame {
			return ipc.RawFrame{Tag: ipc.RawRequest, ID: uint64(i+1) << 3, Method: uint32(i)}
		},
		"calls that are cancelled at once": func(i int) ipc.RawFrame {
			if i%2 == 1 {
				return ipc.RawFrame{Tag: ipc.RawCancel, ID: uint64(i) << 3}
			}
			return ipc.RawFrame{Tag: ipc.RawRequest, ID: uint64(i+1) << 3,
				Method: idOf("test.Echo/Deaf"), Body: goodBlob}
		},
	} {
		t.Run(name, func(t *testing.T) {
			expectNothingLeft(t)
			d := newDomain(t)
			end := make(chan struct{})
			defer close(end)
			serve(t, d, ipc.WithMaxCalls(100), ipc.NewService(&ipc.Protocol{Name: "test.Deaf"},
				ipc.Handle(echoMethod("Deaf"), func(context.Context, *blob) (*blob, error) {
					<-end
					return &blob{}, nil
				})))
			raw := rawDial(t, d)
			if sent := inundate(raw, 200_000, request); sent == 200_000 {
				t.Error("the server reads on although nobody reads its answers")
			}
			expectFew(t, 500, 64<<20)
			still(t, dial(t, d))
			raw.End()
		})
	}
}

// putLong sends a request of n bytes in pieces, waiting for room.
func putLong(t *testing.T, raw *ipc.Raw, id uint64, method uint32, n int) {
	t.Helper()
	piece := ipc.RawFrame{Tag: ipc.RawRequest | ipc.RawMore, ID: id, Method: method,
		Body: binary.NativeEndian.AppendUint64(nil, uint64(n))}
	body := append(make([]byte, n-len(goodBlob)), goodBlob...)
	copy(body, goodBlob)
	for limit := time.Now().Add(time.Minute); ; {
		for !raw.Put(piece) {
			if time.Now().After(limit) {
				t.Fatal("the server reads no more")
			}
			runtime.Gosched()
		}
		if len(body) == 0 {
			return
		}
		part := body[:min(len(body), raw.Longest())]
		body = body[len(part):]
		piece = ipc.RawFrame{Tag: ipc.RawPiece, Raw: true, Body: part}
		if len(body) > 0 {
			piece.Tag |= ipc.RawMore
		}
	}
}

// answerOf waits for the next answer.
func answerOf(t *testing.T, raw *ipc.Raw) ipc.RawFrame {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if f, ok := raw.Get(); ok {
			return f
		}
		if time.Now().After(limit) {
			t.Fatal("the server does not answer")
		}
	}
}

// TestLongRequestsHeld makes calls whose handlers go on, with long requests: what they hold of one
// connection is bounded in bytes, however few the calls, and however small the ring.
func TestLongRequestsHeld(t *testing.T) {
	for _, ring := range []int{16 << 10, ipc.DefaultRingCapacity, 256 << 10} {
		t.Run(fmt.Sprintf("%d KiB", ring>>10), func(t *testing.T) { longRequestsHeld(t, ring) })
	}
}

func longRequestsHeld(t *testing.T, ring int) {
	const long, budget, calls = 8 << 20, 64 << 20, 16
	block := methodBlock.Info().ID
	d := newDomain(t)
	serve(t, d, ipc.WithMaxMessage(long), ipc.WithRings(ring, ring))
	raw := rawDial(t, d)

	for i := range uint64(calls) {
		putLong(t, raw, (i+1)<<3, block, long)
	}
	for range calls - budget/long { // those that go beyond it are refused
		f := answerOf(t, raw)
		if f.Tag != ipc.RawError || f.Code != ipc.CodeResourceExhausted ||
			f.Outcome != ipc.NotExecuted {
			t.Fatalf("the answer is %+v", f)
		}

	}
	expectFew(t, 500, budget+56<<20) // the ballast counts as 32 MiB of the heap
	for i := range uint64(calls) {   // what ends gives its share back
		for !raw.Put(ipc.RawFrame{Tag: ipc.RawCancel, ID: (i + 1) << 3}) {
			runtime.Gosched()
		}
	}
	for range budget / long {
		if f := answerOf(t, raw); f.Code != ipc.CodeCanceled {
			t.Errorf("a call within the limit is answered with %+v", f)
		}
	}
	putLong(t, raw, 1000<<3, block, long)
	raw.Put(ipc.RawFrame{Tag: ipc.RawCancel, ID: 1000 << 3})
	if f := answerOf(t, raw); f.Code != ipc.CodeCanceled {
		t.Errorf("a call after the others have ended: %+v", f)
	}
}

// TestLongRequestsOfAnsweredCalls makes calls while handlers go on after their replies: the
// requests that these handlers hold do not count, up to as many bytes again.
func TestLongRequestsOfAnsweredCalls(t *testing.T) {
	const long, budget = 8 << 20, 64 << 20
	end := make(chan struct{})
	release := sync.OnceFunc(func() { close(end) })
	defer release()
	d := newDomain(t)
	serve(t, d, ipc.WithMaxMessage(long), ipc.NewService(&ipc.Protocol{Name: "test.Linger"},
		ipc.HandleInPlace(methodLinger,
			func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
				err := reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &blob{})
				})
				<-end
				return err
			})))
	c := dial(t, d, ipc.WithMaxMessage(long))
	data := make([]byte, long-100)
	for i := range 2 * budget / long {
		if err := asideBy(t.Context(), c, methodLinger, data); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	want(t, asideBy(t.Context(), c, methodLinger, data), ipc.CodeResourceExhausted,
		ipc.NotExecuted, "limit of a connection is 134217728")
	release()
	for ipc.CodeOf(asideBy(t.Context(), c, methodLinger, data)) == ipc.CodeResourceExhausted {
		runtime.Gosched()
	}
	still(t, c)
}

// TestShortRequestsAfterLongOnes lets calls with short requests follow others with long ones,
// again and again, and go on: they do not keep the memory of the long ones.
func TestShortRequestsAfterLongOnes(t *testing.T) {
	const long = 2 << 20
	block := methodBlock.Info().ID
	d := newDomain(t)
	serve(t, d, ipc.WithMaxMessage(4<<20))
	raw := rawDial(t, d)
	id := uint64(0)
	for range 10 {
		first := id + 8
		for range 15 {
			id += 8
			putLong(t, raw, id, block, long)
		}
		for ; first <= id; first += 8 {
			raw.Put(ipc.RawFrame{Tag: ipc.RawCancel, ID: first})
			answerOf(t, raw)
		}
		for range 15 {
			id += 8
			raw.Put(ipc.RawFrame{Tag: ipc.RawRequest, ID: id, Method: block, Body: goodBlob})
		}
	}
	still(t, dial(t, d))
	expectFew(t, 1000, 150<<20)
}

// TestAnnouncedMessages announces messages as long as the limit, and sends none.
func TestAnnouncedMessages(t *testing.T) {
	d := newDomain(t)
	serve(t, d)
	for range 50 {
		rawDial(t, d).Put(ipc.RawFrame{Tag: ipc.RawRequest | ipc.RawMore,
			Body: binary.NativeEndian.AppendUint64(nil, ipc.DefaultMaxMessage)})
	}
	still(t, dial(t, d))
	expectFew(t, 500, 64<<20)
}
