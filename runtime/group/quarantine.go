package group

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file is how a group learns that a request ends the processes that execute it, and keeps it
// from the next one. Such a request would walk through the group: a client sends it again to
// each new primary, as it is idempotent, or several clients send it.
//
// Every replica has the requests that it executes in its page, each as a word, by which
// equal requests are recognised. When it dies, the supervisor reads them. After one death they are
// suspects, and are executed one at a time: most are innocent, and proven so as soon as they have
// been executed. One on trial when another process dies is the cause of both deaths, and is
// in quarantine from then on: the supervisor publishes that before it promotes the next
// primary, and every replica refuses it. The quarantine ends by itself; another death then begins
// one that is twice as long.

// A request's word: what ipc.Guard says of it, but for the lowest bits. Its upper half is
// the id of its method.
const (
	onTrial     = 1 << 0 // of a replica's word: it executes the request as a suspect
	quarantined = 1 << 0 // of a word in the supervisor's table
	there       = 1 << 1 // always set, so that no request's word is 0
	requestBits = 2
)

func requestWord(request uint64) uint64 { return request&^(1<<requestBits-1) | there }

const (
	mostRequests = 128 // that a replica's page tells of
	mostSuspects = 64  // that the supervisor's page tells of

	suspicionTime = time.Minute      // how long a suspect is remembered after a death
	memoryTime    = 10 * time.Minute // how long the number of its deaths is remembered after a quarantine
	longestTime   = time.Hour        // of a quarantine
)

// A verdict is what the supervisor's table says of a request.
type verdict struct {
	suspected, quarantined bool
	until                  time.Time
	deaths                 int
}

// An entry of the table is two words: the request's, and when its state ends in Unix milliseconds,
// with the number of deaths in the lowest byte. It is written in the other order, and
// read so that a change meanwhile hides the entry at most.
func (p *page) suspect(i int) (word, rest uint64) {
	at := offSuspects + 8 + 16*i
	return wordAt(p.mem, at).Load(), wordAt(p.mem, at+8).Load()
}

func (p *page) setSuspect(i int, word uint64, until time.Time, deaths int) {
	at := offSuspects + 8 + 16*i
	wordAt(p.mem, at).Store(0)
	sys.CrashPoint("group suspect cleared")
	if word == 0 {
		return
	}
	wordAt(p.mem, at+8).Store(uint64(until.UnixMilli())<<8 | uint64(min(deaths, 255)))
	wordAt(p.mem, at).Store(word)
	sys.CrashPoint("group suspect stored")
}

// copySuspect takes an entry over from another page.
func (p *page) copySuspect(i int, from *page) {
	word, rest := from.suspect(i)
	p.setSuspect(i, word, time.UnixMilli(int64(rest>>8)), int(rest&0xff))
	if word != 0 {
		wordAt(p.mem, offSuspects).Store(uint64(i + 1))
	}
}

func (p *page) verdict(request uint64, entries int) verdict {
	if i := findWord(p.mem, offSuspects+8, 16, entries, request, quarantined); i >= 0 {
		word, rest := p.suspect(i)
		if word&^quarantined != request {
			return verdict{} // it has just been replaced
		}
		v := verdict{until: time.UnixMilli(int64(rest >> 8)), deaths: int(rest & 0xff)}
		left := time.Until(v.until)
		switch {
		case word&quarantined != 0 && left > 0 && left <= longestTime: // the clock may have been set
			v.quarantined = true
		case word&quarantined != 0 || left > 0:
			v.suspected = true
		}
		return v
	}
	return verdict{}
}

// inspect reads what a process that has died was executing, and publishes what follows from it.
func (s *supervisor) inspect(r *replica) {
	if r.planned || s.stopping != nil || s.cfg.Quarantine < 0 {
		return
	}
	for i := range mostRequests {
		word := s.page.placeWord(r.index, offRequests+8*i)
		if word != 0 {
			s.blame(r, word&^onTrial, word&onTrial != 0)
		}
	}
	s.forgetSuspects()
	time.AfterFunc(suspicionTime+time.Second, func() { s.do(s.forgetSuspects) })
}

// blame notes that a process died while it executed a request.
func (s *supervisor) blame(r *replica, request uint64, onTrial bool) {
	now := time.Now()
	at, deaths := -1, 0
	var soonest int64
	for i := range mostSuspects {
		word, rest := s.page.suspect(i)
		if word&^quarantined == request {
			at, deaths = i, int(rest&0xff)
			break
		}
		// Otherwise it takes a free place, or that of the suspect that ends first.
		ends := int64(rest >> 8)
		if word == 0 {
			ends = -1
		}
		if word&quarantined == 0 && (at < 0 || ends < soonest) {
			at, soonest = i, ends
		}
	}
	if at < 0 {
		return // all places are taken by requests in quarantine
	}
	if !onTrial {
		s.page.setSuspect(at, request, now.Add(suspicionTime), max(deaths, 1))
		s.countSuspects()
		return
	}
	deaths++
	span := s.cfg.Quarantine
	for range deaths - 2 {
		span = min(2*span, longestTime)
	}
	s.page.setSuspect(at, request|quarantined, now.Add(span), deaths)
	s.countSuspects()
	s.quarantines++
	time.AfterFunc(span+time.Second, func() { s.do(s.forgetSuspects) })
	time.AfterFunc(span+memoryTime+time.Second, func() { s.do(s.forgetSuspects) })
	s.report(Event{Kind: Quarantined, Instance: r.name, PID: r.proc.pid, Delay: span, Cause: fmt.Sprintf(
		"a call of %s was being executed when each of %d processes died; it is refused for %v", s.methodName(r, request), deaths, span)})
}

// forgetSuspects clears entries that do not matter any more.
func (s *supervisor) forgetSuspects() {
	for i := range mostSuspects {
		word, rest := s.page.suspect(i)
		until := time.UnixMilli(int64(rest >> 8))
		if word&quarantined != 0 {
			until = until.Add(memoryTime)
		}
		if word != 0 && time.Now().After(until) {
			s.page.setSuspect(i, 0, until, 0)
		}
	}
	s.countSuspects()
}

// countSuspects publishes how much of the table is in use: nothing, most of the time.
func (s *supervisor) countSuspects() {
	n := 0
	s.quarantined = 0
	for i := range mostSuspects {
		word, _ := s.page.suspect(i)
		if word == 0 {
			continue
		}
		n = i + 1
		if word&quarantined != 0 && s.page.verdict(word&^quarantined, n).quarantined {
			s.quarantined++
		}
	}
	wordAt(s.page.mem, offSuspects).Store(uint64(n))
}

// methodName names the method of a request by what the replica has announced.
func (s *supervisor) methodName(r *replica, request uint64) string {
	for _, p := range r.served {
		for line := range strings.SplitSeq(p.Schema, "\n") {
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "method" {
				continue
			}
			id := fnv.New32a()
			id.Write([]byte(p.Name + "/" + words[1]))
			if id.Sum32() == uint32(request>>32) {
				return p.Name + "/" + words[1]
			}
		}
	}
	return fmt.Sprintf("method %#x", uint32(request>>32))
}
