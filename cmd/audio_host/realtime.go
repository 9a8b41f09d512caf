package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/internal/audiomirror"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A session runs the clock of a sound card: a block is captured each period, and its answer is due
// when the card has played what it has in hand.
type session struct {
	opts   *options
	studio studioConfig
	out    io.Writer

	period time.Duration
	begin  time.Time
	blocks []played
	kills  []kill
	alone  time.Duration // what the signal path takes for a block, without any process
}

// A played is what became of a block. Times are since the begin of the session.
type played struct {
	sent, answered time.Duration // answered is 0 if the session ended before
}

const (
	// headroom is how many blocks the card has in hand: an answer is due so many periods after its
	// block was captured.
	headroom = 2
	// liveWindow is how many blocks may be without an answer, before further ones are lost.
	liveWindow = 512
	// warmUp is how many blocks pass before the clock starts, and at least until all replicas
	// answer.
	warmUp = 200
)

// run plays until the time is over, and writes the report.
func (r *session) run(ctx context.Context) (err error) {
	if _, err := os.Stat(filepath.Dir(r.opts.report)); err != nil {
		return fmt.Errorf("cannot write the report %s: %w", r.opts.report, err)
	}
	src := newSweep(uint32(r.opts.rate), r.opts.channels, r.opts.realtime+time.Minute)
	var dst sink = nowhere{}
	if r.opts.out != "" {
		if dst, err = r.opts.sink(src); err != nil {
			return err
		}
	}
	done := false
	defer func() {
		if !done {
			dst.abandon()
		}
	}()
	r.period = time.Duration(float64(r.opts.frames) / float64(r.opts.rate) * float64(time.Second))
	r.studio.format, r.studio.frames = src.Format(), r.opts.frames
	r.studio.window, r.studio.params = liveWindow, r.opts.params
	s, err := openStudio(ctx, r.studio)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := r.play(ctx, s, src, dst); err != nil {
		return err
	}
	if different := s.mirror.Stats().Different; different > 0 {
		return fmt.Errorf("the replicas disagree about %d blocks", different)
	}
	if err := dst.commit(); err != nil {
		return err
	}
	done = true
	r.kills = s.killed()
	r.measureAlone()
	f := r.figures()
	if err := writeReport(r.opts.report, r, f); err != nil {
		return err
	}
	return f.print(r.out, r.opts.report)
}

