package registry

// SetStep has f called between the stores of registrations.
func SetStep(o *Options, f func(string)) { o.step = f }

// Layout of the file, for tests that damage it.
const (
	HeaderSize, SlotSize                        = headerSize, slotSize
	OffMagic, OffVersion, OffSlotSize, OffSlots = offMagic, offVersion, offSlotSize, offSlots
)
