package group

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A standby is a registered standby, as its primary knows it.
type standby struct {
	primary *primary
	rec     registry.Record
	place   int
	ctx     context.Context
	stop    context.CancelFunc
	heard   chan struct{} // closed after the first attempt, joined or not
	session *session      // guarded by primary.mu; nil while there is none
}

// A session is one connection of a primary to a standby. The fields of its second part are guarded
// by primary.mu.
type session struct {
	standby *standby
	primary *primary
	conn    *ipc.Conn
	id      uint64
	gap     *ipc.Gap   // what the standby's version lacks; nil if it is the version of this process
	ahead   *ipc.Gap   // what this process lacks, and the standby's version has
	lost    chan error // why the session ended
	// patience limits the time for each call to the standby. There is one call at a time.
	patience *patience

	active  bool // changes are queued
	counted bool // replies wait for it
	joined  bool // the standby is in the published set
	sending bool // a goroutine sends the queue
	pending []*entry
	sent    []*entry // changes that the standby has not acknowledged
	bytes   int      // of pending
	acked   uint64   // the last change that the standby has executed
}

const (
	pieceSize = 1 << 20 // of a snapshot
	batchSize = 64 << 10
)

var (
	errGone     = errors.New("it is gone")
	errBehind   = errors.New("it fell too far behind")
	errDiverged = errors.New("it answers differently")
)

// keepInSync brings the standby in sync, again and again, until the standby is gone.
func (s *standby) keepInSync() {
	defer s.stop()
	hear := sync.OnceFunc(func() { close(s.heard) })
	defer hear()
	for failures := 0; s.ctx.Err() == nil; failures++ {
		began := time.Now()
		joined, err := s.runSession(hear)
		if !joined && s.ctx.Err() == nil {
			s.primary.mu.Lock()
			s.primary.stamp(stampOfAttempt, s, err)
			s.primary.mu.Unlock()
		}
		hear()
		if s.ctx.Err() != nil {
			return
		}
		s.primary.r.log.Warn("standby is out of sync", "standby", s.rec.Name, "pid",
			s.rec.PID, "err", err)
		if errors.Is(err, errDiverged) || errors.Is(err, ErrIncompatible) ||
			ipc.CodeOf(err) == ipc.CodeIncompatible {
			s.primary.r.accuse(s, err)
			return
		}
		if time.Since(began) > time.Second {
			failures = 0
		}
		select {
		case <-time.After(backOff(failures)):
		case <-s.ctx.Done():
		}
	}
}

// runSession runs one session, from the connection until its end or until the standby is dropped.
// joined is true if the standby joined the set.
func (s *standby) runSession(hear func()) (joined bool, err error) {
	r := s.primary.r
	ctx, cancel := r.within(s.ctx, 0)
	conn, err := ipc.Dial(ctx, replicaChannel(s.rec.Name), ipc.WithDomain(r.replica.dir.Path()),
		ipc.WithMaxMessage(longestPacket), ipc.WithYield())
	cancel()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ses := &session{standby: s, primary: s.primary, conn: conn, id: rand.Uint64(),
		lost: make(chan error, 1), patience: newPatience(s.ctx)}
	defer ses.patience.close()
	if err := ses.meet(); err != nil {
		return false, err
	}
	snapshot, at, fresh, err := ses.begin()
	if err != nil {
		return false, err
	}
	defer func() {
		s.primary.mu.Lock()
		defer s.primary.mu.Unlock()
		s.primary.drop(ses, err)
	}()
	if snapshot != nil {
		if fresh {
			hear() // a reign does not wait for a snapshot
		}
		if err := ses.install(snapshot, at); err != nil {
			return false, err
		}
	}
	if err := ses.catchUp(); err != nil {
		return false, err
	}
	hear()
	ses.send(0) // the changes made meanwhile; from then on calls send the queue
	select {
	case err := <-ses.lost:
		return true, err
	case <-conn.Done():
		return true, conn.Err()
	case <-s.ctx.Done():
		return true, s.ctx.Err()
	}
}

