package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/audiomirror"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A session runs the clock of a sound card: a block is captured each period, and its answer is due
// when the card has played what it has in hand.
type session struct {
	opts   *options
	studio studioConfig
	out    io.Writer
	errOut io.Writer

	period time.Duration
	begin  time.Time
	// Of each block, since the begin of the session. Each slice has one goroutine that writes it.
	sent     []time.Duration
	answered []time.Duration // 0 if it had no answer
	asleep   []time.Duration // how late a thread woke up that only sleeps, after each block
	numbers  []int           // of the blocks, by the sequence of their answers
	played   int             // how many blocks there were
	ended    time.Duration   // when answers were not taken any more
	left     automation      // changes behind the end of the sound
	lost     int             // blocks that were not sent, since too many were without an answer

	fifo  bool // this process has real-time priority
	kills []kill
	load  load
	alone time.Duration // what the signal path takes for a block, without any process
}

const (
	// headroom is how many blocks the card has in hand: an answer is due so many periods after its
	// block was captured.
	headroom = 2
	// mostLive is how many blocks may be without an answer, before further ones are lost, and
	// liveBytes how many bytes of samples.
	mostLive, liveBytes = 512, 32 << 20
	// warmUp is how many blocks pass before the clock starts, and at least until all replicas
	// answer.
	warmUp = 200
	// patience is how long a block may take whose answer is late anyway.
	patience = 10 * time.Second
)

// liveWindow returns how many blocks of so many bytes may be without an answer.
func liveWindow(bytes int) int { return min(mostLive, liveBytes/bytes) }

// run plays until the time or the song is over, and writes the report.
func (r *session) run(ctx context.Context) (err error) {
	report, err := createDraft(r.opts.report)
	if err != nil {
		return err
	}
	reported := false
	defer func() {
		if !reported {
			report.abandon()
		}
	}()
	// Whatever fails while it plays ends all of it, a write that waits for its reader too.
	playing, end := context.WithCancelCause(ctx)
	defer end(nil)
	src, changes, err := r.opts.open(playing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	var dst sink = nowhere{}
	if r.opts.out != "" {
		if dst, err = r.opts.sink(playing, src); err != nil {
			return err
		}
	}
	done := false
	defer func() {
		if !done {
			dst.abandon()
		}
	}()
	format := src.Format()
	r.period = time.Duration(float64(r.opts.frames) / float64(format.Rate) * float64(time.Second))
	r.studio.format, r.studio.frames = format, r.opts.frames
	r.studio.window, r.studio.params = liveWindow(4*format.Channels*r.opts.frames), r.opts.params
	if r.opts.priority {
		defer r.prioritize()()
	}
	s, err := openStudio(ctx, r.studio)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	cut := r.play(playing, end, s, src, dst, changes)
	switch {
	case cut != nil && (ctx.Err() == nil || r.played == 0):
		return cut
	case cut != nil:
		r.cut() // it was told to end: what it has shown until then is worth a report
	case r.lost > 0 && r.opts.out != "":
		cut = fmt.Errorf("%d blocks were not sent, since %d others had no answer; the sound is "+
			"not complete", r.lost, r.studio.window)
	}
	if different := s.mirror.Stats().Different; different > 0 {
		return fmt.Errorf("the replicas disagree about %d blocks", different)
	}
	if cut == nil {
		if err := dst.commit(); err != nil {
			return err
		}
		done = true
	}
	r.kills = s.killed()
	r.alone = measureAlone(format, r.opts.frames)
	f := r.figures()
	if err := writeReport(report, r, f); err != nil {
		return fmt.Errorf("cannot write %s: %w", r.opts.report, err)
	}
	if err := report.commit(); err != nil {
		return err
	}
	reported = true
	if err := f.print(r.out, r.opts.report); err != nil || cut != nil {
		return errors.Join(cut, err)
	}
	r.left.note(r.errOut, r.opts.automation)
	return nil
}

// cut leaves out the blocks at the end whose answers were due after the end.
func (r *session) cut() {
	for r.played > 0 && time.Duration(r.played-1+headroom)*r.period > r.ended {
		r.played--
	}
}

// prioritize asks for real-time priority and locked memory, for this process and its replicas. It
// returns a function that gives the priority back.
func (r *session) prioritize() (end func()) {
	fifo, mlock := r.goFirst(), sys.LockMemory()
	if err := sys.JoinErrors(fifo, mlock); err != nil {
		fmt.Fprintf(r.errOut, "audio_host: -priority: %v; going on without\n", err)
	}
	r.fifo = fifo == nil
	command := r.studio.command
	r.studio.command = func(index int) *exec.Cmd {
		cmd := command(index)
		flags := []string{}
		if fifo == nil {
			flags = append(flags, "-fifo")
		}
		if mlock == nil {
			flags = append(flags, "-mlock")
		}
		cmd.Args = slices.Insert(cmd.Args, 1, flags...)
		return cmd
	}
	return func() { _ = sys.SetOrdinary() } // which needs no privilege
}

// goFirst lets this process, and so the clock, go before the replicas. A replica that starts is an
// ordinary process: it must hold up nothing. So must be the threads that this process starts, until
// goFirst is called again.
func (r *session) goFirst() error { return sys.SetRealtime(audioservice.Priority+1, false) }

// play runs the clock, and with it what reads the song, takes the answers, and kills primaries. The
// first of these that fails ends all of them.
func (r *session) play(playing context.Context, end context.CancelCauseFunc, s *studio,
	src source, dst sink, changes automation) error {
	warm, err := r.warmUp(playing, s)
	if err != nil {
		return err
	}
	// A collection takes processor time when it begins to, and there is nothing to collect but what
	// the restarts of replicas leave. The limit is for a session that goes on for days.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	// The two threads that sleep in system calls keep a processor of the Go runtime each, until it
	// takes that away, which may be 10 ms later. The others need as many as the machine has.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2))

	most := int(r.opts.realtime/r.period) + 1
	if n := src.Frames(); n >= 0 {
		frames := int64(r.opts.frames)
		most = int(min(int64(most), (n+frames-1)/frames))
	}
	r.sent, r.answered = make([]time.Duration, most), make([]time.Duration, most)
	r.asleep, r.numbers = make([]time.Duration, most), make([]int, most)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit()))
	take := func(a audiomirror.Answer) error {
		r.answered[r.numbers[a.Sequence-warm]] = a.At.Sub(r.begin)
		return dst.Write(a.Samples)
	}

	taking, endTaking := context.WithCancel(playing)
	defer endTaking()
	var tasks, helpers sync.WaitGroup
	run := func(wg *sync.WaitGroup, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				end(err)
			}
		})
	}
	blocks := newFeed(src, r.opts.frames, changes)
	submitted := make(chan struct{}, r.studio.window) // a token for each block that must be taken
	before := s.spent()
	r.begin = time.Now().Add(r.period)
	run(&helpers, func() error { return blocks.run(playing) })
	run(&helpers, func() error { return r.crash(playing, s) })
	run(&helpers, func() error { return r.sleep(playing) })
	if r.fifo {
		run(&helpers, func() error { return r.goFirstOn(playing) })
	}
	run(&tasks, func() error {
		defer close(submitted)
		defer time.AfterFunc(patience, endTaking)
		return r.clock(playing, s, blocks, submitted)
	})
	run(&tasks, func() error {
		defer func() { r.ended = time.Since(r.begin) }()
		for range submitted {
			if err := s.mirror.Take(taking, take); err != nil {
				if taking.Err() != nil && playing.Err() == nil {
					return r.unanswered()
				}
				return err
			}
		}
		return nil
	})
	tasks.Wait()
	err = context.Cause(playing)
	r.load = s.spent().since(before, time.Since(r.begin))
	end(nil)
	helpers.Wait()
	r.left = blocks.changes
	return err
}

