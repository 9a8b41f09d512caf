package domain

import (
	"errors"
	"hash/fnv"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// CheckPeriod is the period at which a process checks whether its names in a domain still stand for
// the files that it made, and whether the domain's path still names the folder that it opened. Each
// check is a stat, which takes about a microsecond. No event of the kernel reports all the ways in
// which a path can change.
const CheckPeriod = sys.CheckPeriod

// TouchPeriod is the period at which the times of files in use are renewed, for cleaners that
// remove files by age.
const TouchPeriod = time.Hour

// ErrClaimed marks a claim of a name that a live process has claimed.
var ErrClaimed = errors.New("claimed by another process")

// A Claim is the right of this process to a name in the folder of a domain. It is a lock of the
// folder itself, so it outlives the files in the folder: a process that removes the files of a live
// owner takes no name away, because the owner can make the files again. The kernel ends the claim
// with the process.
//
// A Claim also locks the folder by flock in shared mode. systemd-tmpfiles leaves such a folder
// alone.
type Claim struct {
	f       *os.File
	flocked bool
}

// patience is how often Claim looks, a millisecond apart, whether a claim has lost its holder,
// which may be dying: the kernel releases the locks of a process one after the other, and a forked
// process shares the claims of its parent until it executes its program. It is a number of looks
// and no time, as a sys.Patience is, because the holder may stand still when this process does.
const patience = 100

// Claim claims name, which must be unique among all kinds of names in the domain, such as
// "channel/echo". It returns [ErrClaimed] if another process holds the name for longer than a short
// time.
//
// Folders cannot be locked exclusively, so a claim is a shared lock, and each claimant checks for
// others after it has taken its own lock. Two processes that claim at the same moment may therefore
// both fail; callers for which that matters lock a file first.
func (d *Dir) Claim(name string) (*Claim, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, sys.ExplainOf(err)
	}
	c := &Claim{f: f}
	at := claimByte(name)
	for looks := 1; ; looks++ {
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
		if err == nil && looks > patience {
			err = ErrClaimed
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
	c.Protect()
	return c, nil
}

// Protect locks the folder against cleaners, unless that has succeeded before. It fails while a
// cleaner is at work, which holds the lock itself.
func (c *Claim) Protect() {
	if !c.flocked {
		c.flocked = sys.ShareFolder(c.f) == nil
	}
}

// Folder returns the folder of the claimed name. It belongs to the Claim; the caller must not close
// it.
func (c *Claim) Folder() *os.File { return c.f }

// Close releases the claim.
func (c *Claim) Close() error { return c.f.Close() }

// claimByte returns the byte of the folder that stands for a name: the FNV-1a hash of the name, in
// the part of the range that the kernel can lock.
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

// Holds reports whether name, a path in the domain, still names the given file.
func (d *Dir) Holds(name string, file os.FileInfo) bool {
	there, err := d.root.Lstat(name)
	return err == nil && os.SameFile(file, there)
}

// Touch renews the times of files of the domain. It ignores errors, because the times matter to
// cleaners only.
func (d *Dir) Touch(names ...string) {
	now := time.Now()
	for _, name := range names {
		_ = d.root.Chtimes(name, now, now)
	}
}
