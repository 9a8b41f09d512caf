package group

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// standbyService returns the service of a standby for its primary. Each call holds r.order, and is
// executed only if it comes from the primary of the present reign, in the last session that the
// primary began. So a primary whose reign is over, or that was stopped and continues, changes
// nothing.
func (r *replicator) standbyService() *ipc.Service {
	handle := func(m *ipc.Method[packet, packet], f func(head, *cutter) ([]byte, error)) ipc.Route {
		return ipc.Handle(m, func(_ context.Context, req *packet) (*packet, error) {
			c := &cutter{req.data}
			h, err := c.head()
			if err != nil {
				return nil, ipc.Errorf(ipc.CodeInvalidArgument, "%w", err)
			}
			r.order.Lock()
			defer r.order.Unlock()
			if err := r.obey(h); err != nil {
				return nil, err
			}
			if m == methodEnter {
				r.session, r.incoming = h.session, transfer{}
			} else if h.session != r.session {
				return nil, ipc.Errorf(ipc.CodeFenced, "%s listens to another session",
					r.replica.Name())
			}
			data, err := f(h, c)
			if err != nil {
				return nil, ipc.Errorf(ipc.CodeFailedPrecondition, "%w", err)
			}
			return &packet{data}, nil
		})
	}
	return ipc.NewService(replicaProtocol, handle(methodEnter, r.enter),
		handle(methodInstall, r.install),
		handle(methodApply, r.execute), handle(methodSeal, r.seal))
}

// obey returns an error unless h is from the primary of the present reign, and meant for this
// process.
func (r *replicator) obey(h head) error {
	if h.incarnation != r.replica.incarnation {
		return ipc.Errorf(ipc.CodeFenced, "process %d has taken the place of the %s that is meant",
			os.Getpid(), r.replica.Name())
	}
	now := r.replica.page.reign()
	if now.primary != h.place || now.epoch != h.epoch || h.place == r.replica.index {
		return ipc.Errorf(ipc.CodeFenced, "%s obeys the primary of epoch %d, place %d",
			r.replica.Name(), now.epoch, now.primary)
	}
	r.abdicate()
	return nil
}

// The calls of the service. The caller must hold r.order.

func (r *replicator) enter(head, *cutter) ([]byte, error) {
	whole := uint64(0)
	switch {
	case r.isSynced(unsynced):
	case r.isSynced(broken): // another snapshot might hide it before the supervisor has seen it
		return nil, fmt.Errorf("%s could not restore its state and is about to be replaced",
			r.replica.Name())
	default:
		whole = 1
	}
	return binary.LittleEndian.AppendUint64(r.at.append(nil), whole), nil
}

// A transfer is a snapshot that arrives in pieces. What the first piece says of it is true of all.
type transfer struct {
	at   position
	size uint64
	data []byte
}

// take takes the piece at offset of a snapshot. It fails if the piece is not the next one, or the
// snapshot cannot be in the memory of this machine.
func (t *transfer) take(at position, size, offset uint64, piece []byte) error {
	if len(t.data) == 0 && offset == 0 {
		t.at, t.size = at, size
	}
	if at != t.at || size != t.size || offset != uint64(len(t.data)) ||
		uint64(len(piece)) > size-offset {
		return fmt.Errorf("%w: a piece of %d bytes at %d of a snapshot of %d, at hand are %d of %d",
			errPacket, len(piece), offset, size, len(t.data), t.size)
	}
	if most := min(sys.PhysicalMemory(), sys.GroupMemory()); size > most {
		return fmt.Errorf("%w: a snapshot of %d bytes; this process may have %d bytes of memory",
			errPacket, size, most)
	}
	t.data = append(t.data, piece...)
	return nil
}

// install takes a piece of a snapshot, and restores the state after the last one.
func (r *replicator) install(_ head, c *cutter) ([]byte, error) {
	at, size, offset := c.position(), c.u64(), c.u64()
	if err := r.incoming.take(at, size, offset, c.rest); err != nil {
		r.incoming = transfer{}
		return nil, err
	}
	snapshot := r.incoming.data
	if uint64(len(snapshot)) < size {
		return nil, nil
	}
	r.incoming = transfer{}
	r.setSynced(unsynced)
	sys.CrashPoint("group state forgotten")
	if err := r.restore(snapshot); err != nil {
		r.setSynced(broken)
		r.tell()
		return nil, fmt.Errorf("restore a snapshot of %d bytes: %w", size, err)
	}
	r.at = at
	return nil, nil
}

func (r *replicator) restore(snapshot []byte) error {
	return contain(r.log, "Restore", func() error { return r.state.Restore(snapshot) })
}

// execute executes the changes of the primary.
func (r *replicator) execute(h head, c *cutter) ([]byte, error) {
	var digests []byte
	began := time.Now()
	defer func() { r.lastWork, r.lastEnd = time.Since(began), time.Now() }()
	for len(c.rest) > 0 {
		e, err := c.entry()
		if err != nil {
			return nil, err
		}
		if e.index != r.at.index+1 {
			return nil, fmt.Errorf("%s is at change %d, the next one cannot be %d",
				r.replica.Name(), r.at.index, e.index)
		}
		sys.CrashPoint("group change received")
		digest := digestOf(nil, errExited)
		if !e.exits {
			r.executeOne(h, e, &digest)
		} else {
			done := make(chan struct{})
			go func() {
				defer close(done)
				r.executeOne(h, e, &digest)
			}()
			<-done
		}
		digests = binary.LittleEndian.AppendUint32(digests, digest)
		sys.CrashPoint("group change applied")
	}
	return digests, nil
}

// executeOne executes a change and stores the digest of its answer. If the handler ends this
// goroutine, which the primary's did unless the replicas differ, the change is made like any other.
func (r *replicator) executeOne(h head, e *entry, digest *uint32) {
	// Like the primary, so that a request which ends the process is known.
	place := r.replica.guard.publish(e.word)
	defer func() {
		r.replica.guard.withdraw(place)
		r.at = position{h.epoch, e.index}
	}()
	*digest = r.apply(e)
}

func (r *replicator) seal(head, *cutter) ([]byte, error) {
	r.setSynced(synced)
	sys.CrashPoint("group sync stored")
	return nil, nil
}
