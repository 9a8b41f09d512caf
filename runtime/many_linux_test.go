package ipc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// Many connections to one server, from several processes.

const (
	// connectionsEnv is how many connections TestManyConnections makes. The figures in
	// docs/runtime.md are of 9900, with rings of 64 and of 4 KiB.
	connectionsEnv = "IPC_TEST_CONNECTIONS"
	// ringEnv is the capacity of each ring of a crowd's connections; those of the server are at
	// most 1 MiB.
	ringEnv = "IPC_TEST_RING"
	// filesEnv is the number of descriptors that a crowd, or its server, may have.
	filesEnv = "IPC_TEST_FILES"
	// groupEnv is the folder of a control group that a crowd, or its server, joins.
	groupEnv = "IPC_TEST_GROUP"
	// crowdEnv is the channel at which a crowd takes orders.
	crowdEnv = "IPC_TEST_CROWD"
)

var (
	methodGather = echoMethod("Gather") // connects as often as the request says
	methodTour   = echoMethod("Tour")   // makes a call on each connection, one after the other
	methodHold   = echoMethod("Hold")   // says what the process holds
)

// enterLimits sets the limit of descriptors that filesEnv says, and joins the control group of
// groupEnv.
func enterLimits() error {
	if g := os.Getenv(groupEnv); g != "" {
		if err := os.WriteFile(g+"/cgroup.procs", []byte("0"), 0o644); err != nil {
			return err
		}
	}
	text := os.Getenv(filesEnv)
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return err
	}
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE,
		&syscall.Rlimit{Cur: n, Max: max(n, l.Max)}); err != nil {
		return fmt.Errorf("%d descriptors: %w; raise the hard limit (ulimit -Hn), or be root", n,
			err)
	}
	return nil
}

// rings returns the option that ringEnv says, or nil.
func rings() interface {
	ipc.ServerOption
	ipc.DialOption
} {
	n, err := strconv.Atoi(os.Getenv(ringEnv))
	if err != nil {
		n = ipc.DefaultRingCapacity
	}
	return ipc.WithRings(n, n)
}

// routeHold answers what this process has, after a garbage collection.
func routeHold() ipc.Route {
	return ipc.Handle(methodHold, func(context.Context, *blob) (*blob, error) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return &blob{Data: fmt.Append(nil, runtime.NumGoroutine(), m.HeapAlloc, m.StackInuse,
			ipc.DefaultMessageMemory())}, nil
	})
}

// crowdedRole serves any number of connections.
func crowdedRole(domain ipc.RendezvousOption) error {
	if err := enterLimits(); err != nil {
		return err
	}
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return ipc.NewServer(append(blocks(), echoService(routeHold()), ipc.WithMaxConns(1<<20),
		rings())...).Serve(context.Background(), l)
}

// crowdRole makes many connections to a server and calls over them, as it is ordered to.
func crowdRole(domain ipc.RendezvousOption) error {
	if err := enterLimits(); err != nil {
		return err
	}
	l, err := ipc.Listen(os.Getenv(crowdEnv), domain)
	if err != nil {
		return err
	}
	var conns []*ipc.Conn
	gather := func(ctx context.Context, m *blob) (*blob, error) {
		n, err := strconv.Atoi(string(m.Data))
		if err != nil {
			return nil, err
		}
		for range n {
			c, err := ipc.Dial(ctx, "echo", domain, rings())
			if err != nil {
				return nil, ipc.Errorf(ipc.CodeOf(err), "connection %d: %v", len(conns), err)
			}
			conns = append(conns, c)
		}
		return &blob{}, nil
	}
	tour := func(ctx context.Context, _ *blob) (*blob, error) {
		for i, c := range conns {
			if _, err := echo(ctx, c, []byte("x")); err != nil {
				return nil, ipc.Errorf(ipc.CodeOf(err), "connection %d: %v", i, err)
			}
		}
		return &blob{Data: []byte(itoa(len(conns)))}, nil
	}
	fmt.Println("ready")
	return ipc.NewServer(echoService(ipc.Handle(methodGather, gather),
		ipc.Handle(methodTour, tour), routeHold())).Serve(context.Background(), l)
}

// A crowd is a process of crowdRole, or its server, and the connection for orders.
type crowd struct {
	*child
	orders *ipc.Conn
}

// newCrowd starts a process that makes connections.
func newCrowd(t *testing.T, path, name string, env ...string) *crowd {
	t.Helper()
	c := startChild(t, "crowd", path, append(env, crowdEnv+"="+name)...)
	orders, err := ipc.Dial(t.Context(), name, ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { orders.Close() })
	return &crowd{c, orders}
}

// newCrowded starts the server of crowds.
func newCrowded(t *testing.T, path string, env ...string) *crowd {
	t.Helper()
	return &crowd{startChild(t, "crowded", path, env...), dial(t, ipc.WithDomain(path))}
}

