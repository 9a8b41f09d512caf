package main

import (
	"context"
	"io"

	"github.com/ipcgen/ipcgen/internal/dsp"
)

// A feed reads blocks ahead, so that the clock of a session does not wait for a disk.
type feed struct {
	src     source
	frames  int // of a block
	changes automation

	full, free chan *fed
}

// A fed is a block of a feed.
type fed struct {
	samples []byte
	changes []dsp.Change
}

// feedAhead is how many bytes of samples are read ahead, within reason.
const feedAhead = 1 << 20

func newFeed(src source, frames int, changes automation) *feed {
	size := 4 * src.Format().Channels * frames
	n := max(2, min(256, feedAhead/size))
	f := &feed{src: src, frames: frames, changes: changes, full: make(chan *fed, n),
		free: make(chan *fed, n)}
	for range n {
		f.free <- &fed{samples: make([]byte, size)}
	}
	return f
}

// run reads until the end of the source, or of ctx.
func (f *feed) run(ctx context.Context) error {
	rate, channels := f.src.Format().Rate, f.src.Format().Channels
	for at := int64(0); ; {
		var b *fed
		select {
		case b = <-f.free:
		case <-ctx.Done():
			return nil
		}
		n, err := f.src.Read(b.samples[:cap(b.samples)])
		if err == io.EOF {
			close(f.full)
			return nil
		}
		if err != nil {
			return err
		}
		b.samples = b.samples[:4*channels*n]
		b.changes = f.changes.take(at, at+int64(n), rate, b.changes[:0])
		at += int64(n)
		f.full <- b // has room for all blocks
	}
}

// next returns the next block, which must be sent to free when it is of no more use. It returns
// io.EOF behind the last one.
func (f *feed) next(ctx context.Context) (*fed, error) {
	select {
	case b, ok := <-f.full:
		if !ok {
			return nil, io.EOF
		}
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
