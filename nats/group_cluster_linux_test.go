package natsipc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/cluster"
)

// This file runs three machines: on each a NATS server and a member of a group, as processes of
// their own, with a proxy on each link between two machines, and between a member and its server.

// childVar says what a process of the test binary is.
const childVar = "NATSIPC_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVar) {
	case "":
		os.Exit(m.Run())
	case "server":
		os.Exit(childServer())
	case "member":
		os.Exit(childMember())
	case "caller":
		os.Exit(childCaller())
	}
	os.Exit(2)
}

// childRun reads what the parent has passed, says that the child is ready, and blocks until the
// parent has ended.
func childRun(args any, run func() error) int {
	if err := json.Unmarshal([]byte(os.Getenv(childVar+"_ARGS")), args); err != nil {
		fmt.Println("error", err)
		return 2
	}
	if err := run(); err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func childServer() int {
	var cfg cluster.Config
	return childRun(&cfg, func() error {
		_, err := cluster.Start(cfg)
		return err
	})
}

// memberArgs are what a member needs.
type memberArgs struct {
	URL, Name, Group string
	Lease            time.Duration
	SnapshotEvery    int
}

func childMember() int {
	var a memberArgs
	return childRun(&a, func() error {
		nc, err := natsipc.Connect(a.URL, nats.ReconnectWait(50*time.Millisecond),
			nats.RetryOnFailedConnect(true), nats.Timeout(time.Second),
			nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
		if err != nil {
			return err
		}
		l := &list{}
		cfg := natsipc.GroupConfig{Group: a.Group, Member: a.Name, State: l, Lease: a.Lease,
			SnapshotEvery: a.SnapshotEvery, Replicas: 3,
			Logger: slog.New(slog.NewTextHandler(os.Stdout, nil))}
		go func() {
			for { // as a program that is restarted until it can serve
				m, err := natsipc.JoinGroup(context.Background(), nc, cfg, l.service())
				if err == nil {
					<-m.Done()
					fmt.Println("ended", m.Err())
					os.Exit(3)
				}
				fmt.Println("cannot join:", err)
				time.Sleep(50 * time.Millisecond)
			}
		}()
		return nil
	})
}

// A process is a child of the test.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
}

// spawn starts a child and waits until it is ready. What it prints goes to say.
func spawn(kind string, args any, say func(string)) (*process, error) {
	text, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+kind, childVar+"_ARGS="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: in, ended: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			switch text := lines.Text(); {
			case text == "ready":
				ready <- nil
			case strings.HasPrefix(text, "error "):
				ready <- fmt.Errorf("the %s: %s", kind, text)
			default:
				say(text)
			}
		}
		_ = cmd.Wait() // it is killed as a rule
		select {
		case ready <- fmt.Errorf("the %s has ended: %v", kind, cmd.ProcessState):
		default:
		}
	}()
	if err := <-ready; err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *process) signal(s syscall.Signal) {
	if p != nil {
		_ = syscall.Kill(p.cmd.Process.Pid, s)
	}
}

func (p *process) kill() {
	if p != nil {
		p.signal(syscall.SIGKILL)
		<-p.ended
		_ = p.stdin.Close()
	}
}

// A machine is a NATS server and a member.
type machine struct {
	cfg    cluster.Config
	server *process
	args   memberArgs
	member *process
	link   *toxiproxy.Proxy // of the member to the server
}

func (m *machine) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", m.cfg.Client) }

// machines are three of them, with links between each two.
type machines struct {
	t     *testing.T
	all   []*machine
	links map[[2]int]*toxiproxy.Proxy // by who connects, and to whom

	mu    sync.Mutex
	story []string
}

func (m *machines) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.story = append(m.story, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (m *machines) told() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.story[max(0, len(m.story)-300):], "\n")
}

// smallPayload is the max_payload of the machines' servers. Changes that are longer have parts.
const smallPayload = 16 << 10

