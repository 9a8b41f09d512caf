package group_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/internal/history"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// sharing is how many callers share a client.
const sharing = 8

// childCallers is a process whose callers share a client of the list: they begin together again and
// again, so that the server finds their requests together, until SIGTERM. The arguments are the
// domain, a number that no other such process has, and whether the client yields. Each operation is
// a line before it and one behind it: the caller, the number that it appends, the time, and the
// answer.
func childCallers(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := group.DialConfig{Domain: args[0], Patience: patience}
	if args[2] == "true" {
		cfg.Options = []ipc.DialOption{ipc.WithYield()}
	}
	c, err := group.Dial(ctx, "list", cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	for n := uint64(0); ctx.Err() == nil; n += callsTogether {
		var callers sync.WaitGroup
		for caller := range uint64(sharing) {
			callers.Go(func() {
				for k := range 1 + rand.Uint64N(callsTogether) {
					callList(c, caller, id<<48|(caller+1)<<40|(n+k))
				}
			})
		}
		callers.Wait()
		// paced: replicas must be able to start
		time.Sleep(time.Duration(rand.N(int64(4 * time.Millisecond))))
	}
	return nil
}

// callsTogether is how many calls a caller makes in a row at most.
const callsTogether = 3

// callList appends a number, or reads, and says so.
func callList(c *group.Client, caller, number uint64) {
	method, req := methodAppend, &words{number}
	if number%4 == 0 {
		method, number, req = methodLast, 0, &words{}
	}
	fmt.Fprintln(os.Stdout, caller, number, monotonic())
	rep, err := ipc.Invoke(context.Background(), c, method, req)
	end := monotonic()
	if err != nil {
		fmt.Fprintln(os.Stdout, caller, number, end, int(ipc.CodeOf(err)), int(ipc.OutcomeOf(err)))
		return
	}
	last := uint64(0)
	if number == 0 {
		last = (*rep)[1]
	}
	fmt.Fprintln(os.Stdout, caller, number, end, (*rep)[0], last, "ok")
}

// monotonic is a clock that all processes of the machine share.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// A callersProcess is a process of childCallers, and what it has said.
type callersProcess struct {
	cmd  *exec.Cmd
	said []byte
	read chan struct{} // closed when said is complete
}

// startCallers starts a process of callers. Each line that it says about an end counts as done.
func startCallers(t *testing.T, domain string, id int, yield bool,
	done *atomic.Int64) *callersProcess {
	t.Helper()
	p := &callersProcess{read: make(chan struct{}), cmd: childCommand("callers", domain,
		strconv.Itoa(id), strconv.FormatBool(yield))}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	go func() {
		defer close(p.read)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return // a line that is cut short was never said
			}
			p.said = append(p.said, line...)
			if len(bytes.Fields(line)) > 3 {
				done.Add(1)
			}
		}
	}()
	return p
}

// end sends the process a signal, waits for its end, and returns the history of each of its
// callers. An operation without an end has an unknown outcome.
func (p *callersProcess) end(t *testing.T, sig os.Signal) []history.Client {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	<-p.read
	if err := p.cmd.Wait(); err != nil && sig != syscall.SIGKILL {
		t.Errorf("the callers: %v", err)
	}
	clients := make([]history.Client, sharing)
	for line := range strings.Lines(string(p.said)) {
		var caller, number uint64
		var at int64
		if _, err := fmt.Sscan(line, &caller, &number, &at); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ops := &clients[caller]
		var a, b uint64
		var ok string
		switch n, _ := fmt.Sscan(line, &caller, &number, &at, &a, &b, &ok); n {
		case 3:
			*ops = append(*ops, history.Operation{Append: number, Call: at,
				Err: errors.New("the caller was killed")})
		case 5:
			op := &(*ops)[len(*ops)-1]
			op.End, op.Err = at, &ipc.Error{Code: ipc.Code(a), Outcome: ipc.Outcome(b)}
		case 6:
			op := &(*ops)[len(*ops)-1]
			op.End, op.Length, op.Last, op.Err = at, a, b, nil
		default:
			t.Fatalf("the callers said %q", line)
		}
	}
	return clients
}

