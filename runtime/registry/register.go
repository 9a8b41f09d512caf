package registry

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Registration is a name that this process holds, until Close or its death.
// It is safe for concurrent use.
//
// When the table that the name is in vanishes, it is registered again in the one that
// takes its place; nobody else can have the name meanwhile. Only if the whole folder of the
// domain is replaced, and another process has the name in the new one first, is the
// registration lost: Done is closed, and Err says so.
type Registration struct {
	r    *Registry
	name string
	done chan struct{} // closed when the name is another's

	mu   sync.Mutex
	rec  Record
	gen  int // the table's generation
	shut bool
	err  error  // why done is closed
	mem  []byte // the pages of the table around the slot, writable; nil when closed
	base int    // offset of the slot in mem
	// Two open file descriptions whose locks are the ownership.
	nameLock *os.File // the table's, with the lock of the name
	slotLock *os.File // the group's, with the lock of the slot
	group    int
	// claim is the right to the name in the folder claimedIn, whatever happens to the table.
	claim     *domain.Claim
	claimedIn *domain.Dir
}

// Register publishes rec under its name, which it holds until the Registration
// is closed or the process ends. A PID of 0 stands for this process and a zero
// StartTime for now. It waits for no other process for longer than 100 ms, and that only where the
// table was removed. Its errors wrap ErrExists (an
// *ExistsError that names the holder), ErrFull, or domain.ErrName.
func (r *Registry) Register(rec Record) (reg *Registration, err error) {
	if rec.PID == 0 {
		rec.PID = os.Getpid()
	}
	if rec.StartTime.IsZero() {
		rec.StartTime = time.Now()
	}
	if err := rec.check(); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	reg = &Registration{r: r, name: rec.Name, rec: rec, done: make(chan struct{})}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return nil, ErrClosed
	}
	if err := reg.enter(); err != nil {
		return nil, err
	}
	r.users.Lock()
	defer r.users.Unlock()
	r.regs[reg] = struct{}{}
	return reg, nil
}

// enter claims the name and publishes the record. It needs r.mu, for reading; after an
// error nothing is held.
func (reg *Registration) enter() (err error) {
	r := reg.r
	fresh := reg.claim == nil
	defer func() {
		if err != nil {
			reg.release(fresh)
		}
	}()
	defer r.catchFault(debug.SetPanicOnFault(true), &err)
	if err := reg.claimName(); err != nil {
		return err
	}
	if err := reg.claimInFolder(); err != nil {
		return err
	}
	r.step("registry name claimed")
	slot, distance, err := reg.claimSlot()
	if err != nil {
		return err
	}
	r.step("registry slot claimed")
	if reg.mem, reg.base, err = mapSlot(reg.nameLock, slot); err != nil {
		return err
	}
	reg.withdraw()
	r.step("registry withdrawn")
	if err := reg.lockSlot(slot); err != nil {
		return err
	}
	r.step("registry slot locked")
	if err := r.raiseReach(reg.nameLock, distance); err != nil {
		return err
	}
	reg.publish(encode(&reg.rec))
	reg.gen = r.generation
	reg.group = slot / groupSize
	return reg.tell()
}

// claimName takes the lock of the name: a byte of the table's file, far behind
// its end, that stands for the name's hash.
func (reg *Registration) claimName() (err error) {
	if reg.nameLock, err = reg.r.openFile("table", os.O_RDWR); err != nil {
		return reg.r.tableError(err, "")
	}
	err = sys.TryLock(reg.nameLock, 1<<62|int64(hashName(reg.name)>>2))
	if errors.Is(err, sys.ErrLocked) {
		holder, _, _ := reg.r.find(reg.name)
		return &ExistsError{Name: reg.name, Holder: holder}
	}
	return err
}

