package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// A Fanned is what was measured of messages to several readers.
type Fanned struct {
	Fan           *contest.Fan
	Size, Readers int
	// Err is why there is nothing else.
	Err error
	// Hist holds the times from publishing to the last reader, of all rounds, in nanoseconds, while
	// one message at a time is on its way. Medians are those of the rounds.
	Hist    *hdrhistogram.Histogram
	Medians []time.Duration
	// Rates are the messages a second of the rounds, sorted, when the publisher does not wait.
	Rates []float64
}

// Fans measures messages of size bytes to so many readers. The error is that of the ways that
// failed, which are among the others.
func Fans(fans []*contest.Fan, size, readers int, p Plan) ([]*Fanned, error) {
	var all []*Fanned
	for _, f := range fans {
		all = append(all, &Fanned{Fan: f, Size: size, Readers: readers, Hist: newHistogram()})
	}
	for round := range p.Rounds {
		for _, f := range all {
			if f.Err != nil {
				continue
			}
			p.Progress(fmt.Sprintf("%d bytes to %d readers, round %d of %d: %s", size, readers,
				round+1, p.Rounds, f.Fan.Name))
			f.Err = Again(func() error { return f.turn(p) })
		}
	}
	var failed []error
	for _, f := range all {
		slices.Sort(f.Rates)
		failed = append(failed, failure(f.Err, "%s to %d readers, %d bytes", f.Fan.Name, readers,
			size))
	}
	return all, errors.Join(failed...)
}

// turn measures one round of one way.
func (f *Fanned) turn(p Plan) (err error) {
	dir, remove, err := tempDir()
	if err != nil {
		return err
	}
	defer remove()
	s := peer.Setup{Dir: dir, Size: f.Size, Readers: f.Readers}
	publisher, err := f.Fan.Publish(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, publisher.Close()) }()
	acks, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer acks.Close()
	s.Files = []*os.File{theirs}
	readers, err := peer.Start(f.Fan.Role(), s)
	theirs.Close()
	if err != nil {
		return err
	}
	defer readers.Kill()
	if err := publisher.Await(f.Readers); err != nil {
		return err
	}
	t := fanTurn{publisher, acks, make([]byte, f.Size)}
	if err := t.latency(p.Warm, nil); err != nil {
		return err
	}
	h := newHistogram()
	if err := t.latency(p.Turn, h); err != nil {
		return err
	}
	rate, err := t.rate(p.Turn, f.Fan.Window)
	if err != nil {
		return err
	}
	f.Hist.Merge(h)
	f.Medians = append(f.Medians, time.Duration(h.ValueAtQuantile(50)))
	f.Rates = append(f.Rates, rate)
	return nil
}

// A fanTurn publishes messages.
type fanTurn struct {
	publisher contest.Publisher
	acks      io.Reader
	message   []byte
}

// publish publishes a message.
func (t *fanTurn) publish(acknowledge bool) error {
	contest.MarkFan(t.message, acknowledge)
	return t.publisher.Publish(t.message)
}

// last returns when the last reader has got a message.
func (t *fanTurn) last() (time.Time, error) {
	var at [8]byte
	_, err := io.ReadFull(t.acks, at[:])
	return time.Unix(0, int64(binary.NativeEndian.Uint64(at[:]))), err
}

// latency publishes one message after the other for some time, and at least one. It records how
// long each took to the last reader.
func (t *fanTurn) latency(d time.Duration, h *hdrhistogram.Histogram) error {
	for start, n := time.Now(), 0; time.Since(start) < d || n == 0; n++ {
		before := time.Now().Round(0) // by the clock that both processes have
		if err := t.publish(true); err != nil {
			return err
		}
		after, err := t.last()
		if err != nil {
			return err
		}
		if h == nil {
			continue
		}
		if err := h.RecordValue(int64(min(max(after.Sub(before), 1), longest))); err != nil {
			return err
		}
	}
	return nil
}

// rate publishes for some time, and returns the messages a second, counted until the last reader
// has got the last one.
func (t *fanTurn) rate(d time.Duration, window int) (float64, error) {
	start := time.Now()
	n, done := 0, false
	for !done {
		batch := max(window, 64)
		done = time.Since(start) >= d
		for i := range batch {
			last := i == batch-1 && (done || window > 0)
			if err := t.publish(last); err != nil {
				return 0, err
			}
			if last {
				if _, err := t.last(); err != nil {
					return 0, err
				}
			}
		}
		n += batch
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// P50 is the median of the rounds' medians.
func (f *Fanned) P50() time.Duration { return Median(slices.Clone(f.Medians)) }

// Rate is the median of the rounds' rates.
func (f *Fanned) Rate() float64 {
	if len(f.Rates) == 0 {
		return 0
	}
	return f.Rates[len(f.Rates)/2]
}

// Quantile is the time within which the given percentage of all messages had come to all readers.
func (f *Fanned) Quantile(percent float64) time.Duration {
	return time.Duration(f.Hist.ValueAtQuantile(percent))
}
