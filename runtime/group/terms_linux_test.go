package group

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
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
	p.claim.Close() // its supervisor dies
	p.claim = nil
	if err := sys.Unlock(p.f, 0); err != nil {
		t.Fatal(err)
	}
	next, err := claimPage(p.dir, "svc", 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	if os.SameFile(next.id, p.id) || wordAt(p.mem, offMagic).Load() != magic {
		t.Error("the file is used on")
	}
}
