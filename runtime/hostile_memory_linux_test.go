package ipc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// Many connections that each keep within their limits, and together do not.

const (
	memoryLimit = 48 << 20 // of the messages of all clients
	memoryConns = 24
)

var methodIgnore = streamingMethod("Ignore", ipc.BidiStreaming)

// stingyRole serves with a limit of memory for messages, and handlers that take their time.
func stingyRole(domain ipc.RendezvousOption) error {
	debug.SetGCPercent(20)
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	data := make([]byte, longReply)
	srv := ipc.NewServer(ipc.WithMaxMessage(8<<20), ipc.WithMaxMessageMemory(memoryLimit),
		echoes(ipc.Handle(methodLong, func(_ context.Context, m *blob) (*blob, error) {
			return m, nil
		}), ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) {
			return m, nil
		}), ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), ipc.Handle(methodFast, func(context.Context, *blob) (*blob, error) {
			return &blob{Data: data}, nil
		}), ipc.Receive(messageNote, func(ctx context.Context, _ *blob) error {
			<-ctx.Done()
			return nil
		}), ipc.HandleBidiStream(methodIgnore, func(ctx context.Context,
			_ iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return func(func(*blob, error) bool) { <-ctx.Done() }
		}), ipc.HandleServerStream(methodCount, func(context.Context,
			*blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				for yield(&blob{Data: data[:100<<10]}, nil) {
				}
			}
		})))
	fmt.Println("ready")
	return srv.Serve(context.Background(), l)
}

// politeRole makes one long call, and says so.
func politeRole(domain ipc.RendezvousOption) error {
	c, err := ipc.Dial(context.Background(), "echo", domain, ipc.WithMaxMessage(8<<20))
	if err != nil {
		return err
	}
	rep, err := ipc.Invoke(context.Background(), c, methodLong, &blob{Data: make([]byte, 1<<20)})
	if err != nil || len(rep.Data) != 1<<20 {
		return fmt.Errorf("a long call of another process: %w", err)
	}
	fmt.Println("ready")
	select {}
}

// A hoarder is a raw client that has its server keep as much as it can.
type hoarder struct {
	*ipc.Raw
	server *child // nil: this process
	stuck  bool   // the server reads no more
}

// insist puts a frame, and reports false if the server reads no more: it sleeps, though there is
// something to read.
func (h *hoarder) insist(f ipc.RawFrame) bool {
	for looks := 0; !h.stuck && !h.Put(f); time.Sleep(100 * time.Microsecond) {
		if looks++; h.server == nil || !h.server.asleep() {
			looks = 0
		}
		h.stuck = looks == 100
	}
	return !h.stuck
}

// putPart sends the first n of total bytes of a message of which more is announced.
func (h *hoarder) putPart(f ipc.RawFrame, total, n int) {
	f.Tag |= ipc.RawMore
	f.Body = binary.NativeEndian.AppendUint64(nil, uint64(total))
	first := h.Longest() - len(f.Body)
	f.Body = append(f.Body, make([]byte, first)...)
	n -= first
	for ; h.insist(f) && n > 0; n -= h.Longest() {
		f = ipc.RawFrame{Tag: ipc.RawPiece | ipc.RawMore, Raw: true,
			Body: make([]byte, h.Longest())}
	}
}

// putWhole sends a message whose body is a vector of n bytes.
func (h *hoarder) putWhole(f ipc.RawFrame, n int) {
	body := append(append([]byte(nil), goodBlob...), make([]byte, n-len(goodBlob))...)
	if n <= h.Longest() {
		f.Body = body
		h.insist(f)
		return
	}
	f.Tag |= ipc.RawMore
	f.Body = binary.NativeEndian.AppendUint64(nil, uint64(n))
	for h.insist(f) && len(body) > 0 {
		part := body[:min(len(body), h.Longest())]
		body = body[len(part):]
		f = ipc.RawFrame{Tag: ipc.RawPiece, Raw: true, Body: part}
		if len(body) > 0 {
			f.Tag |= ipc.RawMore
		}
	}
}

