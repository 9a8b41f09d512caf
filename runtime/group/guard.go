package group

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is the replica's part of the quarantine of requests that end the processes that execute
// them. quarantine.go has the supervisor's part, and describes the whole.

// A guard publishes the requests that its process executes, in the page of the process, and refuses
// the requests that the supervisor has put in quarantine. It implements ipc.Guard.
type guard struct {
	replica   *Replica
	trialSlot chan struct{} // has one element while a suspect is executed

	// requests has the same contents as the page, which may be damaged.
	requests [mostRequests]atomic.Uint64

	mu sync.Mutex
	// proven has the suspects, requests and methods, that this process has executed and survived.
	proven map[uint64]bool
}

func newGuard(r *Replica) *guard {
	return &guard{replica: r, trialSlot: make(chan struct{}, 1), proven: make(map[uint64]bool)}
}

const (
	// suspectPatience is the time for which a suspect waits for the one before it, and for a
	// standby in sync, before it is refused. The client may send it again.
	suspectPatience = 10 * time.Second
	// bystanderPatience is the time for which a request waits whose method is suspected after one
	// death. After that it is executed like any other.
	bystanderPatience = 2 * time.Second
	// suspectPeriod is the period at which a waiting suspect checks whether it still is a suspect.
	suspectPeriod = 20 * time.Millisecond
	// mostProven bounds the size of proven.
	mostProven = 1 << 12
)

// Enter implements ipc.Guard.
func (g *guard) Enter(request uint64) (place int, err error) {
	request = requestWord(request)
	if wordAt(g.replica.page.mem, offSuspects).Load() == 0 {
		return g.publish(request), nil
	}
	own, method := g.verdict(request), g.verdict(methodWord(request))
	switch {
	case own.quarantined:
		return 0, g.refuseQuarantined("this request", own)
	case method.quarantined:
		return 0, g.refuseQuarantined("every request of this method", method)
	case own.suspected && !g.isProven(request):
		return g.enterSuspect(request)
	case g.suspects(method) && !g.isProven(methodWord(request)):
		return g.enterSuspect(request | wholeMethod)
	}
	return g.publish(request), nil
}

// verdict returns what the group knows about a request or a method.
func (g *guard) verdict(word uint64) verdict {
	entries := wordAt(g.replica.page.mem, offSuspects).Load()
	return g.replica.page.verdict(word, int(min(entries, mostSuspects)))
}

// suspects reports whether the next request of a method must be executed as a suspect. After one
// death that is so only if a second one could destroy the state.
func (g *guard) suspects(method verdict) bool {
	return method.suspected && (method.deaths > 1 || g.replicates())
}

func (g *guard) replicates() bool {
	return g.replica.replicator != nil && wordAt(g.replica.page.mem, offReplicas).Load() > 1
}

func (g *guard) refuseQuarantined(what string, v verdict) error {
	return &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotExecuted, Msg: fmt.Sprintf(
		"%s is in quarantine until %s: one was being executed when each of %d processes of "+
			"group %s died",
		what, v.until.Format(time.TimeOnly), v.deaths, g.replica.service)}
}

// enterSuspect admits a request that was in execution when a process died, or one of a method of
// which a request was. It admits one such request at a time, so that another death identifies the
// request, and only when a standby is in sync, so that this death does not destroy the state.
func (g *guard) enterSuspect(request uint64) (place int, err error) {
	// key is the suspected word: of the request, or of its method.
	key, limit := request, suspectPatience
	if request&wholeMethod != 0 {
		key = methodWord(request)
		if g.verdict(key).deaths < 2 {
			limit = bystanderPatience
		}
	}
	// giveUp ends the wait of a suspect. A request about which little is known is executed.
	giveUp := func(why error) (int, error) {
		if limit == bystanderPatience {
			return g.publish(request &^ wholeMethod), nil
		}
		return 0, refuseSuspect(why)
	}
	late := time.Now().Add(limit)
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case g.trialSlot <- struct{}{}:
	case <-patience.C:
		return giveUp(fmt.Errorf("another one has been executed for %v", limit))
	}
	defer func() {
		if err != nil || place < 0 || place&holdsTrialSlot == 0 {
			<-g.trialSlot
		}
	}()
	if g.replicates() {
		err := errors.New("no standby was in sync")
		for err != nil && g.stillSuspected(key) {
			if !time.Now().Before(late) {
				return giveUp(err)
			}
			var p *primary
			if p, err = g.replica.replicator.asPrimary(); err != nil {
				return 0, refuseSuspect(err)
			}
			err = p.awaitStandby(suspectPeriod)
		}
	}
	if err := g.replica.Admit(0); err != nil { // the reign may be over by now
		return 0, &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted, Err: err}
	}
	if !g.stillSuspected(key) {
		return g.publish(request &^ wholeMethod), nil
	}
	if place = g.publish(request | onTrial); place < 0 {
		return 0, refuseSuspect(fmt.Errorf("%d requests are being executed", mostRequests))
	}
	return place | holdsTrialSlot, nil
}

// stillSuspected reports whether a request or a method was not cleared meanwhile, here or by the
// supervisor.
func (g *guard) stillSuspected(word uint64) bool {
	return g.verdict(word).suspected && !g.isProven(word)
}

func refuseSuspect(why error) error {
	return &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted,
		Msg: "this request, or another of its method, was being executed when a process died; " +
			"such ones are executed one at a time, beside a standby that has the state", Err: why}
}

// holdsTrialSlot is the bit in the place of a request that holds the trial slot.
const holdsTrialSlot = 1 << 16

// publish writes a request that is executed into a free place of the page. If mostRequests are
// published already, it returns -1, and the request is not published.
func (g *guard) publish(word uint64) (place int) {
	first := int(word>>requestBits) % mostRequests
	for i := range mostRequests {
		place := (first + i) % mostRequests
		if g.requests[place].CompareAndSwap(0, word) {
			wordAt(g.replica.place, offRequests+8*place).Store(word)
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
	i := place &^ holdsTrialSlot
	request := g.requests[i].Load()
	if request&onTrial != 0 {
		g.prove(requestWord(request), methodWord(request))
	}
	wordAt(g.replica.place, offRequests+8*i).Store(0)
	g.requests[i].Store(0)
	if place&holdsTrialSlot != 0 {
		<-g.trialSlot
	}
}

func (g *guard) isProven(request uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proven[request]
}

func (g *guard) prove(words ...uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.proven) >= mostProven {
		clear(g.proven)
	}
	for _, w := range words {
		g.proven[w] = true
	}
}
