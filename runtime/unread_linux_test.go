package ipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A client that asks for long replies and reads none of them.

const (
	longReply   = 3 << 20
	mostUnread  = 300       // calls in flight, which would take 1.2 GB
	replyBudget = 64 << 20  // 8 messages of the limit that the connection has
	mostMemory  = 400 << 20 // twice that for the replies, once more for what is not collected yet
)

var (
	methodFast  = echoMethod("Fast")  // answers with longReply bytes
	methodSlow  = echoMethod("Slow")  // likewise, after a while
	methodBuilt = echoMethod("Built") // likewise, in place
	methodSpill = echoMethod("Spill") // likewise, in place and with too little room set aside
	methodWeigh = echoMethod("Weigh") // tells the memory of the process now, its peak, and how many
	// handlers run
)

// giverRole serves long replies.
func giverRole(domain ipc.RendezvousOption) error {
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	data := make([]byte, longReply)
	for i := range data {
		data[i] = byte(i)
	}
	var running atomic.Int64
	long := func(context.Context, *blob) (*blob, error) { return &blob{Data: data}, nil }
	inPlace := func(m *ipc.Method[blob, blob], size int) ipc.Route {
		return ipc.HandleInPlace(m,
			func(_ context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
				return reply.Build(size, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &blob{Data: data})
				})
			})
	}
	srv := ipc.NewServer(ipc.WithMaxMessage(8<<20), ipc.WithMaxCalls(mostUnread), echoService(
		ipc.Handle(methodFast, long),
		ipc.Handle(methodLong, func(_ context.Context, m *blob) (*blob, error) { return m, nil }),
		ipc.Receive(messageNote, func(ctx context.Context, m *blob) error {
			p, _ := ipc.PeerFromContext(ctx)
			return ipc.Send(ctx, p, messageNote, m)
		}),
		ipc.Handle(methodSlow, func(ctx context.Context, m *blob) (*blob, error) {
			running.Add(1)
			defer running.Add(-1)
			time.Sleep(50 * time.Millisecond)
			return long(ctx, m)
		}),
		inPlace(methodBuilt, longReply+100), inPlace(methodSpill, 100),
		ipc.Handle(methodWeigh, func(context.Context, *blob) (*blob, error) {
			debug.FreeOSMemory()
			status, err := os.ReadFile("/proc/self/status")
			if err != nil {
				return nil, err
			}
			var weight []byte
			for _, field := range []string{"VmRSS", "VmHWM"} {
				m := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
				if m == nil {
					return nil, errors.New("no " + field)
				}
				n, err := strconv.ParseUint(string(m[1]), 10, 64)
				if err != nil {
					return nil, err
				}
				weight = binary.LittleEndian.AppendUint64(weight, n<<10)
			}
			return &blob{Data: binary.LittleEndian.AppendUint64(weight,
				uint64(running.Load()))}, nil
		})))
	_, _ = os.Stdout.WriteString("ready\n")
	return srv.Serve(context.Background(), l)
}

// A weight is the memory of a process.
type weight struct{ now, peak, running uint64 }

func weigh(t *testing.T, c *ipc.Conn) (w weight) {
	t.Helper()
	rep, err := ipc.Invoke(t.Context(), c, methodWeigh, &blob{})
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	return weight{le.Uint64(rep.Data), le.Uint64(rep.Data[8:]), le.Uint64(rep.Data[16:])}
}

// TestUnreadReplies asks for replies and does not read them: the server keeps a bounded amount of
// them, stops to read requests, and serves others. It goes on when the client reads, and gives all
// back when the client is gone.
func TestUnreadReplies(t *testing.T) {
	if raceDetector {
		t.Skip("the memory of the race detector is several times that of the server")
	}
	kinds := []*ipc.Method[blob, blob]{methodFast, methodSlow, methodBuilt, methodSpill}
	if testing.Short() {
		kinds = kinds[:2]
	}
	for _, m := range kinds {
		t.Run(m.Info().Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			startChild(t, "giver", path)
			d := ipc.WithDomain(path)
			other := dial(t, d)
			before := weigh(t, other)
			raw := rawDial(t, d, ipc.WithMaxMessage(8<<20))
			request := ipc.RawFrame{Tag: ipc.RawRequest, Method: m.Info().ID, Body: goodBlob}
			sent := inundate(raw, 100_000, func(i int) ipc.RawFrame {
				request.ID = uint64(i+1) << 3
				return request
			})
			if sent == 100_000 {
				t.Error("the server reads on although nobody reads its replies")
			}
			w := weigh(t, other)
			for same := 0; same < 20; { // until nothing more happens
				next := weigh(t, other)
				if same++; next.running > 0 || next.peak > w.peak {
					same = 0
				}
				w = next
				runtime.Gosched()
			}
			if w.peak > mostMemory {
				t.Errorf("the server took %d MB", w.peak>>20)
			}
			t.Logf("%d requests; %d MB before, %d MB now, at most %d MB", sent, before.now>>20,
				w.now>>20, w.peak>>20)
			for answers := 0; answers < 50; { // of a client that reads after all
				if f := answerOf(t, raw); f.Tag&ipc.RawMore == 0 {
					answers++
				}
			}
			raw.End()
			for limit := time.Now().Add(time.Minute); ; {
				w = weigh(t, other)
				if w.now < before.now+32<<20 {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("the server keeps %d MB after the client has gone", w.now>>20)
				}
			}
		})
	}
}

