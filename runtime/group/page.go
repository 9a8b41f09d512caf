package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// The group's file in the domain has a page that only the supervisor writes,
// then one for each replica that only it writes, and the supervisor before it
// starts the replica's process. Pages are the machine's, for
// they are mapped one by one. All numbers are 64-bit words in the machine's
// byte order, if not said otherwise.
const (
	pageMagic = 0x3170726767637069 // "ipcggrp1"

	// The supervisor's page.
	offMagic  = 0  // stored last when the page is made
	offPID    = 8  // of the supervisor: information
	offPeriod = 16 // of the heartbeat in nanoseconds, 0 for none
	offGrace  = 24 // nanoseconds that a replica has to end
	offHome   = 32 // the supervisor's pid namespace
	offTether = 40 // 1: the replicas end with the supervisor
	offReign  = 64 // a line of its own
	// Of a group that replicates.
	offReplicates = 128 // 1, and then
	offMinSync    = 136
	offAckTimeout = 144 // nanoseconds
	offBacklog    = 152
	offCandidates = 160 // a set: who may succeed the last primary

	offReplicas = 192  // of the group
	offSuspects = 1024 // the number of entries, and then those: requests that end processes

	// A replica's page.
	offBeat        = 0   // counts its heartbeats
	offAlive       = 64  // 32 bits: the robust futex of a thread of the replica
	offIncarnation = 72  // the incarnation that the supervisor wants here; its alone
	offNamespace   = 80  // the pid namespace of the process
	offStdout      = 88  // the pipe from which the supervisor reads its output, 0 for none;
	offStderr      = 96  // its alone
	offTold        = 104 // the incarnation that the supervisor has told to end; its alone
	offSet         = 128 // of a primary: which replicas have the whole state
	offAccused     = 136 // of a primary: a standby that it wants replaced
	offSynced      = 192 // of all: the epoch in which it got the whole state, 0, or broken

	offAccusation = 1024 // of a primary: why, a text; written before offAccused
	offRequests   = 3072 // of all: a word for each request that it executes
)

// pageSize is the size of each part of the group's file.
func pageSize() int { return os.Getpagesize() }

// placeOffset is where the page of a replica begins.
func placeOffset(index int) int { return (1 + index) * pageSize() }

const folder = ".groups"

// errNoPage means that no supervisor ever made the group's page, or that the
// last one removed it when it shut down.
var errNoPage = errors.New("no such group")

// A phase is what the supervisor is about.
type phase uint8

const (
	phaseStarting phase = iota
	phaseServing
	phaseDegraded
	phaseClosing
)

// none is the primary's index when there is none.
const none = -1

// A reign is what the page's word says.
type reign struct {
	epoch   uint64 // of the last promotion
	primary int    // index, or none
	phase   phase
}

const maxReplicas = 1 << 10

func (r reign) pack() uint64 {
	return r.epoch<<24 | uint64(r.phase)<<16 | uint64(uint16(r.primary+1))
}

func unpackReign(w uint64) reign {
	return reign{epoch: w >> 24, primary: int(uint16(w)) - 1, phase: phase(w >> 16)}
}

// A page is a mapped group page: writable for its supervisor, read-only for
// everybody else.
type page struct {
	f   *os.File
	mem []byte
	dir *domain.Dir // in which it lies
	own bool        // dir is the page's to close
	id  fs.FileInfo // of f

	// Of a supervisor's: the right to the group in dir, and the pages that this one
	// has taken the place of. homes has, by index, those in which replicas still live.
	claim  *domain.Claim
	former []*page
	homes  map[int]*page
}

func (p *page) reign() reign { return unpackReign(wordAt(p.mem, offReign).Load()) }

// supervised reports whether somebody else than the holder of p supervises.
func (p *page) supervised() (bool, error) { return sys.Locked(p.f, 0) }

// named reports whether the group's name still stands for the page.
func (p *page) named(service string) bool {
	return p.dir.InPlace() && p.dir.Holds(pagePath(service), p.id)
}

