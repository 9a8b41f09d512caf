package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// DefaultSlots is the number of instances that a new registry has room for, at
// least.
const DefaultSlots = 4096

const (
	// maxSlots bounds what a damaged header can make us map.
	maxSlots = 1 << 20
	// One slot for so many instances stays spare: the last free ones of a full
	// table would be found by hundreds of looks.
	spareShare   = 4
	maxInstances = maxSlots / (spareShare + 1) * spareShare
)

const folder = ".registry"

// Options configure Open; nil and the zero value mean the defaults.
type Options struct {
	// Slots is the number of instances that the registry has room for, at
	// least; DefaultSlots when 0. It counts only for the process that creates
	// the registry; the others take what they find.
	Slots int

	step func(string) // see Registry.step
}

// A Registry is an open registry of a domain. It is safe for concurrent use.
type Registry struct {
	dir  *domain.Dir
	path string // of folder
	hook func(string)

	mu     sync.RWMutex // held for reading while mem and locks are used
	closed bool
	mem    []byte // the table, read only
	slots  int
	// locks caches the files that hold the slots' locks, opened for reading
	// only, so that their close tells watchers nothing.
	locks []atomic.Pointer[os.File]
	// seen caches what was decoded last of each slot.
	seen []atomic.Pointer[sighting]
}

// Open opens the registry of a domain, which it creates if needed; the name is
// resolved as package ipc resolves domains ("" is the default one). When many
// processes create it at once, one creates it and all agree.
func Open(domainName string, opts *Options) (*Registry, error) {
	if opts == nil {
		opts = new(Options)
	}
	slots := opts.Slots
	if slots == 0 {
		slots = DefaultSlots
	}
	if slots < 1 || slots > maxInstances {
		return nil, fmt.Errorf("registry: %d slots; choose 1 to %d", opts.Slots, maxInstances)
	}
	slots += slots / spareShare
	slots = (slots + groupSize - 1) / groupSize * groupSize
	dir, err := domain.Open(domainName)
	if err != nil {
		return nil, err
	}
	r := &Registry{dir: dir, path: filepath.Join(dir.Path(), folder), hook: opts.step}
	if err := r.open(slots); err != nil {
		dir.Close()
		return nil, err
	}
	return r, nil
}

func (r *Registry) open(slots int) error {
	if err := r.dir.Root().Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return r.tableError(err, "")
	}
	f, err := r.openFile("table", os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		err = sys.PublishFile(r.path, "table", func(f *os.File) error { return writeTable(f, slots) })
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return r.tableError(err, "")
		}
		f, err = r.openFile("table", os.O_RDONLY)
	}
	if err != nil {
		return r.tableError(err, "")
	}
	defer f.Close()
	return r.mapTable(f)
}

// writeTable fills a new table: reserved room of zeros, and the header.
func writeTable(f *os.File, slots int) error {
	if err := sys.Allocate(f, int64(headerSize+slots*slotSize)); err != nil {
		return err
	}
	head, err := sys.MapFile(f, 0, headerSize, true)
	if err != nil {
		return err
	}
	wordAt(head, offMagic).Store(magic)
	wordAt(head, offVersion).Store(version)
	wordAt(head, offSlotSize).Store(slotSize)
	wordAt(head, offSlots).Store(uint64(slots))
	return sys.UnmapFile(head)
}

// mapTable checks the table's header against its size, and maps it.
func (r *Registry) mapTable(f *os.File) (err error) {
	fi, err := f.Stat()
	if err != nil {
		return r.tableError(err, "")
	}
	size := fi.Size()
	if !fi.Mode().IsRegular() {
		return r.tableError(ErrForeign, "it is no regular file")
	}
	if size < headerSize {
		return r.tableError(ErrCorrupt, fmt.Sprintf("%d bytes are too few for its header", size))
	}
	defer r.catchFault(debug.SetPanicOnFault(true), &err)
	head, err := sys.MapFile(f, 0, headerSize, false)
	if err != nil {
		return r.tableError(err, "")
	}
	defer sys.UnmapFile(head)
	slots := wordAt(head, offSlots).Load()
	switch {
	case wordAt(head, offMagic).Load() != magic:
		return r.tableError(ErrForeign, "its first bytes are others")
	case wordAt(head, offVersion).Load() != version:
		return r.tableError(ErrVersion, fmt.Sprintf("version %d, this is %d", wordAt(head, offVersion).Load(), version))
	case wordAt(head, offSlotSize).Load() != slotSize, slots == 0, slots > maxSlots, slots%groupSize != 0,
		size != int64(headerSize+slots*slotSize):
		return r.tableError(ErrCorrupt, fmt.Sprintf("%d slots do not make a file of %d bytes", slots, size))
	}
	if r.mem, err = sys.MapFile(f, 0, int(size), false); err != nil {
		return r.tableError(err, "")
	}
	r.slots = int(slots)
	r.locks = make([]atomic.Pointer[os.File], r.slots/groupSize)
	r.seen = make([]atomic.Pointer[sighting], r.slots)
	return nil
}

