package group

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file finds out which request ends the processes that execute it, and keeps such a request
// from the next process. Otherwise it would go through the whole group: a client sends it again to
// each new primary, because it is idempotent, or several clients send it.
//
// Every replica has the requests that it executes in its page, each as a word by which equal
// requests are recognised. When the replica dies, the supervisor reads the words. After one death
// the requests are suspects, and are executed one at a time. Most of them are innocent, and proven
// so when they have been executed. A suspect on trial when another process dies is the cause of
// both deaths, and is put in quarantine: the supervisor publishes that before it promotes the next
// primary, and every replica refuses the request. A quarantine ends by itself. A further death
// starts one that is twice as long.
//
// The standbys of a group that replicates publish the changes that they execute, and whether these
// are on trial at the primary. A change that a standby has died of has not ended the primary, so
// the primary waits for no standby to execute it again.
//
// Requests that kill may differ, in a counter or a time for example, so deaths are also counted by
// method. The first request of such a method that a primary executes is on trial as well; if it is
// executed, the method is proven on that replica. The quarantine of a method needs one more death
// than that of a request, because a method that is in use is in execution at most deaths.

// The word of a request has the value that ipc.Guard gets, except for the lowest bits. Its upper
// half is the id of the method.
const (
	onTrial     = 1 << 0 // in a replica's page: the request is executed as a suspect
	quarantined = 1 << 0 // in the supervisor's table
	there       = 1 << 1 // always set, so that the word of a request is never 0
	wholeMethod = 1 << 2 // the word stands for a method, not for a request
	requestBits = 3
)

func requestWord(request uint64) uint64 { return request&^(1<<requestBits-1) | there }

// methodWord returns the word of a request's method.
func methodWord(request uint64) uint64 { return request>>32<<32 | wholeMethod | there }

// The number of processes that must have died of a request, or of requests of one method, before a
// quarantine.
const (
	deathsOfRequest = 2
	deathsOfMethod  = 3
)

const (
	mostRequests = 128 // in the page of a replica
	mostSuspects = 64  // in the page of the supervisor

	suspicionTime = time.Minute // for which a suspect is remembered after a death
	// memoryTime is the time for which the number of its deaths is remembered after a quarantine.
	memoryTime  = 10 * time.Minute
	longestTime = time.Hour // of a quarantine
)

// A verdict is what the supervisor's table says about a request.
type verdict struct {
	suspected, quarantined bool
	until                  time.Time
	deaths                 int
}

// suspect returns an entry of the table, which is two words: that of the request, and the end of
// its state in Unix milliseconds with the number of deaths in the lowest byte. The words are
// written in the reverse order and read so that a concurrent change can only hide the entry.
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

// copySuspect copies an entry from another page.
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
		// the clock may have been set
		case word&quarantined != 0 && left > 0 && left <= longestTime:
			v.quarantined = true
		case word&quarantined != 0 || left > 0:
			v.suspected = true
		}
		return v
	}
	return verdict{}
}

// inspect reads which requests a dead process was executing, and publishes the consequences.
func (s *supervisor) inspect(r *managedReplica) {
	r.implicated = nil
	if r.planned || s.stopping != nil || s.cfg.Quarantine < 0 {
		return
	}
	var words []uint64
	trials := 0
	for i := range mostRequests {
		if word := s.page.placeWord(r.index, offRequests+8*i); word != 0 {
			words = append(words, word)
			trials += int(word & onTrial)
		}
	}
	c := circumstances{alone: trials == 1, standby: s.reign.primary != r.index && !r.abdicated}
	methods := make(map[uint64]bool) // and whether one of its requests was on trial
	for _, word := range words {
		trial := word&onTrial != 0
		c.onTrial = trial && word&wholeMethod == 0
		s.blame(r, requestWord(word), c)
		methods[methodWord(word)] = methods[methodWord(word)] || trial && word&wholeMethod != 0
	}
	for word, trial := range methods {
		if c.standby {
			break // that says little: the primary has executed them
		}
		c.onTrial = trial
		s.blame(r, word, c)
		r.implicated = append(r.implicated, word)
	}
	s.forgetSuspects()
	time.AfterFunc(suspicionTime+time.Second, func() { s.do(s.forgetSuspects) })
}

