// Package audiomirror sends each block of sound to every replica of the audio service, and takes
// the first answer. So a replica that is killed, stopped or slow delays nothing as long as another
// one answers, and no process has to notice a death first.
//
// The answers are equal to the last bit, since what a replica computes depends on the block and the
// state before it alone, and each answer brings the state behind it. A [Mirror] keeps the blocks
// that have no answer yet, and the state before the first of them. With these, it starts a replica
// that is new, or too slow to keep up, at the first block without an answer; and if all replicas
// are killed at once, the next one goes on from the very sample.
package audiomirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/audioblock"
	"github.com/ipcgen/ipcgen/internal/dsp"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Process is a process that serves a replica.
type Process struct {
	PID     int
	Channel string // where it serves
}

// A Config configures a [Mirror]. All fields but Dial are required.
type Config struct {
	Rate     uint32
	Channels int
	Frames   int // of the longest block
	Window   int // blocks that may wait for an answer or for [Mirror.Take]
	// Values are what the parameters are before the first block.
	Values dsp.Values
	// Replicas is the number of replicas. Find blocks until a replica has a process that serves,
	// other than the one that failed. An error ends the use of the replica.
	Replicas int
	Find     func(ctx context.Context, replica int, failed Process) (Process, error)
	Dial     []ipc.DialOption
}

// Stats counts what a [Mirror] has done.
type Stats struct {
	// First has how many answers of each replica came first, and All how many came.
	First, All []uint64
	// Restarts is how often a replica was given a state to go on from.
	Restarts uint64
	// Live is the number of replicas whose present process has answered.
	Live int
	// Different is how many answers were not equal to the first one.
	Different uint64
}

// A slot holds a block, and its first answer.
type slot struct {
	sequence uint64
	captured int64 // when the block was submitted, in microseconds
	frames   int
	samples  []byte
	changes  []dsp.Change

	answered bool
	at       time.Time // of the first answer
	answer   []byte
	state    []byte // behind the block
}

// A Mirror is one stream of sound through all replicas. One goroutine may submit blocks, and one
// take answers.
type Mirror struct {
	cfg    Config
	cancel context.CancelFunc
	lanes  []*lane
	tasks  sync.WaitGroup

	answers chan struct{} // a token when there may be an answer to take
	room    chan struct{} // a token when there may be room

	mu    sync.Mutex
	slots []slot
	// taken <= base <= next: the answers before taken were taken, the blocks before base have an
	// answer, and those before next were submitted.
	taken, base, next uint64
	state             []byte // before base
	stats             Stats
	controls          uint64     // the number of changes that wanted has
	wanted, applied   dsp.Values // by SetParam; as the blocks have them
	failed            []error    // of replicas that are not used any more
}

// New makes a mirror, which begins to connect. The caller must close it.
func New(cfg Config) (*Mirror, error) {
	c, err := dsp.NewChain(cfg.Rate, cfg.Channels, cfg.Values)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mirror{cfg: cfg, cancel: cancel, slots: make([]slot, cfg.Window),
		answers: make(chan struct{}, 1), room: make(chan struct{}, 1),
		state: make([]byte, dsp.StateSize), wanted: cfg.Values, applied: cfg.Values,
		stats: Stats{First: make([]uint64, cfg.Replicas), All: make([]uint64, cfg.Replicas)}}
	c.Save(m.state)
	size := 4 * cfg.Channels * cfg.Frames
	for i := range m.slots {
		m.slots[i] = slot{sequence: ^uint64(0), samples: make([]byte, 0, size),
			answer: make([]byte, size), state: make([]byte, dsp.StateSize)}
	}
	for i := range cfg.Replicas {
		m.lanes = append(m.lanes, newLane(m, i))
	}
	for _, l := range m.lanes {
		m.tasks.Go(func() { l.run(ctx) })
	}
	return m, nil
}

// Close ends the streams. It must not be called while another method runs.
func (m *Mirror) Close() {
	m.cancel()
	m.tasks.Wait()
}

// Stats returns the counters so far.
func (m *Mirror) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.First, s.All = append([]uint64(nil), s.First...), append([]uint64(nil), s.All...)
	return s
}

// MaxChanges is how many changes of parameters a block that is submitted can have. The rest of what
// a block has room for is for SetParam, which may change each parameter.
const MaxChanges = audioblock.MaxChanges - dsp.NumParams

