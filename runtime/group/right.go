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

// membership returns what the supervisor has told this process, and takes it out of
// the environment, so that programs which this process starts are not told.
var membership = sync.OnceValue(func() string {
	defer os.Unsetenv(memberVar)
	return os.Getenv(memberVar)
})

// claimLock is the byte that the one process locks which may act for a start. Its
// program may have started others, with its environment.
func claimLock(index int, incarnation uint64) int64 {
	return 1<<61 | int64(index)<<32 | int64(uint32(incarnation^incarnation>>32))
}

// claimPlace makes this process the only one that acts for its start, as long as it
// holds the file that claimPlace returns; or says who does.
func (m *Member) claimPlace() (claim *os.File, err error) {
	f, err := m.dir.Root().OpenFile(pagePath(m.service), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := sameFile(f, m.page.f); err != nil {
		return nil, err
	}
	err = sys.TryLock(f, claimLock(m.index, m.incarnation))
	if errors.Is(err, sys.ErrLocked) {
		return nil, m.inherited()
	}
	if err != nil {
		return nil, err
	}
	if wordAt(m.place, offTenant).Load() != m.incarnation {
		return nil, m.unwanted()
	}
	if m.page.tethered() {
		if there, err := m.page.supervised(); err != nil || !there {
			return nil, sys.JoinErrors(err, m.unwanted())
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

// inherited is the error of a process that has its parent's environment.
func (m *Member) inherited() error {
	who := "another process"
	first := placeLock(m.index, 0)
	if at, found, err := sys.FindLock(m.page.f, first, 1<<32); err == nil && found {
		who = fmt.Sprintf("process %d", at-first)
		if at == placeLock(m.index, os.Getpid()) {
			who = "this process itself"
		}
	}
	return fmt.Errorf("%s has the place of %s, which %s names; start this process without that "+
		"variable, or by a group of its own",
		who, m.Name(), memberVar)
}

// unwanted is the error of a process that comes too late, or has the environment of
// one that was started earlier.
func (m *Member) unwanted() error {
	return fmt.Errorf("the start of %s is not wanted any more: its supervisor is gone, or has "+
		"started another process; start this process by its group, or without the variable %s",
		m.Name(), memberVar)
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

// lifelinePeriod is how often a member looks for its supervisor where it cannot
// wait for its death.
const lifelinePeriod = 250 * time.Millisecond

// holdLifeline ends this process when its supervisor has died without it. The kernel
// does so first, but not with a program that has gained privileges, by set-user-id
// or file capabilities, nor with one that something else than the supervisor has
// started.
func (m *Member) holdLifeline() {
	if !m.page.tethered() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.letGo = cancel
	h := m.page.supervisor()
	m.watch.Go(func() {
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
			there, err := m.page.supervised()
			withdrawn := wordAt(m.place, offTenant).Load() == m.incarnation&^1
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