func (c *crowd) order(m *ipc.Method[blob, blob], what string) (string, error) {
	rep, err := ipc.Invoke(context.Background(), c.orders, m, &blob{Data: []byte(what)})
	if err != nil {
		return "", err
	}
	return string(rep.Data), nil
}

// A holding is what a process has.
type holding struct {
	descriptors, mappings, threads, goroutines int
	heap, stacks, anonymous, shared            int // bytes

	messages int // the default of WithMaxMessageMemory
}

func (c *crowd) holding(t *testing.T) (h holding) {
	t.Helper()
	text, err := c.order(methodHold, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(text, &h.goroutines, &h.heap, &h.stacks, &h.messages); err != nil {
		t.Fatal(err)
	}
	folder := "/proc/" + itoa(c.Process.Pid)
	fds, err := os.ReadDir(folder + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(folder + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(folder + "/status")
	if err != nil {
		t.Fatal(err)
	}
	h.descriptors, h.mappings = len(fds), bytes.Count(maps, []byte("/memfd:"))
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Threads:":
			h.threads = n
		case "RssAnon:":
			h.anonymous = n << 10
		case "RssShmem:":
			h.shared = n << 10
		}
	}
	return h
}

// expectPerConnection fails the test if a process has more than it may for n connections. Besides,
// it may have what any process has.
func (h holding) expectPerConnection(t *testing.T, who string, n, goroutines int) {
	t.Helper()
	const other = 64
	if h.descriptors > 2*n+other || h.mappings > n+other || h.goroutines > goroutines*n+other ||
		h.threads > other+4*runtime.NumCPU() {
		t.Errorf("%s has %+v for %d connections", who, h, n)
	}
}

// TestManyConnections connects to one server from several processes, and makes calls over each
// connection in turn. The end of a process that has many connections does not concern the others.
func TestManyConnections(t *testing.T) {
	const processes = 4
	n, err := strconv.Atoi(os.Getenv(connectionsEnv))
	if err != nil {
		n = 240
	}
	each := n / processes
	path := t.TempDir() + "/d"
	files := filesEnv + "=" + itoa(2*n+200)
	srv := newCrowded(t, path, files)
	empty := srv.holding(t)
	var crowds []*crowd
	for i := range processes {
		crowds = append(crowds, newCrowd(t, path, "crowd"+itoa(i), files))
	}
	alone := crowds[0].holding(t)
	all := func(m *ipc.Method[blob, blob], what string, crowds []*crowd) time.Duration {
		t.Helper()
		start := time.Now()
		errs := make(chan error)
		for _, c := range crowds {
			go func() {
				_, err := c.order(m, what)
				errs <- err
			}()
		}
		for range crowds {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(start)
	}
	show := func(when string, took time.Duration) {
		t.Helper()
		s, c := srv.holding(t), crowds[0].holding(t)
		s.expectPerConnection(t, "the server, "+when+",", n, 2)
		c.expectPerConnection(t, "a client, "+when+",", each, 1)
		t.Logf("%d connections %s, after %v: the server has %+v, a client of %d connections %+v",
			n, when, took.Round(time.Millisecond), s, each, c)
		private := float64(s.anonymous-empty.anonymous)/float64(n) +
			float64(c.anonymous-alone.anonymous)/float64(each)
		t.Logf("each takes %.1f KiB of the server and the client, and %.1f KiB that they share",
			private/1024, float64(s.shared-empty.shared)/float64(n)/1024)
	}
	show("made", all(methodGather, itoa(each), crowds))
	show("with a call on each", all(methodTour, "", crowds))

	killed := time.Now()
	crowds[processes-1].kill()
	all(methodTour, "", crowds[:processes-1])
	for srv.holding(t).mappings > n-each+64 {
		time.Sleep(time.Millisecond)
	}
	t.Logf("the server has released the memory of a process after %v", time.Since(killed))
	all(methodGather, itoa(each), crowds[:1])
	all(methodTour, "", crowds[:processes-1])
}

// TestCrowdAtItsLimit shows that a process that has as many connections as its descriptors suffice
// for is told so, goes on with those that it has, and does not concern the server.
func TestCrowdAtItsLimit(t *testing.T) {
	path := t.TempDir() + "/d"
	srv := newCrowded(t, path)
	c := newCrowd(t, path, "crowd", filesEnv+"=80")
	for range 3 {
		_, err := c.order(methodGather, "1000")
		want(t, err, ipc.CodeResourceExhausted, ipc.Executed, "RLIMIT_NOFILE", "ulimit -n")
		if n, err := c.order(methodTour, ""); err != nil || n == "0" {
			t.Errorf("%s connections have answered, %v", n, err)
		}
		if _, err := echo(t.Context(), srv.orders, []byte("x")); err != nil {
			t.Error(err)
		}
	}
}