// exonerate withdraws the suspicion of methods after a death if the process was killed from
// outside. Of the deaths that a request can cause, only those by lack of memory look the same, and
// the kernel counts these.
func (s *supervisor) exonerate(r *managedReplica, err error) {
	implicated := r.implicated
	r.implicated = nil
	kills := sys.OOMKills()
	hunger := kills != s.oomKills
	s.oomKills = kills
	var exit *exec.ExitError
	if len(implicated) == 0 || hunger || r.suspicion != nil || !errors.As(err, &exit) ||
		!sys.Killed(exit.ProcessState) {
		return
	}
	for i := range mostSuspects {
		word, rest := s.page.suspect(i)
		if word&quarantined != 0 || !slices.Contains(implicated, word) {
			continue
		}
		if deaths := int(rest & 0xff); deaths > 1 {
			s.page.setSuspect(i, word, time.UnixMilli(int64(rest>>8)), deaths-1)
		} else {
			s.page.setSuspect(i, 0, time.Time{}, 0)
		}
	}
	s.countSuspects()
}

// circumstances are those of a request at the death of the process that executed it.
type circumstances struct {
	onTrial bool
	alone   bool // no other one was on trial
	standby bool // the process was a standby
}

// blame records that a process died while it executed a request, or requests of a method.
func (s *supervisor) blame(r *managedReplica, word uint64, c circumstances) {
	now := time.Now()
	at, deaths := -1, 0
	var soonest int64
	for i := range mostSuspects {
		entry, rest := s.page.suspect(i)
		if entry&^quarantined == word {
			at, deaths = i, int(rest&0xff)
			break
		}
		// Otherwise the word takes a free entry, or that of the suspect whose state ends first.
		ends := int64(rest >> 8)
		if entry == 0 {
			ends = -1
		}
		if entry&quarantined == 0 && (at < 0 || ends < soonest) {
			at, soonest = i, ends
		}
	}
	if at < 0 {
		return // all entries are taken by words in quarantine
	}
	what, enough := "a call of %s was", deathsOfRequest
	if word&wholeMethod != 0 {
		what, enough = "calls of %s that differ were", deathsOfMethod
	}
	if !c.alone {
		enough++ // one of several, and perhaps not the cause
	}
	if c.onTrial || word&wholeMethod != 0 {
		deaths++
	}
	if !c.standby {
		deaths = max(deaths, 1)
	}
	if !c.onTrial || deaths < enough {
		if entry, _ := s.page.suspect(at); entry == word|quarantined &&
			s.page.verdict(word, mostSuspects).quarantined {
			return // it was admitted before the quarantine began
		}
		s.page.setSuspect(at, word, now.Add(suspicionTime), deaths)
		s.countSuspects()
		return
	}
	span := s.cfg.Quarantine
	for range deaths - enough {
		span = min(2*span, longestTime)
	}
	s.page.setSuspect(at, word|quarantined, now.Add(span), deaths)
	s.countSuspects()
	s.quarantines++
	time.AfterFunc(span+time.Second, func() { s.do(s.forgetSuspects) })
	time.AfterFunc(span+memoryTime+time.Second, func() { s.do(s.forgetSuspects) })
	s.report(Event{Kind: Quarantined, Replica: r.name, PID: r.proc.pid, Delay: span,
		Cause: fmt.Sprintf(
			what+" being executed when each of %d processes died; it is refused for %v",
			s.methodName(r, word), deaths, span)})
}

// forgetSuspects clears entries that have expired.
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

// countSuspects publishes the number of entries that are in use, which usually is 0.
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

// methodName returns the name of a request's method, from the protocols that the replica has
// announced.
func (s *supervisor) methodName(r *managedReplica, request uint64) string {
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
