package audiomirror

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioblock"
	"github.com/ipcgen/ipcgen/internal/dsp"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The sound of these tests.
const (
	rate, channels, frames = 48_000, 2, 32
	blockBytes             = 4 * channels * frames
	window                 = 8
)

// A fake is a replica that a test can stop, and whose answers a test can change.
type fake struct {
	channel string
	refuse  bool // each client
	// alter, when set, may change an answer before it is sent.
	alter func(h *audio.AudioBufferHeader, payload []byte)

	mu      sync.Mutex
	gate    chan struct{} // answers wait until it is closed
	waiting bool          // a block does
	tickets uint64
	lines   map[uint64]*fakeLine
	states  int      // blocks that brought a state
	blocks  []uint64 // that were answered
	changes []dsp.Change
}

type fakeLine struct {
	w    *audio.AudioBufferHeaderWriter
	done chan struct{}
}

// serve serves until ctx is done. It calls ready when clients can come.
func (f *fake) serve(ctx context.Context, domain string, ready func()) error {
	l, err := ipc.Listen(f.channel, ipc.WithDomain(domain))
	if err != nil {
		return err
	}
	f.lines = map[uint64]*fakeLine{}
	server := ipc.NewServer(audio.HandleAudioBufferHeaderWriter(f.answers),
		audio.HandleAudioBufferHeaderReader(f.process))
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	ready()
	return server.Serve(context.Background(), l)
}

func (f *fake) answers(ctx context.Context, w *audio.AudioBufferHeaderWriter) error {
	if f.refuse {
		return ipc.Errorf(ipc.CodeFailedPrecondition, "this fake refuses all")
	}
	f.mu.Lock()
	f.tickets++
	ticket, line := f.tickets, &fakeLine{w, make(chan struct{})}
	f.lines[ticket] = line
	f.mu.Unlock()
	if err := w.Write(ctx, 0, func(h *audio.AudioBufferHeader, _ []byte) error {
		audioblock.PutTicket(h, ticket)
		return nil
	}); err != nil {
		return err
	}
	select {
	case <-line.done:
	case <-ctx.Done():
	}
	return nil
}

func (f *fake) process(ctx context.Context, r *audio.AudioBufferHeaderReader) error {
	var ticket uint64
	if err := r.Read(ctx, func(h *audio.AudioBufferHeader, b []byte, _ uint64) (err error) {
		ticket, err = audioblock.Ticket(h, b)
		return err
	}); err != nil {
		return err
	}
	f.mu.Lock()
	line := f.lines[ticket]
	f.mu.Unlock()
	defer close(line.done)
	chain := &dsp.Chain{}
	for {
		if err := r.Read(ctx, func(h *audio.AudioBufferHeader, b []byte, _ uint64) error {
			return f.block(ctx, chain, line.w, h, b)
		}); err != nil {
			return err
		}
	}
}

func (f *fake) block(ctx context.Context, chain *dsp.Chain, w *audio.AudioBufferHeaderWriter,
	h *audio.AudioBufferHeader, payload []byte) error {
	f.mu.Lock()
	gate := f.gate
	f.waiting = gate != nil
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	b, err := audioblock.Split(h, payload)
	if err != nil {
		return err
	}
	changes := b.AppendChanges(nil)
	f.mu.Lock()
	if b.State != nil {
		f.states++
		err = chain.Load(b.State)
	}
	f.blocks, f.changes = append(f.blocks, h.Sequence()), append(f.changes, changes...)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return w.Write(ctx, audioblock.AnswerBytes(len(b.Samples)),
		func(to *audio.AudioBufferHeader, out []byte) error {
			a, err := audioblock.SplitAnswer(out, len(b.Samples))
			if err == nil {
				err = chain.Process(a.Samples, b.Samples, changes)
			}
			if err != nil {
				return err
			}
			chain.Save(a.State)
			a.SetControls(0, dsp.InitialValues())
			to.MutateSequence(h.Sequence())
			to.MutateFrames(h.Frames())
			to.MutateChannels(h.Channels())
			to.MutateFlags(0)
			if f.alter != nil {
				f.alter(to, out)
			}
			return nil
		})
}

// hold makes the answers from now on wait, until the function that it returns is called.
func (f *fake) hold() (release func()) {
	gate := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate, f.waiting = gate, false
	return func() {
		close(gate)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gate = nil
	}
}

