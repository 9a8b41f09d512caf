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

// A standby is a registered one, as its primary sees it.
type standby struct {
	l     *leader
	rec   registry.Record
	place int
	ctx   context.Context
	stop  context.CancelFunc
	heard chan struct{} // closed when the first attempt has joined it or has to go on without
	now   *follower     // under the leader's mu: its session; nil while there is none
}

// A follower is a session with a standby. The fields of its second part are
// guarded by the leader's mu.
type follower struct {
	s       *standby
	l       *leader
	conn    *ipc.Conn
	session uint64
	gap     *ipc.Gap   // what its version lacks; nil if it is this process's
	lost    chan error // why it ended

	active  bool // changes are queued
	counted bool // replies wait for it
	joined  bool // the standby is in the published set
	sending bool // somebody sends the queue
	pending []*entry
	bytes   int    // of pending
	acked   uint64 // the last change that the standby has executed
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

// keep brings the standby in sync, again and again, until it is gone.
func (s *standby) keep() {
	defer s.stop()
	hear := sync.OnceFunc(func() { close(s.heard) })
	defer hear()
	for failures := 0; s.ctx.Err() == nil; failures++ {
		began := time.Now()
		err := s.follow(hear)
		hear()
		if s.ctx.Err() != nil {
			return
		}
		s.l.r.log.Warn("standby is out of sync", "standby", s.rec.Name, "pid",
			s.rec.PID, "err", err)
		if errors.Is(err, errDiverged) || errors.Is(err, errIncompatible) ||
			ipc.CodeOf(err) == ipc.CodeIncompatible {
			s.l.r.accuse(s, err)
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

// follow is one session: from the connection to its end, or to the moment at
// which the standby is dropped.
func (s *standby) follow(hear func()) error {
	r := s.l.r
	ctx, cancel := r.within(s.ctx, 0)
	conn, err := ipc.Dial(ctx, replicaChannel(s.rec.Name), ipc.WithDomain(r.m.dir.Path()),
		ipc.WithMaxMessage(longestPacket))
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	f := &follower{s: s, l: s.l, conn: conn, session: rand.Uint64(), lost: make(chan error, 1)}
	if err := f.meet(); err != nil {
		return err
	}
	snapshot, at, fresh, err := f.begin()
	if err != nil {
		return err
	}
	defer func() {
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		s.l.drop(f, errGone)
	}()
	if snapshot != nil {
		if fresh {
			hear() // a reign does not wait for that
		}
		if err := f.install(snapshot, at); err != nil {
			return err
		}
	}
	if err := f.catchUp(); err != nil {
		return err
	}
	hear()
	f.send(0) // what came meanwhile; from then on the sending is free for all
	select {
	case err := <-f.lost:
		return err
	case <-conn.Done():
		return conn.Err()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// begin opens the session. From then on changes are queued; what was before
// them is in the snapshot, which is nil when the standby has it all. A fresh
// standby has no state at all; any other was in sync perhaps, and a new reign
// waits for it to be so again, lest the primary alone hold what was answered.
func (f *follower) begin() (snapshot []byte, at position, fresh bool, err error) {
	l, r := f.l, f.l.r
	reply, err := f.call(methodEnter, nil, 0)
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
			return nil, at, fresh, fmt.Errorf("take a snapshot: %w", err)
		}
		if snapshot == nil {
			snapshot = []byte{}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := f.over(); err != nil {
		return nil, at, fresh, err
	}
	f.active, f.sending, f.acked = true, true, at.index
	f.s.now = f
	return snapshot, at, fresh, nil
}

// install sends a snapshot in pieces.
func (f *follower) install(snapshot []byte, at position) error {
	for offset := 0; ; {
		n := min(pieceSize, len(snapshot)-offset)
		b := at.append(make([]byte, 0, n+64))
		b = binary.LittleEndian.AppendUint64(b, uint64(len(snapshot)))
		b = binary.LittleEndian.AppendUint64(b, uint64(offset))
		if _, err := f.call(methodInstall, append(b, snapshot[offset:offset+n]...),
			noLimit); err != nil {
			return fmt.Errorf("install a snapshot: %w", err)
		}
		if offset += n; offset == len(snapshot) {
			return nil
		}
	}
}

// catchUp sends what has queued up until the standby is in sync. When little
// is left, replies begin to wait for it, so that it does catch up however
// busy the primary is.
func (f *follower) catchUp() error {
	l := f.l
	for {
		l.mu.Lock()
		if !f.active {
			l.mu.Unlock()
			return <-f.lost
		}
		if f.bytes <= batchSize {
			f.counted = true
			if f.acked >= l.committed.Load() {
				l.mu.Unlock()
				break
			}
		}
		l.mu.Unlock()
		if err := f.sendBatch(); err != nil {
			return err
		}
	}
	if _, err := f.call(methodSeal, nil, 0); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := f.over(); err != nil {
		return err
	}
	if f.active {
		l.join(f)
	}
	return nil
}

// over returns why nothing new may begin with the standby: the reign has ended,
// or its process is gone. It needs l.mu.
func (f *follower) over() error {
	if f.l.ended != nil {
		return f.l.ended
	}
	return f.s.ctx.Err()
}

// queue takes a change. It needs l.mu.
func (f *follower) queue(e *entry) {
	if !f.active {
		return
	}
	f.pending = append(f.pending, e)
	f.bytes += e.size()
	if !f.counted && f.bytes > f.l.r.limits.Backlog {
		f.l.drop(f, errBehind)
	}
}

// send sends the queue until it is empty, or until the standby has executed the
// change of an index, upon which a goroutine goes on. The caller has set
// f.sending.
func (f *follower) send(until uint64) {
	l := f.l
	for {
		l.mu.Lock()
		if !f.active || len(f.pending) == 0 {
			f.sending = false
			l.mu.Unlock()
			return
		}
		if until != 0 && f.acked >= until {
			l.mu.Unlock()
			l.tasks.Go(func() { f.send(0) })
			return
		}
		l.mu.Unlock()
		if err := f.sendBatch(); err != nil {
			l.mu.Lock()
			l.drop(f, err)
			l.mu.Unlock()
		}
	}
}

// sendBatch sends some of what is queued, and takes the answer.
func (f *follower) sendBatch() error {
	l := f.l
	l.mu.Lock()
	n, size := 0, 0
	for n < len(f.pending) && (n == 0 || size < batchSize) {
		size += f.pending[n].size()
		n++
	}
	batch := f.pending[:n]
	f.pending = f.pending[n:]
	f.bytes -= size
	l.mu.Unlock()
	if n == 0 {
		return nil
	}
	b := make([]byte, 0, size)
	work := time.Duration(0)
	for _, e := range batch {
		work += e.took
		b = e.append(b, f.gap != nil)
	}
	sys.CrashPoint("group changes sent")
	reply, err := f.call(methodApply, b, work)
	if err != nil {
		return err
	}
	c := &cutter{reply}
	if len(reply) != 4*n {
		return fmt.Errorf("%w: %d bytes answer %d changes", errPacket, len(reply), n)
	}
	for _, e := range batch {
		if !f.agrees(e, c.u32()) {
			return fmt.Errorf("%w: change %d, method %#x", errDiverged, e.index, e.method)
		}
	}
	sys.CrashPoint("group changes acknowledged")
	l.mu.Lock()
	defer l.mu.Unlock()
	f.acked = batch[n-1].index
	l.advance()
	return nil
}

// noLimit is the work of a step that nobody waits for: to restore a state may take any time
// within SyncTimeout, after which the supervisor ends the standby, and so the step.
const noLimit = -1

// call makes a call to the standby, which has AckTimeout for it besides its work.
func (f *follower) call(m *ipc.Method[packet, packet], body []byte,
	work time.Duration) ([]byte, error) {
	h := head{epoch: f.l.epoch, place: f.l.r.m.index, session: f.session}
	ctx := f.s.ctx
	if work != noLimit {
		within, cancel := f.l.r.within(ctx, work)
		defer cancel()
		ctx = within
	}
	req := packet{append(h.append(make([]byte, 0, 24+len(body))), body...)}
	rep, err := ipc.Invoke(ctx, f.conn, m, &req)
	if err != nil {
		return nil, err
	}
	return rep.data, nil
}
