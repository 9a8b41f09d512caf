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

// A Registration is the ownership of a name by this process. It ends with [Registration.Close] or
// with the process. A Registration is safe for concurrent use.
//
// If the registry's table is removed or replaced, the Registration registers the name in the next
// table. No other process can take the name meanwhile. The name is lost only if the whole folder of
// the domain is replaced and another process registers the name in the new folder first. Then
// [Registration.Done] is closed, and [Registration.Err] returns the reason.
type Registration struct {
	r    *Registry
	name string
	done chan struct{} // closed when another process has the name

	mu   sync.Mutex
	rec  Record
	gen  int // generation of the table that holds the record
	shut bool
	err  error  // why done is closed
	mem  []byte // the pages of the table around the slot, writable; nil when closed
	base int    // offset of the slot in mem
	// state is the state of the slot, as this process has stored it.
	state uint64
	// The locks of these two open file descriptions are the ownership.
	nameLock *os.File // of the table's file, with the lock of the name
	slotLock *os.File // of the group's file, with the lock of the slot
	group    int
	// claim is the right to the name in the folder claimedIn. It outlives the table.
	claim     *domain.Claim
	claimedIn *domain.Dir
}

// Register publishes rec under rec.Name. The name belongs to this process until the Registration is
// closed or the process ends. A PID of 0 stands for this process, and a zero StartTime for now.
//
// Register waits for other processes for 100 ms at most, and only after the table was removed. The
// error wraps [ErrExists] (an [*ExistsError] that names the holder), [ErrFull], [ErrClosed] or
// [ErrName], or it is a [*TableError] or that of a system call.
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

// enter claims the name and publishes the record. After an error it holds nothing. The caller must
// hold r.mu for reading.
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

// claimName locks the byte of the table's file that stands for the hash of the name. The byte lies
// far behind the end of the file.
func (reg *Registration) claimName() (err error) {
	if reg.nameLock, err = reg.r.openFile("table", os.O_RDWR); err != nil {
		return reg.r.tableError(err, "")
	}
	err = sys.TryLock(reg.nameLock, 1<<62|int64(hashName(reg.name)>>2))
	if errors.Is(err, sys.ErrLocked) {
		holder, _, _ := reg.r.find(reg.name)
		return &ExistsError{Name: reg.name, Holder: holder,
			who: sys.Holder(reg.nameLock, holder.PID)}
	}
	return err
}

// claimInFolder claims the name in the domain's folder. A live process keeps that claim when the
// table is removed.
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

// claimSlot claims the first slot whose lock is free, starting at the name's home slot, and returns
// the slot's distance from there. The previous content of the slot does not matter.
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

// claim takes the second lock of a slot. A process needs it to take the first lock, and to change
// the record of a dead owner. Readers take the first lock as evidence of life, so a process that
// clears a record must not hold that one. claim returns false if the slot has an owner or another
// claimant.
func (r *Registry) claim(f *os.File, slot int) (bool, error) {
	err := sys.TryLock(f, claimByte(slot))
	if errors.Is(err, sys.ErrLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	live, err := r.alive(slot) // another process may have become the owner just before
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

// mapSlot maps the pages of a slot for writing, and returns the offset of the slot in them.
func mapSlot(table *os.File, slot int) (mem []byte, base int, err error) {
	page := os.Getpagesize()
	start := slotOffset(slot) / page * page
	base = slotOffset(slot) - start
	mem, err = sys.MapFile(table, int64(start), base+slotSize, true)
	return mem, base, err
}

// raiseReach records the distance of a name from its home slot, if it is the largest so far. The
// word only grows, so it needs no owner: a value that is too large costs readers time, nothing
// else.
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

// withdraw makes the slot contain no record, whatever a dead owner has left in it.
func (reg *Registration) withdraw() {
	reg.state = withdrawn(reg.word(wState).Load())
	reg.word(wState).Store(reg.state)
}

// publish writes the content of a withdrawn slot, and makes it visible by the store of the state.
func (reg *Registration) publish(img *slotImage) {
	for w := wState + 1; w < slotWords; w++ {
		reg.word(w).Store(img[w])
		if w == wHash || w == wText {
			reg.r.step("registry half written")
		}
	}
	reg.r.step("registry written")
	reg.state++
	reg.word(wState).Store(reg.state)
	reg.r.step("registry published")
}

// restore stores the words of the published slot again that another process has overwritten. No
// process takes a wrong record for a right one meanwhile, since it has a checksum; but none sees
// this one.
func (reg *Registration) restore() (err error) {
	defer reg.r.catchFault(debug.SetPanicOnFault(true), &err)
	img, changed := encode(&reg.rec), false
	img[wState] = reg.state
	for w, right := range img {
		if word := reg.word(w); word.Load() != right {
			word.Store(right)
			changed = true
		}
	}
	if changed {
		return reg.tell()
	}
	return nil
}

// tell wakes the watchers by a write of one byte, which has no meaning. On a full disk, where the
// write can fail, the close of a file that was opened for writing has the same effect.
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

// SetRole changes role and epoch in one step and wakes the watchers. It does not block. It returns
// [ErrClosed] after Close and after the loss of the name, and an error for a role or an epoch that
// no record can hold.
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
		return nil // again is about to register the name
	}
	defer reg.r.catchFault(debug.SetPanicOnFault(true), &err)
	reg.word(wRole).Store(packRole(role, epoch))
	reg.r.step("registry role stored")
	return reg.tell()
}

// Done returns a channel that is closed when the name is lost: the domain's folder was replaced,
// and another process registered the name in the new one first.
func (reg *Registration) Done() <-chan struct{} { return reg.done }

// Err returns nil until Done is closed, and then an error that wraps [ErrDisplaced].
func (reg *Registration) Err() error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.err
}

// Close withdraws the record and releases the name. Further calls have no effect.
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

// again registers the name in the Registry's present table. If the name is registered there, it
// restores the record.
func (reg *Registration) again() {
	reg.r.mu.RLock()
	defer reg.r.mu.RUnlock()
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if reg.shut || reg.err != nil {
		return
	}
	if reg.mem != nil && reg.gen == reg.r.generation {
		_ = reg.restore() // the next check tries again
		return
	}
	reg.release(reg.claimedIn != reg.r.dir)
	kept := reg.claim != nil // so another process that holds the name's lock releases it again
	if err := reg.enter(); errors.Is(err, ErrExists) && !kept {
		reg.err = fmt.Errorf("%w: the registry of domain %s was removed or replaced, and %w",
			ErrDisplaced, reg.r.dir.Path(), err)
		close(reg.done)
	} // after any other error keep calls again once more
}

// release releases everything held in the table and, if right is set, the claim in the folder. The
// slot's lock is released first, by a close that also wakes the watchers, and the name's lock last:
// a process that finds the name's lock free finds all of them free.
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
