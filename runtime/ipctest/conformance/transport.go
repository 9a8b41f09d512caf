package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// transportRules are what package ipc relies on, of a transport alone.
var transportRules = []struct {
	name  string
	check func(*testing.T, ipc.Transport)
}{
	{"one listener of a channel", oneListener},
	{"nobody listens", nobodyListens},
	{"every Dial has its Accept", dialsAreAccepted},
	{"Close ends Accept", closeEndsAccept},
	{"the handshake carries bytes", handshakeCarriesBytes},
	{"the handshake carries memory", handshakeCarriesMemory},
	{"deadlines of the handshake", deadlinesOfHandshake},
	{"the peers", linkPeers},
	{"the clock", linkClock},
	{"notifications", notifications},
	{"Poke ends Wait", pokeEndsWait},
	{"bytes after the handshake", bytesAfterHandshake},
	{"Write does not wait", writeDoesNotWait},
	{"Close ends both sides", closeEndsBothSides},
	{"Close from within a Wait", closeWithinWait},
}

// TestTransport checks in subtests of t what package ipc relies on of a transport, and then the
// calls of connections over it, as [TestCaller] does. open returns a transport without channels,
// which need not outlive the test that it gets.
func TestTransport(t *testing.T, open func(*testing.T) ipc.Transport) {
	for _, r := range transportRules {
		run(t, nil, &behaviour{name: r.name, check: func(t *testing.T, _ *venue) {
			r.check(t, open(t))
		}})
	}
	t.Run("calls", func(t *testing.T) {
		TestCaller(t, Subject{Longest: 1 << 20, Connect: func(t *testing.T,
			server []ipc.ServerOption, client ...ipc.DialOption) Connection {
			where := ipc.WithTransport(open(t))
			srv := ipctest.Serve(t, where, "echo", append(server, ipc.WithMaxMessage(1<<20))...)
			c := ipctest.Dial(t, where, "echo", client...)
			return Connection{Client: c, Close: c.Close, Shutdown: srv.Shutdown, Abort: srv.Close}
		}})
	})
}

