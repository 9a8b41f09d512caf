package audioservice

import (
	"context"
	"sync"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioblock"
	"github.com/ipcgen/ipcgen/internal/dsp"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A desk processes the blocks of clients. A client has two streams: one that brings the answers,
// and one on which it writes. Those of one process belong together, so a process has one such pair
// at a time.
type desk struct {
	engine *Engine
	meter  *meter

	mu    sync.Mutex
	lines map[int]*line // by the process of the client
}

// A line is the stream of answers to one client.
type line struct {
	w     *audio.AudioBufferHeaderWriter
	taken bool
	ready chan struct{} // closed when w is set
	done  chan struct{} // closed when no blocks are answered any more
	err   error         // how the answers end; valid when done is closed
	gone  context.Context
}

func newDesk(e *Engine, m *meter) *desk {
	return &desk{engine: e, meter: m, lines: map[int]*line{}}
}

// options are what the server of the desk needs.
func (d *desk) options() []ipc.ServerOption {
	return []ipc.ServerOption{
		audio.HandleAudioBufferHeaderWriter(d.answer),
		audio.HandleAudioBufferHeaderReader(d.process),
	}
}

// lineOf returns the line of a process, and makes it if it does not exist.
func (d *desk) lineOf(pid int) *line {
	l := d.lines[pid]
	if l == nil {
		l = &line{ready: make(chan struct{}), done: make(chan struct{})}
		d.lines[pid] = l
	}
	return l
}

// answer serves the stream of answers to a client. It only keeps the stream open: process writes.
func (d *desk) answer(ctx context.Context, w *audio.AudioBufferHeaderWriter) error {
	pid := w.Peer().PID
	d.mu.Lock()
	l := d.lineOf(pid)
	if l.w != nil {
		d.mu.Unlock()
		return twice(pid)
	}
	l.w, l.gone = w, ctx
	close(l.ready)
	d.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
		d.mu.Lock()
		if !l.taken { // no blocks, and there are none to come
			l.taken = true
			d.forget(pid, l)
			d.mu.Unlock()
			return context.Cause(ctx)
		}
		d.mu.Unlock()
		<-l.done // process uses w until then; its next operation finds the client gone
	}
	return l.err
}

func twice(pid int) error {
	return ipc.Errorf(ipc.CodeResourceExhausted, "process %d has a stream of sound already; a "+
		"process has one at a time", pid)
}

// forget frees the place of a process. The caller must hold d.mu.
func (d *desk) forget(pid int, l *line) {
	if d.lines[pid] == l {
		delete(d.lines, pid)
	}
}

// process serves the stream on which a client writes.
func (d *desk) process(ctx context.Context, r *audio.AudioBufferHeaderReader) error {
	pid := r.Peer().PID
	d.mu.Lock()
	l := d.lineOf(pid)
	if l.taken {
		d.mu.Unlock()
		return twice(pid)
	}
	l.taken = true
	d.mu.Unlock()
	err := d.serveLine(ctx, l, r)
	d.mu.Lock()
	d.forget(pid, l)
	d.mu.Unlock()
	l.err = err
	close(l.done)
	return err
}

// serveLine answers the blocks of one client until it ends the stream.
func (d *desk) serveLine(ctx context.Context, l *line, r *audio.AudioBufferHeaderReader) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(l.gone, cancel)
	defer stop()
	p := newProcessor(ctx, d, l.w)
	for {
		if err := r.Read(ctx, p.block); err != nil {
			return err
		}
	}
}

// A processor answers blocks. Each is read and its answer is written where it lies in shared
// memory: nothing is copied or allocated.
type processor struct {
	ctx    context.Context // of the writes
	desk   *desk
	w      *audio.AudioBufferHeaderWriter
	chain  dsp.Chain
	next   uint64 // the sequence that continues the state
	loaded bool   // there is a state

	changes []dsp.Change

	// The block at work, for fill.
	header audio.AudioBufferHeaderT
	in     audioblock.Block
	block  func(*audio.AudioBufferHeader, []byte, uint64) error
	answer func(*audio.AudioBufferHeader, []byte) error
}

func newProcessor(ctx context.Context, d *desk, w *audio.AudioBufferHeaderWriter) *processor {
	p := &processor{ctx: ctx, desk: d, w: w,
		changes: make([]dsp.Change, 0, audioblock.MaxChanges)}
	p.block, p.answer = p.read, p.fill // made once, since each method value is an allocation
	return p
}

// read takes a block, and answers it.
func (p *processor) read(h *audio.AudioBufferHeader, payload []byte, _ uint64) (err error) {
	if p.in, err = audioblock.Split(h, payload); err != nil {
		return ipc.Errorf(ipc.CodeInvalidArgument, "%v", err)
	}
	h.UnPackTo(&p.header)
	switch {
	case p.in.State != nil:
		if err := p.chain.Load(p.in.State); err != nil {
			return ipc.Errorf(ipc.CodeInvalidArgument, "%v", err)
		}
		p.loaded = true
	case !p.loaded:
		return ipc.Errorf(ipc.CodeFailedPrecondition, "the first block of a stream needs the "+
			"state before it")
	case p.header.Sequence != p.next:
		return ipc.Errorf(ipc.CodeFailedPrecondition, "block %d follows block %d without the "+
			"state before it", p.header.Sequence, p.next-1)
	}
	if int(p.header.Channels) != p.chain.Channels() {
		return ipc.Errorf(ipc.CodeInvalidArgument, "a block of %d channels in a stream of %d",
			p.header.Channels, p.chain.Channels())
	}
	p.changes = p.in.AppendChanges(p.changes[:0])
	if err := p.w.Write(p.ctx, audioblock.AnswerBytes(len(p.in.Samples)), p.answer); err != nil {
		return err
	}
	p.next = p.header.Sequence + 1
	return nil
}

// fill processes the block at work from the client's memory into that of the answer.
func (p *processor) fill(h *audio.AudioBufferHeader, payload []byte) error {
	a, err := audioblock.SplitAnswer(payload, len(p.in.Samples))
	if err != nil {
		return err
	}
	if err := p.chain.Process(a.Samples, p.in.Samples, p.changes); err != nil {
		return ipc.Errorf(ipc.CodeInvalidArgument, "%v", err)
	}
	p.chain.Save(a.State)
	a.SetControls(p.desk.engine.controls())
	h.MutateSequence(p.header.Sequence)
	h.MutateTimestampUs(p.header.TimestampUs)
	h.MutateFrames(p.header.Frames)
	h.MutateChannels(p.header.Channels)
	h.MutateFlags(0)
	p.desk.meter.measure(&p.chain, a.Samples)
	return nil
}

// controls returns the parameters, and how often one was set.
func (e *Engine) controls() (changes uint64, v dsp.Values) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changes, e.values
}
