package ipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// What a hostile peer can do is the list hostilities, the same for either side: the peer
// is a process of its own in the role "hostile", and what it attacks another one, in the role
// "prey", which must neither end nor hang, and in the end says how much it holds.

// A hostility is one way to misuse a connection. It returns when it has done so, or when the
// connection has ended.
var hostilities = []struct {
	name string
	do   func(h *hostile)
}{
	{"every kind of frame at once", func(h *hostile) {
		for range 1 + h.rnd.IntN(50) {
			h.Put(h.frame())
		}
	}},
	{"every kind of frame as an answer", func(h *hostile) {
		for range 300 {
			f, ok := h.Get()
			if !ok {
				time.Sleep(10 * time.Microsecond)
				continue
			}
			h.seen = f
			for range 1 + h.rnd.IntN(3) {
				h.Put(h.frame())
			}
		}
	}},
	{"every answer twice", func(h *hostile) {
		for range 300 {
			f, ok := h.Get()
			if !ok {
				time.Sleep(10 * time.Microsecond)
				continue
			}
			answer := ipc.RawFrame{Tag: ipc.RawReply, ID: f.ID, Body: f.Body}
			h.Put(answer)
			h.Put(answer)
		}
	}},
	{"answers that are rubbish", func(h *hostile) {
		for range 300 {
			f, ok := h.Get()
			if !ok {
				time.Sleep(10 * time.Microsecond)
				continue
			}
			body := make([]byte, h.rnd.IntN(100))
			for i := range body {
				body[i] = byte(h.rnd.Uint32())
			}
			h.Put(ipc.RawFrame{Tag: ipc.RawReply + h.rnd.Uint32N(2), ID: f.ID,
				Method: f.Method, Body: body})
		}
	}},
	{"scribbling", func(h *hostile) {
		mem := h.memory()
		for i := range 20_000 {
			if i%50 == 0 {
				if f, ok := h.Get(); ok {
					h.Put(ipc.RawFrame{Tag: ipc.RawReply, ID: f.ID, Body: f.Body})
				}
			}
			word := h.rnd.Uint64() >> h.rnd.UintN(64)
			at := h.rnd.IntN(len(mem)/8) * 8
			if i%2 == 0 {
				at = h.rnd.IntN(64) * 8 // the words of the ring, and the first records
			}
			binary.NativeEndian.PutUint64(mem[at:], word)
		}
	}},
	{"a flood of abandoned messages", func(h *hostile) {
		h.flood(ipc.RawFrame{Tag: ipc.RawAbort})
	}},
	{"a flood of answers to nothing", func(h *hostile) {
		h.flood(ipc.RawFrame{Tag: ipc.RawReply, ID: 8 << 20})
	}},
	{"a flood of messages to nobody", func(h *hostile) {
		h.flood(ipc.RawFrame{Tag: ipc.RawMessage, Method: 1})
	}},
	{"a flood of messages", func(h *hostile) {
		h.flood(ipc.RawFrame{Tag: ipc.RawMessage, Method: idOf("test.Echo/Note"), Body: goodBlob})
	}},
	{"a flood of openings", func(h *hostile) {
		stop := time.Now().Add(300 * time.Millisecond)
		for id := uint64(1); time.Now().Before(stop); id++ {
			f := ipc.RawFrame{Tag: ipc.RawOpen, ID: id, Body: goodBlob,
				Method: idOf("test.Echo/" + []string{"Count", "Upload", "Jam"}[id%3])}
			h.Put(f)
			h.Put(ipc.RawFrame{Tag: ipc.RawItem, ID: id, Body: goodBlob})
			h.Get()
		}
	}},
	{"a flood of items for no call", func(h *hostile) {
		h.flood(ipc.RawFrame{Tag: ipc.RawItem, ID: 1 << 40, Body: goodBlob})
	}},
	{"items of calls, and their ends", func(h *hostile) {
		h.Put(ipc.RawFrame{Tag: ipc.RawOpen, ID: 7, Method: idOf("test.Echo/Jam")})
		numbers := map[uint64]uint32{}
		for range 2000 {
			if f, ok := h.Get(); ok {
				h.seen = f
			}
			id := h.seen.ID
			if h.client {
				id = 7
			}
			n := numbers[id]
			numbers[id]++
			h.Put(ipc.RawFrame{Tag: ipc.RawItem, ID: id, Method: n, Body: goodBlob})
			switch h.rnd.IntN(300) {
			case 0:
				h.Put(ipc.RawFrame{Tag: ipc.RawEnd, ID: id, Seq: uint64(h.rnd.IntN(3))})
			case 1:
				h.Put(ipc.RawFrame{Tag: ipc.RawCredit, ID: id, Seq: 1, Deadline: 84})
			case 2:
				h.Put(ipc.RawFrame{Tag: ipc.RawCredit, ID: id, Seq: 1 << 60, Deadline: -1})
			}
		}
	}},
	{"announced and not sent", func(h *hostile) {
		h.Put(ipc.RawFrame{Tag: ipc.RawMessage | ipc.RawMore,
			Body: binary.NativeEndian.AppendUint64(nil, 4<<20)})
		time.Sleep(time.Duration(h.rnd.IntN(20)) * time.Millisecond)
	}},
	{"noise beside the ring", func(h *hostile) {
		for range 500 {
			_, _ = h.Write(bytes.Repeat([]byte{'g', 0xff}, 50))
			h.Notify()
		}
	}},
	{"silence", func(h *hostile) { time.Sleep(time.Duration(h.rnd.IntN(30)) * time.Millisecond) }},
}

