package sys

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wakeEnv makes this test binary the other process of BenchmarkWake.
const wakeEnv = "SYS_TEST_WAKE"

// TestWakeBack is that process.
func TestWakeBack(t *testing.T) {
	if os.Getenv(wakeEnv) == "" {
		t.Skip("the other process of BenchmarkWake")
	}
	wakeBack()
}

// A waker is one of two ways to wake another process and to be woken: what a
// connection does, and what it could do instead.
type waker struct {
	notify func()
	await  func() error
}

// socketWaker wakes by a byte on the connection's own socket.
func socketWaker(f *os.File) (waker, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return waker{}, err
	}
	s, err := newSocket(c.(*net.UnixConn))
	if err != nil {
		return waker{}, err
	}
	buf := make([]byte, 256)
	return waker{s.Notify, func() error { _, err := s.Read(buf); return err }}, nil
}

// eventWaker wakes by one event counter and is woken by another, waited for on the
// netpoller too.
func eventWaker(out, in *os.File) (waker, error) {
	out, err := polled(out)
	if err != nil {
		return waker{}, err
	}
	if in, err = polled(in); err != nil {
		return waker{}, err
	}
	one, buf := []byte{1, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 8)
	return waker{func() { _, _ = out.Write(one) }, func() error { _, err := in.Read(buf); return err }},
		in.SetReadDeadline(time.Time{}) // an error where the netpoller does not know it
}

// eventFile makes an event counter, for another process to inherit.
func eventFile(t testing.TB) *os.File {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "eventfd")
}

// polled returns f, which was inherited or given away and so blocks, as a file that is
// waited for on the netpoller.
func polled(f *os.File) (*os.File, error) {
	fd, err := unix.Dup(int(f.Fd()))
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fd), f.Name()), err
}

// wakeBack is the other process: it answers each wake-up by one.
func wakeBack() {
	s, err := socketWaker(os.NewFile(3, "socket"))
	if err != nil {
		os.Exit(1)
	}
	e, err := eventWaker(os.NewFile(5, "back"), os.NewFile(4, "there"))
	if err != nil {
		os.Exit(1)
	}
	go func() {
		for e.await() == nil {
			e.notify()
		}
	}()
	for s.await() == nil { // until the parent's end is closed
		s.notify()
	}
	os.Exit(0)
}

// BenchmarkWake measures the round trip of a wake-up between two processes that sleep,
// by the byte on the socket and by an eventfd, in turns, and reports the medians.
func BenchmarkWake(b *testing.B) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	mine, its := os.NewFile(uintptr(ends[0]), "mine"), os.NewFile(uintptr(ends[1]), "its")
	there, back := eventFile(b), eventFile(b)
	defer there.Close()
	defer back.Close()
	other := exec.Command(os.Args[0], "-test.run=^TestWakeBack$")
	other.Env = append(os.Environ(), wakeEnv+"=1")
	other.ExtraFiles = []*os.File{its, there, back}
	if err := other.Start(); err != nil {
		b.Fatal(err)
	}
	its.Close()
	s, err := socketWaker(mine)
	if err != nil {
		b.Fatal(err)
	}
	mine.Close()
	e, err := eventWaker(there, back)
	if err != nil {
		b.Fatal(err)
	}
	wakers := map[string]waker{"socket-ns": s, "eventfd-ns": e}
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