// startMachines starts three machines, whose group has a name.
func startMachines(t *testing.T, group string, lease time.Duration) *machines {
	t.Helper()
	const n = 3
	ports, err := cluster.Ports(n * (3 + n))
	if err != nil {
		t.Fatal(err)
	}
	m := &machines{t: t, links: map[[2]int]*toxiproxy.Proxy{}}
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := func(name string, listen, to int) *toxiproxy.Proxy {
		p := toxiproxy.NewProxy(proxies, name, fmt.Sprintf("127.0.0.1:%d", listen),
			fmt.Sprintf("127.0.0.1:%d", to))
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		return p
	}
	port := func(i, k int) int { return ports[i*(3+n)+k] }
	for i := range n {
		x := &machine{cfg: cluster.Config{Name: fmt.Sprint("server", i), Client: port(i, 0),
			Peer: port(i, 1), Advertised: "127.0.0.1:1", Dir: filepath.Join(t.TempDir(), "store"),
			MaxPayload: smallPayload}}
		for j := range n {
			if j != i {
				m.links[[2]int{i, j}] = proxy(fmt.Sprint(i, " to ", j), port(i, 3+j), port(j, 1))
				x.cfg.Routes = append(x.cfg.Routes, fmt.Sprintf("127.0.0.1:%d", port(i, 3+j)))
			}
		}
		x.link = proxy(fmt.Sprint("member ", i), port(i, 2), port(i, 0))
		x.args = memberArgs{URL: fmt.Sprintf("nats://127.0.0.1:%d", port(i, 2)),
			Name: fmt.Sprint("member", i), Group: group, Lease: lease, SnapshotEvery: 300}
		m.all = append(m.all, x)
	}
	t.Cleanup(func() {
		for i := range m.all {
			m.all[i].member.kill()
			m.all[i].server.kill()
		}
	})
	for i := range n {
		m.startServer(i)
		m.startMember(i)
	}
	return m
}

func (m *machines) startServer(i int) {
	m.t.Helper()
	p, err := spawn("server", m.all[i].cfg, func(s string) { m.say("server%d: %s", i, s) })
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.told())
	}
	m.all[i].server = p
}

func (m *machines) startMember(i int) {
	m.t.Helper()
	p, err := spawn("member", m.all[i].args, func(s string) { m.say("member%d: %s", i, s) })
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.told())
	}
	m.all[i].member = p
}

// cut cuts the links between two machines, or heals them.
func (m *machines) cut(i, j int, cut bool) {
	for _, k := range [][2]int{{i, j}, {j, i}} {
		if cut {
			m.links[k].Stop()
		} else if err := m.links[k].Start(); err != nil {
			m.t.Errorf("heal the link %v: %v", k, err)
		}
	}
}

// delay delays what goes between two machines, or does not any more.
func (m *machines) delay(i, j int, by time.Duration) {
	for _, k := range [][2]int{{i, j}, {j, i}} {
		m.links[k].Toxics.ResetToxics(context.Background())
		if by == 0 {
			continue
		}
		for _, way := range []string{"upstream", "downstream"} {
			toxic := fmt.Sprintf(`{"name":"%s","type":"latency","stream":"%s","toxicity":1,`+
				`"attributes":{"latency":%d}}`, way, way, by.Milliseconds())
			if _, err := m.links[k].Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				m.t.Error(err)
			}
		}
	}
}

// connect returns a connection of a client on a machine.
func (m *machines) connect(i int) *nats.Conn {
	m.t.Helper()
	nc, err := natsipc.Connect(m.all[i].url(), nats.ReconnectWait(50*time.Millisecond),
		nats.Timeout(time.Second))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(nc.Close)
	return nc
}

func (m *machines) dial(i int) *natsipc.GroupClient {
	m.t.Helper()
	c, err := natsipc.DialGroup(m.t.Context(), m.connect(i), m.all[i].args.Group,
		natsipc.GroupDialConfig{Patience: time.Minute})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}