// hoards are what a connection can have a server keep. Each would be more than 300 MB over all
// connections.
var hoards = []struct {
	name string
	do   func(h *hoarder)
}{
	{"incomplete requests", func(h *hoarder) {
		h.putPart(ipc.RawFrame{Tag: ipc.RawRequest, ID: 8, Method: methodLong.Info().ID},
			8<<20, 7<<20+300<<10)
	}},
	{"incomplete messages", func(h *hoarder) {
		h.putPart(ipc.RawFrame{Tag: ipc.RawMessage, ID: 8, Method: idOf("test.Echo/Note")},
			8<<20, 7<<20+300<<10)
	}},
	{"long requests", func(h *hoarder) {
		for i := range uint64(3) {
			h.putWhole(ipc.RawFrame{Tag: ipc.RawRequest, ID: (i + 1) << 3,
				Method: methodBlock.Info().ID}, 6<<20)
		}
	}},
	{"short requests", func(h *hoarder) {
		for i := range uint64(300) {
			h.putWhole(ipc.RawFrame{Tag: ipc.RawRequest, ID: (i + 1) << 3,
				Method: methodBlock.Info().ID}, 50<<10)
		}
	}},
	{"long messages", func(h *hoarder) {
		for i := range uint64(3) {
			h.putWhole(ipc.RawFrame{Tag: ipc.RawMessage, ID: i,
				Method: idOf("test.Echo/Note")}, 7<<20)
		}
	}},
	{"replies", func(h *hoarder) {
		for i := range uint64(30) {
			h.insist(ipc.RawFrame{Tag: ipc.RawRequest, ID: (i + 1) << 3, Body: goodBlob,
				Method: methodFast.Info().ID})
		}
	}},
	{"items that come", func(h *hoarder) {
		for id := range uint64(70) {
			h.insist(ipc.RawFrame{Tag: ipc.RawOpen, ID: id, Method: methodIgnore.Info().ID})
			for i := range uint32(4) {
				h.putWhole(ipc.RawFrame{Tag: ipc.RawItem, ID: id, Method: i}, 60<<10)
			}
		}
	}},
	{"items that go", func(h *hoarder) {
		for id := range uint64(150) {
			h.insist(ipc.RawFrame{Tag: ipc.RawOpen, ID: id, Method: methodCount.Info().ID,
				Body: goodBlob})
		}
	}},
}

// memoryOf returns what a process takes at most, in bytes.
func memoryOf(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(status)
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// TestMemoryOfAllConnections has one process keep within the limits of each of many connections.
// What the server keeps for all of them is bounded, other processes are served, and everything is
// given back.
func TestMemoryOfAllConnections(t *testing.T) {
	if raceDetector {
		t.Skip("the memory of the race detector is several times that of the server")
	}
	for _, h := range hoards {
		t.Run(h.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			// Its memory is to be what it keeps, and not what the garbage collector has not found.
			server := startChild(t, "stingy", path, "GOGC=20")
			d := ipc.WithDomain(path)
			other := dial(t, d, ipc.WithMaxMessage(8<<20))
			var raws []*ipc.Raw
			peak := 0
			for range memoryConns {
				raw := rawDial(t, d, ipc.WithMaxMessage(8<<20))
				raws = append(raws, raw)
				h.do(&hoarder{Raw: raw, server: server})
				peak = max(peak, memoryOf(t, server.Process.Pid))
			}
			most := uint64(0)
			for same := 0; same < 50; same++ { // until nothing more happens
				n := countersOf(t, other).MessagesMemory
				if n > most {
					most, same = n, 0
				}
				peak = max(peak, memoryOf(t, server.Process.Pid))
			}
			t.Logf("%d bytes are counted; the server took %d MB", most, peak>>20)
			// What cannot be refused any more exceeds the limit by a little for each connection.
			if most > memoryLimit+memoryConns*200<<10 || most < memoryLimit/2 {
				t.Errorf("%d bytes are counted, the limit is %d", most, memoryLimit)
			}
			if peak > 250<<20 {
				t.Errorf("the server took %d MB", peak>>20)
			}
			_, err := ipc.Invoke(t.Context(), other, methodLong, &blob{Data: make([]byte, 6<<20)})
			want(t, err, ipc.CodeResourceExhausted, ipc.OutcomeOf(err), "WithMaxMessageMemory",
				strconv.Itoa(memoryLimit))
			still(t, other)
			startChild(t, "polite", path)
			for _, raw := range raws {
				raw.End()
			}
			for limit := time.Now().Add(time.Minute); ; runtime.Gosched() {
				n := countersOf(t, other).MessagesMemory
				if n == 0 {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("%d bytes are counted when all have gone", n)
				}
			}
			if _, err := ipc.Invoke(t.Context(), other, methodLong,
				&blob{Data: make([]byte, 6<<20)}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMessageMemoryIsGivenBack has a server do everything that it does, with long and short
// messages and in disorder, after which nothing is counted.
func TestMessageMemoryIsGivenBack(t *testing.T) {
	d := newDomain(t)
	serve(t, d, streamingService())
	c := dial(t, d)
	long := strings.Repeat("x", 3<<20)
	var pending []<-chan error
	for i := range 60 {
		text := long
		if i%2 == 0 {
			text = "short"
		}
		ctx, cancel := context.WithCancel(t.Context())
		m := methodBlock
		if i%3 == 0 {
			m = methodEcho
		}
		pending = append(pending, invoke(ctx, c, m, text))
		time.AfterFunc(time.Duration(i)*time.Millisecond, cancel)
		_ = ipc.Send(t.Context(), c, messageNote, &blob{Data: []byte(text)})
	}
	for _, p := range pending {
		<-p
	}
	for limit := time.Now().Add(time.Minute); countersOf(t, c).MessagesMemory != 0; {
		if time.Now().After(limit) {
			t.Fatalf("%d bytes are counted", countersOf(t, c).MessagesMemory)
		}
		runtime.Gosched()
	}
}

func countersOf(t *testing.T, c *ipc.Conn) *introspect.CountersT {
	t.Helper()
	n, err := ipc.ReadCounters(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
