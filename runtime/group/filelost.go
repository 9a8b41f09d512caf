package group

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os/exec"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file handles the loss of, and damage to, the group's file. The supervisor creates another
// file and stores the reign in both; so the replicas that have mapped the first one, which has no
// name any more, continue to serve. It then replaces these replicas one by one, as Roll does, until
// all of them use the new file.

// home returns the page that a replica uses.
func (p *page) home(index int) *page {
	if h := p.homes[index]; h != nil {
		return h
	}
	return p
}

// wordOf returns a word of the page of a replica.
func (p *page) wordOf(index, off int) word {
	return wordAt(p.home(index).mem, placeOffset(index)+off)
}

// settle makes p the page of the next process in a place. A former page that no replica uses any
// more loses its lock; by that, clients that map it know that it is not supervised. The page stays
// mapped, because a goroutine may still wait for a word in it.
func (p *page) settle(index int) {
	delete(p.homes, index)
	for _, old := range p.former {
		if !slices.Contains(slices.Collect(maps.Values(p.homes)), old) {
			_ = sys.Unlock(old.f, 0)
		}
	}
}

// storeReign stores r in every page that a replica uses. The page of the next primary comes last,
// so that at no moment two replicas find that they are the primary.
func (p *page) storeReign(r reign) {
	last := p.home(r.primary)
	for _, other := range append(slices.Collect(maps.Values(p.homes)), p) {
		if other != last {
			wordAt(other.mem, offReign).Store(r.pack())
		}
	}
	wordAt(last.mem, offReign).Store(r.pack())
}

// problem describes the damage to a supervisor's page whose reign should be r, or returns "".
// Replicas cannot use a damaged page.
func (p *page) problem(service string, r reign) (problem string, damaged bool) {
	fi, err := p.f.Stat()
	switch {
	case err != nil || fi.Size() < int64(len(p.mem)):
		return "was cut short", true
	case p.overwritten(r):
		return "was overwritten", true
	case !p.dir.InPlace():
		return "is gone with the domain's folder, which was removed or replaced", false
	case !p.dir.Holds(pagePath(service), p.id):
		return "was removed or replaced", false
	}
	return "", false
}

