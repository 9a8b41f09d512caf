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
// and one on which it writes. A ticket joins them, as a client may open a pair right after it has
// closed one, of which the service still holds a half. A process has one pair at a time.
type desk struct {
	engine *Engine
	meter  *meter

	mu      sync.Mutex
	lines   map[int]*line // by the process of the client
	tickets uint64        // that were handed out
}

// A line is the stream of answers to one client.
type line struct {
	ticket uint64
	w      *audio.AudioBufferHeaderWriter
	taken  bool          // the client's blocks are processed, or will not be
	done   chan struct{} // closed when no blocks are answered any more
	err    error         // how the answers end; valid when done is closed
	gone   context.Context
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

// enter makes the line of a process, which has none.
func (d *desk) enter(ctx context.Context, w *audio.AudioBufferHeaderWriter) (*line, error) {
	pid := w.Peer().PID
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lines[pid] != nil {
		return nil, ipc.Errorf(ipc.CodeResourceExhausted, "process %d has a stream of sound "+
			"already; a process has one at a time", pid)
	}
	d.tickets++
	l := &line{ticket: d.tickets, w: w, done: make(chan struct{}), gone: ctx}
	d.lines[pid] = l
	return l, nil
}

// take says that the blocks of a line are processed from now on. It reports false if they are
// already, or will not be.
func (d *desk) take(l *line) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.taken {
		return false
	}
	l.taken = true
	return true
}

// answer serves the stream of answers to a client. Behind the ticket, process writes.
func (d *desk) answer(ctx context.Context, w *audio.AudioBufferHeaderWriter) error {
	l, err := d.enter(ctx, w)
	if err != nil {
		return err
	}
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.lines, w.Peer().PID)
	}()
	err = w.Write(ctx, 0, func(h *audio.AudioBufferHeader, _ []byte) error {
		audioblock.PutTicket(h, l.ticket)
		return nil
	})
	if err != nil && d.take(l) {
		return err
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		if d.take(l) { // no blocks, and there are none to come
			return context.Cause(ctx)
		}
		<-l.done // process uses w until then; its next operation finds the client gone
	}
	return l.err
}

// process serves the stream on which a client writes.
func (d *desk) process(ctx context.Context, r *audio.AudioBufferHeaderReader) error {
	var ticket uint64
	err := r.Read(ctx, func(h *audio.AudioBufferHeader, payload []byte, _ uint64) (err error) {
		if ticket, err = audioblock.Ticket(h, payload); err != nil {
			return ipc.Errorf(ipc.CodeInvalidArgument, "%v", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	l := d.lines[r.Peer().PID]
	d.mu.Unlock()
	if l == nil || l.ticket != ticket || !d.take(l) {
		return ipc.Errorf(ipc.CodeFailedPrecondition, "ticket %d belongs to no stream of answers "+
			"that waits for blocks", ticket)
	}
	l.err = d.serveLine(ctx, l, r)
	close(l.done)
	return l.err
}

// serveLine answers the blocks of one client until it ends the stream.
func (d *desk) serveLine(ctx context.Context, l *line, r *audio.AudioBufferHeaderReader) error {
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
