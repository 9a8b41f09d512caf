package group

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file handles what a supervisor stores once in its page, for other processes to work by. The
// supervisor looks whether the words are still the same, but a process could use a word that
// another one has overwritten before that look, and would keep it for life. So each reader copies
// the words, checks the copy by its checksum, and never reads them again.

// checkedWords are words in the supervisor's page that are followed by their checksum.
type checkedWords struct{ off, count int }

var (
	wordsOfHolder = checkedWords{offHolder, 2}
	wordsOfTerms  = checkedWords{offTerms, 8}
)

// checksum returns the checksum of words. That of zeros is not 0, so a page of zeros does not
// pass.
func checksum(words ...uint64) uint64 {
	sum := uint64(pageMagic)
	for _, w := range words {
		sum = mix(sum, w)
	}
	return sum
}

// mix adds a word to a checksum, by a step of SplitMix64: a change of one bit changes about half of
// the bits.
func mix(sum, w uint64) uint64 {
	sum = (sum ^ w) + 0x9e3779b97f4a7c15
	sum = (sum ^ sum>>30) * 0xbf58476d1ce4e5b9
	sum = (sum ^ sum>>27) * 0x94d049bb133111eb
	return sum ^ sum>>31
}

func (p *page) storeChecked(at checkedWords, words []uint64) {
	for i, w := range words {
		wordAt(p.mem, at.off+8*i).Store(w)
	}
	sys.CrashPoint("group words stored without checksum")
	wordAt(p.mem, at.off+8*len(words)).Store(checksum(words...))
}

// loadChecked returns a copy of words. ok is false if they are not those that a supervisor has
// stored together.
func (p *page) loadChecked(at checkedWords) (words []uint64, ok bool) {
	for i := range at.count {
		words = append(words, wordAt(p.mem, at.off+8*i).Load())
	}
	return words, wordAt(p.mem, at.off+8*at.count).Load() == checksum(words...)
}

// A holder is the process that has locked the page. It is information: the lock is the evidence.
type holder struct {
	pid       int
	namespace uint64 // in which the pid has a meaning
}

// hold stores that this process is the holder.
func (p *page) hold() { p.storeChecked(wordsOfHolder, holderWords()) }

func holderWords() []uint64 { return []uint64{uint64(os.Getpid()), sys.PIDNamespace()} }

// holder returns the holder, or the zero holder if the page does not say who it is.
func (p *page) holder() holder {
	words, ok := p.loadChecked(wordsOfHolder)
	if !ok {
		return holder{}
	}
	return holder{pid: int(words[0]), namespace: words[1]}
}

// The terms are the part of a group's configuration by which its replicas work.
type terms struct {
	period     time.Duration // of the heartbeat; 0 for none
	grace      time.Duration // that a replica has to end
	tethered   bool          // the replicas end with the supervisor
	replicas   int           // of the group
	replicates bool
	limits     Replication // if the group replicates
}

func termsOf(cfg *Config) terms {
	t := terms{period: cfg.Heartbeat.Period, grace: cfg.Grace, tethered: !cfg.Survive,
		replicas: cfg.Replicas, replicates: cfg.Replication != nil}
	if t.replicates {
		t.limits = *cfg.Replication
	}
	return t
}

func (t terms) words() []uint64 {
	flag := map[bool]uint64{true: 1}
	return []uint64{uint64(t.period), uint64(t.grace), flag[t.tethered], uint64(t.replicas),
		flag[t.replicates], uint64(t.limits.MinSync), uint64(t.limits.AckTimeout),
		uint64(t.limits.Backlog)}
}

// terms returns the terms of the group's supervisor or, while there is none, of the last one. ok is
// false if the page has none: it was overwritten, or its supervisor has not stored them yet.
func (p *page) terms() (t terms, ok bool) {
	words, ok := p.loadChecked(wordsOfTerms)
	if !ok {
		return terms{}, false
	}
	return terms{period: time.Duration(words[0]), grace: time.Duration(words[1]),
		tethered: words[2] == 1, replicas: int(min(words[3], maxReplicas)),
		replicates: words[4] == 1, limits: Replication{MinSync: int(words[5]),
			AckTimeout: time.Duration(words[6]), Backlog: int(words[7])}}, true
}

// termsPatience is the time for which a process waits for terms that it can read. Either the words
// come back in that time, or the supervisor, which looks more often, makes the file again and
// replaces the process.
const termsPatience = 5 * sys.CheckPeriod

// openWithTerms maps the page of a group read-only, and returns the terms.
func openWithTerms(dir *domain.Dir, service string) (*page, terms, error) {
	patience := sys.NewPatience(termsPatience)
	for {
		wait := patience.Next()
		p, err := openPage(dir, service)
		if err == nil {
			t, ok := p.terms()
			if ok {
				return p, t, nil
			}
			err = &ipc.Error{Code: ipc.CodeCorrupt, Msg: fmt.Sprintf("the group's file %s was "+
				"overwritten, and does not say by which terms its replicas work; the supervisor "+
				"makes it again and starts another process; find out which process writes there",
				p.f.Name())}
			p.close()
		}
		if wait == 0 || !errors.Is(err, ipc.ErrCorrupt) {
			return nil, terms{}, err
		}
		time.Sleep(min(wait, 10*time.Millisecond))
	}
}

// describe stores the terms.
func (p *page) describe(cfg *Config) {
	p.stored = termsOf(cfg).words()
	p.hold()
	p.storeChecked(wordsOfTerms, p.stored)
	wordAt(p.mem, offMagic).Store(pageMagic)
}

// overwritten reports whether a word of the supervisor, whose reign is r, has another value than
// the supervisor has stored.
func (p *page) overwritten(r reign) bool {
	now, ok := p.loadChecked(wordsOfTerms)
	who, there := p.loadChecked(wordsOfHolder)
	return !ok || !there || !slices.Equal(now, p.stored) || !slices.Equal(who, holderWords()) ||
		wordAt(p.mem, offMagic).Load() != pageMagic || p.reign() != r
}
