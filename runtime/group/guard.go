package group

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is a replica's part in the quarantine of requests that end the processes that execute
// them; quarantine.go is the supervisor's, and has the whole.

// A guard publishes what its process executes, in the process's own page, and refuses
// what the supervisor has put in quarantine. It implements ipc.Guard.
type guard struct {
	m    *Member
	turn chan struct{} // has a place for the one suspect that is executed

	// requests has what the page has, for the page may be damaged.
	requests [mostRequests]atomic.Uint64

	mu     sync.Mutex
	proven map[uint64]bool // suspects that this process has executed and outlived
}

func newGuard(m *Member) *guard {
	return &guard{m: m, turn: make(chan struct{}, 1), proven: make(map[uint64]bool)}
}

const (
	// suspectPatience is how long a suspect waits for the one before it, and for a
	// standby in sync, before it is refused. Its client may send it again.
	suspectPatience = 10 * time.Second
	// mostProven bounds what a guard remembers.
	mostProven = 1 << 12
)

// Enter implements ipc.Guard.
func (g *guard) Enter(request uint64) (place int, err error) {
	request = requestWord(request)
	if entries := wordAt(g.m.page.mem, offSuspects).Load(); entries != 0 {
		switch v := g.m.page.verdict(request, int(min(entries, mostSuspects))); {
		case v.quarantined:
			return 0, &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotExecuted, Msg: fmt.Sprintf(
				"this request is in quarantine until %s: it was being executed when each of %d processes of group %s died",
				v.until.Format(time.TimeOnly), v.deaths, g.m.service)}
		case v.suspected && !g.isProven(request):
			return g.enterSuspect(request)
		}
	}
	return g.publish(request), nil
}

// enterSuspect lets a request in that was being executed when a process died: alone
// among its like, so that another death tells which of them it was, and not before a standby has
// the state, lest that death take the state along.
func (g *guard) enterSuspect(request uint64) (place int, err error) {
	patience := time.NewTimer(suspectPatience)
	defer patience.Stop()
	select {
	case g.turn <- struct{}{}:
	case <-patience.C:
		return 0, refuseSuspect(fmt.Errorf("another one has been executed for %v", suspectPatience))
	}
	defer func() {
		if place < 0 || place&holdsTurn == 0 {
			<-g.turn
		}
	}()
	if g.isProven(request) {
		return g.publish(request), nil
	}
	if r := g.m.replicator; r != nil && wordAt(g.m.page.mem, offReplicas).Load() > 1 {
		l, err := r.lead()
		if err == nil {
			err = l.awaitStandby(suspectPatience)
		}
		if err != nil {
			return 0, refuseSuspect(err)
		}
	}
	if err := g.m.Admit(0); err != nil { // the reign may be over by now
		return 0, &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted, Err: err}
	}
	if place = g.publish(request | onTrial); place < 0 {
		return 0, refuseSuspect(fmt.Errorf("%d requests are being executed", mostRequests))
	}
	return place | holdsTurn, nil
}

func refuseSuspect(why error) error {
	return &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted,
		Msg: "this request was being executed when a process died; such ones are executed one at a time, beside a standby that has the state", Err: why}
}

// holdsTurn is the bit of a place whose request has the suspects' turn.
const holdsTurn = 1 << 16

// publish writes that a request is executed into a free place of the page. Beyond
// mostRequests at a time they go unseen, in place -1.
func (g *guard) publish(word uint64) (place int) {
	first := int(word>>requestBits) % mostRequests
	for i := range mostRequests {
		place := (first + i) % mostRequests
		if g.requests[place].CompareAndSwap(0, word) {
			wordAt(g.m.place, offRequests+8*place).Store(word)
			return place
		}
	}
	return -1
}

// Leave implements ipc.Guard.
func (g *guard) Leave(place int) {
	if place < 0 {
		return
	}
	i := place &^ holdsTurn
	request := g.requests[i].Load()
	if request&onTrial != 0 {
		g.prove(request &^ onTrial)
	}
	wordAt(g.m.place, offRequests+8*i).Store(0)
	g.requests[i].Store(0)
	if place&holdsTurn != 0 {
		<-g.turn
	}
}

func (g *guard) isProven(request uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proven[request]
}

func (g *guard) prove(request uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.proven) >= mostProven {
		clear(g.proven)
	}
	g.proven[request] = true
}
