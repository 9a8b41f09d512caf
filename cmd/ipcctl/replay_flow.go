package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/jsondiff"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A replayedFlow is a call of a method that streams. Items of the server are compared one by one,
// as soon as both the recording and the server have sent them.
type replayedFlow struct {
	serverSends bool
	requests    chan []byte // items of the client; closed behind the last
	closed      bool
	late        bool // the server has not sent an item in time; none is waited for any more

	mu          sync.Mutex
	want, got   [][]byte // JSON of items that were not compared yet; one of the two is empty
	size        int      // bytes of both
	compared    int
	differences []jsondiff.Difference
	more        chan struct{} // closed, and replaced, with each item
}

// Limits of what waits in a call.
const (
	maxAhead     = 1 << 10  // items of the client that the server has not taken
	maxItemBytes = 64 << 20 // items of the server that were not compared
)

// openFlow begins a call of a method to which the client streams.
func (r *replay) openFlow(ctx context.Context, record *recording.Record, method string) error {
	t := r.byName[method]
	if t == nil {
		if r.wants(method) {
			r.notSent++ // without items, the file lacks the schema
		}
		return nil
	}
	tgt, err := r.target(t)
	if err != nil {
		return err
	}
	if tgt.method == nil || tgt.method.Streaming != ipc.ClientStreaming &&
		tgt.method.Streaming != ipc.BidiStreaming {
		return fmt.Errorf("%s: %s is opened without a request", r.path, method)
	}
	if err := r.due(ctx, record, method, nil); err != nil {
		return err
	}
	c := &replayed{seq: record.Seq, topic: t, done: make(chan struct{})}
	if ctx, err = r.begin(ctx, c, tgt.method); err != nil {
		return err
	}
	c.follow(ctx, tgt.method, r.to)
	return nil
}

// follow makes a call whose items come from its flow.
func (c *replayed) follow(ctx context.Context, m *dynamic.Method, to ipc.Caller) {
	f := &replayedFlow{serverSends: m.Streaming != ipc.ClientStreaming,
		requests: make(chan []byte, maxAhead), more: make(chan struct{})}
	c.flow = f
	requests := func(yield func([]byte, error) bool) {
		for {
			select {
			case buf, ok := <-f.requests:
				if !ok || !yield(buf, nil) {
					return
				}
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
	}
	go func() {
		defer close(c.done)
		defer c.cancel()
		for text, err := range m.StreamBuffers(ctx, to, requests) {
			switch {
			case err != nil:
				c.err = err
				return
			case !f.serverSends:
				c.reply = text
			default:
				f.add(&f.got, text)
				if !f.await(ctx.Done(), nil, nil, func() bool { return f.size <= maxItemBytes }) {
					return
				}
			}
		}
	}()
}

// add adds an item to one side, and compares what both have.
func (f *replayedFlow) add(side *[][]byte, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*side = append(*side, text)
	f.size += len(text)
	for len(f.want) > 0 && len(f.got) > 0 {
		want, got := f.want[0], f.got[0]
		f.want, f.got = f.want[1:], f.got[1:]
		f.size -= len(want) + len(got)
		for _, d := range jsondiff.Compare(want, got, maxDifferences-len(f.differences)) {
			place := "[" + strconv.Itoa(f.compared) + "]"
			if d.Path != "" {
				place += "."
			}
			d.Path = place + d.Path
			f.differences = append(f.differences, d)
		}
		f.compared++
	}
	close(f.more)
	f.more = make(chan struct{})
}

// await waits until a condition holds, which is called under f.mu. It reports false if the call
// ends, or the time or the replay is over before.
func (f *replayedFlow) await(replay, call <-chan struct{}, limit <-chan time.Time,
	holds func() bool) bool {
	for {
		f.mu.Lock()
		ok, more := holds(), f.more
		f.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-more:
		case <-call:
			return false
		case <-limit:
			return false
		case <-replay:
			return false
		}
	}
}

// sendItem sends an item of the client, as soon as the server has sent all items that came before
// it.
func (r *replay) sendItem(ctx context.Context, c *replayed, record *recording.Record) error {
	schema, err := r.schema(record.Topic)
	if err != nil {
		return err
	}
	body, _, err := textIn(schema, record.Topic, false, record.Data)
	if err != nil {
		return fmt.Errorf("%s: an item of call %d of %s: %w", r.path, record.Seq,
			record.Topic.Full(), err)
	}
	if c.flow.closed {
		return fmt.Errorf("%s: an item of call %d comes behind the last", r.path, record.Seq)
	}
	limit := time.NewTimer(r.timeout)
	defer limit.Stop()
	f := c.flow
	f.late = f.late || !f.await(ctx.Done(), c.done, limit.C, func() bool {
		return len(f.want) == 0
	})
	if err := r.await(ctx, record.At); err != nil {
		return err
	}
	select {
	case f.requests <- body:
		r.items++
	case <-c.done:
	case <-limit.C: // the server does not take its items
		c.cancel()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// expectItem notes an item of the server.
func (r *replay) expectItem(ctx context.Context, c *replayed, record *recording.Record) error {
	schema, err := r.schema(record.Topic)
	if err != nil {
		return err
	}
	_, text, err := textIn(schema, record.Topic, true, record.Data)
	if err != nil {
		return fmt.Errorf("%s: an item of the server in call %d of %s: %w", r.path, record.Seq,
			record.Topic.Full(), err)
	}
	f := c.flow
	f.add(&f.want, bytes.Clone(text))
	if !f.await(ctx.Done(), c.done, nil, func() bool { return f.size <= maxItemBytes }) {
		return ctx.Err()
	}
	return nil
}

// endFlow ends the client's items at the time at which the call ended, and gives the server some
// time for its own.
func (r *replay) endFlow(ctx context.Context, c *replayed, at int64) error {
	if !c.flow.closed {
		if err := r.await(ctx, at); err != nil {
			return err
		}
		c.flow.closed = true
		close(c.flow.requests)
	}
	limit := time.NewTimer(r.timeout)
	defer limit.Stop()
	select {
	case <-c.done:
	case <-limit.C:
		c.cancel()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// result returns the differences of a call that has ended.
func (f *replayedFlow) result() []jsondiff.Difference {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before, now := f.compared+len(f.want), f.compared+len(f.got); before != now {
		number := func(n int) json.RawMessage { return json.RawMessage(strconv.Itoa(n)) }
		return append(slices.Clip(f.differences), jsondiff.Difference{Path: "items",
			Before: number(before), After: number(now)})
	}
	return f.differences
}