// Close releases the registry. Registrations made through it stay, until they
// are closed themselves.
func (r *Registry) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	for i := range r.locks {
		if f := r.locks[i].Load(); f != nil {
			f.Close()
		}
	}
	return errors.Join(sys.UnmapFile(r.mem), r.dir.Close())
}

// step marks what happens between the stores of a registration, and after each
// look of a watch, for tests.
func (r *Registry) step(name string) {
	sys.CrashPoint(name)
	if r.hook != nil {
		r.hook(name)
	}
}

// Slots returns the number of instances that the registry has room for, the
// spare ones included.
func (r *Registry) Slots() int { return r.slots }

func (r *Registry) tableError(err error, detail string) error {
	return &TableError{Path: filepath.Join(r.path, "table"), Detail: detail, Err: err}
}

func (r *Registry) openFile(name string, flag int) (*os.File, error) {
	return r.dir.Root().OpenFile(filepath.Join(folder, name), flag, 0o600)
}

// lockFile returns the name of the file with the locks of a group of slots.
func lockFile(group int) string { return fmt.Sprintf("slots.%03d", group) }

// use calls f, which may read the table as long as it runs.
func (r *Registry) use(f func() error) (err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return ErrClosed
	}
	defer r.catchFault(debug.SetPanicOnFault(true), &err)
	return f()
}

// catchFault turns a fault in the mapping, which means that somebody cut the
// file short, into an error. It is deferred with the result of
// debug.SetPanicOnFault(true).
func (r *Registry) catchFault(old bool, err *error) {
	debug.SetPanicOnFault(old)
	switch p := recover(); {
	case p == nil:
	case sys.IsFault(p):
		*err = r.tableError(ErrCorrupt, "it was cut short while in use")
	default:
		panic(p)
	}
}

func slotOffset(slot int) int { return headerSize + slot*slotSize }

// word returns a word of a slot, to be read only.
func (r *Registry) word(slot, w int) *atomic.Uint64 {
	return wordAt(r.mem, slotOffset(slot)+8*w)
}

// read copies a slot; ok is false when it holds no record. When the slot
// changes hands meanwhile, it was empty at a moment within the call, so "no
// record" is a true answer and nothing is tried again.
func (r *Registry) read(slot int) (img slotImage, ok bool) {
	state := r.word(slot, wState).Load()
	if !published(state) {
		return img, false
	}
	for w := range img {
		img[w] = r.word(slot, w).Load()
	}
	return img, img[wState] == state && r.word(slot, wState).Load() == state
}

// A sighting is a slot's record, and the state in which it was seen.
type sighting struct {
	state uint64
	rec   Record
}

// record decodes a slot; ok is false when it holds no record. All that a state
// stands for, but the role, is written before the state and never again, so
// each process decodes it once.
func (r *Registry) record(slot int) (s sighting, ok bool) {
	state := r.word(slot, wState).Load()
	known := r.seen[slot].Load()
	if known == nil || known.state != state {
		img, ok := r.read(slot)
		if !ok {
			return sighting{}, false
		}
		rec, ok := img.decode()
		if !ok {
			return sighting{}, false
		}
		s = sighting{img[wState], rec}
		r.seen[slot].Store(&s)
		return s, true
	}
	role := r.word(slot, wRole).Load()
	if r.word(slot, wState).Load() != state {
		return sighting{}, false // as in read
	}
	s = *known
	s.rec.Role, s.rec.Epoch = unpackRole(role)
	return s, checkRole(s.rec.Role, s.rec.Epoch) == nil
}

// alive reports whether somebody holds the lock of a slot.
func (r *Registry) alive(slot int) (bool, error) {
	cached := &r.locks[slot/groupSize]
	f := cached.Load()
	if f == nil {
		var err error
		f, err = r.openFile(lockFile(slot/groupSize), os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // nobody ever locked there
		}
		if err != nil {
			return false, r.tableError(err, "")
		}
		if !cached.CompareAndSwap(nil, f) {
			f.Close()
			f = cached.Load()
		}
	}
	return sys.Locked(f, lockByte(slot))
}
