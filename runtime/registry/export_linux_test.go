package registry

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