// watchFile checks the group's file periodically.
func (s *supervisor) watchFile() {
	due := make(chan struct{}, 1)
	check := sys.NewCheck(func() {
		select {
		case due <- struct{}{}:
		default:
		}
	})
	defer check.Stop()
	for {
		select {
		case <-due:
			s.do(s.checkFile)
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *supervisor) checkFile() {
	if s.stopping != nil {
		return
	}
	s.tellOfTrouble()
	s.page.claim.Protect()
	if w := wordAt(s.page.mem, offCandidates); w.Load() !=
		packSet(ofCandidates, s.candidates) {
		w.Store(packSet(ofCandidates, s.candidates))
		s.events.log(slog.LevelError, "another process has overwritten the group's file")
	}
	if now := time.Now(); now.Sub(s.checked) > domain.TouchPeriod {
		s.checked = now
		s.page.dir.Touch(pagePath(s.cfg.Service), folder)
	}
	if len(s.page.homes) > 0 {
		s.checkSync() // a replica that uses a page without a name cannot wake the supervisor
	}
	problem, damaged := s.page.problem(s.cfg.Service, s.reign)
	if problem == "" {
		s.fileErr = ""
		return
	}
	next, err := s.claimAnew()
	var taken *InUseError
	switch {
	case errors.As(err, &taken):
		s.shutdown(fmt.Errorf(
			"%w: domain %s was replaced while this process supervised group %s in it, and %w",
			ipc.ErrDisplaced, s.dir.Path(), s.cfg.Service, taken))
		return
	case err != nil:
		if s.fileErr != err.Error() {
			s.fileErr = err.Error()
			s.report(Event{Kind: FileLost, Cause: "the group's file " + problem +
				", and cannot be made again yet", Err: err})
		}
		return
	}
	s.move(next, damaged)
	s.report(Event{Kind: FileLost, Cause: "the group's file " + problem +
		"; it has been made again, and the replicas are replaced by ones that use it"})
}

// tellOfTrouble logs that changes are noticed late, and that they no longer are.
func (s *supervisor) tellOfTrouble() {
	trouble := sys.WatchTrouble()
	switch {
	case trouble != nil && !s.late:
		s.events.log(slog.LevelWarn, "changes are noticed late", "err", trouble)
	case trouble == nil && s.late:
		s.events.log(slog.LevelInfo, "changes are noticed at once again")
	}
	s.late = trouble != nil
}

// claimAnew creates the group's file again in the present folder of the domain. It returns an
// *InUseError if another supervisor supervises the group there, or has done so.
func (s *supervisor) claimAnew() (*page, error) {
	if s.page.dir.InPlace() {
		if s.page.dir.Holds(pagePath(s.cfg.Service), s.page.id) {
			if err := s.page.dir.Root().Remove(pagePath(s.cfg.Service)); err != nil {
				return nil, err
			}
		}
		next, err := claimPage(s.page.dir, s.cfg.Service, s.cfg.Replicas, s.page.claim)
		var held *InUseError
		if errors.As(err, &held) {
			// By a supervisor that is about to be refused, as this one has the claim.
			return nil, fmt.Errorf("another process has locked %s", pagePath(s.cfg.Service))
		}
		if err == nil {
			s.page.claim = nil // the claim belongs to the next page
		}
		return next, err
	}
	dir, err := s.page.dir.Again()
	if err != nil {
		return nil, err
	}
	next, err := claimPage(dir, s.cfg.Service, s.cfg.Replicas, nil)
	if err != nil {
		dir.Close()
		return nil, err
	}
	next.own = true
	_, joined, err := sys.FindLock(next.f, placeLock(0, 0), 1<<62-1)
	if err == nil && (joined || next.reign().epoch > s.reign.epoch) {
		err = &InUseError{Service: s.cfg.Service, Domain: dir.Path()}
	}
	if err != nil {
		next.close()
		return nil, err
	}
	return next, nil
}

// move makes next the group's page. If the former page is damaged, all replicas are replaced at
// once, because none of them can be the primary.
func (s *supervisor) move(next *page, damaged bool) {
	old := s.page
	next.describe(&s.cfg)
	if !damaged {
		for i := range mostSuspects {
			next.copySuspect(i, old)
		}
	}
	next.former = append(old.former, old)
	next.homes = make(map[int]*page)
	candidates := s.candidates
	for _, r := range s.replicas {
		wordAt(next.mem, placeOffset(r.index)+offIncarnation).Store(r.incarnation)
		claimed := r.incarnation
		if r.state == starting && !damaged {
			claimed = old.placeWord(r.index, offClaimed)
		}
		wordAt(next.mem, placeOffset(r.index)+offClaimed).Store(claimed)
		switch {
		case damaged && s.cfg.Replication != nil && r.proc != nil:
			candidates |= 1 << r.index // it may have had the state, which is lost
		case !damaged && r.proc != nil:
			next.homes[r.index] = old.home(r.index)
		}
	}
	old.former, old.homes = nil, nil
	if old.claim != nil {
		old.claim.Close()
		old.claim = nil
	}
	s.page = next
	s.setCandidates(candidates)
	if damaged {
		_ = sys.Unlock(old.f, 0)
	}
	s.rule(s.reign.epoch, s.reign.primary)
	for _, r := range s.replicas {
		if damaged && r.proc != nil {
			s.replace(r, r.command)
		}
	}
	if !s.moving && len(next.homes) > 0 {
		s.moving = true
		go s.moveReplicas()
	}
}

// moveReplicas replaces, one after the other, the replicas that use a former page. It ends with the
// group.
func (s *supervisor) moveReplicas() {
	g := &Group{s}
	for left := true; left && s.ctx.Err() == nil; {
		for _, index := range standbysFirst(g.Status()) {
			var there bool
			s.ask(func() {
				if index != none {
					_, there = s.page.homes[index]
				}
			})
			if !there {
				continue
			}
			// Errors are in the group's events. After one, the group must be healthy before the
			// next replica ends: that may be the only one with the state.
			if g.exchange(s.ctx, index, s.commandOf(index), anyFailure) != nil {
				_, _ = g.WaitHealthy(s.ctx, 0)
				break
			}
		}
		s.ask(func() {
			left = len(s.page.homes) > 0
			s.moving = left
		})
	}
}

func (s *supervisor) commandOf(index int) (command func(int) *exec.Cmd) {
	s.ask(func() { command = s.replicas[index].command })
	return command
}
