package domain

import (
	"errors"
	"hash/fnv"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// CheckPeriod is how often a process looks whether the names that it holds in a
// domain still stand for what it made, and whether the domain's path still
// names the folder that it opened. A stat of each costs about a microsecond;
// no notice of the kernel tells of all the ways in which a path can change.
const CheckPeriod = sys.CheckPeriod

// TouchPeriod is how often the times of files in use are renewed, for
// cleaners that go by age alone.
const TouchPeriod = time.Hour

// ErrClaimed marks a claim of a name that a live process has claimed.
var ErrClaimed = errors.New("claimed by another process")

// A Claim is the right of this process to a name in one domain folder. It is
// a lock of the folder itself, so it holds whatever happens to the files in
// it: whoever removes the files of a live owner takes nothing from it but
// the files, which it can make again. The kernel ends the claim with the
// process.
//
// The folder is also locked with flock, in shared mode, which is how
// systemd-tmpfiles knows that it must leave a folder alone.
type Claim struct {
	f       *os.File
	flocked bool
}

// patience is how long Claim waits for the holder of a claim that may be dying:
// the kernel frees what a process holds one after the other, and a process that
// was just forked shares the claims of its parent until it executes its program.
const patience = 100 * time.Millisecond

// Claim claims name, which the caller chooses to be unique among all kinds of
// names in the domain, such as "channel/echo". It fails with ErrClaimed while
// somebody else holds it.
//
// Folders cannot be locked exclusively, so a claim is a shared lock, and each
// claimant looks for others after taking its own. Two that claim at the same
// moment may therefore both fail; callers lock a file first where that matters.
func (d *Dir) Claim(name string) (*Claim, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, sys.ExplainOf(err)
	}
	c := &Claim{f: f}
	at := claimByte(name)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := sys.ShareLock(f, at)
		if err == nil {
			var others bool
			if others, err = sys.Locked(f, at); err == nil && !others {
				break
			}
			if err == nil {
				err = sys.Unlock(f, at)
			}
		}
		if err == nil && time.Since(began) > patience {
			err = ErrClaimed
		}
		if err != nil {
			f.Close()
			return nil, err
		}
	}
	c.Protect()
	return c, nil
}

// Protect locks the folder against cleaners, if that has not succeeded yet: a
// cleaner that is at work holds the lock itself.
func (c *Claim) Protect() {
	if !c.flocked {
		c.flocked = sys.ShareFolder(c.f) == nil
	}
}

// Folder is the claimed name's folder; it is the Claim's to close.
func (c *Claim) Folder() *os.File { return c.f }

// Close gives the claim up.
func (c *Claim) Close() error { return c.f.Close() }

// claimByte is the byte of the folder that stands for a name: its FNV-1a hash, in the
// half of the range that the kernel can lock.
func claimByte(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return int64(h.Sum64() >> 2)
}

// InPlace reports whether the domain's path still names this folder.
func (d *Dir) InPlace() bool {
	mine, err := d.root.Stat(".")
	if err != nil {
		return false
	}
	there, err := os.Lstat(d.path)
	return err == nil && os.SameFile(mine, there)
}

// Holds reports whether name, a path in the domain, still stands for the file
// of that identity.
func (d *Dir) Holds(name string, file os.FileInfo) bool {
	there, err := d.root.Lstat(name)
	return err == nil && os.SameFile(file, there)
}

// Touch renews the times of files of the domain. It is done for cleaners only,
// so nothing follows from a failure.
func (d *Dir) Touch(names ...string) {
	now := time.Now()
	for _, name := range names {
		_ = d.root.Chtimes(name, now, now)
	}
}
