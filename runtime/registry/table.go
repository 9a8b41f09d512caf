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
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// defaultSlots is the number of instances for which a new registry has room at least.
const defaultSlots = 4096

const (
	// maxSlots bounds the size of the mapping that a damaged header can ask for.
	maxSlots = 1 << 20
	// One slot for every spareShare instances stays spare: the search for the last free slots of a
	// full table takes hundreds of steps.
	spareShare   = 4
	maxInstances = maxSlots / (spareShare + 1) * spareShare
)

const folder = ".registry"

// Options configures [Open]. A nil *Options and the zero value mean the defaults.
type Options struct {
	// Slots is the number of instances for which a new registry has room at least; 0 means
	// 4,096. It has no effect on a registry that exists.
	Slots int

	step func(string) // see Registry.step
}

// A Registry is an open registry of a domain. It is safe for concurrent use.
type Registry struct {
	// Lock order: mu, Registration.mu, users.

	path    string // of folder
	hook    func(string)
	kept    *sys.Check // calls keep, until the last user is gone
	touched time.Time  // when keep has touched the files

	mu     sync.RWMutex // held for reading while the fields below are used
	closed bool
	freed  bool
	dir    *domain.Dir
	id     fs.FileInfo // of the table's file
	mem    []byte      // the table, read only
	slots  int
	// generation counts the tables that this Registry has had.
	generation int
	// locks caches the files with the slots' locks. They are opened for reading only, so that
	// closing them wakes no watcher.
	locks []atomic.Pointer[os.File]
	// seen caches the last decoded record of each slot.
	seen []atomic.Pointer[sighting]

	users    sync.Mutex // guards the fields below
	regs     map[*Registration]struct{}
	watchers map[*sys.DirWatch]struct{}
}

// Open opens the registry of a domain, and creates it if needed. domainName is resolved as package
// ipc resolves the names of domains; "" is the default domain. Several processes may open a new
// registry at the same time: one creates it, and all use that one.
// The error is a [*TableError] if the table's file is not usable, or that of the domain.
// The caller must close the Registry.
func Open(domainName string, opts *Options) (*Registry, error) {
	if opts == nil {
		opts = new(Options)
	}
	slots := opts.Slots
	if slots == 0 {
		slots = defaultSlots
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
	r := &Registry{path: filepath.Join(dir.Path(), folder), hook: opts.step,
		touched: time.Now(),
		regs:    make(map[*Registration]struct{}), watchers: make(map[*sys.DirWatch]struct{})}
	for range 10 { // the folder may be removed at this moment
		if err = r.open(dir, slots); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir.Close()
		if dir, err = domain.Open(domainName); err != nil {
			return nil, err
		}
	}
	if err != nil {
		dir.Close()
		return nil, sys.ExplainOf(err)
	}
	r.kept = sys.NewCheck(r.keep)
	return r, nil
}

// open makes the table in the folder of dir, which it creates if needed, the table of this
// Registry. After an error nothing has changed. The caller must hold r.mu, unless no other
// goroutine has the Registry yet.
func (r *Registry) open(dir *domain.Dir, slots int) error {
	if err := dir.Root().Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return r.tableError(err, "")
	}
	for tries := 0; ; tries++ {
		f, err := r.openTable(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = sys.PublishFile(r.path, "table", func(f *os.File) error {
				return writeTable(f, slots)
			})
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return r.tableError(err, "")
			}
			f, err = r.openTable(dir)
		}
		if err != nil {
			return r.tableError(err, "")
		}
		err = r.mapTable(dir, f)
		if errors.Is(err, errUnwritten) && tries < 1000 {
			err = r.rewrite(dir, f, slots)
			f.Close()
			if err != nil {
				return r.tableError(err, "")
			}
			continue
		}
		f.Close()
		return err
	}
}

