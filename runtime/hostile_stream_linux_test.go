package ipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// What a hostile side of a stream can do is the list streamHostilities, the same for a
// reader and a writer, a client and a server. The hostile side is a process of its own in the
// role "stream hostile", and its victim another one, in the role "stream prey".

// Offsets of the words of a stream.
const (
	offTail, offFirst, offWriterEnd = 0, 8, 16
	offHead, offClaim, offReaderEnd = 128, 136, 144
	offSleep, offStarve             = 256, 384
	offTexts, offIndex              = 512, 2560
)

var streamWords = []int{offTail, offFirst, offWriterEnd, offHead, offClaim, offReaderEnd,
	offSleep, offStarve}

var streamHostilities = []struct {
	name string
	do   func(h *streamHostile)
}{
	{"words", func(h *streamHostile) {
		for range 2000 {
			h.step()
			h.put(h.pick(streamWords...), h.word())
		}
	}},
	{"index", func(h *streamHostile) {
		for range 2000 {
			h.step()
			number, slot := h.get(offTail)+h.rnd.Uint64N(4), h.rnd.Uint64N(uint64(h.Geo.Depth)+4)
			h.put(offIndex+h.rnd.IntN(h.Geo.Depth)*8, number<<16|slot)
		}
	}},
	{"lengths", func(h *streamHostile) {
		for range 2000 {
			h.step()
			h.put(h.slot(h.rnd.IntN(h.Geo.Depth+2)), h.word())
		}
	}},
	{"everywhere", func(h *streamHostile) {
		for i := range 10_000 {
			if i%10 == 0 {
				h.step()
			}
			h.put(h.rnd.IntN(len(h.Mem)/8)*8, h.word())
		}
	}},
	{"headers", func(h *streamHostile) {
		for range 2000 {
			h.step()
			i := h.rnd.IntN(h.Geo.Depth)
			number := h.get(offHead) + h.rnd.Uint64N(4)
			if h.rnd.IntN(2) == 0 {
				i = int(number % uint64(h.Geo.Depth))
			}
			h.put(h.slot(i), number<<32|h.rnd.Uint64N(uint64(h.Geo.Block)+2))
		}
	}},
	{"promises", func(h *streamHostile) {
		for range 10_000 {
			h.put(offTail, h.get(offHead)+h.rnd.Uint64N(3))
			h.put(offHead, h.get(offTail)+h.rnd.Uint64N(3))
			if h.rnd.IntN(50) == 0 {
				h.Notify()
			}
		}
	}},
	{"laps", func(h *streamHostile) { h.lap(100 * time.Millisecond) }},
	{"the end, and then laps", func(h *streamHostile) {
		h.step()
		h.put(offTail, h.get(offTail)+1)
		h.Close()
		h.lap(20 * time.Millisecond)
	}},
	{"the end, and then words", func(h *streamHostile) {
		h.step()
		h.Close()
		for range 2000 {
			h.put(h.pick(streamWords...), h.word())
		}
	}},
	{"ends", func(h *streamHostile) {
		for i := range 2 * shm.MaxEndText {
			h.Mem[offTexts+i] = byte(h.rnd.Uint32())
		}
		for _, end := range []int{offWriterEnd, offReaderEnd} {
			h.put(end, uint64(h.pick(0, 1, 2, 3))|uint64(h.rnd.Uint32N(1<<16))<<16|
				uint64(h.pick(0, 5, shm.MaxEndText, shm.MaxEndText+1, 1<<32-1))<<32)
		}
	}},
	{"noise beside the memory", func(h *streamHostile) {
		for range 500 {
			_, _ = h.Write(bytes.Repeat([]byte{'g', 0xff}, 50))
			h.Notify()
			h.step()
		}
	}},
	{"silence", func(h *streamHostile) {
		time.Sleep(time.Duration(h.rnd.IntN(30)) * time.Millisecond)
	}},
}

// A streamHostile is a raw side of a stream, with the honest side that it could be.
type streamHostile struct {
	*ipc.RawStream
	rnd *rand.Rand
	w   *shm.BlockWriter
	r   *shm.BlockReader
}

// step does what an honest side does next, so that the other side gets somewhere.
func (h *streamHostile) step() {
	wake := false
	if h.r != nil {
		if _, _, ok, err := h.r.Next(); ok && err == nil {
			wake = h.r.Release()
		}
	} else if b, ok := h.w.Reserve(); ok {
		wake = h.w.Commit(h.rnd.IntN(len(b) + 1))
	}
	if wake {
		h.Notify()
	}
}

