package registry

import (
	"errors"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// SetStep makes the registry call f between the stores of registrations.
func SetStep(o *Options, f func(string)) { o.step = f }

// The layout of the file, for tests that damage the file.
const (
	HeaderSize, SlotSize, Version               = headerSize, slotSize, version
	OffMagic, OffVersion, OffSlotSize, OffSlots = offMagic, offVersion, offSlotSize, offSlots
)

// MaxEpoch is the largest epoch that a record can hold.
const MaxEpoch = maxEpoch

// SlotCount returns the number of slots, including the spare ones.
func (r *Registry) SlotCount() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.slots
}

// SlotOf returns where the table has the record of an instance.
func SlotOf(r *Registry, name string) int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, slot, _ := r.find(name)
	return int64(slotOffset(slot))
}

// Republish writes another record into the registration's slot, as a registration does between its
// system calls, and as fast as memory allows.
func (reg *Registration) Republish(rec Record) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.rec = rec
	reg.withdraw()
	reg.publish(encode(&rec))
}

// DropLock releases the lock of the registration's slot without a notification.
func (reg *Registration) DropLock() error {
	var err error
	for slot := range groupSize {
		err = errors.Join(err, sys.Unlock(reg.slotLock, lockByte(slot)))
	}
	return err
}
