// Package codec measures what a message costs before and after it travels:
// building, verifying and unpacking it.
package codec

import (
	"fmt"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// Costs are those of one message, a table with a vector of small tables; medians.
type Costs struct {
	Size, Entries        int // of the message in bytes, and of its vector
	Pack, Verify, UnPack time.Duration
}

// entrySize is about what one entry takes.
const entrySize = 44

// Measure measures a message of about size bytes.
func Measure(size, repeats int, progress func(string)) (*Costs, error) {
	progress(fmt.Sprintf("building and verifying %d bytes", size))
	batch := &bulk.BatchT{}
	for i := range max(size/entrySize, 1) {
		batch.Entries = append(batch.Entries,
			&bulk.EntryT{Id: uint32(i + 1), Name: "an entry", Value: 0.5})
	}
	b := flatbuffers.NewBuilder(2 * size)
	pack := func(int) error {
		b.Reset()
		b.Finish(batch.Pack(b))
		return nil
	}
	if err := pack(0); err != nil {
		return nil, err
	}
	msg := append([]byte(nil), b.FinishedBytes()...)
	c := &Costs{Size: len(msg), Entries: len(batch.Entries)}
	var root bulk.Batch
	root.Init(msg, flatbuffers.GetUOffsetT(msg))
	// Small messages are timed many at a time.
	many := max(64<<10/size, 1)
	for _, op := range []struct {
		to *time.Duration
		do func(int) error
	}{
		{&c.Pack, pack},
		{&c.Verify, func(int) error { return bulk.VerifyBatch(msg) }},
		{&c.UnPack, func(int) error {
			if got := root.UnPack(); len(got.Entries) != c.Entries {
				return fmt.Errorf("%d of %d entries came out", len(got.Entries), c.Entries)
			}
			return nil
		}},
	} {
		var err error
		if *op.to, err = measure.Typical(repeats, many, op.do); err != nil {
			return nil, err
		}
	}
	return c, nil
}
