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
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The group's file in the domain has a page that only the supervisor writes, followed by a page for
// each replica that only that replica writes, and the supervisor before it starts the replica's
// process. Pages have the size of the machine's pages, because they are mapped one by one. Unless
// stated otherwise, all values are 64-bit words in the byte order of the machine.
const (
	// pageMagic stands for the layout of the file: another layout has another number.
	pageMagic = 0x3270726767637069 // "ipcggrp2"

	// The supervisor's page.
	offMagic      = 0    // stored last when the page is made
	offHolder     = 8    // checked words: the supervisor, see holder
	offReign      = 64   // a line of its own
	offTerms      = 128  // checked words: what the replicas work by, see terms
	offCandidates = 256  // a set: who may succeed the last primary, of a group that replicates
	offSuspects   = 1024 // the number of entries, and then those: requests that end processes

	// The page of a replica.
	offBeat        = 0   // counts its heartbeats
	offAlive       = 64  // 32 bits: the robust futex of a thread of the replica
	offIncarnation = 72  // the incarnation that the supervisor wants here; its alone
	offNamespace   = 80  // the pid namespace of the process
	offStdout      = 88  // the pipe from which the supervisor reads its output, 0 for none;
	offStderr      = 96  // its alone
	offTold        = 104 // the incarnation that the supervisor has told to end; its alone
	offClaimed     = 112 // of all: the incarnation for which a process has acted
	offSet         = 128 // of a primary: which replicas have the whole state
	offAccused     = 136 // of a primary: a standby that it wants replaced
	offSynced      = 192 // of all: whether it has the whole state, see syncState

	// Of a primary: its stamps about standbys, see outofsync.go. First a word for each place.
	offLosses        = 256
	offJoins         = 448
	offAttempts      = 640
	offLossTextOf    = 832 // the stamp that has the text
	offAttemptTextOf = 840

	offAccusation  = 1024 // of a primary: why, a text; written before offAccused
	accusationRoom = 1024
	offLossText    = 2056
	offAttemptText = 2560
	stampTextRoom  = 496
	offRequests    = 3072 // of all: a word for each request that it executes
)

// pageSize is the size of each part of the group's file.
func pageSize() int { return os.Getpagesize() }

// placeOffset returns the offset of the page of a replica.
func placeOffset(index int) int { return (1 + index) * pageSize() }

const folder = ".groups"

// errNoPage means that no supervisor has created the group's page, or that the last one has removed
// it in its shutdown.
var errNoPage = errors.New("no such group")

// A phase is the phase in the life of a group.
type phase uint8

const (
	phaseStarting phase = iota
	phaseServing
	phaseDegraded
	phaseClosing

	phaseUnreadable // in no page, see unreadable
)

// none is the index of the primary if there is no primary.
const none = -1

// A reign is the content of the page's word.
type reign struct {
	epoch   uint64 // of the last promotion
	primary int    // index, or none
	phase   phase
}

const maxReplicas = 1 << 10

// unreadable is the reign of a page whose word was overwritten, or which was cut short. No replica
// is the primary. The word may come back as it was, so it begins and ends no reign.
var unreadable = reign{primary: none, phase: phaseUnreadable}

// firstLateEpoch is larger than the number of promotions in the life of a group, ten a second for
// 54 years.
const firstLateEpoch = 1 << 34

// lateEpoch returns the epoch with which the next supervisor continues when it cannot read the
// reign. It is larger than all before, also where an earlier reign could not be read.
func lateEpoch() uint64 { return firstLateEpoch + uint64(time.Now().Unix()) }

// The word of a reign has 35 bits of the epoch, 2 of the phase, 11 of the primary and 16 of its
// checksum.
const (
	epochShift   = 29
	phaseShift   = 27
	primaryShift = 16
	sumMask      = 1<<primaryShift - 1
)

func (r reign) pack() uint64 {
	w := r.epoch<<epochShift | uint64(r.phase)<<phaseShift | uint64(r.primary+1)<<primaryShift
	return w | mix(pageMagic, w)&sumMask
}

func unpackReign(w uint64) reign {
	if w&sumMask != mix(pageMagic, w&^sumMask)&sumMask {
		return unreadable
	}
	return reign{epoch: w >> epochShift, phase: phase(w >> phaseShift & 3),
		primary: int(w>>primaryShift&(1<<(phaseShift-primaryShift)-1)) - 1}
}

// A page is a mapped page of a group: writable for its supervisor, read-only for all other
// processes.
type page struct {
	f   *os.File
	mem []byte
	dir *domain.Dir // in which it lies
	own bool        // dir belongs to the page, which closes it
	id  fs.FileInfo // of f

	// Only for a supervisor: the claim of the group in dir, and the pages that this one has
	// replaced. homes has, by index, the pages that replicas still use.
	claim  *domain.Claim
	former []*page
	homes  map[int]*page
	stored []uint64 // the words of the terms, by describe
}

func (p *page) reign() reign { return unpackReign(wordAt(p.mem, offReign).Load()) }

// supervised reports whether a process other than the holder of p supervises the group.
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
	switch wordAt(p.mem, offMagic).Load() {
	case pageMagic:
		return p, nil
	case 0: // the supervisor is creating it
		err = errNoPage
	default:
		err = &ipc.Error{Code: ipc.CodeCorrupt, Msg: fmt.Sprintf("the group's file %s has another "+
			"layout; its supervisor uses another version of ipcgen (build both with the same), or "+
			"another process has overwritten it", f.Name())}
	}
	p.close()
	return nil, err
}

