package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file handles the right of a process to a place in a group: how the process gets the right,
// before it uses anything of the place, and when it loses the right.

// placeFromEnv returns the place that the supervisor has passed to this process, and removes it
// from the environment, so that programs which this process starts do not get it.
var placeFromEnv = sync.OnceValue(func() string {
	defer os.Unsetenv(placeVar)
	return os.Getenv(placeVar)
})

// claimLock returns the byte that a process locks to act for a start. Only one process may,
// although the program may have started others with its environment.
func claimLock(index int, incarnation uint64) int64 {
	return 1<<61 | int64(index)<<32 | int64(uint32(incarnation^incarnation>>32))
}

// claimPlace makes this process the only one that ever acts for its start. It holds that right for
// as long as the returned file is open; no process gets it afterwards. If another process has it,
// the error names that process.
func (r *Replica) claimPlace() (claim *os.File, err error) {
	f, err := r.dir.Root().OpenFile(pagePath(r.service), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := sameFile(f, r.page.f); err != nil {
		return nil, err
	}
	err = sys.TryLock(f, claimLock(r.index, r.incarnation))
	if errors.Is(err, sys.ErrLocked) {
		return nil, r.placeTaken()
	}
	if err != nil {
		return nil, err
	}
	if wordAt(r.place, offIncarnation).Load() != r.incarnation {
		return nil, r.startWithdrawn()
	}
	if r.terms.tethered {
		if there, err := r.page.supervised(); err != nil || !there {
			return nil, sys.JoinErrors(err, r.startWithdrawn())
		}
	}
	// The process that acted for the start may have died just now.
	if claimed := wordAt(r.place, offClaimed); claimed.Load() != r.incarnation {
		claimed.Store(r.incarnation)
		return f, nil
	}
	return nil, r.startWithdrawn()
}

func sameFile(a, b *os.File) error {
	fa, err := a.Stat()
	if err != nil {
		return err
	}
	fb, err := b.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(fa, fb) {
		return errors.New("the group's file has been replaced")
	}
	return nil
}

// placeTaken returns the error of a process that has the environment of its parent.
func (r *Replica) placeTaken() error {
	who := "another process"
	first := placeLock(r.index, 0)
	if at, found, err := sys.FindLock(r.page.f, first, 1<<32); err == nil && found {
		who = fmt.Sprintf("process %d", at-first)
		if at == placeLock(r.index, os.Getpid()) {
			who = "this process itself"
		}
	}
	return fmt.Errorf("%s has the place of %s, which %s names; start this process without that "+
		"variable, or by a group of its own",
		who, r.Name(), placeVar)
}

// startWithdrawn returns the error of a process that is too late, or that has the environment of a
// process that was started earlier.
func (r *Replica) startWithdrawn() error {
	return fmt.Errorf("the start of %s is not wanted any more: its supervisor is gone, or has "+
		"started another process; start this process by its group, or without the variable %s",
		r.Name(), placeVar)
}

// supervisor returns a handle on the process that holds the page's lock, or nil if its pid is
// unknown or has no meaning in this pid namespace.
func (p *page) supervisor() *sys.Process {
	who := p.holder()
	if who.namespace != sys.PIDNamespace() {
		return nil
	}
	h, err := sys.OpenProcess(who.pid)
	if err != nil {
		return nil
	}
	if there, err := p.supervised(); err != nil || !there || p.holder() != who {
		h.Close()
		return nil
	}
	return h
}

// lifelinePeriod is the period at which a replica checks for its supervisor if it cannot wait for
// the supervisor's death.
const lifelinePeriod = 250 * time.Millisecond

// holdLifeline ends this process after the death of its supervisor. Usually the kernel does that
// first, but not for a program that has gained privileges, by set-user-id or file capabilities, nor
// for a process that a program other than the supervisor has started.
func (r *Replica) holdLifeline() {
	if !r.terms.tethered {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.letGo = cancel
	h := r.page.supervisor()
	r.tasks.Go(func() {
		if h != nil {
			stop := context.AfterFunc(ctx, func() { h.Close() })
			defer stop()
			if h.Wait() == nil && ctx.Err() == nil {
				sys.KillSelf()
			}
		}
		tick := time.NewTicker(lifelinePeriod)
		defer tick.Stop()
		for ctx.Err() == nil {
			there, err := r.page.supervised()
			withdrawn := wordAt(r.place, offIncarnation).Load() == r.incarnation&^1
			if err == nil && !there || withdrawn { // by the next supervisor, which waits for this
				sys.KillSelf()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
}
