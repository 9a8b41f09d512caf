// Package peer runs the other process of a benchmark: this program again, in
// the part of a server.
//
// The two talk over the child's standard input and output: the child says that
// it is ready, answers what it has used so far, and ends when its input does,
// so that it never outlives its parent.
package peer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The environment tells a child what it is.
const (
	envRole  = "IPCGEN_BENCH_ROLE"
	envDir   = "IPCGEN_BENCH_DIR"
	envSetup = "IPCGEN_BENCH_SETUP" // number of files, and the other fields of the Setup
	envPin   = "IPCGEN_BENCH_PIN"   // the processor to stay on, if any
)

// A Setup is what the two sides agree on beforehand.
type Setup struct {
	Dir     string     // a folder where they meet
	Size    int        // length of the requests, in bytes
	Readers int        // of each message, where it has several
	Huge    bool       // memory is to be in huge pages
	Files   []*os.File // this side's of what both have open from the start
}

// A Server starts to serve in the child and returns.
type Server func(Setup) error

// Usage is what a process has used since it started.
type Usage struct {
	CPU     time.Duration // user and system time
	Mallocs uint64        // objects allocated on the heap
}

// Sub is what was used between before and u.
func (u Usage) Sub(before Usage) Usage {
	return Usage{CPU: u.CPU - before.CPU, Mallocs: u.Mallocs - before.Mallocs}
}

// What a parent asks a child, a line each.
const (
	askUsage  = "usage"
	askMemory = "memory"
)

// Main turns the process into the server that its environment names, and then
// does not return. It returns at once in a process that is no child.
func Main(servers func(role string) Server) {
	role, ok := os.LookupEnv(envRole)
	if !ok {
		return
	}
	serve := servers(role)
	if serve == nil {
		fail(fmt.Errorf("there is no role %q", role))
	}
	s := Setup{Dir: os.Getenv(envDir)}
	var n int
	if _, err := fmt.Sscan(os.Getenv(envSetup), &n, &s.Size, &s.Readers,
		&s.Huge); err != nil {
		fail(err)
	}
	for i := range n {
		fd := uintptr(3 + i)
		// A descriptor that does not block is one that the netpoller takes.
		if err := syscall.SetNonblock(int(fd), true); err != nil {
			fail(err)
		}
		s.Files = append(s.Files, os.NewFile(fd, "inherited"))
	}
	if err := KeepPlace(); err != nil {
		fail(err)
	}
	if err := serve(s); err != nil {
		fail(err)
	}
	fmt.Println("ready")
	answers := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var answer any
		switch in.Text() {
		case askUsage:
			answer = Self()
		case askMemory:
			answer = Memory()
		}
		if err := answers.Encode(answer); err != nil {
			fail(err)
		}
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Self is what this process has used.
func Self() Usage {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		ru = syscall.Rusage{}
	}
	return Usage{
		CPU:     time.Duration(ru.Utime.Nano() + ru.Stime.Nano()),
		Mallocs: mem.Mallocs,
	}
}

// Memory is the resident set of this process in bytes, once it has given back
// what it does not need; 0 if that cannot be read.
func Memory() int64 {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// A Process is a child of this one. It is not safe for concurrent use.
type Process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr tail
}

// Start runs this program again as the server called role, and returns when it
// serves. It does not close the files.
func Start(role string, s Setup) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), envRole+"="+role, envDir+"="+s.Dir,
		envSetup+"="+fmt.Sprint(len(s.Files), s.Size, s.Readers, s.Huge))
	p.cmd.ExtraFiles = s.Files
	p.cmd.Stderr = &p.stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	start := (*exec.Cmd).Start
	if os.Getenv(envPin) != "" {
		start = StartAnywhere // it will move by itself
	}
	if err := start(p.cmd); err != nil {
		return nil, err
	}
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		p.in.Close()
		p.cmd.Process.Kill()
		p.cmd.Wait()
		return nil, fmt.Errorf("server %s did not start: %v %q: %s", role, err, line,
			p.stderr.String())
	}
	return p, nil
}

// Usage asks the child what it has used.
func (p *Process) Usage() (u Usage, err error) {
	err = p.ask(askUsage, &u)
	return u, err
}

// Memory asks the child for its Memory.
func (p *Process) Memory() (n int64, err error) {
	err = p.ask(askMemory, &n)
	return n, err
}

func (p *Process) ask(what string, answer any) error {
	if _, err := io.WriteString(p.in, what+"\n"); err != nil {
		return err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the server is gone: %w: %s", err, p.stderr.String())
	}
	return json.Unmarshal(line, answer)
}

// Close ends the child and waits until it has ended.
func (p *Process) Close() error {
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("server: %w: %s", err, p.stderr.String())
	}
	return nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill kills the child and waits until it is gone. It may be called again.
func (p *Process) Kill() {
	p.in.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// A tail keeps the last bytes that were written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailLen = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailLen):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
