package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// build compiles the programs in C, and returns their folder. Without a C compiler the test is
// skipped, since nothing else needs one. The address sanitizer is used where the compiler has it.
func build(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler: ", err)
	}
	dir := t.TempDir()
	for _, name := range []string{"greet", "greetd", "follow"} {
		args := []string{"-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o",
			filepath.Join(dir, name), filepath.Join("c", name+".c")}
		checked := append([]string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all"},
			args...)
		if exec.Command(cc, checked...).Run() == nil {
			continue
		}
		if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	return dir
}

func newDomain(t *testing.T) string {
	t.Helper()
	d := filepath.Join(t.TempDir(), "domain")
	if err := os.Mkdir(d, 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

// polite serves in Go.
type polite struct{ entered chan bool }

func (p polite) Greet(ctx context.Context, req *greeter.HelloT) (*greeter.GreetingT, error) {
	switch req.Name {
	case "":
		return nil, ipc.Errorf(ipc.CodeInvalidArgument, "whom shall I greet?")
	case "slow":
		p.entered <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &greeter.GreetingT{Text: "Hello, " + req.Name + "!"}, nil
}

// A program is a program in C, with its lines.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(path, args...)}
	p.cmd.Stderr = os.Stderr // of the sanitizer
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(5*time.Minute, func() { p.cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

func (p *program) say(line string) { fmt.Fprintln(p.in, line) }

func (p *program) expect(want string) {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if line != want+"\n" {
		p.t.Fatalf("%.200q, %v; want %.200q", line, err, want)
	}
}

func greet(t *testing.T, dir, domain string, ms int) *program {
	t.Helper()
	return start(t, filepath.Join(dir, "greet"), domain, "greeter",
		fmt.Sprintf("%x", greeter.GreeterProtocol.Fingerprint), fmt.Sprint(ms))
}

// serveInGo serves the greeter in this process.
func serveInGo(t *testing.T, domain string) (*ipc.Server, chan bool) {
	t.Helper()
	entered := make(chan bool, 1)
	s := ipc.NewServer(greeter.NewGreeterService(polite{entered}))
	l, err := ipc.Listen("greeter", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s, entered
}

// TestClientInC lets a client in C call a server in Go.
func TestClientInC(t *testing.T) {
	dir, domain := build(t), newDomain(t)
	greet(t, dir, domain, 0).expect("dial: error 3") // no process serves
	s, entered := serveInGo(t, domain)

	c := greet(t, dir, domain, 0)
	for range 300 {
		c.say("world")
		c.expect("Hello, world!")
	}
	c.say("")
	c.expect("error 5 3 whom shall I greet?") // executed
	for _, n := range []int{1000, 100_000, 1 << 20, 3 << 20} {
		long := strings.Repeat("x", n)
		c.say(long)
		c.expect("Hello, " + long + "!")
	}

	// A deadline cancels the call, and the connection goes on.
	hasty := greet(t, dir, domain, 100)
	hasty.say("slow")
	<-entered
	line, _ := hasty.out.ReadString('\n') // unknown, or the server was first to see the deadline
	if line != "error 2 0 \n" && line != "error 2 3 context deadline exceeded\n" {
		t.Errorf("after the deadline: %q", line)
	}
	hasty.say("world")
	hasty.expect("Hello, world!")

	// A version that is not the server's.
	start(t, filepath.Join(dir, "greet"), domain, "greeter", "1", "0").expect("dial: error 8")

	// Clients that die, and those that leave, are gone.
	hasty.cmd.Process.Kill()
	c.in.Close()
	deadline := time.Now().Add(5 * time.Minute)
	for s.Conns() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients are left", s.Conns())
		}
		time.Sleep(time.Millisecond)
	}

	// A server that shuts down answers what it has taken, and takes no more.
	last := greet(t, dir, domain, 0)
	last.say("world")
	last.expect("Hello, world!")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	last.say("world")
	line, _ = last.out.ReadString('\n')
	if line != "error 3 1 \n" && line != "error 3 2 \n" { // not sent, or not executed
		t.Errorf("after the shutdown: %q", line)
	}
}

func serveInC(t *testing.T, dir, domain string) *program {
	t.Helper()
	p := start(t, filepath.Join(dir, "greetd"), domain, "greeter",
		fmt.Sprintf("%x", greeter.GreeterProtocol.Fingerprint), greeter.GreeterProtocol.Schema)
	p.expect("ready")
	return p
}

// TestServerInC lets clients in Go call a server in C, which serves them one after the other.
func TestServerInC(t *testing.T) {
	dir, domain := build(t), newDomain(t)
	d := serveInC(t, dir, domain)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	// The name is taken, for both languages.
	_, err := ipc.Listen("greeter", ipc.WithDomain(domain))
	if ipc.CodeOf(err) != ipc.CodeAlreadyExists ||
		!strings.Contains(err.Error(), fmt.Sprint(d.cmd.Process.Pid)) {
		t.Errorf("the name of a live server: %v", err)
	}
	start(t, filepath.Join(dir, "greetd"), domain, "greeter", "1", "").expect("listen: error 13")

	conn, err := ipc.Dial(ctx, "greeter", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	client := greeter.NewGreeterClient(conn)
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for j := range 200 {
				name := fmt.Sprint(i, ".", j)
				if j%100 == 99 {
					name += strings.Repeat("x", 200_000)
				}
				r, err := client.Greet(ctx, &greeter.HelloT{Name: name})
				if err != nil || r.Text != "Hello, "+name+"!" {
					t.Errorf("%.20q: %v, %v", name, r, err)
					return
				}
			}
		})
	}
	callers.Wait()
	_, err = client.Greet(ctx, &greeter.HelloT{})
	if ipc.CodeOf(err) != ipc.CodeInvalidArgument || ipc.OutcomeOf(err) != ipc.Executed {
		t.Errorf("no name: %v", err)
	}
	past, stop := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer stop()
	if _, err := client.Greet(past, &greeter.HelloT{Name: "x"}); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("a deadline that has passed: %v", err)
	}
	// A client with rings and messages of other sizes.
	conn.Close()
	d.expect("client gone: 3")
	small, err := ipc.Dial(ctx, "greeter", ipc.WithDomain(domain), ipc.WithRings(4096, 8192),
		ipc.WithMaxMessage(10_000))
	if err != nil {
		t.Fatal(err)
	}
	client = greeter.NewGreeterClient(small)
	name := strings.Repeat("y", 9_000)
	if r, err := client.Greet(ctx, &greeter.HelloT{Name: name}); err != nil ||
		r.Text != "Hello, "+name+"!" {
		t.Errorf("pieces through a small ring: %v", err)
	}

	if err := small.Close(); err != nil {
		t.Error(err)
	}
	d.expect("client gone: 3")

	// It has neither topics nor streams, and says so.
	info := &topic.Info{Protocol: greeter.GreeterProtocol}
	if _, err := topic.Subscribe(ctx, topic.Channel("greeter", ipc.WithDomain(domain)), info,
		topic.SubscribeOptions{}); ipc.CodeOf(err) != ipc.CodeUnimplemented {
		t.Errorf("a subscription: %v", err)
	}
	d.expect("accept: error 4")
	if _, err := ipc.OpenStreamReader(ctx, "greeter", &ipc.StreamInfo{
		Protocol: greeter.GreeterProtocol, HeaderSize: 8}, ipc.StreamOptions{},
		ipc.WithDomain(domain)); ipc.CodeOf(err) != ipc.CodeUnimplemented {
		t.Errorf("a stream: %v", err)
	}
	d.expect("accept: error 4")

	// It dies, and its successor in Go has the name.
	conn, err = ipc.Dial(ctx, "greeter", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d.cmd.Process.Kill()
	<-conn.Done()
	d.cmd.Wait()
	serveInGo(t, domain)
	again, err := ipc.Dial(ctx, "greeter", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestServerInCLeaves checks that a server in C that is told to end leaves no files, and that a
// stopped one loses no call when it continues.
func TestServerInCLeaves(t *testing.T) {
	dir, domain := build(t), newDomain(t)
	d := serveInC(t, dir, domain)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	conn, err := ipc.Dial(ctx, "greeter", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	client := greeter.NewGreeterClient(conn)
	d.cmd.Process.Signal(syscall.SIGSTOP)
	answered := make(chan error, 1)
	go func() {
		_, err := client.Greet(ctx, &greeter.HelloT{Name: "x"})
		answered <- err
	}()
	d.cmd.Process.Signal(syscall.SIGCONT)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Wait()
	if left, _ := filepath.Glob(filepath.Join(domain, "*")); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}