// lap is a writer that seems to overwrite each block just before it is read.
func (h *streamHostile) lap(d time.Duration) {
	h.put(offTail, 1<<47)
	first := h.get(offClaim)
	for stop := time.Now().Add(d); time.Now().Before(stop); {
		for range 10_000 {
			first += 1 << 10
			h.put(offFirst, first)
		}
		h.Notify()
	}
}

func (h *streamHostile) put(at int, v uint64) { binary.NativeEndian.PutUint64(h.Mem[at:], v) }

func (h *streamHostile) get(at int) uint64 { return binary.NativeEndian.Uint64(h.Mem[at:]) }

// slot is where slot i begins.
func (h *streamHostile) slot(i int) int {
	stride := (8 + h.Geo.Block + 63) &^ 63
	return len(h.Mem) - (h.Geo.Depth+2-i)*stride
}

func (h *streamHostile) pick(of ...int) int { return of[h.rnd.IntN(len(of))] }

// word is a random word, mostly one that is likely.
func (h *streamHostile) word() uint64 {
	near := h.get(h.pick(offTail, offFirst, offHead, offClaim))
	switch h.rnd.IntN(4) {
	case 0:
		return near + h.rnd.Uint64N(5) - 2
	case 1:
		return h.rnd.Uint64N(5)
	case 2:
		return 1<<48 - h.rnd.Uint64N(5)
	}
	return h.rnd.Uint64() >> h.rnd.UintN(64)
}

func newStreamHostile(s *ipc.RawStream, rnd *rand.Rand) (*streamHostile, error) {
	h := &streamHostile{RawStream: s, rnd: rnd}
	var err error
	if s.Reads {
		h.r, err = shm.NewBlockReader(s.Mem, s.Geo, s.Overwrite)
	} else {
		h.w, err = shm.NewBlockWriter(s.Mem, s.Geo, s.Overwrite)
	}
	return h, err
}

// streamForms are the streams that are opened in turn.
func streamForm(n int) (o ipc.StreamOptions, read bool) {
	return ipc.StreamOptions{Depth: 1 + n/6%3*3, Payload: 100,
		Policy: ipc.StreamPolicy(n / 2 % 3)}, n%2 == 0
}

