package sys

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// doorbells returns both ends of a pair.
func doorbells(t testing.TB) (a, b *Doorbell) {
	t.Helper()
	a, f, err := NewDoorbell()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = OpenDoorbell(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// TestDoorbell lets two goroutines wake each other, each time after a store that the other's look
// sees. A lost wake-up hangs the test.
func TestDoorbell(t *testing.T) {
	a, b := doorbells(t)
	var there, back atomic.Int64
	const rounds = 10_000 // many times the capacity of the socket's buffer
	turn := func(d *Doorbell, out, in *atomic.Int64, first bool) error {
		for n := int64(1); n <= rounds; n++ {
			if first {
				out.Store(n)
				d.Ring()
			}
			d.Expect()
			for in.Load() < n {
				if err := d.Wait(func() bool { return in.Load() >= n }); err != nil {
					return err
				}
			}
			if !first {
				out.Store(n)
				d.Ring()
			}
		}
		return nil
	}
	ended := make(chan error)
	go func() { ended <- turn(b, &back, &there, false) }()
	if err := errors.Join(turn(a, &there, &back, true), <-ended); err != nil {
		t.Error(err)
	}
}

// TestDoorbellUnheard rings far more often than the socket's buffer has room for, while no
// goroutine waits. That happens to a side that always finds something to do when it is about to
// sleep.
func TestDoorbellUnheard(t *testing.T) {
	a, b := doorbells(t)
	for range 20 {
		for range 50 {
			b.Expect()
			a.Ring()
		}
		b.Expect()
		err := b.Wait(func() bool {
			a.Ring() // after the look, as far as b can tell
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDoorbellFlood has a peer that sends far more notes than it was asked for. The other side does
// not try to read all of them, as there might be no end.
func TestDoorbellFlood(t *testing.T) {
	a, b := doorbells(t)
	const flood = 16 << 10
	if _, err := a.conn.Write(make([]byte, flood)); err != nil {
		t.Fatal(err)
	}
	for range 2 * mayLie {
		b.Expect()
	}
	looked := false
	if err := b.Wait(func() bool { looked = true; return true }); err != nil || !looked {
		t.Fatalf("looked %v, %v", looked, err)
	}
	var lies int
	err := b.raw.Read(func(fd uintptr) (done bool) {
		lies, _, _ = unix.Recvfrom(int(fd), make([]byte, flood), unix.MSG_DONTWAIT|unix.MSG_PEEK)
		return true
	})
	if err != nil || lies < flood/2 || lies == flood {
		t.Errorf("%d bytes of %d still lie there, %v", lies, flood, err)
	}
}

func TestDoorbellPoke(t *testing.T) {
	_, b := doorbells(t)
	never := func() bool { return false }
	b.Poke() // before the wait
	if err := b.Wait(never); err != nil {
		t.Error(err)
	}
	if err := b.Wait(func() bool { go b.Poke(); return false }); err != nil {
		t.Error(err)
	}
	if err := b.Wait(func() bool { return true }); err != nil {
		t.Error(err)
	}
}

func TestDoorbellClose(t *testing.T) {
	for name, end := range map[string]func(d *Doorbell){
		"within look":    func(d *Doorbell) { d.Close() },
		"while it waits": func(d *Doorbell) { go d.Close() },
	} {
		_, b := doorbells(t)
		if err := b.Wait(func() bool { end(b); return false }); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.Wait(func() bool {
			t.Error("look after Close")
			return true
		}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s, then: %v", name, err)
		}
		if err := b.conn.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the descriptor is still open: %v", name, err)
		}
		b.Ring() // has no effect
		b.Poke()
	}
}

// TestDoorbellOfAnotherKind passes files that are not doorbells.
func TestDoorbellOfAnotherKind(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := OpenDoorbell(r); err == nil {
		t.Error("a pipe was accepted")
	}
	if err := r.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the pipe was left open: %v", err)
	}
}

// wakeEnv makes this test binary the other process of BenchmarkWake.
const wakeEnv = "SYS_TEST_WAKE"

// TestWakeBack is the other process of BenchmarkWake.
func TestWakeBack(t *testing.T) {
	if os.Getenv(wakeEnv) == "" {
		t.Skip("the other process of BenchmarkWake")
	}
	wakeBack()
}

// A waker is a way to wake another process and to be woken.
type waker struct {
	notify func()
	await  func() error
}

// bellWaker wakes by a doorbell, after it has incremented a byte of shared memory that the other
// process checks. The doorbells order the accesses.
func bellWaker(d *Doorbell, out, in *byte) waker {
	var seen byte
	look := func() bool { return *in != seen }
	return waker{func() { *out++; d.Ring() }, func() error {
		d.Expect()
		for *in == seen {
			if err := d.Wait(look); err != nil {
				return err
			}
		}
		seen = *in
		return nil
	}}
}

// byteWaker wakes by a byte that is read, from a socket or from one of two pipes.
func byteWaker(out, in *os.File) (waker, error) {
	for _, f := range []**os.File{&out, &in} {
		fd, err := unix.Dup(int((*f).Fd())) // it was inherited, so it blocks
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			return waker{}, err
		}
		*f = os.NewFile(uintptr(fd), (*f).Name())
	}
	note, buf := []byte{1}, make([]byte, 64)
	return waker{func() {
			_, _ = out.Write(note)
		}, func() error { _, err := in.Read(buf); return err }},
		in.SetReadDeadline(time.Time{}) // an error if the netpoller does not know it
}

// Offsets of the bytes, each in a cache line of its own.
const (
	thereByte = 0
	backByte  = 128
)

// wakeBack is the other process: it answers each wake-up by one.
func wakeBack() {
	file := func(fd uintptr) *os.File { return os.NewFile(fd, "inherited") }
	bell, err := OpenDoorbell(file(3))
	if err != nil {
		os.Exit(1)
	}
	socket, serr := byteWaker(file(4), file(4))
	pipe, perr := byteWaker(file(6), file(5))
	mem, merr := MapFile(file(7), 0, 4096, true)
	if errors.Join(serr, perr, merr) != nil {
		os.Exit(1)
	}
	answer := func(w waker) {
		for w.await() == nil {
			w.notify()
		}
	}
	go answer(bellWaker(bell, &mem[backByte], &mem[thereByte]))
	go answer(pipe)
	answer(socket) // until the parent's end is closed
	os.Exit(0)
}

// BenchmarkWake measures the round trip of a wake-up between two sleeping processes, by doorbells,
// by bytes that are read from a socket, and by pipes, alternately, and reports the medians.
func BenchmarkWake(b *testing.B) {
	bell, theirs, err := NewDoorbell()
	if err != nil {
		b.Fatal(err)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	mine, its := os.NewFile(uintptr(ends[0]), "mine"), os.NewFile(uintptr(ends[1]), "its")
	there, to, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	from, back, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	other := exec.Command(os.Args[0], "-test.run=^TestWakeBack$")
	other.Env = append(os.Environ(), wakeEnv+"=1")
	memory, err := NewMemory("wake", 4096)
	if err != nil {
		b.Fatal(err)
	}
	mem, err := MapFile(memory, 0, 4096, true)
	if err != nil {
		b.Fatal(err)
	}
	other.ExtraFiles = []*os.File{theirs, its, there, back, memory}
	if err := other.Start(); err != nil {
		b.Fatal(err)
	}
	for _, f := range other.ExtraFiles {
		f.Close()
	}
	socket, serr := byteWaker(mine, mine)
	pipe, perr := byteWaker(to, from)
	if err := errors.Join(serr, perr); err != nil {
		b.Fatal(err)
	}
	wakers := map[string]waker{"doorbell-ns": bellWaker(bell, &mem[thereByte], &mem[backByte]),
		"socket-ns": socket, "pipe-ns": pipe}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for name, w := range wakers {
			start := time.Now()
			w.notify()
			if err := w.await(); err != nil {
				b.Fatal(err)
			}
			times[name] = append(times[name], time.Since(start))
		}
	}
	for name, t := range times {
		slices.Sort(t)
		b.ReportMetric(float64(t[len(t)/2]), name)
	}
	_ = other.Process.Kill()
	_ = other.Wait()
}