// begin opens the session. From then on changes are queued. snapshot has all changes before them;
// it is nil if the standby has these already. fresh means that the standby has no state at all. Any
// other standby may have been in sync, and a new reign waits until it is so again; otherwise the
// primary could be the only replica with the changes that were answered.
func (ses *session) begin() (snapshot []byte, at position, fresh bool, err error) {
	p, r := ses.primary, ses.primary.r
	reply, err := ses.call(methodEnter, nil, p.inheritedWork())
	if err != nil {
		return nil, at, fresh, err
	}
	c := &cutter{reply}
	theirs, whole := c.position(), c.u64() == 1
	fresh = !whole
	r.order.Lock()
	defer r.order.Unlock()
	if at = r.at; !whole || theirs != at {
		sys.CrashPoint("group snapshot begun")
		err = contain(r.log, "Snapshot", func() (err error) {
			snapshot, err = r.state.Snapshot()
			return err
		})
		if err != nil {
			return nil, at, fresh, fmt.Errorf("%w: take a snapshot: %w", errSnapshot, err)
		}
		if snapshot == nil {
			snapshot = []byte{}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ses.over(); err != nil {
		return nil, at, fresh, err
	}
	ses.active, ses.sending, ses.acked = true, true, at.index
	ses.standby.session = ses
	return snapshot, at, fresh, nil
}

// install sends a snapshot in pieces.
func (ses *session) install(snapshot []byte, at position) error {
	for offset := 0; ; {
		n := min(pieceSize, len(snapshot)-offset)
		b := at.append(make([]byte, 0, n+64))
		b = binary.LittleEndian.AppendUint64(b, uint64(len(snapshot)))
		b = binary.LittleEndian.AppendUint64(b, uint64(offset))
		if _, err := ses.call(methodInstall, append(b, snapshot[offset:offset+n]...),
			noLimit); err != nil {
			var failure *ipc.Error
			if errors.As(err, &failure) && failure.Remote &&
				failure.Code == ipc.CodeFailedPrecondition {
				err = fmt.Errorf("%w: %w", errSnapshot, err)
			}
			return fmt.Errorf("install a snapshot: %w", err)
		}
		if offset += n; offset == len(snapshot) {
			return nil
		}
	}
}

// catchUp sends queued changes until the standby is in sync. When few are left, replies start to
// wait for the standby, so that it catches up however busy the primary is.
func (ses *session) catchUp() error {
	p := ses.primary
	for {
		p.mu.Lock()
		if !ses.active {
			p.mu.Unlock()
			return <-ses.lost
		}
		if ses.bytes <= batchSize {
			ses.counted = true
			if ses.acked >= p.committed.Load() {
				p.mu.Unlock()
				break
			}
		}
		p.mu.Unlock()
		if err := ses.sendBatch(); err != nil {
			return err
		}
	}
	if _, err := ses.call(methodSeal, nil, 0); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ses.over(); err != nil {
		return err
	}
	if ses.active {
		p.join(ses)
	}
	return nil
}

// over returns an error if nothing new may begin with the standby: the reign has ended, or the
// standby's process is gone. The caller must hold p.mu.
func (ses *session) over() error {
	if ses.primary.ended != nil {
		return ses.primary.ended
	}
	return ses.standby.ctx.Err()
}

// queue queues a change. The caller must hold p.mu.
func (ses *session) queue(e *entry) {
	if !ses.active {
		return
	}
	ses.pending = append(ses.pending, e)
	ses.bytes += e.size()
	if !ses.counted && ses.bytes > ses.primary.r.limits.Backlog {
		ses.primary.drop(ses, errBehind)
	}
}

// send sends the queue until it is empty. If until is not 0, it continues on another goroutine once
// the standby has executed the change with that index. The caller must have set ses.sending.
func (ses *session) send(until uint64) {
	p := ses.primary
	for {
		p.mu.Lock()
		if !ses.active || len(ses.pending) == 0 {
			ses.sending = false
			p.mu.Unlock()
			return
		}
		if until != 0 && ses.acked >= until {
			p.mu.Unlock()
			p.tasks.Go(func() { ses.send(0) })
			return
		}
		p.mu.Unlock()
		if err := ses.sendBatch(); err != nil {
			p.mu.Lock()
			p.drop(ses, err)
			p.mu.Unlock()
		}
	}
}

// sendBatch sends some of the queued changes, and reads the answer.
func (ses *session) sendBatch() error {
	p := ses.primary
	p.mu.Lock()
	n, size := 0, 0
	for n < len(ses.pending) && (n == 0 || size < batchSize) {
		size += ses.pending[n].size()
		n++
	}
	batch := ses.pending[:n]
	ses.pending, ses.sent = ses.pending[n:], batch
	ses.bytes -= size
	p.mu.Unlock()
	if n == 0 {
		return nil
	}
	b := make([]byte, 0, size)
	work := time.Duration(0)
	for _, e := range batch {
		work += e.took
		b = e.append(b, ses.gap != nil)
	}
	sys.CrashPoint("group changes sent")
	reply, err := ses.call(methodApply, b, work)
	var failure *ipc.Error
	if errors.As(err, &failure) && failure.Remote && failure.Code == ipc.CodeInternal {
		// a handler has ended its goroutine there, and has not here
		return fmt.Errorf("%w: changes %d to %d: %w", errDiverged, batch[0].index, batch[n-1].index,
			err)
	}
	if err != nil {
		return err
	}
	c := &cutter{reply}
	if len(reply) != 4*n {
		return fmt.Errorf("%w: %d bytes answer %d changes", errPacket, len(reply), n)
	}
	for _, e := range batch {
		if !ses.agrees(e, c.u32()) {
			return fmt.Errorf("%w: change %d, method %#x", errDiverged, e.index, e.method)
		}
	}
	sys.CrashPoint("group changes acknowledged")
	p.mu.Lock()
	defer p.mu.Unlock()
	ses.acked, ses.sent = batch[n-1].index, nil
	for _, e := range batch {
		e.acknowledged.Store(true)
	}
	p.advance()
	return nil
}

// noLimit is the work of a step without a limit: restoring a state may take any time within
// SyncTimeout, after which the supervisor ends the standby, and with it the step.
const noLimit = -1

// call makes a call to the standby, which has AckTimeout for it in addition to its work.
func (ses *session) call(m *ipc.Method[packet, packet], body []byte,
	work time.Duration) ([]byte, error) {
	h := head{epoch: ses.primary.epoch, place: ses.primary.r.replica.index,
		incarnation: ses.standby.rec.Incarnation, session: ses.id}
	if work != noLimit {
		ses.patience.begin(ses.primary.r.limit(work))
		defer ses.patience.end()
	}
	req := packet{append(h.append(make([]byte, 0, headSize+len(body))), body...)}
	rep, err := ipc.Invoke(ses.patience.ctx, ses.conn, m, &req)
	if err != nil {
		return nil, err
	}
	return rep.data, nil
}