// streamHostileRole misuses streams of its side, over and over.
func streamHostileRole(domain ipc.RendezvousOption) error {
	seed, err := strconv.ParseUint(os.Getenv("IPC_TEST_SEED"), 10, 64)
	if err != nil {
		return err
	}
	client := os.Getenv(sideEnv) == "client"
	rnd := rand.New(rand.NewPCG(seed, 3))
	var l *ipc.Listener
	if !client {
		if l, err = ipc.Listen("blocks", domain); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for n := 0; ; n++ {
		var raw *ipc.RawStream
		if client {
			o, read := streamForm(n)
			raw, err = ipc.RawStreamDial(context.Background(), "blocks", blockStream, o, read,
				domain)
		} else {
			raw, err = ipc.RawStreamAccept(l, func(mem []byte) {
				for range rnd.IntN(2) * 10 {
					word := mem[rnd.IntN(min(400, len(mem)/8))*8:]
					binary.NativeEndian.PutUint64(word, rnd.Uint64()>>rnd.UintN(64))
				}
			})
		}
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		h, err := newStreamHostile(raw, rnd)
		if err != nil {
			return err
		}
		streamHostilities[rnd.IntN(len(streamHostilities))].do(h)
		_ = raw.End()
	}
}

// streamPreyRole uses streams of hostile processes. Whatever its peer does, each of its
// operations ends by its deadline, and its other connections go on. It ends with status 0
// after as many streams as callsEnv says.
func streamPreyRole(domain ipc.RendezvousOption) error {
	rounds, err := strconv.Atoi(os.Getenv(callsEnv))
	if err != nil {
		return err
	}
	if os.Getenv(sideEnv) == "server" {
		return streamPreyServer(domain, rounds)
	}
	ctx := context.Background()
	honest, err := ipc.Dial(ctx, "echo", domain)
	if err != nil {
		return err
	}
	defer honest.Close()
	fmt.Println("ready")
	for n, opened := 0, 0; opened < rounds; n++ {
		o, read := streamForm(n)
		soon, cancel := context.WithTimeout(ctx, 30*time.Second)
		open, err := useStream(soon, o, read, domain)
		cancel()
		if open {
			opened++
		}
		if err != nil {
			err = fmt.Errorf("stream %d: %w", n, err)
		} else if err = watch(func() error {
			_, err := echo(ctx, honest, make([]byte, 100))
			return err
		}); err != nil {
			err = fmt.Errorf("stream %d: another connection: %w", n, err)
		}
		if err != nil {
			return err
		}
	}
	return standing()
}

// useStream opens a stream, if it can, and uses it until it ends.
func useStream(ctx context.Context, o ipc.StreamOptions, read bool,
	domain ipc.RendezvousOption) (opened bool, err error) {
	if read {
		r, err := ipc.OpenStreamReader(ctx, "blocks", blockStream, o, domain)
		if err != nil {
			return false, typed(err)
		}
		defer r.Close()
		return true, preyReads(ctx, r)
	}
	w, err := ipc.OpenStreamWriter(ctx, "blocks", blockStream, o, domain)
	if err != nil {
		return false, typed(err)
	}
	defer w.CloseWithError(nil)
	return true, preyWrites(ctx, w)
}

// typed returns nil if err is one that a caller can tell from others, or none.
func typed(err error) error {
	if e := new(ipc.Error); err == nil || err == io.EOF || errors.As(err, &e) && e.Code != 0 {
		return nil
	}
	return fmt.Errorf("an error without a type: %w", err)
}

// preyReads reads until the stream ends, and touches all that it is given.
func preyReads(ctx context.Context, r *ipc.StreamReader) error {
	var sum byte
	for i := 0; ; i++ {
		soon, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		err := watch(func() error {
			return r.Read(soon, func(header, payload []byte, _ uint64) error {
				for _, b := range payload {
					sum += b
				}
				sum += header[len(header)-1]
				return nil
			})
		})
		cancel()
		if ipc.CodeOf(err) != ipc.CodeDeadlineExceeded && (err != nil || i == 10_000) {
			return typed(err)
		}
		if i%4 == 0 {
			if err := patientRead(ctx, r); err != nil {
				return err
			}
		}
	}
}

// patientRead reads without a deadline, and closes the stream if that takes long, which ends
// the read.
func patientRead(ctx context.Context, r *ipc.StreamReader) error {
	t := time.AfterFunc(50*time.Millisecond, func() { _ = r.Close() })
	defer t.Stop()
	return typed(watch(func() error {
		return r.Read(context.WithoutCancel(ctx), func([]byte, []byte, uint64) error { return nil })
	}))
}

// preyWrites writes until the stream ends.
func preyWrites(ctx context.Context, w *ipc.StreamWriter) error {
	for i := 0; ; i++ {
		soon, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		err := watch(func() error { return writeBlock(soon, w, uint64(i), i%100) })
		cancel()
		switch code := ipc.CodeOf(err); {
		case code == ipc.CodeDeadlineExceeded || code == ipc.CodeResourceExhausted:
		case err != nil || i == 10_000:
			return typed(err)
		}
	}
}

// watch ends this process, with all stacks, if f does not return for a minute.
func watch(f func() error) error {
	t := time.AfterFunc(time.Minute, func() {
		buf := make([]byte, 1<<16)
		fmt.Fprintf(os.Stderr, "an operation hangs\n%s", buf[:runtime.Stack(buf, true)])
		os.Exit(2)
	})
	defer t.Stop()
	return f()
}

// streamPreyServer serves streams, and calls on the side, until so many streams have ended.
func streamPreyServer(domain ipc.RendezvousOption, rounds int) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var ended atomic.Int64
	fault := make(chan error, 1)
	end := func(err error) error {
		if err != nil {
			select {
			case fault <- err:
			default:
			}
			stop()
		}
		if ended.Add(1) == int64(rounds) {
			stop()
		}
		return err
	}
	srv := ipc.NewServer(echoService(),
		ipc.HandleStreamReader(blockStream, func(ctx context.Context, r *ipc.StreamReader) error {
			return end(preyReads(ctx, r))
		}),
		ipc.HandleStreamWriter(blockStream, func(ctx context.Context, w *ipc.StreamWriter) error {
			return end(preyWrites(ctx, w))
		}))
	l, err := ipc.Listen("blocks", domain)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if err := srv.Serve(ctx, l); !errors.Is(err, context.Canceled) {
		return err
	}
	select {
	case err := <-fault:
		return err
	default:
		return standing()
	}
}

// TestHostileStreams lets either side of many streams, the reader and the writer, be one that
// breaks every rule.
func TestHostileStreams(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for _, prey := range []string{"client", "server"} {
		t.Run(prey, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			serve(t, ipc.WithDomain(path)) // the honest server of a prey that is a client
			other := map[string]string{"client": "server", "server": "client"}[prey]
			hostile := func() {
				startChild(t, "stream hostile", path, sideEnv+"="+other,
					"IPC_TEST_SEED="+itoa(int(rand.Uint32())))
			}
			if prey == "client" {
				hostile()
			}
			p := startChild(t, "stream prey", path, sideEnv+"="+prey, callsEnv+"="+itoa(rounds))
			if prey == "server" {
				honest, err := ipc.Dial(t.Context(), "blocks", ipc.WithDomain(path))
				if err != nil {
					t.Fatal(err)
				}
				defer honest.Close()
				hostile()
				hostile()
				for p.state() != 0 && ipc.CodeOf(err) != ipc.CodeUnavailable {
					if _, err = echo(t.Context(), honest, make([]byte, 100)); err != nil &&
						ipc.CodeOf(err) != ipc.CodeUnavailable {
						t.Errorf("an honest client: %v", err)
					}
				}
			}
			p.succeeds(t)
		})
	}
}

