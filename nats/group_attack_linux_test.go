package natsipc_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/history"
	natsipc "github.com/ipcgen/ipcgen/nats"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The attack does to three machines what happens to machines, while clients on each of them change
// a list and read it. NATSIPC_TEST_FAULTS is the number of faults, and NATSIPC_TEST_SEED the first
// seed; a failure names the seed.

// faultsPerHistory limits the length of one history, because the time of a check grows faster than
// the history. Each history has machines of its own.
const faultsPerHistory = 20

// clientsOfAttack is one client on each machine.
const clientsOfAttack = 3

func intOf(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestGroupAttack attacks machines. Every change that was answered is in the list once, where the
// answer said; any other change is there once at most, and not at all if its error says that it
// was not executed; the histories are linearizable, reads included.
func TestGroupAttack(t *testing.T) {
	sum := tally{gaps: map[string][]time.Duration{}}
	faults, seed := intOf("NATSIPC_TEST_FAULTS", 3), uint64(intOf("NATSIPC_TEST_SEED", 1))
	if testing.Short() {
		faults = 1
	}
	for ; faults > 0; faults -= faultsPerHistory {
		n := min(faults, faultsPerHistory)
		well := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			attackOnce(t, seed, n, &sum)
		})
		t.Log(&sum) // after each history, for a run that is ended before its last
		if !well {
			break
		}
		seed++
	}
}

// A tally is what all histories together have come to.
type tally struct {
	history.Counts

	histories, linearizable, inParts int

	gaps map[string][]time.Duration // the longest time without an answer, by kind of fault
}

func (s *tally) String() string {
	var text strings.Builder
	faults, all := 0, []time.Duration(nil)
	line := func(name string, gaps []time.Duration) {
		slices.Sort(gaps)
		at := func(p float64) time.Duration {
			return gaps[int(p*float64(len(gaps)-1))].Round(time.Millisecond)
		}
		fmt.Fprintf(&text, "\n%s: %d faults; longest time without an answer of each client: "+
			"median %v, 90%% %v, most %v", name, len(gaps)/clientsOfAttack, at(0.5), at(0.9), at(1))
	}
	for _, name := range slices.Sorted(maps.Keys(s.gaps)) {
		line(name, s.gaps[name])
		all = append(all, s.gaps[name]...)
		faults += len(s.gaps[name]) / clientsOfAttack
	}
	if len(all) > 0 {
		line("all", all)
	}
	return fmt.Sprintf("%d faults in %d histories, of which %d are linearizable; changes: %d "+
		"answered (of which %d had parts), %d not executed, %d unknown (of which %d were made), "+
		"%d duplicates, %d lost; %d reads%s", faults, s.histories, s.linearizable, s.Answered,
		s.inParts, s.NotExecuted, s.Unknown, s.UnknownMade, s.Duplicates, s.Lost, s.Reads,
		text.String())
}

// add adds the counts of a history.
func (s *tally) add(c history.Counts) {
	s.Reads += c.Reads
	s.Answered += c.Answered
	s.NotExecuted += c.NotExecuted
	s.Unknown += c.Unknown
	s.UnknownMade += c.UnknownMade
	s.Duplicates += c.Duplicates
	s.Lost += c.Lost
}

// A loader is a client under load that records its operations.
type loader struct {
	c       ipc.Caller
	partsOf uint64 // one of so many changes has parts
	history history.Client
	inParts int // changes that were answered

	mu       sync.Mutex
	answered time.Time
	gap      time.Duration // the longest since it was asked for
}

func (l *loader) run(ctx context.Context, id int, start time.Time) {
	l.answered = start
	for n := uint64(1); ctx.Err() == nil; n++ {
		op, parts := history.Operation{Call: time.Since(start).Nanoseconds()}, false
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*time.Second)
		var rep *words
		switch m := methodAppend; rand.N(4) {
		case 0:
			rep, op.Err = ipc.Invoke(call, l.c, methodLast, &words{})
		case 1:
			m = methodRepeat
			fallthrough
		default:
			op.Append = uint64(id)<<32 | n
			req := words{op.Append}
			if parts = n%l.partsOf == 0; parts {
				req = longWords(op.Append, 3*smallPayload)
			}
			rep, op.Err = ipc.Invoke(call, l.c, m, &req)
		}
		cancel()
		op.End = time.Since(start).Nanoseconds()
		if op.Err == nil {
			op.Length = (*rep)[0]
			if op.Append == 0 {
				op.Last = (*rep)[1]
			}
			if parts {
				l.inParts++
			}
			l.mu.Lock()
			l.gap = max(l.gap, time.Since(l.answered))
			l.answered = time.Now()
			l.mu.Unlock()
		}
		l.history = append(l.history, op)
		time.Sleep(time.Duration(rand.N(int64(10 * time.Millisecond)))) // paced
	}
}

// longest returns the longest time without an answer since the last call of longest.
func (l *loader) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := max(l.gap, time.Since(l.answered))
	l.gap = 0
	return g
}

