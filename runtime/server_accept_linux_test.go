package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// narrowRole serves with few descriptors and more connections than they suffice for.
func narrowRole(domain ipc.RendezvousOption) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE,
		&syscall.Rlimit{Cur: 60, Max: 60}); err != nil {
		return err
	}
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	opts := []ipc.ServerOption{echoService()}
	if os.Getenv("IPC_TEST_CONNS") != "" {
		opts = append(opts, ipc.WithMaxConns(1000))
	}
	fmt.Println("ready")
	return ipc.NewServer(opts...).Serve(context.Background(), l)
}

// silentRole keeps as many sockets to a server open as callsEnv says, and sends nothing over them
// or, with IPC_TEST_HALF, the first half of the handshake. It replaces sockets that the server
// closes.
func silentRole(domain ipc.RendezvousOption) error {
	n, err := strconv.Atoi(os.Getenv(callsEnv))
	if err != nil {
		return err
	}
	half := os.Getenv("IPC_TEST_HALF") != ""
	open := func() (interface{ Read([]byte) (int, error) }, error) {
		if half {
			return ipc.RawStall(context.Background(), "echo", domain)
		}
		return net.Dial("unix", filepath.Join(os.Getenv(domainEnv), "echo.sock"))
	}
	var first sync.WaitGroup
	for range n {
		first.Add(1)
		go func() {
			for once := true; ; {
				if c, err := open(); err == nil {
					if once {
						once = false
						first.Done()
					}
					_, _ = c.Read(make([]byte, 1000)) // until the server closes it
				} else if once && half {
					once = false
					first.Done()
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	first.Wait()
	fmt.Println("ready")
	select {}
}

// TestDescriptorsRunOut shows that a server survives a shortage of descriptors, and admits clients
// as soon as there are descriptors again.
func TestDescriptorsRunOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := startChild(t, "narrow", path, "IPC_TEST_CONNS=1000")
	d := ipc.WithDomain(path)
	for range 3 {
		var sockets []net.Conn
		for range 200 {
			s, err := net.Dial("unix", filepath.Join(path, "echo.sock"))
			if err != nil {
				break // the queue is full
			}
			sockets = append(sockets, s)
		}
		var conns []*ipc.Conn
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			c, err := ipc.Dial(ctx, "echo", d)
			cancel()
			if err != nil {
				break // there are no descriptors for more
			}
			conns = append(conns, c)
		}
		for _, s := range sockets {
			s.Close()
		}
		for _, c := range conns {
			c.Close()
		}
		untilServed(t, d, srv)
	}
}

// untilServed waits until a call to the server of a domain succeeds.
func untilServed(t *testing.T, d ipc.RendezvousOption, srv *child) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		select {
		case <-srv.done:
			t.Fatalf("the server has ended: %v", srv.ProcessState)
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		c, err := ipc.Dial(ctx, "echo", d)
		if err == nil {
			_, err = echo(ctx, c, []byte("x"))
			c.Close()
		}
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("nobody gets in any more: %v", err)
		}
	}
}

// TestLimitFitsDescriptors shows that a server with few descriptors refuses connections
// before it runs out of them.
func TestLimitFitsDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	startChild(t, "narrow", path)
	d := ipc.WithDomain(path)
	for n := 0; ; n++ {
		c, err := ipc.Dial(t.Context(), "echo", d)
		if err == nil {
			defer c.Close()
			continue
		}
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted || n == 0 {
			t.Errorf("connection %d: %v", n, err)
		}
		return
	}
}

// greedyRole connects as often as the server lets it, and goes on trying.
func greedyRole(domain ipc.RendezvousOption) error {
	var held []*ipc.Conn
	for refused := false; ; {
		c, err := ipc.Dial(context.Background(), "echo", domain)
		if err == nil {
			held = append(held, c)
			continue
		}
		if !refused {
			refused = true
			fmt.Println("ready")
			fmt.Fprintln(os.Stderr, "connections held:", len(held))
		}
		time.Sleep(time.Millisecond)
	}
}

// TestOneProcessTakesAllConnections lets a process take all connections that it can get. Another
// one gets in all the same.
func TestOneProcessTakesAllConnections(t *testing.T) {
	for _, limit := range []int{16, 100} {
		path := filepath.Join(t.TempDir(), "d")
		d := ipc.WithDomain(path)
		srv := serve(t, d, ipc.WithMaxConns(limit))
		startChild(t, "greedy", path)
		for range limit / 8 {
			still(t, dial(t, d))
		}
		_, err := ipc.Dial(t.Context(), "echo", d)
		want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, itoa(limit))
		for end := time.Now().Add(time.Minute); srv.Conns() != limit; runtime.Gosched() {
			if time.Now().After(end) { // the last one was still in its handshake
				t.Fatalf("%d connections, the limit is %d", srv.Conns(), limit)
			}
		}
	}
}