// A lapTransport makes each link of clients call expect whenever a side says that it expects a
// note.
type lapTransport struct {
	ipc.Transport
	expect func()
}

type lapLink struct {
	ipc.Link
	expect func()
}

func (t lapTransport) Dial(ctx context.Context, channel string) (ipc.Link, error) {
	l, err := t.Transport.Dial(ctx, channel)
	return lapLink{l, t.expect}, err
}

func (l lapLink) Expect() {
	l.expect()
	l.Link.Expect()
}

// TestLappedReader lets a hostile writer publish a block, and overwrite it, whenever the reader
// is about to sleep. The reader gets no block, and it does not look without a pause.
func TestLappedReader(t *testing.T) {
	net := ipc.TransportOf(ipctest.NewNetwork().As(ipc.Peer{UID: os.Geteuid()}))
	l, err := ipc.Listen("blocks", ipc.WithTransport(net))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var raw *ipc.RawStream
	opened := make(chan error, 1)
	go func() {
		var err error
		raw, err = ipc.RawStreamAccept(l, nil)
		opened <- err
	}()
	laps := 0
	r, err := ipc.OpenStreamReader(t.Context(), "blocks", blockStream,
		ipc.StreamOptions{Depth: 1, Policy: ipc.StreamOverwrite},
		ipc.WithTransport(lapTransport{net, func() {
			if raw != nil {
				laps++
				binary.NativeEndian.PutUint64(raw.Mem[offFirst:], uint64(laps))
				binary.NativeEndian.PutUint64(raw.Mem[offTail:], uint64(laps))
			}
		}}))
	if err := errors.Join(err, <-opened); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start := time.Now()
	for laps == 0 { // unless the deadline passes before the reader is about to sleep
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := r.Read(ctx, func([]byte, []byte, uint64) error {
			t.Error("there was a block")
			return nil
		}); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded {
			t.Errorf("the read: %v", err)
		}
	}
	// However slow the machine is, no pause is shorter than a millisecond. There are two laps to
	// one.
	if d := time.Since(start); laps > 4*int(d/time.Millisecond)+100 {
		t.Errorf("the reader was lapped %d times in %v", laps, d)
	}
}

// TestStreamMemoryIsLimited lets one process open streams until it gets no more. There is room left
// for another process, and the memory of streams that have ended is given back.
func TestStreamMemoryIsLimited(t *testing.T) {
	net := ipctest.NewNetwork()
	as := func(pid int) ipc.RendezvousOption {
		return net.As(ipc.Peer{PID: pid, UID: os.Geteuid()})
	}
	serve(t, as(1), ipc.WithMaxStreamMemory(32<<20), ipc.HandleStreamReader(blockStream,
		func(ctx context.Context, r *ipc.StreamReader) error {
			_, _, err := readBlock(ctx, r)
			return err
		}))
	open := func(pid int) (*ipc.StreamWriter, error) {
		return ipc.OpenStreamWriter(t.Context(), "echo", blockStream,
			ipc.StreamOptions{Depth: 1, Payload: 1 << 20}, as(pid)) // 3 MiB
	}
	var greedy []*ipc.StreamWriter
	var err error
	for err == nil && len(greedy) < 100 {
		var w *ipc.StreamWriter
		if w, err = open(2); err == nil {
			greedy = append(greedy, w)
		}
	}
	if len(greedy) != 9 || ipc.CodeOf(err) != ipc.CodeResourceExhausted ||
		!strings.Contains(err.Error(), "WithMaxStreamMemory") {
		t.Errorf("after %d streams of one process: %v", len(greedy), err)
	}
	w, err := open(3)
	if err != nil {
		t.Fatalf("a stream of another process: %v", err)
	}
	defer w.CloseWithError(nil)
	for _, w := range greedy {
		w.CloseWithError(nil)
	}
	for n := 0; n < 8; { // the server gives the memory back when its handlers have returned
		w, err := open(2)
		if err == nil {
			n++
			defer w.CloseWithError(nil)
		} else if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			t.Fatal(err)
		}
	}
}