func (p *page) close() error {
	errs := []error{sys.UnmapFile(p.mem), p.f.Close()}
	if p.claim != nil {
		errs = append(errs, p.claim.Close())
	}
	if p.own {
		errs = append(errs, p.dir.Close())
	}
	for _, old := range p.former {
		errs = append(errs, old.close())
	}
	return sys.JoinErrors(errs...)
}

func pagePath(service string) string { return filepath.Join(folder, service) }

// openPage maps the page of a group read-only.
func openPage(dir *domain.Dir, service string) (*page, error) {
	f, err := dir.Root().Open(pagePath(service))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoPage
	}
	if err == nil {
		f, err = openLayered(dir, service, f)
	}
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", service, err)
	}
	p, err := mapPage(dir, f, pageSize(), false)
	if err != nil {
		f.Close()
		return nil, err
	}
	if wordAt(p.mem, offMagic).Load() != pageMagic {
		p.close()
		return nil, errNoPage // the supervisor is just making it
	}
	return p, nil
}

// openLayered opens a page anew where the file system would otherwise show its
// supervisor another file. Closing a file that could be written wakes those who
// follow the group, so no file is opened so in vain.
func openLayered(dir *domain.Dir, service string, f *os.File) (*os.File, error) {
	var magic [8]byte
	if _, err := f.ReadAt(magic[:], offMagic); err != nil ||
		binary.NativeEndian.Uint64(magic[:]) != pageMagic || !sys.Layered(f) {
		return f, nil
	}
	f.Close()
	return dir.Root().OpenFile(pagePath(service), os.O_RDWR, 0)
}

// openPlace maps the page of a replica for it to write.
func openPlace(dir *domain.Dir, service string, index int) ([]byte, error) {
	f, err := dir.Root().OpenFile(pagePath(service), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < int64(placeOffset(index+1)) {
		return nil, fmt.Errorf("group %s has no place %d", service, index)
	}
	return sys.MapFile(f, int64(placeOffset(index)), pageSize(), true)
}

func mapPage(dir *domain.Dir, f *os.File, size int, writable bool) (*page, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < int64(size) {
		return nil, errNoPage
	}
	mem, err := sys.MapFile(f, 0, size, writable)
	if err != nil {
		return nil, err
	}
	return &page{f: f, mem: mem, dir: dir, id: fi}, nil
}

// claimPage makes this process the supervisor: it locks the page, which it
// creates if needed. The lock ends with the process. An *InUseError names the
// present supervisor. A supervisor that claims another file for its group has the
// claim already.
func claimPage(dir *domain.Dir, service string, replicas int, claim *domain.Claim) (*page, error) {
	root := dir.Root()
	if err := root.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	for tries := 0; ; tries++ {
		f, err := root.OpenFile(pagePath(service), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		p, err := lockPage(dir, service, replicas, f, claim)
		if err == nil {
			return p, nil
		}
		f.Close()
		var held *InUseError
		switch {
		case errors.Is(err, errRemoved):
		case errors.As(err, &held) && held.PID != 0 && !sys.Alive(held.PID) && tries < 1000:
			// A supervisor was killed while it started a child, which shares its
			// lock until it has begun to execute its own program. Nothing tells
			// of that moment.
			time.Sleep(time.Millisecond)
		default:
			return nil, err
		}
	}
}

// errRemoved means that the file was locked when its name was gone already:
// the supervisor before had removed it.
var errRemoved = errors.New("page removed")

func lockPage(dir *domain.Dir, service string, replicas int, f *os.File,
	claim *domain.Claim) (p *page, err error) {
	err = sys.TryLock(f, 0)
	if errors.Is(err, sys.ErrLocked) {
		return nil, inUse(dir, service)
	}
	if err != nil {
		return nil, err
	}
	named, err := dir.Root().Stat(pagePath(service))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errRemoved
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(named, fi) {
		return nil, errRemoved
	}
	if claim == nil {
		claim, err = dir.Claim("group/" + service)
		if errors.Is(err, domain.ErrClaimed) { // its file is gone, and it is about to make it again
			return nil, &InUseError{Service: service, Domain: dir.Path()}
		}
		if err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				claim.Close()
			}
		}()
	}
	// The last supervisor may have had more replicas, which may still live. The byte behind
	// the pages is the one that tell writes, for which there must be room later.
	size := max(placeOffset(replicas), int(fi.Size())/pageSize()*pageSize())
	if err := sys.Allocate(f, int64(size)+1); err != nil {
		return nil, err
	}
	p, err = mapPage(dir, f, size, true)
	if err != nil {
		return nil, err
	}
	p.claim = claim
	// A page left by a supervisor that was killed keeps its reign: no epoch of it
	// may be used again, and its primary may live on.
	if wordAt(p.mem, offMagic).Load() != pageMagic {
		wordAt(p.mem, offReign).Store(reign{primary: none}.pack())
	}
	wordAt(p.mem, offPID).Store(uint64(os.Getpid()))
	sys.CrashPoint("group page claimed")
	wordAt(p.mem, offMagic).Store(pageMagic)
	sys.CrashPoint("group page made")
	return p, nil
}

