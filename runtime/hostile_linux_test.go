package ipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// vandalRole is a client that overwrites the memory that it shares with the server with random
// words, and makes calls meanwhile, so that the server reads these words. It ends when it has lost
// its connection often enough.
func vandalRole(domain ipc.RendezvousOption) error {
	seed, err := strconv.ParseUint(os.Getenv("IPC_TEST_SEED"), 10, 64)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for round := range 30 {
		c, err := ipc.Dial(context.Background(), "echo", domain)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := vandalise(c, mem, rnd, round); err != nil {
			return err
		}
	}
	return nil
}

func vandalise(c *ipc.Conn, mem *os.File, rnd *rand.Rand, round int) error {
	defer c.Close()
	from, to, err := sharedMemory()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var calls sync.WaitGroup
	if round%2 == 0 {
		sockets, err := openSockets()
		if err != nil {
			return err
		}
		calls.Go(func() { ringAll(ctx, sockets) })
	}
	calls.Go(func() {
		for ctx.Err() == nil {
			if _, err := echo(ctx, c, make([]byte, 500)); err != nil && c.Err() != nil {
				return
			}
		}
	})
	for i := 0; i < 20_000 && c.Err() == nil; i++ {
		at := from + rnd.Int64N(to-from)
		word := rnd.Uint64()
		switch round % 3 {
		case 1: // only the words of the rings, with likely values
			at = from + 128 + rnd.Int64N(2)*(512+ipc.DefaultRingCapacity) + rnd.Int64N(64)*8
			word >>= rnd.UintN(64)
		case 2: // the first records
			at = from + 128 + 512 + rnd.Int64N(64)*8
			word &= 0x3ff_0000ffff
		}
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], word)
		if _, err := mem.WriteAt(b[:], min(at, to-8)); err != nil {
			break // the connection is lost, and the memory no longer mapped
		}
	}
	cancel()
	calls.Wait()
	return nil
}

// openSockets are this process's.
func openSockets() (fds []int, err error) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		to, _ := os.Readlink("/proc/self/fd/" + f.Name())
		if fd, err := strconv.Atoi(f.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// ringAll sends arbitrary bytes over the sockets again and again. The server is woken without end,
// and finds bytes where it expects none.
func ringAll(ctx context.Context, fds []int) {
	rubbish := bytes.Repeat([]byte{'g', 0xff}, 100)
	for ctx.Err() == nil {
		for _, fd := range fds {
			// it may be full, or closed
			_ = syscall.Sendto(fd, rubbish, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, nil)
		}
	}
}

// sharedMemory finds where the connection's memory is mapped.
func sharedMemory() (from, to int64, err error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "memfd:ipcgen") {
			_, err := fmt.Sscanf(line, "%x-%x", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, errors.New("no shared memory is mapped")
}

// TestVandals has clients overwrite their shared memory with random words. The server, in this
// process, neither ends nor hangs, and other clients are not affected.
func TestVandals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := serve(t, ipc.WithDomain(path))
	honest := dial(t, ipc.WithDomain(path))
	seeds := 4
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		v := startChild(t, "vandal", path, "IPC_TEST_SEED="+itoa(seed))
		for calls := 0; ; calls++ {
			data := bytes.Repeat([]byte{byte(calls)}, calls%3000)
			got, err := echo(t.Context(), honest, data)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("seed %d: call %d of an honest client: %v", seed, calls, err)
			}
			select {
			case <-v.done:
			default:
				continue
			}
			break
		}
		if !v.ProcessState.Success() {
			t.Errorf("seed %d: the vandal itself: %v", seed, v.ProcessState)
		}
	}
	for srv.Conns() > 1 {
		runtime.Gosched()
	}
	if srv.Corrupted() == 0 {
		t.Error("the server has not counted the corruptions")
	}
}