// openTable opens the table for reading. On a layered file system it opens the file for writing
// too: otherwise it could get the file of the lower layer, to which no process writes.
func (r *Registry) openTable(dir *domain.Dir) (*os.File, error) {
	f, err := dir.Root().Open(filepath.Join(folder, "table"))
	if err == nil && sys.Layered(f) {
		f.Close()
		f, err = dir.Root().OpenFile(filepath.Join(folder, "table"), os.O_RDWR, 0)
	}
	return f, err
}

// errUnwritten marks a table whose header is all zeros: the machine lost power before the disk had
// the header. No process can be using such a table.
var errUnwritten = errors.New("the table was never written")

// rewriteByte is the byte of the table's file that a process locks while it replaces the file.
const rewriteByte = 1<<62 - 1

// rewrite replaces f, which was never written, by a new table. If another process is doing that,
// rewrite waits a moment and returns nil.
func (r *Registry) rewrite(dir *domain.Dir, f *os.File, slots int) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	w, err := dir.Root().OpenFile(filepath.Join(folder, "table"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	err = sys.TryLock(w, rewriteByte)
	if errors.Is(err, sys.ErrLocked) {
		time.Sleep(time.Millisecond)
		return nil
	}
	if now, serr := w.Stat(); err != nil || serr != nil || !os.SameFile(fi, now) ||
		!dir.Holds(filepath.Join(folder, "table"), fi) {
		return sys.JoinErrors(err, serr)
	}
	return sys.ReplaceFile(r.path, "table", func(f *os.File) error { return writeTable(f, slots) })
}

// writeTable fills a new table with zeros, for which it reserves the room, and a header.
func writeTable(f *os.File, slots int) error {
	if err := sys.Allocate(f, int64(headerSize+slots*slotSize)); err != nil {
		return err
	}
	return writeHeader(f, slots)
}

// writeHeader writes the header of a table.
func writeHeader(f *os.File, slots int) error {
	head, err := sys.MapFile(f, 0, headerSize, true)
	if err != nil {
		return err
	}
	defer sys.UnmapFile(head)
	wordAt(head, offMagic).Store(magic)
	wordAt(head, offVersion).Store(version)
	wordAt(head, offSlotSize).Store(slotSize)
	wordAt(head, offSlots).Store(uint64(slots))
	return nil
}

// headed reports whether head is the header of a table with that many slots.
func headed(head []byte, slots int) bool {
	return wordAt(head, offMagic).Load() == magic && wordAt(head, offVersion).Load() == version &&
		wordAt(head, offSlotSize).Load() == slotSize &&
		wordAt(head, offSlots).Load() == uint64(slots)
}

// mapTable checks the table's header against the file's size, and maps the table in place of the
// previous one.
func (r *Registry) mapTable(dir *domain.Dir, f *os.File) (err error) {
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
	case wordAt(head, offMagic).Load()|wordAt(head, offVersion).Load()|
		wordAt(head, offSlotSize).Load()|slots == 0:
		return errUnwritten
	case wordAt(head, offMagic).Load() != magic:
		return r.tableError(ErrForeign, "its first bytes are others")
	case wordAt(head, offVersion).Load() != version:
		return r.tableError(ErrVersion,
			fmt.Sprintf("version %d, this is %d", wordAt(head, offVersion).Load(), version))
	case wordAt(head, offSlotSize).Load() != slotSize, slots == 0, slots > maxSlots,
		slots%groupSize != 0,
		size != int64(headerSize+slots*slotSize):
		return r.tableError(ErrCorrupt,
			fmt.Sprintf("%d slots do not make a file of %d bytes", slots, size))
	}
	mem, err := sys.MapFile(f, 0, int(size), false)
	if err != nil {
		return r.tableError(err, "")
	}
	r.unmap()
	r.dir, r.id, r.mem, r.slots = dir, fi, mem, int(slots)
	r.generation++
	r.locks = make([]atomic.Pointer[os.File], r.slots/groupSize)
	r.seen = make([]atomic.Pointer[sighting], r.slots)
	return nil
}