// Submit sends a block, which is copied, and waits for room in the window. The changes must be in
// the order of their frames. What SetParam has changed meanwhile is added at frame 0.
func (m *Mirror) Submit(ctx context.Context, samples []byte, changes []dsp.Change) error {
	for {
		switch ok, err := m.TrySubmit(samples, changes); {
		case err != nil:
			return err
		case ok:
			return nil
		}
		select {
		case <-m.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// TrySubmit is Submit without waiting: it reports whether there was room.
func (m *Mirror) TrySubmit(samples []byte, changes []dsp.Change) (bool, error) {
	if len(samples) > 4*m.cfg.Channels*m.cfg.Frames || len(samples)%(4*m.cfg.Channels) != 0 {
		return false, fmt.Errorf("a block of %d bytes, want frames of %d, at most %d", len(samples),
			4*m.cfg.Channels, m.cfg.Frames)
	}
	if len(changes) > MaxChanges {
		return false, fmt.Errorf("%d changes in a block; it can have %d", len(changes), MaxChanges)
	}
	m.mu.Lock()
	if m.next-m.taken == uint64(len(m.slots)) {
		m.mu.Unlock()
		return false, nil
	}
	s := &m.slots[m.next%uint64(len(m.slots))]
	s.sequence, s.answered, s.frames = m.next, false, len(samples)/(4*m.cfg.Channels)
	s.captured = time.Now().UnixMicro()
	s.samples = append(s.samples[:0], samples...)
	s.changes = s.changes[:0]
	for p, v := range m.wanted {
		if v != m.applied[p] {
			s.changes = append(s.changes, dsp.Change{Param: dsp.Param(p), Value: v})
		}
	}
	s.changes = append(s.changes, changes...)
	m.applied = m.wanted
	m.next++
	m.mu.Unlock()
	for _, l := range m.lanes {
		signal(l.wake)
	}
	return true, nil
}

// An Answer is the answer to a block.
type Answer struct {
	Sequence uint64
	Samples  []byte    // valid until the function that is given the answer returns
	At       time.Time // when the first answer came
}

// Take waits for the answer to the oldest block that was not taken, and passes it to f. It fails
// if no replica can be used any more.
func (m *Mirror) Take(ctx context.Context, f func(Answer) error) error {
	for {
		ok, err := m.TryTake(f)
		if ok || err != nil {
			return err
		}
		select {
		case <-m.answers:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// TryTake is Take without waiting: it reports whether there was an answer.
func (m *Mirror) TryTake(f func(Answer) error) (bool, error) {
	m.mu.Lock()
	if m.taken == m.base {
		var err error
		if len(m.failed) == len(m.lanes) {
			err = fmt.Errorf("no replica processes the sound: %w", errors.Join(m.failed...))
		}
		m.mu.Unlock()
		return false, err
	}
	s := &m.slots[m.taken%uint64(len(m.slots))]
	a := Answer{Sequence: m.taken, Samples: s.answer[:len(s.samples)], At: s.at}
	m.mu.Unlock()
	// An answered slot does not change until it is taken.
	if err := f(a); err != nil {
		return false, err
	}
	m.mu.Lock()
	m.taken++
	m.mu.Unlock()
	signal(m.room)
	return true, nil
}

// Answered returns a channel that has a token when there may be an answer to take.
func (m *Mirror) Answered() <-chan struct{} { return m.answers }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// answer takes an answer of a replica. The memory may change meanwhile: each byte is read once,
// and an answer that is not sound ends the use of the process.
func (m *Mirror) answer(replica int, sequence uint64, channels, frames int, payload []byte) error {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.slots[sequence%uint64(len(m.slots))]
	if s.sequence != sequence || sequence >= m.next {
		if sequence >= m.next {
			return fmt.Errorf("an answer to block %d, of %d", sequence, m.next)
		}
		m.stats.All[replica]++
		return nil // too late: the block was taken
	}
	if channels != m.cfg.Channels || frames != s.frames {
		return fmt.Errorf("an answer of %d frames of %d channels, want %d of %d", frames, channels,
			s.frames, m.cfg.Channels)
	}
	a, err := audioblock.SplitAnswer(payload, len(s.samples))
	if err != nil {
		return err
	}
	m.stats.All[replica]++
	if s.answered {
		if !bytes.Equal(s.answer[:len(s.samples)], a.Samples) || !bytes.Equal(s.state, a.State) {
			m.stats.Different++
		}
		return nil
	}
	copy(s.state, a.State)
	if err := checkState(s.state, m.cfg.Rate, m.cfg.Channels); err != nil {
		return err
	}
	copy(s.answer, a.Samples)
	if changes, v := a.Controls(); changes > m.controls && check(v) {
		m.controls, m.wanted = changes, v
	}
	s.answered, s.at = true, now
	m.stats.First[replica]++
	for m.base < m.next {
		b := &m.slots[m.base%uint64(len(m.slots))]
		if !b.answered {
			break
		}
		copy(m.state, b.state)
		m.base++
	}
	signal(m.answers)
	return nil
}

// checkState returns an error if no chain of this format has such a state.
func checkState(state []byte, rate uint32, channels int) error {
	var c dsp.Chain
	if err := c.Load(state); err != nil {
		return err
	}
	if c.Rate() != rate || c.Channels() != channels {
		return fmt.Errorf("a state of %d Hz and %d channels", c.Rate(), c.Channels())
	}
	return nil
}

func check(v dsp.Values) bool {
	for p, x := range v {
		if dsp.Param(p).Check(x) != nil {
			return false
		}
	}
	return true
}

// live counts the replicas whose present process has answered.
func (m *Mirror) live(change int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Live += change
}

// fail notes that a replica is not used any more.
func (m *Mirror) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = append(m.failed, err)
	signal(m.answers)
}
