package audiomirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioblock"
	"github.com/ipcgen/ipcgen/internal/dsp"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// retry is the pause before a process is tried again that serves, and refuses.
const retry = 10 * time.Millisecond

// mostRefusals is how many processes in a row may refuse the sound, before a replica is given up.
const mostRefusals = 5

// mostDepth is how many blocks the memory of a stream has room for, and streamBytes how large it
// is: long blocks are fewer.
const mostDepth, streamBytes = 64, 16 << 20

// A lane feeds the process of one replica after the other.
type lane struct {
	m     *Mirror
	index int
	wake  chan struct{} // a token when there may be a block to send

	// Of the connection, for fill.
	w        *audio.AudioBufferHeaderWriter
	next     uint64 // the block to send next
	restart  bool   // it needs the state before it
	fillFunc func(*audio.AudioBufferHeader, []byte) error
}

func newLane(m *Mirror, index int) *lane {
	l := &lane{m: m, index: index, wake: make(chan struct{}, 1)}
	l.fillFunc = l.fill
	return l
}

// run uses the processes of the replica until ctx is done, or until there are none to come.
func (l *lane) run(ctx context.Context) {
	var last Process
	refusals := 0
	for {
		p, err := l.m.cfg.Find(ctx, l.index, last)
		if err != nil {
			if ctx.Err() == nil {
				l.m.fail(err)
			}
			return
		}
		answered, err := l.use(ctx, p)
		if ctx.Err() != nil {
			return
		}
		last = Process{}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF): // the process died
			last = p
			continue
		case answered:
			refusals = 0
		case ipc.CodeOf(err) != ipc.CodeUnavailable:
			refusals++
		}
		if refusals == mostRefusals {
			l.m.fail(fmt.Errorf("replica %d (pid %d): %w", l.index, p.PID, err))
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// use sends blocks to one process and takes its answers, until one of the two fails. It reports
// whether the process has answered.
func (l *lane) use(ctx context.Context, p Process) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	payload := audioblock.MostBytes(4 * l.m.cfg.Channels * l.m.cfg.Frames)
	depth := min(len(l.m.slots), mostDepth, max(1, streamBytes/payload))
	o := ipc.StreamOptions{Depth: depth, Payload: payload}
	r, err := audio.OpenAudioBufferHeaderReader(ctx, p.Channel, o, l.m.cfg.Dial...)
	if err != nil {
		return false, err
	}
	w, err := l.join(ctx, p, o, r)
	if err != nil {
		return false, errors.Join(err, r.Close())
	}
	read := make(chan error, 1)
	go func() {
		defer cancel()
		take := func(h *audio.AudioBufferHeader, payload []byte, _ uint64) error {
			err := l.m.answer(l.index, h.Sequence(), int(h.Channels()), int(h.Frames()), payload)
			if err == nil && !answered {
				answered = true
				l.m.live(1)
			}
			return err
		}
		for {
			if err := r.Read(ctx, take); err != nil {
				read <- err
				return
			}
		}
	}()
	err = l.send(ctx, w)
	stopped := ctx.Err() != nil
	cancel()
	readErr := <-read
	// The answers say best why the process has ended them.
	if stopped || errors.Is(err, context.Canceled) || !errors.Is(readErr, context.Canceled) {
		err = readErr
	}
	if answered {
		l.m.live(-1)
	}
	_ = errors.Join(w.Close(), r.Close()) // err has the reason already
	return answered, err
}

// join opens the stream that belongs to the stream of answers r, by its ticket.
func (l *lane) join(ctx context.Context, p Process, o ipc.StreamOptions,
	r *audio.AudioBufferHeaderReader) (*audio.AudioBufferHeaderWriter, error) {
	var ticket uint64
	err := r.Read(ctx, func(h *audio.AudioBufferHeader, payload []byte, _ uint64) (err error) {
		ticket, err = audioblock.Ticket(h, payload)
		return err
	})
	if err != nil {
		return nil, err
	}
	w, err := audio.OpenAudioBufferHeaderWriter(ctx, p.Channel, o, l.m.cfg.Dial...)
	if err != nil {
		return nil, err
	}
	err = w.Write(ctx, 0, func(h *audio.AudioBufferHeader, _ []byte) error {
		audioblock.PutTicket(h, ticket)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// errStale means that the block at hand has an answer by now.
var errStale = errors.New("the block is answered")

// send sends blocks until that fails. The state goes with the first one, and with each that the
// process would otherwise reach too late.
func (l *lane) send(ctx context.Context, w *audio.AudioBufferHeaderWriter) error {
	l.w, l.restart = w, true
	for {
		n, ok := l.size()
		if !ok {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := w.Write(ctx, n, l.fillFunc); err != nil && err != errStale {
			return err
		}
	}
}

// size chooses the next block, and returns the length of its payload. It reports false if there is
// none.
func (l *lane) size() (n int, ok bool) {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.restart || l.next < m.base {
		l.next, l.restart = m.base, true
	}
	if l.next == m.next {
		return 0, false
	}
	s := &m.slots[l.next%uint64(len(m.slots))]
	return audioblock.BlockBytes(len(s.samples), len(s.changes), l.restart), true
}

// fill writes the block that size has chosen, unless it was answered meanwhile.
func (l *lane) fill(h *audio.AudioBufferHeader, payload []byte) error {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.next < m.base {
		return errStale
	}
	s := &m.slots[l.next%uint64(len(m.slots))]
	h.MutateSequence(l.next)
	h.MutateTimestampUs(s.captured)
	h.MutateFrames(uint32(s.frames))
	h.MutateChannels(uint16(m.cfg.Channels))
	h.MutateFlags(audioblock.Flags(len(s.changes), l.restart))
	n := copy(payload, s.samples)
	audioblock.PutChanges(payload, n, s.changes)
	if l.restart {
		copy(payload[len(payload)-dsp.StateSize:], m.state)
		m.stats.Restarts++
	}
	l.next, l.restart = l.next+1, false
	return nil
}
