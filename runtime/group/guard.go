package group

import (
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
	replica *Replica
	slot    trialSlot

	// requests has the same contents as the page, which may be damaged.
	requests [mostRequests]atomic.Uint64

	mu sync.Mutex
	// proven has the suspects, requests and methods, that this process has executed and survived.
	proven map[uint64]bool
	// doubted has the suspects on trial here that no standby has survived, or not all of them.
	doubted map[uint64]bool
	holders [mostRequests]uint64 // the tickets of the suspects that got the trial slot, by place
}

func newGuard(r *Replica) *guard {
	return &guard{replica: r, slot: newTrialSlot(), proven: make(map[uint64]bool),
		doubted: make(map[uint64]bool)}
}

// A trialSlot is what a suspect must have to be executed. A process has one. A suspect that takes
// longer than trialTime loses it to the next one, and is executed on.
type trialSlot struct {
	taken  chan struct{} // has one element while the slot is taken
	mu     sync.Mutex
	holder uint64 // the ticket of the present holder
}

func newTrialSlot() trialSlot { return trialSlot{taken: make(chan struct{}, 1)} }

// take takes the slot, unless over receives a value while it is taken.
func (s *trialSlot) take(over <-chan time.Time) (ticket uint64, ok bool) {
	select {
	case s.taken <- struct{}{}:
	case <-over:
		select {
		case s.taken <- struct{}{}: // it has become free, perhaps while this process stood still
		default:
			return 0, false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holder++
	return s.holder, true
}

// limit makes the holder of a ticket lose the slot after trialTime.
func (s *trialSlot) limit(ticket uint64) {
	time.AfterFunc(trialTime, func() { s.give(ticket) })
}

// give gives the slot back, if the holder of the ticket still has it.
func (s *trialSlot) give(ticket uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == ticket && len(s.taken) > 0 {
		s.holder++
		<-s.taken
	}
}

// Only tests set these.
var (
	// suspectPatience is the time for which a suspect waits for the one before it, and for a
	// standby in sync, before it is refused. The client may send it again.
	suspectPatience = 10 * time.Second
	// trialTime is the time after which a suspect that is still being executed does not hold up
	// other suspects any more.
	trialTime = suspectPatience / 2
	// bystanderPatience is the time for which a request waits whose method is suspected after one
	// death. After that it is executed like any other.
	bystanderPatience = 2 * time.Second
)

const (
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
	if err := g.quarantine(request); err != nil {
		return 0, err
	}
	own, method := g.verdict(request), g.verdict(methodWord(request))
	switch {
	case own.suspected && own.deaths == 0 && g.replicates() && !g.isProven(request):
		return g.enterBeside(request)
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
	return g.replica.replicator != nil && g.replica.terms.replicas > 1
}

// quarantine returns an error if the supervisor has put a request or its method in quarantine.
func (g *guard) quarantine(request uint64) error {
	what, v := "this request", g.verdict(requestWord(request))
	if !v.quarantined {
		what, v = "every request of this method", g.verdict(methodWord(request))
	}
	if !v.quarantined {
		return nil
	}
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
			return g.admit(request)
		}
		return 0, refuseSuspect(why)
	}
	late := time.Now().Add(limit)
	patience := time.NewTimer(limit)
	defer patience.Stop()
	ticket, ok := g.slot.take(patience.C)
	if !ok {
		return giveUp(fmt.Errorf("others have been executed for %v", limit))
	}
	defer func() {
		if err != nil || place < 0 || place&holdsTrialSlot == 0 {
			g.slot.give(ticket)
		}
	}()
	if g.replicates() {
		for g.stillSuspected(key) {
			p, err := g.replica.replicator.asPrimary()
			if err != nil {
				return 0, refuseSuspect(err)
			}
			if err = p.awaitStandby(suspectPeriod); err == nil {
				break
			}
			if !time.Now().Before(late) {
				return giveUp(err)
			}
		}
	}
	if err := g.replica.Admit(0); err != nil { // the reign may be over by now
		return 0, &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted, Err: err}
	}
	if !g.stillSuspected(key) {
		return g.admit(request)
	}
	if err := g.quarantine(request); err != nil { // on account of the request or of its method
		return 0, err
	}
	if place = g.publishOnTrial(request, ticket); place < 0 {
		return 0, refuseSuspect(fmt.Errorf("%d requests are being executed", mostRequests))
	}
	return place, nil
}

// enterBeside admits a request of which standbys have died, and no primary. This process may
// execute it also without a standby. Beside a standby, the request is on trial.
func (g *guard) enterBeside(request uint64) (place int, err error) {
	p, err := g.replica.replicator.asPrimary()
	if err != nil {
		return 0, refuseSuspect(err)
	}
	if p.awaitStandby(0) != nil {
		return g.publish(request), nil
	}
	patience := time.NewTimer(bystanderPatience)
	defer patience.Stop()
	ticket, ok := g.slot.take(patience.C)
	if !ok {
		return g.admit(request)
	}
	if err := g.quarantine(request); err != nil {
		g.slot.give(ticket)
		return 0, err
	}
	if place = g.publishOnTrial(request, ticket); place < 0 {
		g.slot.give(ticket)
	}
	return place, nil
}

// admit publishes a request that has waited, unless it is in quarantine: another process, of which
// the supervisor has learned meanwhile, has died of it.
func (g *guard) admit(request uint64) (place int, err error) {
	if err := g.quarantine(request); err != nil {
		return 0, err
	}
	return g.publish(request &^ wholeMethod), nil
}

// publishOnTrial publishes a request that is executed as a suspect, with the trial slot.
func (g *guard) publishOnTrial(request, ticket uint64) (place int) {
	place = g.publish(request | onTrial)
	if place < 0 {
		return place
	}
	g.mu.Lock()
	g.holders[place] = ticket
	g.mu.Unlock()
	g.slot.limit(ticket)
	return place | holdsTrialSlot
}

// word returns the word of a request that this process executes, as it is published.
func (g *guard) word(sum uint64) uint64 {
	request := requestWord(sum)
	if wordAt(g.replica.page.mem, offSuspects).Load() == 0 {
		return request
	}
	for i := range g.requests {
		if w := g.requests[i].Load(); w&onTrial != 0 && requestWord(w) == request {
			return w
		}
	}
	return request
}

// doubt keeps the trial of a request from proving it: a standby was lost that executed it, or none
// has executed it.
func (g *guard) doubt(word uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doubted[requestWord(word)] = true
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
		g.tried(request)
	}
	ticket := uint64(0)
	if place&holdsTrialSlot != 0 {
		g.mu.Lock()
		ticket = g.holders[i]
		g.mu.Unlock()
	}
	g.withdraw(i)
	if ticket != 0 {
		g.slot.give(ticket)
	}
}

// withdraw ends the publication of a request.
func (g *guard) withdraw(place int) {
	if place < 0 {
		return
	}
	wordAt(g.replica.place, offRequests+8*place).Store(0)
	g.requests[place].Store(0)
}

// tried ends the trial of a request, which has proven it and its method unless there is a doubt.
func (g *guard) tried(request uint64) {
	g.mu.Lock()
	doubted := g.doubted[requestWord(request)]
	delete(g.doubted, requestWord(request))
	g.mu.Unlock()
	if !doubted {
		g.prove(requestWord(request), methodWord(request))
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