// unmap releases the table, if there is one.
func (r *Registry) unmap() error {
	if r.mem == nil {
		return nil
	}
	for i := range r.locks {
		if f := r.locks[i].Load(); f != nil {
			f.Close()
		}
	}
	return sys.UnmapFile(r.mem)
}

// Close closes the registry. Registrations made through it stay until they are closed. Loops over
// [Registry.Watch] end with [ErrClosed] at the next change. Further calls have no effect.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	return r.free()
}

// free releases everything once the Registry and all of its registrations are closed.
func (r *Registry) free() error {
	freed, err := r.release()
	if freed {
		r.kept.Stop() // needs the locks of release
	}
	return err
}

func (r *Registry) release() (freed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users.Lock()
	defer r.users.Unlock()
	if !r.closed || r.freed || len(r.regs) > 0 {
		return false, nil
	}
	r.freed = true
	return true, sys.JoinErrors(r.unmap(), r.dir.Close())
}

// step marks a point between the stores of a registration, or after a scan of a watch, for tests.
func (r *Registry) step(name string) {
	sys.CrashPoint(name)
	if r.hook != nil {
		r.hook(name)
	}
}

func (r *Registry) tableError(err error, detail string) error {
	return &TableError{Path: filepath.Join(r.path, "table"), Detail: detail, Err: err}
}

func (r *Registry) openFile(name string, flag int) (*os.File, error) {
	return r.dir.Root().OpenFile(filepath.Join(folder, name), flag, 0o600)
}

// lockFile returns the name of the file with the locks of a group of slots.
func lockFile(group int) string { return fmt.Sprintf("slots.%03d", group) }

// use calls f, which may read the table while it runs. It returns ErrClosed after Close.
func (r *Registry) use(f func() error) (err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return ErrClosed
	}
	defer r.catchFault(debug.SetPanicOnFault(true), &err)
	return f()
}

// catchFault converts a fault in the mapping, which means that the file was cut short, into an
// error. It is deferred with the result of debug.SetPanicOnFault(true).
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

// word returns a word of a slot, for reading only.
func (r *Registry) word(slot, w int) *atomic.Uint64 {
	return wordAt(r.mem, slotOffset(slot)+8*w)
}

// read copies a slot. ok is false if the slot holds no record. If the slot changes its owner during
// the call, it was empty at some moment of the call; so the answer that there is no record is true,
// and no retry is needed.
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

// A sighting is the record of a slot, with the state in which it was seen.
type sighting struct {
	state uint64
	rec   Record
}

// record decodes a slot. ok is false if the slot holds no record. All words but the role are
// written before the state is stored, and do not change after that, so each process decodes a slot
// once per state. Most slots of a table are empty, and a list looks at all of them: such a slot
// costs the load of its state.
func (r *Registry) record(slot int) (s sighting, ok bool) {
	state := r.word(slot, wState).Load()
	if !published(state) {
		return sighting{}, false
	}
	known := r.seen[slot].Load()
	if known == nil || known.state != state {
		return r.decode(slot)
	}
	role := r.word(slot, wRole).Load()
	if r.word(slot, wState).Load() != state {
		return sighting{}, false // as in read
	}
	s = *known
	s.rec.Role, s.rec.Epoch = unpackRole(role)
	return s, checkRole(s.rec.Role, s.rec.Epoch) == nil
}

// decode is record for a slot whose state was not seen before.
func (r *Registry) decode(slot int) (s sighting, ok bool) {
	img, ok := r.read(slot)
	if !ok {
		return sighting{}, false
	}
	rec, ok := img.decode()
	if !ok {
		return sighting{}, false
	}
	seen := &sighting{img[wState], rec}
	r.seen[slot].Store(seen)
	return *seen, true
}

// alive reports whether a process holds the lock of a slot.
func (r *Registry) alive(slot int) (bool, error) {
	cached := &r.locks[slot/groupSize]
	f := cached.Load()
	if f == nil {
		var err error
		f, err = r.openFile(lockFile(slot/groupSize), os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // no process has ever taken a lock there
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