// goodBlob is a well-formed message of the echo protocol.
var goodBlob = func() []byte {
	b := flatbuffers.NewBuilder(64)
	_ = encodeBlob(b, 0, &blob{Data: make([]byte, 20)})
	return b.FinishedBytes()
}()

// A hostile is a raw side of a connection.
type hostile struct {
	*ipc.Raw
	rnd    *rand.Rand
	client bool
	seen   ipc.RawFrame // what the other side has sent last
}

// memory is the ring into which the hostile writes, with its words.
func (h *hostile) memory() []byte {
	if h.client {
		return h.Seg.ToServer()
	}
	return h.Seg.ToClient()
}

// flood sends f for as long as the other side bears it.
func (h *hostile) flood(f ipc.RawFrame) {
	for stop := time.Now().Add(300 * time.Millisecond); time.Now().Before(stop); {
		if !h.Put(f) {
			runtime.Gosched()
		}
		h.Get()
	}
}

// frame is a random record, mostly of a kind that exists.
func (h *hostile) frame() ipc.RawFrame {
	pick := func(of ...uint64) uint64 { return of[h.rnd.IntN(len(of))] }
	methods := []uint64{uint64(idOf("test.Echo/Echo")), uint64(idOf("test.Echo/Note")),
		uint64(idOf("test.Echo/Aside")),
		uint64(idOf("test.Echo/Block")), uint64(idOf("test.Echo/Panic")), uint64(h.rnd.Uint32()),
		uint64(idOf("test.Echo/Count")), uint64(idOf("test.Echo/Upload")),
		uint64(idOf("test.Echo/Jam")), uint64(h.seen.Method)}
	f := ipc.RawFrame{
		Tag: uint32(pick(0, 1, 2, 3, 4, 5, 6, 7, 2, 3, 5, 6, 8, 9, 10, 11, 8, 9, 10, 11, 12,
			0xff)) |
			uint32(pick(0, 0, 0, 0, 0x100, 0x200, 0x300, 0x8000_0000)),
		ID: pick(0, h.seen.ID, h.seen.ID, h.seen.ID|1, h.seen.ID+1<<19, 1<<19,
			h.rnd.Uint64()),
		Epoch:    pick(0, 0, h.rnd.Uint64()),
		Method:   uint32(pick(methods...)),
		Code:     ipc.Code(pick(0, 7, uint64(h.rnd.Uint32()))),
		Outcome:  ipc.Outcome(h.rnd.Uint32()),
		Seq:      pick(0, 0, 1, h.rnd.Uint64()),
		Deadline: int64(pick(0, 0, 1, h.rnd.Uint64())),
		Raw:      h.rnd.IntN(10) == 0,
	}
	switch h.rnd.IntN(4) {
	case 0:
		f.Body = h.seen.Body
	case 1:
		f.Body = goodBlob
	case 2:
		f.Body = make([]byte, h.rnd.IntN(3000))
		for i := range f.Body {
			f.Body[i] = byte(h.rnd.Uint32())
		}
	}
	if f.Tag&0x100 != 0 {
		f.Body = append(binary.NativeEndian.AppendUint64(nil,
			pick(0, 10, uint64(len(f.Body)), 1<<20, h.rnd.Uint64())), f.Body...)
	}
	return f
}