// waits reports whether a block waits for the end of a hold.
func (f *fake) waits() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting
}

// answered returns the blocks that were answered, and how many of them brought a state.
func (f *fake) answered() (blocks []uint64, states int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.blocks), f.states
}

// A stage has replicas, which a test starts and ends, and the mirror that feeds them.
type stage struct {
	t      *testing.T
	ctx    context.Context
	domain string
	*Mirror

	in, out   []byte // what was submitted, and what was taken
	changes   []dsp.Change
	submitted int // blocks

	mu        sync.Mutex
	changed   chan struct{} // closed when places change
	places    [2]Process    // PID 0: there is none
	failed    []Process     // that Find was told of
	pids      int
	findError error
}

func newStage(t *testing.T) *stage {
	ctx := t.Context()
	if end, ok := t.Deadline(); ok {
		// What is missing is told before all tests are ended.
		limited, cancel := context.WithTimeout(ctx, time.Until(end)*9/10)
		t.Cleanup(cancel)
		ctx = limited
	}
	s := &stage{t: t, ctx: ctx, domain: filepath.Join(t.TempDir(), "domain"),
		changed: make(chan struct{})}
	var err error
	s.Mirror, err = New(Config{Rate: rate, Channels: channels, Frames: frames, Window: window,
		Values: dsp.InitialValues(), Replicas: 2, Find: s.find,
		Dial: []ipc.DialOption{ipc.WithDomain(s.domain)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *stage) find(ctx context.Context, replica int, failed Process) (Process, error) {
	for first := true; ; first = false {
		s.mu.Lock()
		p, changed, err := s.places[replica], s.changed, s.findError
		if first && failed != (Process{}) {
			s.failed = append(s.failed, failed)
		}
		s.mu.Unlock()
		if err != nil {
			return Process{}, err
		}
		if p.PID != 0 && p.PID != failed.PID {
			return p, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Process{}, context.Cause(ctx)
		}
	}
}

// place says which process serves a replica from now on.
func (s *stage) place(replica int, p Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[replica] = p
	close(s.changed)
	s.changed = make(chan struct{})
}

// next returns a process that there was not before.
func (s *stage) next() Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids++
	return Process{PID: s.pids, Channel: fmt.Sprint("fake_", s.pids)}
}

// start starts a replica, and returns a function that ends it.
func (s *stage) start(replica int, f *fake) (end func()) {
	s.t.Helper()
	p := s.next()
	f.channel = p.Channel
	ctx, cancel := context.WithCancel(s.ctx)
	ready, served := make(chan struct{}), make(chan error, 1)
	go func() { served <- f.serve(ctx, s.domain, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-served:
		s.t.Fatal(err)
	}
	s.place(replica, p)
	end = sync.OnceFunc(func() {
		s.mu.Lock()
		if s.places[replica] == p {
			s.places[replica] = Process{}
		}
		s.mu.Unlock()
		cancel()
		if err := <-served; !errors.Is(err, ipc.ErrServerClosed) {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(end)
	return end
}

// submit submits blocks of a sound that never repeats.
func (s *stage) submit(blocks int, changes ...dsp.Change) {
	s.t.Helper()
	for range blocks {
		var b []byte
		for i := range channels * frames {
			x := float32(math.Sin(float64(s.submitted*channels*frames+i) * 0.37))
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		for _, c := range changes {
			c.Frame += len(s.in) / (4 * channels)
			s.changes = append(s.changes, c)
		}
		if err := s.Submit(s.ctx, b, changes); err != nil {
			s.t.Fatal(err)
		}
		s.in = append(s.in, b...)
		s.submitted++
		changes = nil
	}
}

// take takes answers.
func (s *stage) take(blocks int) {
	s.t.Helper()
	for range blocks {
		if err := s.Take(s.ctx, func(a Answer) error {
			if want := uint64(len(s.out) / blockBytes); a.Sequence != want {
				s.t.Errorf("the answer of block %d, want %d", a.Sequence, want)
			}
			s.out = append(s.out, a.Samples...)
			return nil
		}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// play submits and takes blocks, one after the other.
func (s *stage) play(blocks int, changes ...dsp.Change) {
	s.t.Helper()
	for range blocks {
		s.submit(1, changes...)
		s.take(1)
		changes = nil
	}
}

// until waits until the counters are as ok says.
func (s *stage) until(what string, ok func(Stats) bool) {
	s.t.Helper()
	for !ok(s.Stats()) {
		if s.ctx.Err() != nil {
			s.t.Fatalf("never %s: %+v", what, s.Stats())
		}
		time.Sleep(time.Millisecond)
	}
}

// givenUp waits until so many replicas are not used any more.
func (s *stage) givenUp(n int) {
	s.t.Helper()
	s.until("given up", func(Stats) bool { return len(s.givenUpSoFar()) == n })
}

// givenUpSoFar returns why replicas are not used any more.
func (s *stage) givenUpSoFar() []error {
	s.Mirror.mu.Lock()
	defer s.Mirror.mu.Unlock()
	return slices.Clone(s.Mirror.failed)
}

// failedSoFar returns the processes that Find was told of.
func (s *stage) failedSoFar() (pids []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.failed {
		pids = append(pids, p.PID)
	}
	return pids
}

func bothLive(st Stats) bool { return st.Live == 2 }

// check compares what was taken with what one chain computes, of all that was submitted.
func (s *stage) check() {
	s.t.Helper()
	chain, err := dsp.NewChain(rate, channels, dsp.InitialValues())
	if err != nil {
		s.t.Fatal(err)
	}
	want := make([]byte, len(s.in))
	if err := chain.Process(want, s.in, s.changes); err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Equal(s.out, want) {
		s.t.Errorf("%d bytes were taken, which are not the %d that one process computes",
			len(s.out), len(want))
	}
}

// warm plays until both replicas answer.
func (s *stage) warm() {
	s.t.Helper()
	for !bothLive(s.Stats()) {
		s.play(1)
	}
}

// TestBothAnswer has two replicas that answer each block.
func TestBothAnswer(t *testing.T) {
	s := newStage(t)
	s.start(0, &fake{})
	s.start(1, &fake{})
	s.warm()
	s.play(50, dsp.Change{Frame: 3, Param: dsp.Gain, Value: 0.5})
	s.check()
	first := func(st Stats) uint64 { return st.First[0] + st.First[1] }
	s.until("an answer of both to the last block", func(st Stats) bool {
		return st.All[0] > 0 && st.All[1] > 0 && first(st) == uint64(s.submitted) && bothLive(st)
	})
	if st := s.Stats(); st.Different != 0 {
		t.Errorf("%d answers differ", st.Different)
	}
}

// TestFirstAnswerCounts holds one replica up: the sound does not wait for it, and what it answers
// late counts as one of its answers alone.
func TestFirstAnswerCounts(t *testing.T) {
	s := newStage(t)
	quick, slow := &fake{}, &fake{}
	s.start(0, quick)
	s.start(1, slow)
	s.warm()
	before, release := s.race(quick, slow)
	if st := s.Stats(); st.First[1] != before.First[1] {
		t.Errorf("one replica was held up, and %+v became %+v", before, st)
	}
	release()
	s.until("late answers", func(st Stats) bool { return st.All[1] > before.All[1] })
	if st := s.Stats(); st.First[1] != before.First[1] || st.Different != 0 {
		t.Errorf("late answers were counted as first or different: %+v", st)
	}
	s.take(window)
	s.play(5)
	s.check()
}

// race submits a window of blocks, to whose first one both replicas have a part of the answer, when
// one of them goes ahead and answers all. It returns the counters before, and a function that lets
// the other one go on.
func (s *stage) race(quick, slow *fake) (before Stats, release func()) {
	s.t.Helper()
	// A replica may still owe answers to earlier blocks.
	s.until("all answers", func(st Stats) bool {
		a, _ := quick.answered()
		b, _ := slow.answered()
		return st.All[0] == uint64(len(a)) && st.All[1] == uint64(len(b)) &&
			st.First[0]+st.First[1] == uint64(s.submitted)
	})
	before = s.Stats()
	goAhead, release := quick.hold(), slow.hold()
	s.submit(window)
	s.until("both have a block", func(Stats) bool { return quick.waits() && slow.waits() })
	goAhead()
	s.until("all answers of one", func(st Stats) bool {
		return st.First[0] == before.First[0]+window
	})
	return before, release
}

// TestSlowReplicaSkips holds one replica up for many windows. It then begins at a block that has no
// answer, with the state before it, and not where it was.
func TestSlowReplicaSkips(t *testing.T) {
	s := newStage(t)
	slow := &fake{}
	end := s.start(0, &fake{})
	s.start(1, slow)
	s.warm()
	_, states := slow.answered()
	release := slow.hold()
	s.play(20 * window)
	release()
	for _, now := slow.answered(); now == states; _, now = slow.answered() {
		s.play(1) // until it was given a state
	}
	blocks, _ := slow.answered()
	if skipped := s.submitted - len(blocks); skipped < 10*window {
		t.Errorf("of %d blocks it has processed %d, and skipped %d", s.submitted, len(blocks),
			skipped)
	}
	// It can go on alone.
	end()
	s.play(20)
	s.check()
}

// TestDeaths ends replicas, both at last, and starts others: the sound goes on from the very
// sample.
func TestDeaths(t *testing.T) {
	s := newStage(t)
	ends := [2]func(){s.start(0, &fake{}), s.start(1, &fake{})}
	for round := range 6 {
		s.warm()
		s.submit(window/2, dsp.Change{Param: dsp.Cutoff, Value: float32(300 + round)})
		ends[round%2]()
		s.take(window / 2)
		s.play(3)
		ends[round%2] = s.start(round%2, &fake{})
	}
	s.warm()
	ends[0]()
	ends[1]()
	s.until("both are gone", func(st Stats) bool { return st.Live == 0 })
	s.submit(window)
	if ok, err := s.TryTake(func(Answer) error { return nil }); ok || err != nil {
		t.Errorf("an answer without a replica: %v, %v", ok, err)
	}
	block := make([]byte, blockBytes)
	if ok, err := s.TrySubmit(block, nil); ok || err != nil {
		t.Errorf("there was room for more than a window: %v, %v", ok, err)
	}
	f := &fake{}
	s.start(1, f)
	s.take(window)
	s.play(10)
	s.check()
	if blocks, states := f.answered(); states != 1 || len(blocks) < window {
		t.Errorf("the last replica was given %d states, and has answered %v", states, blocks)
	}
}

// TestStaleAnswers has a replica that answers earlier blocks again, which changes nothing, and then
// one that was never sent, which ends the use of the process.
func TestStaleAnswers(t *testing.T) {
	s := newStage(t)
	const offset, after = 3 * window, 4 * window
	var lies atomic.Uint64 // how often a replica has lied
	lie := func(n uint64) func(*audio.AudioBufferHeader, []byte) {
		return func(h *audio.AudioBufferHeader, payload []byte) {
			if h.Sequence() >= after {
				h.MutateSequence(h.Sequence() + n)
				clear(payload)
				lies.Add(1)
			}
		}
	}
	s.start(0, &fake{})
	end := s.start(1, &fake{alter: lie(^uint64(offset) + 1)})
	s.warm()
	for lies.Load() < 5*window {
		s.play(1) // a replica that is late skips blocks, so their number does not tell
	}
	if st := s.Stats(); st.Live != 2 || st.Different != 0 {
		t.Errorf("after stale answers: %+v", st)
	}
	end()
	s.until("one is gone", func(st Stats) bool { return st.Live == 1 })
	future := &fake{alter: lie(1_000)}
	s.start(1, future)
	for len(s.givenUpSoFar()) == 0 {
		s.play(1) // an answer to no block ends the use of a process each time
	}
	s.play(5)
	s.check()
}

// TestDifferentAnswers has a replica that computes other sound: the mirror counts its answers, and
// takes those that come first.
func TestDifferentAnswers(t *testing.T) {
	s := newStage(t)
	var from atomic.Uint64 // the first block whose answer is wrong
	from.Store(math.MaxUint64)
	right := &fake{}
	wrong := &fake{alter: func(h *audio.AudioBufferHeader, payload []byte) {
		if h.Sequence() >= from.Load() {
			payload[0] ^= 1
		}
	}}
	s.start(0, right)
	s.start(1, wrong)
	s.warm()
	from.Store(uint64(s.submitted))
	_, release := s.race(right, wrong)
	release()
	s.until("answers that differ", func(st Stats) bool { return st.Different > 0 })
	s.take(window)
	s.check()
}

// TestBrokenAnswers has replicas whose answers cannot be those of the service. Each ends the use of
// its process, and the sound is that of the other one.
func TestBrokenAnswers(t *testing.T) {
	for name, alter := range map[string]func(*audio.AudioBufferHeader, []byte){
		"channels": func(h *audio.AudioBufferHeader, _ []byte) { h.MutateChannels(1) },
		"frames":   func(h *audio.AudioBufferHeader, _ []byte) { h.MutateFrames(frames + 1) },
		"state":    func(_ *audio.AudioBufferHeader, b []byte) { clear(b[blockBytes:]) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.start(0, &fake{alter: alter})
			s.submit(window)
			s.givenUp(1)
			s.start(1, &fake{})
			s.take(window)
			s.play(5)
			s.check()
		})
	}
}

// TestRefusals has replicas that refuse the sound. When both are given up, Take says why.
func TestRefusals(t *testing.T) {
	s := newStage(t)
	s.start(0, &fake{refuse: true})
	s.start(1, &fake{refuse: true})
	s.submit(1)
	err := s.Take(s.ctx, func(Answer) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "no replica processes the sound") ||
		!strings.Contains(err.Error(), "this fake refuses all") ||
		ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
		t.Errorf("both replicas refuse: %v", err)
	}
}

// TestFindFails has no processes to come.
func TestFindFails(t *testing.T) {
	s := newStage(t)
	none := errors.New("the group has ended")
	s.mu.Lock()
	s.findError = none
	s.mu.Unlock()
	s.place(0, Process{})
	if err := s.Take(s.ctx, func(Answer) error { return nil }); !errors.Is(err, none) {
		t.Errorf("Take: %v, want %v", err, none)
	}
}

// TestControls has a replica on which a parameter was set: the next block changes it for both, or
// for the one that did not skip the block because it was late.
func TestControls(t *testing.T) {
	s := newStage(t)
	v := dsp.InitialValues()
	v[dsp.Gain] = 0.25
	set := &fake{alter: func(_ *audio.AudioBufferHeader, payload []byte) {
		a, err := audioblock.SplitAnswer(payload, blockBytes)
		if err != nil {
			t.Error(err)
		}
		a.SetControls(1, v)
	}}
	plain := &fake{}
	s.start(0, set)
	s.play(1)
	s.start(1, plain)
	s.changes = append(s.changes, dsp.Change{Frame: frames, Param: dsp.Gain, Value: 0.25})
	s.warm()
	s.play(10)
	s.check()
	changed := 0
	for _, f := range []*fake{set, plain} {
		f.mu.Lock()
		if n := len(f.changes); n > 1 {
			t.Errorf("the parameter was changed %d times: %v", n, f.changes)
		}
		changed += len(f.changes)
		f.mu.Unlock()
	}
	if changed == 0 {
		t.Error("the parameter was changed by no block")
	}
}

// TestControlsBesideChanges has a replica on which all parameters were set, before a block that has
// as many changes as it can.
func TestControlsBesideChanges(t *testing.T) {
	s := newStage(t)
	v := dsp.Values{dsp.Gain: 0.25, dsp.Pan: 0.5, dsp.Cutoff: 500, dsp.Resonance: 2}
	s.start(0, &fake{alter: func(_ *audio.AudioBufferHeader, payload []byte) {
		if a, err := audioblock.SplitAnswer(payload, blockBytes); err == nil {
			a.SetControls(1, v)
		}
	}})
	s.play(1)
	for p, x := range v {
		s.changes = append(s.changes, dsp.Change{Frame: frames, Param: dsp.Param(p), Value: x})
	}
	var changes []dsp.Change
	for n := range MaxChanges {
		changes = append(changes, dsp.Change{Frame: n * frames / MaxChanges, Param: dsp.Gain,
			Value: float32(n%4) / 4})
	}
	s.play(1, changes...)
	s.play(5)
	s.check()
}

// TestDeathWhileCatchingUp has a fresh replica that was given the state and has not answered yet.
// Then it ends itself, or the one that has answered all, or both.
func TestDeathWhileCatchingUp(t *testing.T) {
	for _, c := range []struct{ fresh, other bool }{{true, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("fresh %v, other %v", c.fresh, c.other), func(t *testing.T) {
			s := newStage(t)
			other, fresh := &fake{}, &fake{}
			endOther, end := s.start(0, other), s.start(1, &fake{})
			s.warm()
			end()
			s.until("one is gone", func(st Stats) bool { return st.Live == 1 })
			release := fresh.hold()
			releaseOther := other.hold()
			endFresh := s.start(1, fresh)
			s.submit(window, dsp.Change{Frame: 1, Param: dsp.Cutoff, Value: 700})
			s.until("both have a block", func(Stats) bool {
				return fresh.waits() && other.waits()
			})
			if c.other {
				endOther()
			} else {
				releaseOther()
			}
			if c.fresh {
				endFresh()
			} else {
				release()
			}
			if c.fresh && c.other {
				s.start(1, &fake{})
			}
			s.take(window)
			s.play(5)
			s.check()
		})
	}
}

// TestBadBlocks submits what no block can be.
func TestBadBlocks(t *testing.T) {
	s := newStage(t)
	for what, c := range map[string]struct {
		samples []byte
		changes []dsp.Change
		want    string
	}{
		"too long":     {make([]byte, blockBytes+4*channels), nil, "at most 32"},
		"half a frame": {make([]byte, 4), nil, "frames of 8"},
		"too many changes": {make([]byte, blockBytes), make([]dsp.Change, MaxChanges+1),
			"252 changes"},
	} {
		if ok, err := s.TrySubmit(c.samples, c.changes); ok || err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want an error with %q", what, ok, err, c.want)
		}
	}
	s.start(0, &fake{})
	s.play(3)
	s.check()
}

// TestEnd ends a mirror that waits in each way.
func TestEnd(t *testing.T) {
	s := newStage(t) // without any process
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	s.submit(window)
	if err := s.Submit(ctx, make([]byte, blockBytes), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Submit: %v", err)
	}
	if err := s.Take(ctx, func(Answer) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Take: %v", err)
	}
	full := errors.New("full")
	s.start(0, &fake{})
	if err := s.Take(s.ctx, func(Answer) error { return full }); !errors.Is(err, full) {
		t.Errorf("Take returns %v, want the error of its function", err)
	}
	s.take(window) // with the block that was not taken
	s.check()
}

// The name of the channel and the domain of a fake that is a process of its own.
const childChannel, childDomain = "AUDIOMIRROR_TEST_CHANNEL", "AUDIOMIRROR_TEST_DOMAIN"

func TestMain(m *testing.M) {
	channel := os.Getenv(childChannel)
	if channel == "" {
		os.Exit(m.Run())
	}
	f := &fake{channel: channel}
	err := f.serve(context.Background(), os.Getenv(childDomain), func() { fmt.Println("ready") })
	fmt.Println(err)
	os.Exit(1)
}

// TestKilled kills processes in mid-stream: Find is told which ones have failed, so that none of
// them is tried again.
func TestKilled(t *testing.T) {
	s := newStage(t)
	start := func(replica int) *exec.Cmd {
		cmd := exec.CommandContext(s.ctx, os.Args[0])
		p := s.next()
		cmd.Env = append(os.Environ(), childChannel+"="+p.Channel, childDomain+"="+s.domain)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		var line string
		if _, err := fmt.Fscanln(out, &line); err != nil || line != "ready" {
			t.Fatalf("the process says %q (%v)", line, err)
		}
		p.PID = cmd.Process.Pid
		s.place(replica, p)
		return cmd
	}
	running := [2]*exec.Cmd{start(0), start(1)}
	var killed []int
	for round := range 4 {
		s.warm()
		s.submit(window / 2)
		victim := running[round%2]
		victim.Process.Kill()
		killed = append(killed, victim.Process.Pid)
		s.take(window / 2)
		s.play(3)
		running[round%2] = start(round % 2)
		// The mirror may learn of the death later, and have no need of a process that is killed
		// before.
		s.until("told of the death", func(Stats) bool { return len(s.failedSoFar()) > round })
	}
	s.warm()
	s.check()
	if failed := s.failedSoFar(); !slices.Equal(failed, killed) {
		t.Errorf("Find was told of the failed processes %v, want %v", failed, killed)
	}
}
