package group

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

type noState struct{}

func (noState) Snapshot() ([]byte, error) { return nil, nil }
func (noState) Restore([]byte) error      { return nil }

// supervisedPage returns the page of a group that this process supervises, and the terms that it
// has stored.
func supervisedPage(t *testing.T) (*page, terms) {
	t.Helper()
	dir, err := domain.Open(filepath.Join(t.TempDir(), "domain"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	p, err := claimPage(dir, "svc", 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.close() })
	cfg := Config{Service: "svc", Replicas: 3, Grace: 3 * time.Second, Survive: true,
		Heartbeat: Heartbeat{Period: time.Minute},
		Replication: &Replication{MinSync: 1, AckTimeout: time.Second,
			Backlog: 1 << 20}}
	p.describe(&cfg)
	return p, termsOf(&cfg)
}

// TestTermsThatWereOverwritten overwrites each word by which replicas work, has a replica join
// meanwhile, and stores the old value again, as a process can that writes everywhere, before the
// supervisor looks. The replica gets the supervisor's terms.
func TestTermsThatWereOverwritten(t *testing.T) {
	p, want := supervisedPage(t)
	words := []int{offMagic}
	for _, at := range []checkedWords{wordsOfHolder, wordsOfTerms} {
		for i := range at.count + 1 {
			words = append(words, at.off+8*i)
		}
	}
	for n, off := range words {
		w := wordAt(p.mem, off)
		was := w.Load()
		for i, value := range []uint64{0, 1, 2, ^uint64(0), 16401158677182781, was + 1,
			was ^ 1<<63} {
			if value == was {
				continue
			}
			incarnation := uint64(n*100+i)<<1 | 1
			p.incarnation(2).Store(incarnation)
			r := &Replica{dir: p.dir, cfg: JoinConfig{State: noState{},
				Logger: slog.New(slog.DiscardHandler)}}
			w.Store(value)
			if !p.overwritten(p.reign()) {
				t.Errorf("word %d: the supervisor does not see %#x", off, value)
			}
			if _, ok := p.terms(); ok && off >= wordsOfTerms.off {
				t.Errorf("word %d: %#x passes", off, value)
			}
			joined := make(chan error)
			go func() { joined <- r.takePlace(formatPlace("svc", 2, incarnation)) }()
			var err error
			select {
			case err = <-joined: // by words that are right, or it cannot open the page
				w.Store(was)
			case <-time.After(time.Millisecond): // in which it has probably looked
				w.Store(was)
				err = <-joined
			}
			if off == offMagic && errors.Is(err, errNoPage) {
				continue // as at the end of a group
			}
			want.limits.SyncTimeout = 0 // of the supervisor alone
			if err != nil || r.terms != want || r.replicator.limits != want.limits {
				t.Errorf("word %d, overwritten by %#x: joined with %+v, %v", off, value, r.terms,
					err)
			}
			if err == nil {
				r.replicator.file.Close()
				r.leavePlace()
			}
		}
	}
}

// TestTermsThatStayOverwritten shows the error of a replica that finds wrong words for as long as
// it waits, which its supervisor would end.
func TestTermsThatStayOverwritten(t *testing.T) {
	p, _ := supervisedPage(t)
	wordAt(p.mem, offTerms+8).Store(7)
	r := &Replica{dir: p.dir}
	err := r.takePlace(formatPlace("svc", 2, 1))
	if !errors.Is(err, ipc.ErrCorrupt) || !strings.Contains(err.Error(), "was overwritten") {
		t.Error(err)
	}
}

// TestHolderThatWasOverwritten shows that a process which has nothing to do with a group is never
// taken for its supervisor.
func TestHolderThatWasOverwritten(t *testing.T) {
	p, _ := supervisedPage(t)
	if who := p.holder(); who.pid != os.Getpid() {
		t.Errorf("the holder is %+v", who)
	}
	wordAt(p.mem, offHolder).Store(1)
	if who := p.holder(); who != (holder{}) || p.supervisor() != nil {
		t.Errorf("the holder is %+v", who)
	}
	var held *InUseError
	if _, err := claimPage(p.dir, "svc", 3, nil); !errors.As(err, &held) || held.PID != 0 {
		t.Error(err)
	}
}

// TestPageOfAnotherLayout shows that no process reads a file with another magic number, and that
// the next supervisor replaces it.
func TestPageOfAnotherLayout(t *testing.T) {
	p, _ := supervisedPage(t)
	magic := binary.NativeEndian.Uint64([]byte("ipcggrp1"))
	wordAt(p.mem, offMagic).Store(magic)
	if _, err := openPage(p.dir, "svc"); !errors.Is(err, ipc.ErrCorrupt) ||
		!strings.Contains(err.Error(), "another version") {
		t.Error(err)
	}
	f := &finder{service: "svc", dir: p.dir}
	f.checkPage()
	if err := f.absent(); !errors.Is(err, ipc.ErrCorrupt) {
		t.Error(err)
	}
	dies(t, p)
	next, err := claimPage(p.dir, "svc", 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	if os.SameFile(next.id, p.id) || wordAt(p.mem, offMagic).Load() != magic {
		t.Error("the file is used on")
	}
}

// wrongWords are what a process that writes everywhere may store instead of a word.
func wrongWords(was uint64) []uint64 {
	all := []uint64{0, 1, 2, 3, ^uint64(0), 16401158677182781, was + 1, was - 1, was << 1}
	for i := range 64 {
		all = append(all, 1<<i, was^1<<i)
	}
	return slices.DeleteFunc(all, func(w uint64) bool { return w == was })
}

// TestOverwrittenReign shows that a wrong word names no primary.
func TestOverwrittenReign(t *testing.T) {
	p := &page{mem: make([]byte, placeOffset(2))}
	for _, r := range []reign{{epoch: 1, primary: 0, phase: phaseServing}, {primary: none},
		{epoch: firstLateEpoch + 7, primary: maxReplicas - 1, phase: phaseClosing}} {
		p.storeReign(r)
		if p.reign() != r {
			t.Errorf("%+v is read as %+v", r, p.reign())
		}
		for _, w := range wrongWords(r.pack()) {
			wordAt(p.mem, offReign).Store(w)
			if p.reign() != unreadable {
				t.Errorf("%#x is %+v", w, p.reign())
			}
		}
	}
}

// TestUnreadableReignOfTheDead shows that the next supervisor takes an epoch that was not used, and
// does not take the candidates of an earlier reign for those of one that it cannot read.
func TestUnreadableReignOfTheDead(t *testing.T) {
	p, _ := supervisedPage(t)
	p.storeReign(reign{epoch: firstLateEpoch, primary: 1, phase: phaseServing})
	wordAt(p.mem, offCandidates).Store(packSet(ofCandidates, 0))
	p.wordOf(1, offSet).Store(packSet(firstLateEpoch, 0b011))
	wordAt(p.mem, offReign).Store(1)
	dies(t, p)
	next, err := claimPage(p.dir, "svc", 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	r := next.reign()
	if r.primary != none || r.epoch <= firstLateEpoch || r.epoch >= 1<<(64-epochShift) {
		t.Errorf("the reign is %+v", r)
	}
	if set := next.lastSet(r.epoch); set != unknownSet {
		t.Errorf("the candidates are %b", set)
	}
}

// dies ends the use of a page by its supervisor.
func dies(t *testing.T, p *page) {
	t.Helper()
	p.claim.Close()
	p.claim = nil
	if err := sys.Unlock(p.f, 0); err != nil {
		t.Fatal(err)
	}
}

// TestOverwrittenSyncState shows that a wrong word makes no replica one that has the state, or one
// that must be replaced.
func TestOverwrittenSyncState(t *testing.T) {
	p := &page{mem: make([]byte, placeOffset(2))}
	const incarnation = 0x1234567
	p.incarnation(1).Store(incarnation)
	w := p.wordOf(1, offSynced)
	for _, s := range []syncState{unsynced, synced, broken} {
		was := packSync(incarnation, s)
		if w.Store(was); p.syncState(1) != s {
			t.Errorf("%d is read as %d", s, p.syncState(1))
		}
		for _, wrong := range append(wrongWords(was), packSync(incarnation+2, synced)) {
			if w.Store(wrong); p.syncState(1) != unsynced {
				t.Errorf("%#x is %d", wrong, p.syncState(1))
			}
		}
	}
}

// TestOverwrittenSetOfDeadPrimary shows that the supervisor does not take one set of replicas for
// another when the word was overwritten and no process is left that would store it again.
func TestOverwrittenSetOfDeadPrimary(t *testing.T) {
	s := makeSupervisor(Config{Service: "svc", Replicas: 3, Replication: new(Replication),
		Logger: slog.New(slog.DiscardHandler)}, nil, nil,
		&page{mem: make([]byte, placeOffset(3))})
	defer s.events.close()
	defer s.launch.close()
	was := packSet(4, 0b011)
	for _, w := range append(wrongWords(was), packSet(3, 0b111)) {
		s.setCandidates(0b111) // before the reign
		s.reign = reign{epoch: 4, primary: 0, phase: phaseServing}
		s.page.wordOf(0, offSet).Store(was)
		if s.inSync() != 0b011 {
			t.Fatalf("in sync: %b", s.inSync())
		}
		s.page.wordOf(0, offSet).Store(w)
		if s.inSync() != 0b011 || !s.begun() {
			t.Errorf("with %#x: in sync %b", w, s.inSync())
		}
		if s.endReign(); s.candidates != unknownSet || s.page.lastSet(5) != unknownSet {
			t.Errorf("with %#x: candidates %b", w, s.candidates)
		}
	}
	for _, w := range wrongWords(packSet(ofCandidates, 0b011)) {
		wordAt(s.page.mem, offCandidates).Store(w)
		if set := s.page.lastSet(5); set != unknownSet {
			t.Errorf("with %#x: candidates %b", w, set)
		}
	}
}
