package group

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file determines which process is in each place of a group, from locks of the kernel. A
// process that joins locks a byte of the group's file that stands for its place and its pid, for as
// long as it lives. It then checks whether its start is still wanted. The next supervisor does the
// same in the other order: it withdraws every start, and then looks for locks. So the supervisor
// finds a process that was being started when the previous supervisor was killed, or that process
// finds, before it has bound a name, that it is too late.

// placeLock returns the byte that the process with the given pid locks when it joins in a place.
// Pids have 22 bits. The bytes need not exist.
func placeLock(index, pid int) int64 { return 1<<62 | int64(index)<<32 | int64(pid) }

// places returns the number of places in the file, which may exceed the present number of replicas.
func (p *page) places() int { return len(p.mem)/pageSize() - 1 }

// incarnation returns the word with the incarnation, an odd number, of the process that the
// supervisor has started for a place. The word is even once that start is withdrawn. Only the
// supervisor writes it.
func (p *page) incarnation(index int) word {
	return p.wordOf(index, offIncarnation)
}

// withdraw withdraws the start of the process in a place, whose death is known.
func (p *page) withdraw(index int) {
	for _, mem := range [][]byte{p.home(index).mem, p.mem} {
		w := wordAt(mem, placeOffset(index)+offIncarnation)
		w.Store(w.Load() &^ 1)
	}
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
	handle      *sys.Process // nil if there is none
	err         error        // why handle is nil
}

func closeAll(all []*joinedProcess) {
	for _, j := range all {
		if j.handle != nil {
			j.handle.Close()
		}
	}
}

// withdrawStarts withdraws every start, and returns the processes that have joined nevertheless.
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

// joined returns the process in a place, or nil. A pid is no evidence. But a process of this pid
// namespace that holds the lock for that pid after the pidfd was opened is the process to which the
// pidfd refers.
//
// If there is no process with the pid although the lock is held, another process has inherited the
// descriptors of the dead one, which has not joined.
func (p *page) joined(index int) (*joinedProcess, error) {
	first := placeLock(index, 0)
	for from := first; ; {
		at, found, err := sys.FindLock(p.f, from, first+1<<32-from)
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
		if errors.Is(err, syscall.ESRCH) && there {
			from = at + 1
			continue
		}
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
