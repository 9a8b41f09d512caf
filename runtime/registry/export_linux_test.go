package registry

import (
	"errors"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// SetStep has f called between the stores of registrations.
func SetStep(o *Options, f func(string)) { o.step = f }

// Layout of the file, for tests that damage it.
const (
	HeaderSize, SlotSize                        = headerSize, slotSize
	OffMagic, OffVersion, OffSlotSize, OffSlots = offMagic, offVersion, offSlotSize, offSlots
)

// Republish has the owner of a slot write another record into it, as fast as
// memory allows: what a registration does between its system calls.
func (reg *Registration) Republish(rec Record) {
	reg.withdraw()
	reg.publish(encode(&rec))
}

// DropLock has the owner lose the lock of its slot without a notice to anybody.
func (reg *Registration) DropLock() error {
	var err error
	for slot := range groupSize {
		err = errors.Join(err, sys.Unlock(reg.slotLock, lockByte(slot)))
	}
	return err
}