// TestSharedClientKeepsAcknowledged kills and stops the primary, a standby and the client at random
// moments, alone and together, while eight callers share the client, so that many changes wait for
// the standbys together. Every change that was answered is kept, none is there twice, and the
// answers can have come about in one order.
func TestSharedClientKeepsAcknowledged(t *testing.T) {
	for left := kills(); left > 0; left -= 2 * killsPerHistory {
		for _, yield := range []bool{false, true} {
			t.Run(fmt.Sprint("yield ", yield), func(t *testing.T) { sharedClientKeeps(t, yield) })
		}
	}
}

func sharedClientKeeps(t *testing.T, yield bool) {
	cfg := listConfig(newDomain(t), 3)
	// No replica is dropped because it stands still or the machine is busy.
	cfg.Replication.MinSync, cfg.Replication.AckTimeout = 1, patience
	cfg.Replication.SyncTimeout = patience
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("events:\n%v", &events)
		}
	})
	var done atomic.Int64
	var clients []history.Client
	id := 1
	callers := startCallers(t, cfg.Domain, id, yield, &done)
	wait := func(cond func(group.Status) bool) group.Status {
		s, err := g.Wait(t.Context(), cond)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	moment := func() {
		for until := done.Load() + rand.N(int64(50)); done.Load() < until; {
			time.Sleep(time.Duration(rand.N(int64(time.Millisecond)))) // a random moment
		}
	}
	pause := func(pid int) {
		syscall.Kill(pid, syscall.SIGSTOP)
		time.Sleep(time.Duration(rand.N(int64(10 * time.Millisecond))))
	}
	resume := func(pid int) { syscall.Kill(pid, syscall.SIGCONT) }
	killCallers := func() {
		clients = append(clients, callers.end(t, syscall.SIGKILL)...)
		id++
		callers = startCallers(t, cfg.Domain, id, yield, &done)
	}
	for i, n := range rand.Perm(killsPerHistory) {
		s := wait(group.Status.Healthy)
		primary := s.Replicas[s.Primary].PID
		standby := s.Replicas[(s.Primary+1)%len(s.Replicas)].PID
		other := s.Replicas[(s.Primary+2)%len(s.Replicas)].PID
		moment()
		gone := 0 // a process that is killed
		switch n % 9 {
		case 0:
			gone = primary
		case 1:
			gone = standby
		case 2: // both wait for it, and what waits for it dies
			pause(standby)
			gone = primary
		case 3:
			pause(primary)
			killCallers()
		case 4:
			pause(callers.cmd.Process.Pid)
			gone = primary
		case 5:
			killCallers()
			gone = primary
		case 6:
			pause(standby)
			pause(other)
			killCallers()
		case 7:
			pause(primary)
			gone = standby
		case 8:
			pause(primary)
			gone = primary
		}
		if gone != 0 {
			syscall.Kill(gone, syscall.SIGKILL)
		}
		for _, pid := range []int{primary, standby, other, callers.cmd.Process.Pid} {
			resume(pid)
		}
		if gone != 0 {
			wait(func(s group.Status) bool {
				for _, r := range s.Replicas {
					if r.PID == gone {
						return false
					}
				}
				return true
			})
		}
		reach := done.Load() + sharing
		eventually(t, fmt.Sprintf("disturbance %d, of kind %d: the callers go on", i, n%9),
			func() bool { return done.Load() >= reach })
	}
	clients = append(clients, callers.end(t, syscall.SIGTERM)...)
	all := readAll(t, dialList(t, cfg.Domain))
	c := history.Kept(t, clients, all)
	t.Logf("%d changes: %+v", len(all), c)
	history.Linearizable(t, clients, all)
	if events.has(group.StateLost) {
		t.Error("the state was lost")
	}
}
