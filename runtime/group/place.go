package group

import (
	"fmt"
	"os"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file says which process is in each place of a group, as the kernel vouches for
// it. A process that joins locks a byte of the group's file, which stands for
// its place and its pid, for as long as it lives, and then looks whether its
// supervisor's start is still wanted. The next supervisor does it the other way
// round: it withdraws every start, and then looks who is there. So it learns of
// a process that was just being started when its supervisor was killed, or that
// process learns, before it has bound a name, that it is too late.

// placeLock is the byte that the process of a pid locks when it joins in a
// place. Pids have 22 bits; the bytes need not exist.
func placeLock(index, pid int) int64 { return 1<<62 | int64(index)<<32 | int64(pid) }

// places is how many there are in the file, perhaps more than the group has
// replicas now.
func (p *page) places() int { return len(p.mem)/pageSize() - 1 }

// incarnation is the word with the incarnation, an odd number, of the process that
// the supervisor has started for a place; it is even once that start is
// withdrawn. The supervisor alone writes it.
func (p *page) incarnation(index int) word {
	return p.wordOf(index, offIncarnation)
}

// joinPlace makes this process the one in its place.
func (r *Replica) joinPlace() error {
	wordAt(r.place, offNamespace).Store(sys.PIDNamespace())
	if err := sys.ShareLock(r.page.f, placeLock(r.index, os.Getpid())); err != nil {
		return err
	}
	sys.CrashPoint("group place locked")
	if wordAt(r.place, offIncarnation).Load() != r.incarnation {
		return r.startWithdrawn()
	}
	return nil
}

// A joinedProcess is a process that has joined in a place.
type joinedProcess struct {
	index, pid  int
	incarnation uint64
	handle      *sys.Process // nil if there is none to be had
	err         error        // why
}

func closeAll(all []*joinedProcess) {
	for _, j := range all {
		if j.handle != nil {
			j.handle.Close()
		}
	}
}

// withdrawStarts withdraws every start and returns who has joined nevertheless.
func (p *page) withdrawStarts() (all []*joinedProcess, err error) {
	for index := range p.places() {
		w := p.incarnation(index)
		w.Store(w.Load() &^ 1)
		sys.CrashPoint("group start withdrawn")
		j, err := p.joined(index)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		if j != nil {
			j.incarnation = w.Load() | 1
			all = append(all, j)
		}
	}
	return all, nil
}

// joined returns the process in a place, or nil. A pid is no evidence; but
// whoever holds the lock with that pid after the pidfd was opened, in this pid
// namespace, is the process that the pidfd stands for.
func (p *page) joined(index int) (*joinedProcess, error) {
	for {
		first := placeLock(index, 0)
		at, found, err := sys.FindLock(p.f, first, 1<<32)
		if err != nil || !found {
			return nil, err
		}
		pid := int(at - first)
		if p.placeWord(index, offNamespace) != sys.PIDNamespace() {
			return nil, fmt.Errorf("a process (pid %d) in another pid namespace has place %d of "+
				"the group, and cannot be supervised from here; stop it",
				pid, index)
		}
		handle, err := sys.OpenProcess(pid)
		there, lockErr := sys.Locked(p.f, at)
		if lockErr == nil && there {
			return &joinedProcess{index: index, pid: pid, handle: handle, err: err}, nil
		}
		if handle != nil {
			handle.Close()
		}
		if lockErr != nil {
			return nil, lockErr
		}
	}
}