// claimInFolder takes the right to the name that a live process keeps when the table is
// removed.
func (reg *Registration) claimInFolder() (err error) {
	if reg.claim != nil {
		return nil
	}
	reg.claimedIn = reg.r.dir
	reg.claim, err = reg.r.dir.Claim("instance/" + reg.name)
	if errors.Is(err, domain.ErrClaimed) {
		return &ExistsError{Name: reg.name}
	}
	return err
}

// claimSlot claims the first slot whose lock is free, from the name's home slot
// on, and returns how far from it that is. What a dead owner left in the slot
// does not matter.
func (reg *Registration) claimSlot() (slot, distance int, err error) {
	r, hash := reg.r, hashName(reg.name)
	open := -1 // the group that slotLock belongs to
	for i := range r.slots {
		slot := int((hash + uint64(i)) % uint64(r.slots))
		if live, err := r.alive(slot); err != nil {
			return 0, 0, err
		} else if live {
			continue
		}
		if group := slot / groupSize; group != open {
			if reg.slotLock != nil {
				reg.slotLock.Close()
			}
			if reg.slotLock, err = r.openFile(lockFile(group), os.O_RDWR|os.O_CREATE); err != nil {
				return 0, 0, r.tableError(err, "")
			}
			open = group
		}
		claimed, err := r.claim(reg.slotLock, slot)
		if err != nil {
			return 0, 0, err
		}
		if claimed {
			return slot, i, nil
		}
	}
	return 0, 0, fmt.Errorf("%q cannot be registered: %w: all %d slots have live owners; create "+
		"the domain's registry with more (Options.Slots)",
		reg.name, ErrFull, r.slots)
}

// claim takes the second lock of a slot, without which nobody takes the first
// or touches a dead owner's record: readers take the first for life, so
// whoever clears a record must not hold that one. It fails when the slot
// has an owner or another claimant.
func (r *Registry) claim(f *os.File, slot int) (bool, error) {
	err := sys.TryLock(f, claimByte(slot))
	if errors.Is(err, sys.ErrLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	live, err := r.alive(slot) // it may have found an owner just before
	if err != nil || live {
		return false, sys.JoinErrors(err, sys.Unlock(f, claimByte(slot)))
	}
	return true, nil
}

// lockSlot makes the claimant of a slot its owner.
func (reg *Registration) lockSlot(slot int) error {
	if err := sys.TryLock(reg.slotLock, lockByte(slot)); err != nil {
		return err
	}
	return sys.Unlock(reg.slotLock, claimByte(slot))
}

// mapSlot maps the pages with a slot for its owner to write, and returns the
// slot's offset in them.
func mapSlot(table *os.File, slot int) (mem []byte, base int, err error) {
	page := os.Getpagesize()
	start := slotOffset(slot) / page * page
	base = slotOffset(slot) - start
	mem, err = sys.MapFile(table, int64(start), base+slotSize, true)
	return mem, base, err
}

// raiseReach notes how far from its home slot a name can lie. The word only
// grows, so it needs no owner: too large a value costs readers time, no more.
func (r *Registry) raiseReach(table *os.File, distance int) error {
	if wordAt(r.mem, offReach).Load() >= uint64(distance) {
		return nil
	}
	head, err := sys.MapFile(table, 0, headerSize, true)
	if err != nil {
		return err
	}
	defer sys.UnmapFile(head)
	for reach := wordAt(head, offReach); ; {
		old := reach.Load()
		if old >= uint64(distance) || reach.CompareAndSwap(old, uint64(distance)) {
			return nil
		}
	}
}

// withdraw makes what a dead owner left in the slot no record.
func (reg *Registration) withdraw() {
	reg.word(wState).Store(withdrawn(reg.word(wState).Load()))
}

// publish writes the content of a withdrawn slot and makes it visible by the
// store of the state.
func (reg *Registration) publish(img *slotImage) {
	for w := wState + 1; w < slotWords; w++ {
		reg.word(w).Store(img[w])
		if w == wHash || w == wText {
			reg.r.step("registry half written")
		}
	}
	reg.r.step("registry written")
	reg.word(wState).Store(reg.word(wState).Load() + 1)
	reg.r.step("registry published")
}

// tell wakes the watchers. The byte itself has no meaning; on a full disk, where there may be no
// room for it, the close of a file that could be written does the same.
func (reg *Registration) tell() error {
	if _, err := reg.slotLock.WriteAt([]byte{0}, 0); err == nil {
		return nil
	}
	f, err := reg.r.openFile(lockFile(reg.group), os.O_RDWR)
	if err != nil {
		return err
	}
	return f.Close()
}

func (reg *Registration) word(w int) interface {
	Load() uint64
	Store(uint64)
} {
	return wordAt(reg.mem, reg.base+8*w)
}

// Name returns the registered name.
func (reg *Registration) Name() string { return reg.name }

// SetRole changes role and epoch at once, and wakes the watchers. It does not
// block.
func (reg *Registration) SetRole(role Role, epoch uint64) (err error) {
	if err := checkRole(role, epoch); err != nil {
		return fmt.Errorf("registration %q: %w", reg.name, err)
	}
	reg.r.mu.RLock()
	defer reg.r.mu.RUnlock()
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if reg.shut || reg.err != nil {
		return ErrClosed
	}
	reg.rec.Role, reg.rec.Epoch = role, epoch
	if reg.mem == nil {
		return nil // it is about to be registered again
	}
	defer reg.r.catchFault(debug.SetPanicOnFault(true), &err)
	reg.word(wRole).Store(packRole(role, epoch))
	reg.r.step("registry role stored")
	return reg.tell()
}

// Done is closed when the name is another process's: somebody removed or replaced the
// domain's registry, and the other came first in the new one.
func (reg *Registration) Done() <-chan struct{} { return reg.done }

// Err returns an error that wraps ErrDisplaced when Done is closed, and nil before.
func (reg *Registration) Err() error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.err
}