// TestManyLongReplies shows that replies beyond the budget reach a client that reads.
func TestManyLongReplies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	startChild(t, "giver", path)
	c := dial(t, ipc.WithDomain(path), ipc.WithMaxMessage(8<<20))
	for _, m := range []*ipc.Method[blob, blob]{methodFast, methodSlow, methodBuilt, methodSpill} {
		var results []<-chan error
		for range 2 * replyBudget / longReply {
			results = append(results, invoke(t.Context(), c, m, ""))
		}
		for _, result := range results {
			if err := <-result; err != nil {
				t.Errorf("%s: %v", m.Info().Name, err)
			}
		}
	}
}

// TestIdlePlacesKeepLittle makes many calls at once with long replies: a client keeps little of
// what the server made it take, when the calls are over.
func TestIdlePlacesKeepLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	startChild(t, "giver", path)
	c := dial(t, ipc.WithDomain(path), ipc.WithMaxMessage(8<<20))
	for range 3 {
		var results []<-chan error
		for range 60 {
			results = append(results, invoke(t.Context(), c, methodSlow, ""))
		}
		for _, result := range results {
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
	}
	expectFew(t, 100, 60<<20)
	still(t, c)
}

// TestIdleConnectionsKeepLittle sends long messages of each kind over many connections, one after
// the other: neither side keeps memory for each of the connections that are idle since.
func TestIdleConnectionsKeepLittle(t *testing.T) {
	if raceDetector {
		t.Skip("the memory of the race detector is several times that of the server")
	}
	const most = 128 << 10 // bytes that a connection may keep, its rings included
	conns := 200
	if testing.Short() {
		conns = 60
	}
	path := filepath.Join(t.TempDir(), "d")
	startChild(t, "giver", path)
	var came atomic.Int64
	gate := make(chan struct{})
	d := ipc.WithDomain(path)
	opts := []ipc.DialOption{ipc.WithMaxMessage(8 << 20), ipc.WithRings(16<<10, 16<<10),
		ipc.NewService(echoProtocol, ipc.Receive(messageNote,
			func(context.Context, *blob) error { <-gate; came.Add(1); return nil }))}
	other := dial(t, d, opts...)
	before, heap := weigh(t, other), heapNow()
	long := &blob{Data: make([]byte, 1<<20-100)}
	notes := int64(0)
	for range conns {
		c := dial(t, d, opts...)
		if _, err := ipc.Invoke(t.Context(), c, methodLong, long); err != nil {
			t.Fatal(err)
		}
		note := long // comes back
		for range 30 {
			if err := ipc.Send(t.Context(), c, messageNote, note); err != nil {
				t.Fatal(err)
			}
			note = &blob{Data: make([]byte, 1000)}
			notes++
		}
	}
	close(gate)
	for came.Load() < notes {
		runtime.Gosched()
	}
	atMost := uint64(conns*most) + 32<<20
	for limit := time.Now().Add(time.Minute); ; {
		now, here := weigh(t, other).now-before.now, heapNow()-heap
		if now <= atMost && here <= atMost || time.Now().After(limit) {
			t.Logf("%d idle connections take %d MB of the server, %d MB of the client", conns,
				now>>20, here>>20)
			if now > atMost || here > atMost {
				t.Errorf("more than %d MB", atMost>>20)
			}
			break
		}
	}
}

// heapNow returns how many bytes of heap are in use when the garbage collector has emptied the
// pools.
func heapNow() uint64 {
	var mem runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&mem)
	return mem.HeapAlloc
}
