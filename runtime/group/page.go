package group

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// The group's page, a file of the domain. Only the supervisor writes it.
// All numbers are 64-bit words in the machine's byte order.
const (
	pageMagic = 0x3170726767637069 // "ipcggrp1"
	pageSize  = 4096

	offMagic = 0  // stored last when the page is made
	offPID   = 8  // of the supervisor: information
	offReign = 64 // a line of its own
)

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
}

func (p *page) reign() reign { return unpackReign(wordAt(p.mem, offReign).Load()) }

// supervised reports whether somebody else than the holder of p supervises.
func (p *page) supervised() (bool, error) { return sys.Locked(p.f, 0) }

func (p *page) close() error {
	return errors.Join(sys.UnmapFile(p.mem), p.f.Close())
}

func pagePath(service string) string { return filepath.Join(folder, service) }

// openPage maps the page of a group read-only.
func openPage(dir *domain.Dir, service string) (*page, error) {
	f, err := dir.Root().Open(pagePath(service))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoPage
	}
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", service, err)
	}
	p, err := mapPage(f, false)
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

func mapPage(f *os.File, writable bool) (*page, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < pageSize {
		return nil, errNoPage
	}
	mem, err := sys.MapFile(f, 0, pageSize, writable)
	if err != nil {
		return nil, err
	}
	return &page{f: f, mem: mem}, nil
}

// claimPage makes this process the supervisor: it locks the page, which it
// creates if needed. The lock ends with the process. An *InUseError names the
// present supervisor.
func claimPage(dir *domain.Dir, service string) (*page, error) {
	root := dir.Root()
	if err := root.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	for {
		f, err := root.OpenFile(pagePath(service), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		p, err := lockPage(dir, service, f)
		if err == nil {
			return p, nil
		}
		f.Close()
		if !errors.Is(err, errRemoved) {
			return nil, err
		}
	}
}

// errRemoved means that the file was locked when its name was gone already:
// the supervisor before had removed it.
var errRemoved = errors.New("page removed")

func lockPage(dir *domain.Dir, service string, f *os.File) (*page, error) {
	err := sys.TryLock(f, 0)
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
	if err := sys.Allocate(f, pageSize); err != nil {
		return nil, err
	}
	p, err := mapPage(f, true)
	if err != nil {
		return nil, err
	}
	// A page left by a supervisor that was killed keeps its epoch: no epoch of
	// it may be used again.
	old := p.reign()
	if wordAt(p.mem, offMagic).Load() != pageMagic {
		old = reign{}
	}
	wordAt(p.mem, offPID).Store(uint64(os.Getpid()))
	wordAt(p.mem, offReign).Store(reign{epoch: old.epoch, primary: none}.pack())
	wordAt(p.mem, offMagic).Store(pageMagic)
	return p, p.tell()
}

func inUse(dir *domain.Dir, service string) error {
	e := &InUseError{Service: service, Domain: dir.Path()}
	if p, err := openPage(dir, service); err == nil {
		e.PID = int(wordAt(p.mem, offPID).Load())
		p.close()
	}
	return e
}

// setReign publishes r: by the store to those who look, then to those who
// sleep.
func (p *page) setReign(r reign) error {
	wordAt(p.mem, offReign).Store(r.pack())
	return p.tell()
}

// tell wakes the watchers of the folder by a write without meaning behind the
// page.
func (p *page) tell() error {
	_, err := p.f.WriteAt([]byte{0}, pageSize)
	return err
}

// remove ends the group: the page loses its name, then its lock.
func (p *page) remove(dir *domain.Dir, service string) error {
	return errors.Join(dir.Root().Remove(pagePath(service)), p.close())
}