// attackOnce is one history.
func attackOnce(t *testing.T, seed uint64, faults int, sum *tally) {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := startMachines(t, fmt.Sprint("attack.", seed), time.Second)
	var loaders []*loader
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	start := time.Now()
	for id := range m.all {
		c := m.dial(id)
		if _, err := c.WaitLeader(t.Context()); err != nil {
			t.Fatalf("%v\n%s", err, m.told())
		}
		l := &loader{c: c, partsOf: 2 + 14*(seed%2)} // every second history has many
		loaders = append(loaders, l)
		running.Go(func() { l.run(ctx, id+1, start) })
	}
	for range faults {
		kind := m.strike(rng, loaders)
		// The group goes on, for clients on all machines.
		for i, l := range loaders {
			if !m.answers(l) {
				t.Errorf("no answers on machine %d, a minute after the fault", i)
			}
			sum.gaps[kind] = append(sum.gaps[kind], l.longest())
		}
		if t.Failed() {
			break
		}
	}
	cancel()
	running.Wait()
	all := readList(t, m.dial(0))
	var clients []history.Client
	for _, l := range loaders {
		clients = append(clients, l.history)
		sum.inParts += l.inParts
	}
	sum.add(history.Kept(t, clients, all))
	sum.histories++
	if history.Linearizable(t, clients, all) {
		sum.linearizable++
	}
	if t.Failed() || os.Getenv("NATSIPC_TEST_STORY") != "" {
		t.Log(m.told())
	}
}

// answers waits until a client has answers.
func (m *machines) answers(l *loader) bool {
	now := time.Now()
	for time.Since(now) < time.Minute {
		l.mu.Lock()
		well := l.answered.After(now)
		l.mu.Unlock()
		if well {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// strike does something to the machines, undoes it, and returns its kind.
func (m *machines) strike(rng *rand.Rand, loaders []*loader) string {
	i := rng.IntN(len(m.all))
	if rng.IntN(2) == 0 { // most faults of others change little
		if at, err := m.leader(loaders[0].c); err == nil {
			i = at
		}
	}
	j := (i + 1 + rng.IntN(len(m.all)-1)) % len(m.all)
	hold := time.Duration(rng.IntN(2500)) * time.Millisecond
	x := m.all[i]
	pause := func() { time.Sleep(hold) }
	faults := []struct {
		name string
		do   func()
	}{
		{"kill the member", func() { x.member.kill(); pause(); m.startMember(i) }},
		{"stop the member", func() {
			x.member.signal(syscall.SIGSTOP)
			pause()
			x.member.signal(syscall.SIGCONT)
		}},
		{"kill the server", func() { x.server.kill(); pause(); m.startServer(i) }},
		{"stop the server", func() {
			x.server.signal(syscall.SIGSTOP)
			pause()
			x.server.signal(syscall.SIGCONT)
		}},
		{"kill the machine", func() {
			x.server.kill()
			x.member.kill()
			pause()
			m.startServer(i)
			m.startMember(i)
		}},
		{"cut the machine off", func() {
			for k := range m.all {
				if k != i {
					m.cut(i, k, true)
				}
			}
			pause()
			for k := range m.all {
				if k != i {
					m.cut(i, k, false)
				}
			}
		}},
		{"cut the link to another", func() {
			m.cut(i, j, true)
			pause()
			m.cut(i, j, false)
		}},
		{"delay the link to another", func() {
			m.delay(i, j, time.Duration(50+rng.IntN(200))*time.Millisecond)
			pause()
			m.delay(i, j, 0)
		}},
		{"cut the member off its server", func() {
			x.link.Stop()
			pause()
			if err := x.link.Start(); err != nil {
				m.t.Error(err)
			}
		}},
		{"kill all servers", func() {
			for _, x := range m.all {
				x.server.kill()
			}
			pause()
			for k := range m.all {
				m.startServer(k)
			}
		}},
		{"kill all", func() {
			for _, x := range m.all {
				x.member.kill()
				x.server.kill()
			}
			for k := range m.all {
				m.startServer(k)
				m.startMember(k)
			}
		}},
	}
	f := faults[rng.IntN(len(faults))]
	m.say("machine %d (another: %d): %s for %v", i, j, f.name, hold)
	f.do()
	m.say("machine %d: over: %s", i, f.name)
	return f.name
}

// leader returns the machine of the leader.
func (m *machines) leader(c ipc.Caller) (int, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
	defer cancel()
	l, err := c.(*natsipc.GroupClient).WaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimPrefix(l.Member, "member"))
}

// readList reads the list, in parts.
func readList(t *testing.T, c ipc.Caller) (all words) {
	t.Helper()
	for {
		part := *invoke(t, c, methodPart, uint64(len(all)), uint64(len(all)+10_000))
		if all = append(all, part...); len(part) == 0 {
			return all
		}
	}
}