// TestGreedyProcessEvictsNoOther has a process that holds all connections that it can get try for
// more while a client of another process takes long in its handshake. The client keeps its place.
func TestGreedyProcessEvictsNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	d := ipc.WithDomain(path)
	serve(t, d, ipc.WithMaxConns(16), ipc.WithHandshakeTimeout(time.Hour))
	startChild(t, "greedy", path)
	slow, err := ipc.RawStall(t.Context(), "echo", d)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	// The greedy process tries every millisecond, and a place may be lost after 250.
	if err := slow.SetDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server ended the handshake: %v", err)
	}
}

// TestSilentClients shows that sockets over which nothing is sent do not keep a client out that
// makes calls, however many sockets there are and however often they are opened.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]string{"that say nothing": "IPC_TEST_X=",
		"that end the handshake half-way": "IPC_TEST_HALF=1"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			d := ipc.WithDomain(path)
			srv := startChild(t, "server", path)
			silent := 2000
			if testing.Short() {
				silent = 600
			}
			startChild(t, "silent", path, callsEnv+"="+itoa(silent), env)
			failed, tries := 0, 20
			for range tries {
				c, err := ipc.Dial(t.Context(), "echo", d, ipc.WithHandshakeTimeout(30*time.Second))
				if err == nil {
					_, err = echo(t.Context(), c, []byte("x"))
					c.Close()
				}
				if err != nil {
					failed++
					t.Log(err)
				}
				select {
				case <-srv.done:
					t.Fatalf("the server has ended: %v", srv.ProcessState)
				default:
				}
			}
			if failed > tries/10 {
				t.Errorf("%d of %d clients did not get in", failed, tries)
			}
		})
	}
}

// TestLeavingIsNoRefusal shows that clients that connect and go away are not reported as refused.
func TestLeavingIsNoRefusal(t *testing.T) {
	path := t.TempDir() + "/d"
	l, err := ipc.Listen("echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	var log lockedLog
	all := &slog.HandlerOptions{Level: slog.LevelDebug}
	srv := ipc.NewServer(ipc.WithLogger(slog.New(slog.NewTextHandler(&log, all))))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), l) }()
	c, err := net.Dial("unix", path+"/echo.sock")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(log.String(), "client left during the handshake") {
		if strings.Contains(log.String(), "client refused") || time.Now().After(deadline) {
			t.Fatalf("the log: %s", log.String())
		}
		time.Sleep(time.Millisecond)
	}
	srv.Close()
	<-served
}

// hoarderRole serves with few descriptors, of which handlers take all, and give them back.
func hoarderRole(domain ipc.RendezvousOption) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE,
		&syscall.Rlimit{Cur: 60, Max: 60}); err != nil {
		return err
	}
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	var hoard []*os.File
	srv := ipc.NewServer(echoService(
		ipc.Handle(methodHoard, func(_ context.Context, m *blob) (*blob, error) {
			for _, f := range hoard {
				f.Close()
			}
			hoard = nil
			for len(m.Data) > 0 {
				f, err := os.Open("/")
				if err != nil {
					break
				}
				hoard = append(hoard, f)
			}
			for range min(len(m.Data)-1, len(hoard)) { // so many are left free
				hoard[0].Close()
				hoard = hoard[1:]
			}
			return &blob{}, nil
		})))
	fmt.Println("ready")
	return srv.Serve(context.Background(), l)
}

// methodHoard takes all descriptors but one less than the request has bytes.
var methodHoard = echoMethod("Hoard")

// TestServerWithoutDescriptors shows that a server whose process has no descriptors tells clients
// so at once, again and again, and lets them in when there are some.
func TestServerWithoutDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := startChild(t, "hoarder", path)
	d := ipc.WithDomain(path)
	c := dial(t, d)
	hoard := func(free int) {
		t.Helper()
		_, err := ipc.Invoke(t.Context(), c, methodHoard, &blob{Data: make([]byte, free+1)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		for free := range 4 { // a connection takes more, and its socket one
			hoard(free)
			for range 5 {
				c, err := ipc.Dial(t.Context(), "echo", d)
				if err == nil && free >= 2 { // the last one had not given back all that it took
					c.Close()
					continue
				}
				want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, "RLIMIT_NOFILE")
			}
			still(t, c)
		}
		if _, err := ipc.Invoke(t.Context(), c, methodHoard, &blob{}); err != nil {
			t.Fatal(err)
		}
		untilServed(t, d, srv)
	}
}