// openLayered opens a page again if the file system could otherwise show its supervisor another
// file. Closing a file that was open for writing wakes the processes that watch the group, so no
// file is opened that way without need.
func openLayered(dir *domain.Dir, service string, f *os.File) (*os.File, error) {
	if magicOf(f) != pageMagic || !sys.Layered(f) {
		return f, nil
	}
	f.Close()
	return dir.Root().OpenFile(pagePath(service), os.O_RDWR, 0)
}

// magicOf returns the magic number of a group's file, or 0 if the file has none.
func magicOf(f *os.File) uint64 {
	var magic [8]byte
	if _, err := f.ReadAt(magic[:], offMagic); err != nil {
		return 0
	}
	return binary.NativeEndian.Uint64(magic[:])
}

// openPlace maps the page of a replica for writing.
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

// claimPage makes this process the supervisor. It creates the page if needed, and locks it; the
// lock ends with the process. It returns an *InUseError that names the present supervisor, if there
// is one. A supervisor that claims another file for its group passes the claim that it has already.
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
			// A supervisor was killed while it started a child. The child shares the lock until it
			// has begun to execute its own program. No event reports that moment.
			time.Sleep(time.Millisecond)
		default:
			return nil, err
		}
	}
}

// errRemoved means that the file had lost its name when it was locked, as the previous supervisor
// has removed it, or that it has lost it since, as it is of no use.
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
		if errors.Is(err, domain.ErrClaimed) { // it is about to create its file again
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
	if magic := magicOf(f); magic != 0 && magic != pageMagic {
		// Of another version, or overwritten. The replicas that use it, if any are left, see that
		// it is gone and end. Start waits until their names are free.
		if err := dir.Root().Remove(pagePath(service)); err != nil {
			return nil, err
		}
		return nil, errRemoved
	}
	// The last supervisor may have had more replicas, which may still live. tell writes the byte
	// after the pages, for which there must be room later.
	size := max(placeOffset(replicas), int(fi.Size())/pageSize()*pageSize())
	if err := sys.Allocate(f, int64(size)+1); err != nil {
		return nil, err
	}
	p, err = mapPage(dir, f, size, true)
	if err != nil {
		return nil, err
	}
	p.claim = claim
	// A page that a killed supervisor left keeps its reign: none of its epochs may be used again,
	// and its primary may be alive.
	switch {
	case wordAt(p.mem, offMagic).Load() != pageMagic:
		wordAt(p.mem, offReign).Store(reign{primary: none}.pack())
		wordAt(p.mem, offCandidates).Store(packSet(ofCandidates, 0))
	case p.reign() == unreadable:
		// Nor is it known who had all changes at its end. The candidates are older.
		wordAt(p.mem, offCandidates).Store(packSet(ofCandidates, unknownSet))
		wordAt(p.mem, offReign).Store(reign{epoch: lateEpoch(), primary: none}.pack())
	}
	p.hold()
	sys.CrashPoint("group page claimed")
	wordAt(p.mem, offMagic).Store(pageMagic)
	sys.CrashPoint("group page made")
	return p, nil
}

func inUse(dir *domain.Dir, service string) error {
	e := &InUseError{Service: service, Domain: dir.Path()}
	if p, err := openPage(dir, service); err == nil {
		e.PID = p.holder().pid
		p.close()
	}
	return e
}

// setReign publishes r: by the store for processes that look, and by a write for those that sleep.
func (p *page) setReign(r reign) error {
	sys.CrashPoint("group reign decided")
	p.storeReign(r)
	sys.CrashPoint("group reign stored")
	err := p.tell()
	sys.CrashPoint("group reign told")
	return err
}

// tell wakes the watchers of the folder, by a write of one byte after the pages that has no
// meaning.
func (p *page) tell() error {
	_, err := p.f.WriteAt([]byte{0}, int64(len(p.mem)))
	return err
}

// beat and alive are the words of a replica, as the supervisor uses them.
func (p *page) beat(index int) uint64 { return p.placeWord(index, offBeat) }

func (p *page) alive(index int) *atomic.Uint32 {
	return futexAt(p.home(index).mem, placeOffset(index)+offAlive)
}

// remove ends the group. It removes the name of the page, if the page still has it, and then
// releases the lock.
func (p *page) remove(service string) (err error) {
	if p.dir.Holds(pagePath(service), p.id) {
		err = p.dir.Root().Remove(pagePath(service))
	}
	sys.CrashPoint("group page removed")
	return sys.JoinErrors(err, p.close())
}

// setText writes a text into a page, at most room bytes of it. The caller must then store a word
// that tells the reader of the text.
func setText(mem []byte, off, room int, s string) {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	s = s[:min(len(s), room)]
	copy(mem[off+8:], s)
	wordAt(mem, off).Store(uint64(len(s)))
}

// text reads a text of a page, which may change at the same time.
func text(mem []byte, off, room int) string {
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	defer sys.CatchFault(debug.SetPanicOnFault(true))
	n := min(wordAt(mem, off).Load(), uint64(room))
	return strings.ToValidUTF8(string(mem[off+8:][:n]), "?")
}