// TestCorruptions overwrites each word that one side writes for the other. The side that reads the
// word ends the connection and counts the corruption.
func TestCorruptions(t *testing.T) {
	const toServer, toClient = 128, 128 + 512 + ipc.DefaultRingCapacity
	for name, word := range map[string]struct {
		at     int64
		server bool // reads it
	}{
		"tail of the ring to the server": {toServer, true},
		"head of the ring to the server": {toServer + 128, false},
		"tail of the ring to the client": {toClient, false},
		"head of the ring to the client": {toClient + 128, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			srv := serve(t, d)
			c := dial(t, d)
			mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer mem.Close()
			from, _, err := sharedMemory()
			if err != nil {
				t.Fatal(err)
			}
			garbage := bytes.Repeat([]byte{0x5a}, 8)
			for c.Err() == nil && err == nil { // the word's owner writes to it, too
				_, err = mem.WriteAt(garbage, from+word.at)
				_, _ = echo(t.Context(), c, make([]byte, 60_000))
			}
			<-c.Done()
			for srv.Conns() > 0 {
				runtime.Gosched()
			}
			client, server := c.Stats().Corruptions, srv.Corrupted()
			if word.server && (client != 0 || server != 1) || !word.server &&
				(client != 1 || server != 0) {
				t.Errorf("the client counts %d corruptions, the server %d", client, server)
			}
			if want := map[bool]ipc.Code{true: ipc.CodeUnavailable,
				false: ipc.CodeCorrupt}[word.server]; ipc.CodeOf(c.Err()) != want {
				t.Errorf("the client's end: %v", c.Err())
			}
		})
	}
}

// TestBadHandshakes sends malformed handshakes to the server's socket. The server closes these
// connections and serves on.
func TestBadHandshakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	serve(t, ipc.WithDomain(path))
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 200 {
		s, err := net.Dial("unix", filepath.Join(path, "echo.sock"))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, rnd.IntN(300))
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		if len(b) >= 8 {
			binary.NativeEndian.PutUint32(b, uint32(len(b)-4)) // a length that is right
			if i%2 == 0 {
				binary.NativeEndian.PutUint32(b[4:], 0x63706930) // and the magic number
			}
		}
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := s.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, s); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("hello %d: %v", i, err)
		}
		s.Close()
	}
	c := dial(t, ipc.WithDomain(path))
	if _, err := echo(t.Context(), c, []byte("still there?")); err != nil {
		t.Error(err)
	}
}

// TestTooManyConnections shows that a refused client is told the limit, and that a place is free
// again when a client disconnects.
func TestTooManyConnections(t *testing.T) {
	d := newDomain(t)
	serve(t, d, ipc.WithMaxConns(2))
	a := dial(t, d)
	dial(t, d)
	if _, err := ipc.Dial(t.Context(), "echo", d); ipc.CodeOf(err) != ipc.CodeResourceExhausted ||
		!strings.Contains(err.Error(), "2") {
		t.Errorf("third connection: %v", err)
	}
	a.Close()
	for {
		c, err := ipc.Dial(t.Context(), "echo", d)
		if err == nil {
			c.Close()
			return
		}
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			t.Fatal(err)
		}
	}
}

// TestStranger shows that both sides ask WithAuthorize about their peers.
func TestStranger(t *testing.T) {
	d := newDomain(t)
	no := ipc.WithAuthorize(func(p ipc.Peer) error {
		if p.PID != os.Getpid() || p.UID != os.Geteuid() {
			t.Errorf("peer %+v", p)
		}
		return errors.New("not today")
	})
	serve(t, d, no)
	if _, err := ipc.Dial(t.Context(), "echo", d); ipc.CodeOf(err) != ipc.CodePermissionDenied ||
		!strings.Contains(err.Error(), "not today") {
		t.Errorf("refused by the server: %v", err)
	}
	d = newDomain(t)
	serve(t, d)
	if _, err := ipc.Dial(t.Context(), "echo", d, no); ipc.CodeOf(err) != ipc.CodePermissionDenied {
		t.Errorf("refused by the client: %v", err)
	}
}