// Close withdraws the record and gives the name free. It is safe to call more
// than once.
func (reg *Registration) Close() error {
	err := reg.leave()
	reg.r.users.Lock()
	delete(reg.r.regs, reg)
	reg.r.users.Unlock()
	return sys.JoinErrors(err, reg.r.free())
}

func (reg *Registration) leave() (err error) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.shut = true
	if reg.mem == nil {
		return nil
	}
	defer reg.release(true)
	defer reg.r.catchFault(debug.SetPanicOnFault(true), &err)
	reg.withdraw()
	reg.r.step("registry closed")
	return nil
}

// again registers the name in the Registry's present table, unless it is there.
func (reg *Registration) again() {
	reg.r.mu.RLock()
	defer reg.r.mu.RUnlock()
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if reg.shut || reg.err != nil || reg.mem != nil && reg.gen == reg.r.generation {
		return
	}
	reg.release(reg.claimedIn != reg.r.dir)
	kept := reg.claim != nil // and so whoever has the name's lock gives it up again
	if err := reg.enter(); errors.Is(err, ErrExists) && !kept {
		reg.err = fmt.Errorf("%w: the registry of domain %s was removed or replaced, and %w",
			ErrDisplaced, reg.r.dir.Path(), err)
		close(reg.done)
	} // after any other error the next look tries again
}

// release gives up whatever is held in the table and, if it says so, the right to the name.
// The slot's lock goes first, by a close that also wakes the watchers, and the name's lock
// last: who finds that free finds all free.
func (reg *Registration) release(right bool) {
	if reg.mem != nil {
		sys.UnmapFile(reg.mem)
		reg.mem = nil
	}
	if reg.slotLock != nil {
		reg.slotLock.Close()
		reg.slotLock = nil
	}
	if right && reg.claim != nil {
		reg.claim.Close()
		reg.claim = nil
	}
	if reg.nameLock != nil {
		reg.nameLock.Close()
		reg.nameLock = nil
	}
}
