package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/audiomirror"
	"github.com/ipcgen/ipcgen/internal/dsp"
)

// A render processes sound through a group as fast as it goes.
type render struct {
	opts   *options
	studio studioConfig // what the command line says of it
	out    io.Writer    // the report; it is standard error when the sound goes to standard output
	errOut io.Writer

	blocks uint64
}

// renderWindow is how many blocks are under way. More than a few keep the replicas busy.
const renderWindow = 32

// run renders from the source to the sink. If it fails, there is no output file.
func (r *render) run(ctx context.Context) (err error) {
	src, changes, err := r.opts.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if n, c := src.Frames(), r.opts.crashes; n >= 0 && len(c) > 0 {
		if err := checkCrash(c[len(c)-1], n, src.Format().Rate); err != nil {
			return err
		}
	}
	dst, err := r.opts.sink(ctx, src)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			dst.abandon()
		}
	}()
	r.studio.format, r.studio.frames = src.Format(), r.opts.frames
	r.studio.window, r.studio.params = renderWindow, r.opts.params
	s, err := openStudio(ctx, r.studio)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()

	begin, before := time.Now(), s.spent()
	frames, err := r.pass(ctx, s, src, dst, &changes)
	if err != nil {
		return err
	}
	spent := s.spent().since(before, time.Since(begin))
	if different := s.mirror.Stats().Different; different > 0 {
		return fmt.Errorf("the replicas disagree about %d blocks; run one version of the service",
			different)
	}
	if err := dst.commit(); err != nil {
		return err
	}
	done = true
	changes.note(r.errOut, r.opts.automation)
	return r.report(s, src, dst, frames, spent)
}

// pass moves all of the source through the replicas.
func (r *render) pass(ctx context.Context, s *studio, src source, dst sink,
	changes *automation) (frames int64, err error) {
	rate, channels := src.Format().Rate, src.Format().Channels
	block := make([]byte, 4*channels*r.opts.frames)
	crashes := r.opts.crashes
	bar := newProgress(r.errOut, src.Frames())
	defer bar.end()
	var here []dsp.Change
	pending, taken := 0, int64(0)
	take := func(a audiomirror.Answer) error {
		taken += int64(len(a.Samples) / (4 * channels))
		bar.show(taken)
		return dst.Write(a.Samples)
	}
	for eof := false; !eof || pending > 0; {
		for !eof && pending < renderWindow {
			n, err := src.Read(block)
			if err == io.EOF {
				eof = true
				break
			}
			if err != nil {
				return frames, err
			}
			here = changes.take(frames, frames+int64(n), rate, here[:0])
			if err := s.mirror.Submit(ctx, block[:4*channels*n], here); err != nil {
				return frames, err
			}
			r.blocks++
			pending++
			frames += int64(n)
			for len(crashes) > 0 && frames > frameOf(crashes[0], rate) {
				if err := s.killPrimary(ctx); err != nil {
					return frames, err
				}
				crashes = crashes[1:]
			}
		}
		if pending > 0 {
			if err := s.mirror.Take(ctx, take); err != nil {
				return frames, err
			}
			pending--
		}
	}
	if len(crashes) > 0 {
		return frames, checkCrash(crashes[0], frames, rate)
	}
	return frames, nil
}

// checkCrash returns an error if a sound of so many frames ends before a crash.
func checkCrash(at time.Duration, frames int64, rate uint32) error {
	if frameOf(at, rate) < frames {
		return nil
	}
	return fmt.Errorf("-crash-at %v: the sound ends at %v", at, timeOf(frames, rate))
}

// primaries returns a number of primaries in words.
func primaries(n int) string {
	if n == 1 {
		return "1 primary"
	}
	return fmt.Sprint(n, " primaries")
}

// report says what was done.
func (r *render) report(s *studio, src source, dst sink, frames int64, spent load) error {
	took := spent.took
	length := timeOf(frames, src.Format().Rate)
	_, err := fmt.Fprintf(r.out, "audio_host: %v, %v\naudio_host: rendered in %v, %.0f times as "+
		"fast as it sounds, %.0f blocks of %d frames a second\n", src.Format(), length,
		took.Round(time.Millisecond), length.Seconds()/took.Seconds(),
		float64(r.blocks)/took.Seconds(), r.opts.frames)
	if err == nil {
		alone := measureAlone(src.Format(), r.opts.frames)
		_, err = fmt.Fprintf(r.out, "audio_host: processors in use: host %s, replicas %s; the "+
			"signal path alone makes %.0f blocks a second\n", spent.share(spent.host),
			spent.share(spent.replicas), float64(time.Second)/float64(max(alone, 1)))
	}
	if n := len(s.killed()); n > 0 && err == nil {
		_, err = fmt.Fprintf(r.out, "audio_host: %s killed on the way\n", primaries(n))
	}
	if n := dst.clipped(); n > 0 && err == nil {
		_, err = fmt.Fprintf(r.out, "audio_host: %d samples are too loud for %d bits and were "+
			"clipped; render with less -gain, or to -bits float\n", n, src.Format().Bits)
	}
	if err != nil {
		return fmt.Errorf("the report is incomplete: %w", err)
	}
	return nil
}

// A progress shows how far a render is, on a terminal only.
type progress struct {
	w     io.Writer // nil: not shown
	total int64
	last  time.Time
}

func newProgress(w io.Writer, total int64) *progress {
	p := &progress{total: total}
	if total > 0 && isTerminal(w) {
		p.w = w
	}
	return p
}

// isTerminal reports whether w is a character device other than the null device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// show draws the bar, ten times a second at most.
func (p *progress) show(done int64) {
	if p.w == nil || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last = time.Now()
	const width = 40
	full := int(done * width / p.total)
	fmt.Fprintf(p.w, "\r[%s%s] %3d %%", strings.Repeat("#", full),
		strings.Repeat(".", width-full), done*100/p.total)
}

// end removes the bar.
func (p *progress) end() {
	if p.w != nil && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