// play is the clock.
func (r *session) play(ctx context.Context, s *studio, src source, dst sink) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	frame := 4 * r.opts.channels
	block := make([]byte, frame*r.opts.frames)
	for n := 0; n < warmUp || s.mirror.Stats().Live < replicas; n++ {
		if _, err := src.Read(block); err != nil {
			return err
		}
		if err := s.mirror.Submit(ctx, block, nil); err != nil {
			return err
		}
		if err := s.mirror.Take(ctx, func(audiomirror.Answer) error { return nil }); err != nil {
			return err
		}
	}
	r.begin = time.Now().Add(r.period)
	r.blocks = make([]played, 0, int(r.opts.realtime/r.period)+1)
	first, sequence := ^uint64(0), uint64(0) // of the answers
	numbers := make([]int, 0, cap(r.blocks)) // of the blocks that were sent, by answer
	take := func(a audiomirror.Answer) error {
		if first == ^uint64(0) {
			first = a.Sequence
		}
		sequence = a.Sequence - first
		r.blocks[numbers[sequence]].answered = a.At.Sub(r.begin)
		return dst.Write(a.Samples)
	}

	killing, stop := context.WithCancel(ctx)
	killed := make(chan error, 1)
	go func() {
		defer close(killed)
		killed <- r.crash(killing, s)
	}()
	defer func() {
		stop()
		for range killed { // until crash has ended
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := range cap(r.blocks) {
		due := r.begin.Add(time.Duration(n) * r.period)
		for {
			if _, err := s.mirror.TryTake(take); err != nil {
				return err
			}
			wait := time.Until(due)
			if wait <= 0 {
				break
			}
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-s.mirror.Answered():
			case err := <-killed: // which ends early by a failure, or with ctx
				return errors.Join(err, context.Cause(ctx))
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if _, err := src.Read(block); err != nil {
			return err
		}
		r.blocks = append(r.blocks, played{sent: time.Since(r.begin)})
		ok, err := s.mirror.TrySubmit(block, nil)
		if err != nil {
			return err
		}
		if ok { // otherwise the block is lost: nothing has answered for long
			numbers = append(numbers, n)
		}
	}
	// What is under way may still arrive in time.
	last, cancel := context.WithTimeout(ctx, (headroom+1)*r.period)
	defer cancel()
	for first == ^uint64(0) || int(sequence)+1 < len(numbers) {
		if err := s.mirror.Take(last, take); err != nil {
			if last.Err() != nil && ctx.Err() == nil {
				return nil
			}
			return err
		}
	}
	return nil
}

// crash kills the primary each time that -crash-every says, once both replicas answer.
func (r *session) crash(ctx context.Context, s *studio) error {
	if r.opts.crashEvery == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(r.opts.crashEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := s.group.Wait(ctx, group.Status.Healthy); err != nil {
			return endOf(ctx, err)
		}
		if s.mirror.Stats().Live < replicas {
			continue // the next tick finds it warm
		}
		if err := s.killPrimary(ctx); err != nil {
			return endOf(ctx, err)
		}
	}
}

// endOf returns err unless it is the end of ctx.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// measureAlone measures the signal path in this process.
func (r *session) measureAlone() {
	c, err := dsp.NewChain(uint32(r.opts.rate), r.opts.channels, dsp.InitialValues())
	if err != nil {
		return // the format was good enough for the session
	}
	const rounds = 1_000
	block := make([]byte, 4*r.opts.channels*r.opts.frames)
	begin := time.Now()
	for range rounds {
		_ = c.Process(block, block, nil)
	}
	r.alone = time.Since(begin) / rounds
}

// figures are what a session has shown.
type figures struct {
	Blocks, Xruns         int
	P50, P99, P999, Worst time.Duration   // slack: that so many blocks had at least
	Slack                 []time.Duration // by block
	Latency               []time.Duration // of the blocks that were answered
	Kills                 []time.Duration // when
	Recovery, Notice      []time.Duration // until the next good block, and until the group knew
	Period                time.Duration
	Alone                 time.Duration // of the signal path, for a block
	LateClock             time.Duration // the latest that this process sent a block
	OwnFault              int           // xruns of blocks that were answered within the headroom
	MedianLatency         time.Duration
}

func (r *session) figures() (f figures) {
	f.Blocks, f.Period, f.Alone = len(r.blocks), r.period, r.alone
	for n, b := range r.blocks {
		captured := time.Duration(n) * r.period
		f.LateClock = max(f.LateClock, b.sent-captured)
		slack := -headroom * r.period // an answer that never came
		if b.answered != 0 {
			slack = captured + headroom*r.period - b.answered
			f.Latency = append(f.Latency, b.answered-b.sent)
		}
		if slack < 0 {
			f.Xruns++
			if b.answered != 0 && b.answered-b.sent <= headroom*r.period {
				f.OwnFault++
			}
		}
		f.Slack = append(f.Slack, slack)
	}
	sorted := slices.Sorted(slices.Values(f.Slack))
	at := func(part float64) time.Duration { // the slack that this part of the blocks had at least
		if len(sorted) == 0 {
			return 0
		}
		return sorted[int((1-part)*float64(len(sorted)))]
	}
	f.P50, f.P99, f.P999, f.Worst = at(0.5), at(0.99), at(0.999), at(1)
	for _, k := range r.kills {
		killed := k.at.Sub(r.begin)
		f.Kills = append(f.Kills, killed)
		if !k.noticed.IsZero() {
			f.Notice = append(f.Notice, k.noticed.Sub(k.at))
		}
		for _, b := range r.blocks {
			if b.answered > killed {
				f.Recovery = append(f.Recovery, b.answered-killed)
				break
			}
		}
	}
	f.MedianLatency = median(f.Latency)
	return f
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(d))[len(d)/2]
}

func worst(d []time.Duration) (w time.Duration) {
	for _, x := range d {
		w = max(w, x)
	}
	return w
}

func micro(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// print prints the figures.
func (f figures) print(w io.Writer, report string) error {
	_, err := fmt.Fprintf(w, "audio_host: %d blocks, %d xruns, %d primaries killed\n"+
		"audio_host: slack p50 %v, p99 %v, p99.9 %v, worst %v, of %v\n", f.Blocks, f.Xruns,
		len(f.Kills), micro(f.P50), micro(f.P99), micro(f.P999), micro(f.Worst),
		micro(headroom*f.Period))
	if len(f.Kills) > 0 && err == nil {
		_, err = fmt.Fprintf(w, "audio_host: SIGKILL to the next good block: median %v, worst %v; "+
			"to the group's notice of death: median %v, worst %v\n", micro(median(f.Recovery)),
			micro(worst(f.Recovery)), micro(median(f.Notice)), micro(worst(f.Notice)))
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "audio_host: a block takes %v there and back, and the signal path "+
			"alone %v\naudio_host: this process sent blocks up to %v late, the cause of %d xruns\n"+
			"audio_host: the report is in %s\n", micro(f.MedianLatency),
			f.Alone.Round(100*time.Nanosecond), micro(f.LateClock), f.OwnFault, report)
	}
	if err != nil {
		return fmt.Errorf("the report is incomplete: %w", err)
	}
	return nil
}