// hostileRole misuses connections of its side, over and over, and prints what it did when it
// is told to end.
func hostileRole(domain ipc.RendezvousOption) error {
	seed, err := strconv.ParseUint(os.Getenv("IPC_TEST_SEED"), 10, 64)
	if err != nil {
		return err
	}
	client := os.Getenv("IPC_TEST_SIDE") == "client"
	rnd := rand.New(rand.NewPCG(seed, 2))
	var l *ipc.Listener
	if !client {
		if l, err = ipc.Listen("echo", domain); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for n := 0; ; n++ {
		var raw *ipc.Raw
		if client {
			raw, err = ipc.RawDial(context.Background(), "echo", domain)
		} else {
			raw, err = ipc.RawAccept(l,
				ipc.RawHello{ToServer: 16 << 10, ToClient: 16 << 10, MaxMessage: 16 << 20,
					MaxCalls: 64}, echoProtocol)
		}
		if err != nil {
			time.Sleep(time.Millisecond) // its prey has closed the connection already, or is gone
			continue
		}
		hostilities[n%len(hostilities)].do(&hostile{Raw: raw, rnd: rnd, client: client})
		raw.End()
	}
}

// preyRole is a client, or a server, of a hostile process: it uses everything that a
// connection has. Whatever its peer does, each of its calls ends by its deadline. It ends
// with status 0 after so many connections as callsEnv says.
func preyRole(domain ipc.RendezvousOption) error {
	rounds, err := strconv.Atoi(os.Getenv(callsEnv))
	if err != nil {
		return err
	}
	if os.Getenv("IPC_TEST_SIDE") == "server" {
		return servePrey(domain, rounds)
	}
	fmt.Println("ready")
	for n := 0; n < rounds; {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		c, err := ipc.Dial(ctx, "echo", domain, ignoreNotes())
		cancel()
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		switch n % 3 {
		case 1: // it has not called yet
			time.Sleep(5 * time.Millisecond)
		case 2: // it never calls
			select {
			case <-c.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		if n%3 < 2 {
			callHostile(c)
		}
		c.Close()
		n++
	}
	return standing()
}

// callHostile makes calls of every form until the connection ends.
func callHostile(c *ipc.Conn) {
	for i := range 60 {
		if c.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		switch i % 6 {
		case 0, 1:
			_, _ = echo(ctx, c, make([]byte, i*100))
		case 2:
			_ = c.InvokeInPlace(ctx, &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: 200,
				Build: func(b *flatbuffers.Builder, _ uint64) {
					_ = encodeBlob(b, 0, &blob{Data: make([]byte, 100)})
				},
				Read: readTwice,
			})
		case 3:
			_ = ipc.Send(ctx, c, messageNote, &blob{Data: make([]byte, 50)})
		case 4:
			for range ipc.InvokeBidiStream(ctx, c, methodJam, counted(1000)) {
			}
		case 5:
			_, _ = ipc.InvokeClientStream(ctx, c, methodUpload, counted(1000))
		}
		cancel()
	}
}

// readTwice reads a length and then uses it, as an accessor does of a message that has been
// verified: it panics when the message changes in between.
func readTwice(reply []byte) error {
	if len(reply) < 8 {
		return errMalformed
	}
	for range 200 {
		n := int(binary.LittleEndian.Uint32(reply))
		_ = reply[n]
	}
	return nil
}

// servePrey serves until so many connections have ended.
func servePrey(domain ipc.RendezvousOption, rounds int) error {
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	var ended atomic.Int64
	srv := ipc.NewServer(append(everything(ipc.Receive(messageNote,
		func(context.Context, *blob) error {
			return nil
		})),
		ipc.WithMaxCalls(64),
		ipc.WithAuthorize(func(ipc.Peer) error { ended.Add(1); return nil }))...)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		for int(ended.Load()) < rounds {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	fmt.Println("ready")
	if err := srv.Serve(ctx, l); !errors.Is(err, context.Canceled) {
		return err
	}
	return standing()
}

// standing checks what this process still holds when all connections have ended.
func standing() error {
	const goroutines, heap = 100, 64 << 20
	var mem runtime.MemStats
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		runtime.ReadMemStats(&mem)
		n := runtime.NumGoroutine()
		if n <= goroutines && mem.HeapAlloc <= heap {
			return nil
		}
		if time.Now().After(limit) {
			buf := make([]byte, 1<<16)
			return fmt.Errorf("%d goroutines and %d bytes are left\n%s", n, mem.HeapAlloc,
				buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestHostilePeers lets either side of many connections be one that breaks every rule.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	rounds := 10 * len(hostilities)
	if testing.Short() {
		rounds = 2 * len(hostilities)
	}
	for _, prey := range []string{"client", "server"} {
		t.Run(prey, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			other := map[string]string{"client": "server", "server": "client"}[prey]
			var p *child
			start := func() {
				p = startChild(t, "prey", path, "IPC_TEST_SIDE="+prey, callsEnv+"="+itoa(rounds))
			}
			if prey == "server" {
				start()
			}
			startChild(t, "hostile", path, "IPC_TEST_SIDE="+other, "IPC_TEST_SEED="+
				itoa(int(rand.Uint32())))
			if prey == "client" {
				start()
			}
			p.succeeds(t)
		})
	}
}
