package registry

import (
	"os"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// GC clears the records of dead instances and returns those records. Calling GC is optional:
// lookups skip dead instances, and registrations reuse their slots. Its result tells which
// instances died without [Registration.Close]. It does not block. The error is [ErrClosed], a
// [*TableError], or that of a system call; records cleared before the error are returned.
func (r *Registry) GC() (removed []Record, err error) {
	err = r.use(func() error {
		for slot := range r.slots {
			img, ok := r.read(slot)
			if !ok {
				continue
			}
			if live, err := r.alive(slot); err != nil {
				return err
			} else if live {
				continue
			}
			cleared, err := r.clear(slot, img[wState])
			if err != nil {
				return err
			}
			if rec, ok := img.decode(); ok && cleared {
				removed = append(removed, rec)
			}
		}
		return nil
	})
	return removed, err
}

// clear withdraws the record of a dead owner if the slot's state is still the given one.
func (r *Registry) clear(slot int, state uint64) (cleared bool, err error) {
	lock, err := r.openFile(lockFile(slot/groupSize), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return false, r.tableError(err, "")
	}
	defer lock.Close()
	if claimed, err := r.claim(lock, slot); !claimed {
		return false, err // the slot is being reused
	}
	table, err := r.openFile("table", os.O_RDWR)
	if err != nil {
		return false, r.tableError(err, "")
	}
	defer table.Close()
	mem, base, err := mapSlot(table, slot)
	if err != nil {
		return false, err
	}
	defer sys.UnmapFile(mem)
	return wordAt(mem, base+8*wState).CompareAndSwap(state, withdrawn(state)), nil
}