func inUse(dir *domain.Dir, service string) error {
	e := &InUseError{Service: service, Domain: dir.Path()}
	if p, err := openPage(dir, service); err == nil {
		e.PID = int(wordAt(p.mem, offPID).Load())
		p.close()
	}
	return e
}

// describe tells the replicas what of the group's configuration concerns them.
func (p *page) describe(cfg *Config) {
	wordAt(p.mem, offPeriod).Store(uint64(cfg.Heartbeat.Period))
	wordAt(p.mem, offGrace).Store(uint64(cfg.Grace))
	wordAt(p.mem, offReplicas).Store(uint64(cfg.Replicas))
	tether := uint64(1)
	if cfg.Survive {
		tether = 0
	}
	wordAt(p.mem, offHome).Store(sys.PIDNamespace())
	wordAt(p.mem, offTether).Store(tether)
	p.setReplication(cfg.Replication)
}

// setReign publishes r: by the store to those who look, then to those who
// sleep.
func (p *page) setReign(r reign) error {
	sys.CrashPoint("group reign decided")
	p.storeReign(r)
	sys.CrashPoint("group reign stored")
	err := p.tell()
	sys.CrashPoint("group reign told")
	return err
}

// tell wakes the watchers of the folder by a write without meaning behind the
// pages.
func (p *page) tell() error {
	_, err := p.f.WriteAt([]byte{0}, int64(len(p.mem)))
	return err
}

// beat and alive are a replica's words, as the supervisor sees them.
func (p *page) beat(index int) uint64 { return p.placeWord(index, offBeat) }

func (p *page) alive(index int) *atomic.Uint32 {
	return futexAt(p.home(index).mem, placeOffset(index)+offAlive)
}

// remove ends the group: the page, if it has its name still, loses that, and then its
// lock.
func (p *page) remove(service string) (err error) {
	if p.dir.Holds(pagePath(service), p.id) {
		err = p.dir.Root().Remove(pagePath(service))
	}
	sys.CrashPoint("group page removed")
	return sys.JoinErrors(err, p.close())
}

// longestText bounds a text in a page.
const longestText = 1024

// setText writes a text into a page, at most longestText bytes of it. It needs a
// word that is stored later, by which its reader learns of it.
func setText(mem []byte, off int, s string) {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	s = s[:min(len(s), longestText)]
	copy(mem[off+8:], s)
	wordAt(mem, off).Store(uint64(len(s)))
}

// text reads a text of a page, which may change meanwhile.
func text(mem []byte, off int) string {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	n := min(wordAt(mem, off).Load(), longestText)
	return strings.ToValidUTF8(string(mem[off+8:][:n]), "?")
}