// listen claims a channel until the test ends.
func listen(t *testing.T, tr ipc.Transport, channel string) ipc.LinkListener {
	t.Helper()
	l, err := tr.Listen(channel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// meet returns the two ends of a link, which the test closes.
func meet(t *testing.T, tr ipc.Transport) (client, server ipc.Link) {
	t.Helper()
	l := listen(t, tr, "meet")
	accepted := make(chan error, 1)
	go func() {
		var err error
		server, err = l.Accept()
		accepted <- err
	}()
	client, err := tr.Dial(t.Context(), "meet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// linked returns the two ends of a link behind its handshake, in which the server sends memory.
func linked(t *testing.T, tr ipc.Transport) (client, server ipc.Link) {
	t.Helper()
	client, server = meet(t, tr)
	m, err := server.NewMemory(4096)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Send([]byte("memory"), m); err != nil {
		t.Fatal(err)
	}
	theirs, err := receive(client, 6)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(theirs, m) {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	return client, server
}

// receive receives n bytes, and the memory that comes with them.
func receive(l ipc.Link, n int) (memory []shm.Memory, err error) {
	p := make([]byte, n)
	for n > 0 {
		k, m, err := l.Receive(p[:n])
		memory = append(memory, m...)
		if n -= k; err != nil {
			return memory, err
		}
	}
	return memory, nil
}

func oneListener(t *testing.T, tr ipc.Transport) {
	l := listen(t, tr, "one")
	if _, err := tr.Listen("one"); ipc.CodeOf(err) != ipc.CodeAlreadyExists {
		t.Errorf("a second listener: %v", err)
	}
	listen(t, tr, "other")
	for range 3 { // the name is free again
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if l, err = tr.Listen("one"); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
}

func nobodyListens(t *testing.T, tr ipc.Transport) {
	if _, err := tr.Dial(t.Context(), "none"); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("a channel that nobody has served: %v", err)
	}
	l := listen(t, tr, "gone")
	l.Close()
	if _, err := tr.Dial(t.Context(), "gone"); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("a channel whose listener is closed: %v", err)
	}
}

// dialsAreAccepted dials many times at once. Each link leads to the end that was accepted for it.
func dialsAreAccepted(t *testing.T, tr ipc.Transport) {
	const n = 32
	l := listen(t, tr, "many")
	var ends sync.WaitGroup
	for range n {
		ends.Go(func() {
			c, err := tr.Dial(context.Background(), "many")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var id, back [8]byte
			copy(id[:], fmt.Sprintf("%p", &id)[4:])
			if err := c.Send(id[:]); err != nil {
				t.Error(err)
				return
			}
			for got := 0; got < len(back); {
				k, _, err := c.Receive(back[got:])
				if got += k; err != nil {
					t.Error(err)
					return
				}
			}
			if back != id {
				t.Errorf("%q came back, not %q", back, id)
			}
		})
	}
	for range n {
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ends.Go(func() {
			defer s.Close()
			var p [8]byte
			for got := 0; got < len(p); {
				k, _, err := s.Receive(p[got:])
				if got += k; err != nil {
					t.Error(err)
					return
				}
			}
			if err := s.Send(p[:]); err != nil {
				t.Error(err)
			}
			_, _, _ = s.Receive(p[:]) // until the client has left
		})
	}
	ends.Wait()
}

func closeEndsAccept(t *testing.T, tr ipc.Transport) {
	l := listen(t, tr, "ends")
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("Accept has returned a link")
	}
	if _, err := l.Accept(); err == nil {
		t.Error("Accept after Close has returned a link")
	}
}

func handshakeCarriesBytes(t *testing.T, tr ipc.Transport) {
	client, server := meet(t, tr)
	for _, n := range []int{1, 4096, 100_000} { // the longest hello has a megabyte
		for _, way := range []struct{ from, to ipc.Link }{{client, server}, {server, client}} {
			data := bytes.Repeat([]byte{byte(n), 1, 2}, n)[:n]
			sent := make(chan error, 1)
			go func() { sent <- way.from.Send(data) }()
			got := make([]byte, 0, n)
			for len(got) < n {
				p := make([]byte, n-len(got))
				k, m, err := way.to.Receive(p)
				if err != nil || len(m) != 0 {
					t.Fatal(k, m, err)
				}
				got = append(got, p[:k]...)
			}
			if err := <-sent; err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}

// handshakeCarriesMemory sends one and two memories, which both sides then share.
func handshakeCarriesMemory(t *testing.T, tr ipc.Transport) {
	const size = 8192
	client, server := meet(t, tr)
	var sent []shm.Memory
	for range 2 {
		m, err := server.NewMemory(size)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		sent = append(sent, m)
	}
	if err := server.Send([]byte("two"), sent...); err != nil {
		t.Fatal(err)
	}
	got, err := receive(client, 3)
	if err != nil || len(got) != len(sent) {
		t.Fatalf("%d memories: %v", len(got), err)
	}
	for i, m := range got {
		mine, err := sent[i].Map(size)
		if err != nil {
			t.Fatal(err)
		}
		if len(mine) != size || !bytes.Equal(mine, make([]byte, size)) {
			t.Errorf("memory %d is not %d zero bytes", i, size)
		}
		theirs, err := m.Map(size)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []shm.Memory{m, sent[i]} {
			if err := s.Seal(size); err != nil {
				t.Error(err)
			}
		}
		if err := m.Close(); err != nil { // what is mapped stays mapped
			t.Error(err)
		}
		mine[0], theirs[size-1] = byte(10+i), byte(20+i)
		if theirs[0] != byte(10+i) || mine[size-1] != byte(20+i) {
			t.Errorf("memory %d is not shared", i)
		}
		if err := errors.Join(m.Unmap(theirs), sent[i].Unmap(mine)); err != nil {
			t.Error(err)
		}
	}
}

func deadlinesOfHandshake(t *testing.T, tr ipc.Transport) {
	client, server := meet(t, tr)
	if err := client.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Receive(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Receive at its deadline: %v", err)
	}
	if err := client.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := server.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(client, 1); err != nil {
		t.Errorf("Receive without a deadline: %v", err)
	}
}

func linkPeers(t *testing.T, tr ipc.Transport) {
	client, server := meet(t, tr)
	for _, l := range []ipc.Link{client, server} {
		p, err := l.Peer()
		if err != nil || p.PID != os.Getpid() || p.UID != os.Geteuid() || p.GID != os.Getegid() {
			t.Errorf("%+v, %v; both ends are in this process", p, err)
		}
	}
}

// linkClock reads the clock at both ends in turn: it never goes back, so deadlines mean the same.
func linkClock(t *testing.T, tr ipc.Transport) {
	client, server := meet(t, tr)
	last := client.Clock()
	for i := range 1000 {
		now := server.Clock()
		if i%2 == 1 {
			now = client.Clock()
		}
		if now < last {
			t.Fatalf("the clock shows %d after %d", now, last)
		}
		last = now
	}
	if last <= 0 {
		t.Errorf("the clock shows %d; a deadline of 0 is none", last)
	}
}

// A place has what one side of notifications waits for.
type place struct {
	value  atomic.Int64
	asleep atomic.Bool // its side has declared that it may be notified once
}

// set stores a value, and notifies the side that waits for it if that has said that it sleeps.
func (p *place) set(own ipc.Link, value int64) {
	p.value.Store(value)
	if p.asleep.Swap(false) {
		own.Notify()
	}
}

// await waits for a value.
func (p *place) await(own ipc.Link, value int64) error {
	for p.value.Load() < value {
		if err := own.Wait(func() bool {
			own.Expect()
			p.asleep.Store(true)
			return p.value.Load() >= value
		}); err != nil {
			return err
		}
	}
	return nil
}

// notifications lets the two sides wake each other, many times.
func notifications(t *testing.T, tr ipc.Transport) {
	client, server := linked(t, tr)
	const rounds = 2000
	var up, down place
	served := make(chan error, 1)
	go func() {
		for i := range int64(rounds) {
			if err := up.await(server, i+1); err != nil {
				served <- fmt.Errorf("round %d: %w", i, err)
				client.Close()
				return
			}
			down.set(server, i+1)
		}
		served <- nil
	}()
	for i := range int64(rounds) {
		up.set(client, i+1)
		if err := down.await(client, i+1); err != nil {
			t.Errorf("round %d: %v", i, err)
			server.Close()
			break
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	for range 100_000 { // to a side that does not wait
		client.Notify()
	}
}

func pokeEndsWait(t *testing.T, tr ipc.Transport) {
	client, _ := linked(t, tr)
	client.Poke() // the next one
	if err := client.Wait(func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	waits := make(chan struct{})
	var once sync.Once
	go func() {
		ended <- client.Wait(func() bool {
			once.Do(func() { close(waits) })
			return false
		})
	}()
	select {
	case <-waits:
	case err := <-ended:
		t.Fatalf("Wait ends before Poke: %v", err)
	}
	client.Poke()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func bytesAfterHandshake(t *testing.T, tr ipc.Transport) {
	client, server := linked(t, tr)
	for _, way := range []struct{ from, to ipc.Link }{{server, client}, {client, server}} {
		if n, err := way.from.Write([]byte("g")); n != 1 || err != nil {
			t.Error(n, err)
		}
		var p [8]byte
		if n, err := way.to.Read(p[:]); n != 1 || err != nil || p[0] != 'g' {
			t.Error(n, err)
		}
	}
}

// writeDoesNotWait writes to a peer that does not read: Write returns, if only with an error.
func writeDoesNotWait(t *testing.T, tr ipc.Transport) {
	client, _ := linked(t, tr)
	for range 10_000 {
		_, _ = client.Write(make([]byte, 100))
	}
}

// closeEndsBothSides closes one end: what was written before is read, and then both sides fail.
func closeEndsBothSides(t *testing.T, tr ipc.Transport) {
	client, server := linked(t, tr)
	if _, err := server.Write([]byte("g")); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- waitForever(server) }()
	read := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		read <- err
	}()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; err == nil {
		t.Error("Wait goes on after Close")
	}
	if err := <-read; err == nil {
		t.Error("Read returns bytes after Close")
	}
	var p [8]byte
	if n, err := client.Read(p[:]); n != 1 || err != nil || p[0] != 'g' {
		t.Errorf("what was written before Close: %d, %v", n, err)
	}
	if n, err := client.Read(p[:]); n != 0 || err == nil {
		t.Errorf("after that: %d, %v", n, err)
	} else if !errors.Is(err, io.EOF) {
		t.Logf("the end of the peer is %v", err)
	}
	client.Notify() // of a side that is gone
}

// waitForever waits until Wait fails.
func waitForever(l ipc.Link) error {
	for {
		if err := l.Wait(func() bool { return false }); err != nil {
			return err
		}
	}
}

func closeWithinWait(t *testing.T, tr ipc.Transport) {
	client, _ := linked(t, tr)
	err := client.Wait(func() bool {
		client.Close()
		return true
	})
	if err == nil {
		t.Error("Wait does not fail after its function has closed the link")
	}
}
