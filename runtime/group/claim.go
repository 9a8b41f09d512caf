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

// This file is a process's right to a place in a group: how it gets it, before it
// touches anything of the place, and when it loses it.

// placeFromEnv returns what the supervisor has told this process, and takes it out of
// the environment, so that programs which this process starts are not told.
var placeFromEnv = sync.OnceValue(func() string {
	defer os.Unsetenv(placeVar)
	return os.Getenv(placeVar)
})

// claimLock is the byte that the one process locks which may act for a start. Its
// program may have started others, with its environment.
func claimLock(index int, incarnation uint64) int64 {
	return 1<<61 | int64(index)<<32 | int64(uint32(incarnation^incarnation>>32))
}

// claimPlace makes this process the only one that acts for its start, as long as it
// holds the file that claimPlace returns; or says who does.
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
	if r.page.tethered() {
		if there, err := r.page.supervised(); err != nil || !there {
			return nil, sys.JoinErrors(err, r.startWithdrawn())
		}
	}
	return f, nil
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

// placeTaken is the error of a process that has its parent's environment.
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

// startWithdrawn is the error of a process that comes too late, or has the environment of
// one that was started earlier.
func (r *Replica) startWithdrawn() error {
	return fmt.Errorf("the start of %s is not wanted any more: its supervisor is gone, or has "+
		"started another process; start this process by its group, or without the variable %s",
		r.Name(), placeVar)
}

func (p *page) tethered() bool { return wordAt(p.mem, offTether).Load() == 1 }

// supervisor returns a handle on the process that holds the page's lock, or nil
// where its pid means nothing, or is not known.
func (p *page) supervisor() *sys.Process {
	pid := wordAt(p.mem, offPID).Load()
	if wordAt(p.mem, offHome).Load() != sys.PIDNamespace() {
		return nil
	}
	h, err := sys.OpenProcess(int(pid))
	if err != nil {
		return nil
	}
	if there, err := p.supervised(); err != nil || !there || wordAt(p.mem, offPID).Load() != pid {
		h.Close()
		return nil
	}
	return h
}

// lifelinePeriod is how often a replica looks for its supervisor where it cannot
// wait for its death.
const lifelinePeriod = 250 * time.Millisecond

// holdLifeline ends this process when its supervisor has died without it. The kernel
// does so first, but not with a program that has gained privileges, by set-user-id
// or file capabilities, nor with one that something else than the supervisor has
// started.
func (r *Replica) holdLifeline() {
	if !r.page.tethered() {
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
