// Package liar has publishers of topics that break the protocol, for tests of subscribers.
package liar

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A Publisher is a publisher that lies.
type Publisher struct {
	Size     int                 // of the segment; 0: as it should be
	Told     [2]uint32           // sizes that it tells; 0: the true ones
	Constant bool                // keep the constants as they should be
	Word     func(at int) uint64 // what it writes while others read; nil: nothing
}

// Geometry is that of the segment, if its size is as it should be.
var Geometry = shm.TopicGeometry{Depth: 4, Longest: 64, Claims: 4}

// Publishers have all kinds of them, by name.
func Publishers() map[string]Publisher {
	return map[string]Publisher{
		"all words":             {Word: Wild},
		"all but the constants": {Word: Wild, Constant: true},
		"small numbers": {Constant: true, Word: func(int) uint64 {
			return rand.Uint64N(9)
		}},
		"a tail that jumps": {Constant: true, Word: func(at int) uint64 {
			if at == 0 {
				return 6 + rand.Uint64N(1000)
			}
			return 6
		}},
		"an empty segment":     {Size: 4096},
		"a segment too short":  {Size: 100},
		"a size that is wrong": {Told: [2]uint32{4096, 0}},
		"a size too large":     {Told: [2]uint32{1 << 30, 0}},
		"the largest size":     {Told: [2]uint32{1<<32 - 1, 0}},
		"a page too large":     {Told: [2]uint32{0, 4096}},
		"a page too short":     {Told: [2]uint32{0, 8}},
	}
}

// Wild returns a word of any kind, with a taste for those that mean something.
func Wild(int) uint64 {
	switch rand.IntN(4) {
	case 0:
		return rand.Uint64()
	case 1:
		return rand.Uint64N(70)
	case 2:
		return (rand.Uint64N(8)+1)<<16 | rand.Uint64N(16)
	}
	return 1<<64 - 1 - rand.Uint64N(2)
}

// Scribble writes words to mem until stop is closed.
func Scribble(mem []byte, stop <-chan struct{}, word func(at int) uint64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		at := rand.IntN(len(mem)/8) * 8
		if rand.IntN(2) == 0 {
			at = rand.IntN(min(len(mem), 640)/8) * 8 // where the words of the protocol are
		}
		binary.NativeEndian.PutUint64(mem[at:], word(at))
		runtime.Gosched()
	}
}

// Serve returns what a server offers the topic with. Six messages of the longest length are there.
func (l Publisher) Serve(protocol *ipc.Protocol) ipc.ServerOption {
	return ipc.ServeLinks(&ipc.LinkKind{Protocol: protocol, Open: l.open})
}

func (l Publisher) open(r ipc.LinkRequest) (*ipc.LinkOffer, error) {
	stop := make(chan struct{})
	var busy sync.WaitGroup
	size := Geometry.Size()
	if l.Size > 0 {
		size = l.Size
	}
	var memory []shm.Memory
	for i, n := range []int{size, shm.TopicPageSize} {
		m, err := r.NewMemory(n)
		if err != nil {
			return nil, err
		}
		memory = append(memory, m)
		mem, err := m.Map(n)
		if err != nil {
			return nil, err
		}
		if i == 0 && l.Size == 0 {
			if err := publish(mem); err != nil {
				return nil, err
			}
		}
		if i == 0 {
			if err := m.SealWriters(); err != nil {
				return nil, err
			}
		}
		if l.Constant && i == 0 {
			mem = mem[128:]
		}
		if l.Word != nil && (i == 0 || !l.Constant) {
			busy.Go(func() { Scribble(mem, stop, l.Word) })
		}
	}
	offer := &ipc.LinkOffer{Memory: memory, Sizes: [2]uint32{uint32(size), shm.TopicPageSize},
		Run: run, Close: func() { close(stop); busy.Wait() }}
	for i, n := range l.Told {
		if n != 0 {
			offer.Sizes[i] = n
		}
	}
	return offer, nil
}

// publish makes the segment, and its messages.
func publish(mem []byte) error {
	w, err := shm.NewTopicWriter(mem, Geometry, 1)
	if err != nil {
		return err
	}
	for range 6 {
		if err := w.Reserve(nil); err != nil {
			return err
		}
		w.Commit(Geometry.Longest, 0, 0)
	}
	return nil
}

// run wakes the subscriber again and again.
func run(ctx context.Context, end *ipc.LinkEnd) error {
	for {
		select {
		case <-end.Down():
			return nil
		case <-ctx.Done():
			return nil
		default:
			end.Notify()
			time.Sleep(time.Millisecond)
		}
	}
}
