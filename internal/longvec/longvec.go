// Package longvec spares long vectors of bytes a copy between an object and its encoded message.
//
// Generated code packs an object into a [flatbuffers.Builder], and unpacks one from a slice of
// bytes. Neither can say that a vector may stay where it is. So the runtime announces here which
// builder it sends the message of, and which received message it owns, for the time in which
// generated code runs. All other builders and messages are copied as ever.
package longvec

import (
	"slices"
	"sync"
	"sync/atomic"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Least is the length of the shortest vector that is spared a copy. A look at the announcements
// takes as long as copying a few hundred bytes.
const Least = 4 << 10

// announced is what is announced, and by what it is found. It is short: an entry stays while a
// long message is encoded or decoded.
type announced[K comparable, V any] struct {
	n       atomic.Int32 // of entries; most messages find none
	mu      sync.Mutex
	entries []entry[K, V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func (a *announced[K, V]) add(key K, value V) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(a.entries, entry[K, V]{key, value})
	a.n.Store(int32(len(a.entries)))
}

func (a *announced[K, V]) remove(key K) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = slices.DeleteFunc(a.entries, func(e entry[K, V]) bool { return e.key == key })
	a.n.Store(int32(len(a.entries)))
}

// find returns what is announced under key, or the zero value.
func (a *announced[K, V]) find(key K) (value V) {
	if a.n.Load() == 0 {
		return value
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.entries {
		if e.key == key {
			return e.value
		}
	}
	return value
}

// A Part is a vector that was left out of the memory of a builder.
type Part struct {
	FromEnd int    // of the message, to the first byte of the vector
	Bytes   []byte // which belong there
}

// A Gathering has the vectors that are missing in a message, in the order in which they were
// packed: the last one comes first in the message. It can be used again.
type Gathering struct{ Parts []Part }

var gatherings announced[*flatbuffers.Builder, *Gathering]

// Begin announces that long vectors are to be left out of the memory of b, which another goroutine
// must not use. End must be called when the message is finished.
func (g *Gathering) Begin(b *flatbuffers.Builder) { gatherings.add(b, g) }

// End takes Begin back.
func (g *Gathering) End(b *flatbuffers.Builder) { gatherings.remove(b) }

// Clear forgets the vectors.
func (g *Gathering) Clear() {
	clear(g.Parts)
	g.Parts = g.Parts[:0]
}

// CreateByteVector is the method of b, but leaves v out if that is announced.
func CreateByteVector(b *flatbuffers.Builder, v []byte) flatbuffers.UOffsetT {
	return b.CreateByteVector(leaveOut(b, v, 0))
}

// CreateByteString is the method of b, but leaves v out if that is announced.
func CreateByteString(b *flatbuffers.Builder, v []byte) flatbuffers.UOffsetT {
	return b.CreateByteString(leaveOut(b, v, 1))
}

// leaveOut returns what b is to copy in place of v, before after more bytes: v, or the memory to
// which b would copy it. A copy of memory to itself does nothing.
func leaveOut(b *flatbuffers.Builder, v []byte, after int) []byte {
	if len(v) < Least {
		return v
	}
	g := gatherings.find(b)
	if g == nil {
		return v
	}
	b.Prep(flatbuffers.SizeUOffsetT, len(v)+after) // b does the same, and finds it done
	end := int(b.Head()) - after
	g.Parts = append(g.Parts, Part{FromEnd: len(b.Bytes) - end + len(v), Bytes: v})
	return b.Bytes[end-len(v) : end]
}

// An Adoption says which vector of a message an object has kept.
type Adoption struct {
	body []byte
	kept bool
}

var adoptions announced[*byte, *Adoption]

// Begin announces that an object that is unpacked from body may keep a vector in the memory of
// body: one, which must take at least half of that memory, so that it does not hold on to much
// more than itself. Nothing else may refer to body. End must be called when the object is
// unpacked.
func (a *Adoption) Begin(body []byte) {
	a.body, a.kept = body, false
	adoptions.add(lastOf(body), a)
}

// End takes Begin back. It reports whether the memory of the body belongs to the object now.
func (a *Adoption) End() (kept bool) {
	adoptions.remove(lastOf(a.body))
	a.body = nil
	return a.kept
}

// Own returns the bytes b, which lie in a message, for an object that owns them: a copy, or b
// itself if that is announced.
func Own(b []byte) []byte {
	if len(b) >= Least {
		a := adoptions.find(lastOf(b))
		if a != nil && !a.kept && len(b) >= cap(a.body)/2 {
			a.kept = true
			return slices.Clip(b)
		}
	}
	return slices.Clone(b)
}

// lastOf returns the last byte of the memory of b, which b has in common with every part of b that
// was not clipped.
func lastOf(b []byte) *byte { return &b[:cap(b)][cap(b)-1] }