// goFirstOn calls goFirst until ctx is done.
func (r *session) goFirstOn(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := r.goFirst(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// memoryLimit returns what this process has, and as much again as restarts leave in hours.
func memoryLimit() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys-m.HeapReleased) + 256<<20
}

// warmUp passes silence through the replicas until all of them answer. Behind it they are in the
// state in which they were before. It returns the number of blocks.
func (r *session) warmUp(ctx context.Context, s *studio) (blocks uint64, err error) {
	frames := r.opts.frames / dsp.Grid * dsp.Grid // of any other length, the grid would move
	silence := make([]byte, 4*r.studio.format.Channels*frames)
	for ; blocks < warmUp || s.mirror.Stats().Live < replicas; blocks++ {
		if err := s.mirror.Submit(ctx, silence, nil); err != nil {
			return 0, err
		}
		if err := s.mirror.Take(ctx, func(audiomirror.Answer) error { return nil }); err != nil {
			return 0, err
		}
	}
	return blocks, nil
}

// clock submits a block each period.
func (r *session) clock(ctx context.Context, s *studio, blocks *feed,
	submitted chan<- struct{}) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sequence := 0
	for n := range r.sent {
		b, err := blocks.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = sleepUntil(ctx, r.begin.Add(time.Duration(n)*r.period))
		}
		if err != nil {
			return err
		}
		r.numbers[sequence] = n
		r.sent[n] = time.Since(r.begin)
		r.played = n + 1
		ok, err := s.mirror.TrySubmit(b.samples, b.changes)
		if err != nil {
			return err
		}
		if ok {
			sequence++
			submitted <- struct{}{}
		} else {
			r.lost++ // nothing has answered for long
		}
		blocks.free <- b
	}
	return nil
}

// sleep measures what any thread of this process could do at best: it wakes up half a period after
// each block, and does nothing.
func (r *session) sleep(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for n := range r.asleep {
		at := r.begin.Add(time.Duration(n)*r.period + r.period/2)
		if sleepUntil(ctx, at) != nil {
			return nil
		}
		r.asleep[n] = time.Since(at)
	}
	return nil
}

// sleepUntil blocks the thread until t, but for the part of a long wait in which ctx may end it.
func sleepUntil(ctx context.Context, t time.Time) error {
	const exact = 50 * time.Millisecond
	if wait := time.Until(t) - exact; wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wait := time.Until(t); wait > 0 {
		sys.SleepUntil(sys.Monotonic() + int64(wait))
	}
	return nil
}

// unanswered returns the error of blocks that have no answer long after the last one was sent. It
// is none without an output.
func (r *session) unanswered() error {
	if r.opts.out == "" {
		return nil
	}
	return fmt.Errorf("blocks had no answer %v after the end, and the sound is not complete",
		patience)
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
