package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipcgen/ipcgen/internal/wave"
)

// A sink is where sound goes to. Until commit, there is nothing to see of it but what a pipe has
// taken.
type sink interface {
	Write(samples []byte) error
	// commit completes the output. Otherwise abandon removes what there is.
	commit() error
	abandon()
	// clipped is the number of samples that the format of the output could not hold.
	clipped() int64
}

// A file is a WAVE file.
type file struct {
	*wave.Writer
	draft *draft
}

func createFile(path string, format wave.Format, frames int64) (*file, error) {
	d, err := createDraft(path)
	if errors.Is(err, errNotRegular) {
		err = fmt.Errorf("%w; -out - writes raw samples to standard output", err)
	}
	if err != nil {
		return nil, err
	}
	w, err := wave.NewWriter(d, format, max(frames, 0))
	if err != nil {
		d.abandon()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &file{w, d}, nil
}

func (o *file) Write(samples []byte) error {
	if err := o.Writer.Write(samples); err != nil {
		return fmt.Errorf("cannot write %s: %w", o.draft.path, err)
	}
	return nil
}

func (o *file) commit() error {
	if err := o.Close(); err != nil {
		return fmt.Errorf("cannot write %s: %w", o.draft.path, err)
	}
	return o.draft.commit()
}

func (o *file) abandon() { o.draft.abandon() }

func (o *file) clipped() int64 { return o.Clipped() }

// A pipe takes raw float32 samples. Its reader may take none for long.
type pipe struct {
	ctx context.Context
	w   io.Writer
	buf []byte
}

func (p *pipe) Write(samples []byte) error {
	p.buf = append(p.buf[:0], samples...) // which are not valid any more when ctx ends a write
	if _, err := leaving(p.ctx, func() (int, error) { return p.w.Write(p.buf) }); err != nil {
		if p.ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("cannot write to standard output: %w", err)
	}
	return nil
}

func (p *pipe) commit() error  { return nil }
func (p *pipe) abandon()       {}
func (p *pipe) clipped() int64 { return 0 }

// leaving calls f, which may block without end, as an operation on a pipe whose other side does
// nothing. The end of ctx leaves it behind.
func leaving[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// nowhere drops what it is given.
type nowhere struct{}

func (nowhere) Write([]byte) error { return nil }
func (nowhere) commit() error      { return nil }
func (nowhere) abandon()           {}
func (nowhere) clipped() int64     { return 0 }
