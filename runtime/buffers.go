package ipc

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/record"
)

// This file is the memory in which messages are built and assembled. A connection keeps short
// buffers only. Long ones go to a store of the process when a message is done with, and the store
// drops what has not been used for a second or two. So the memory of a process depends on how many
// long messages are under way, and not on how many of its connections had one before.
//
// The store is no sync.Pool. A pool loses what another processor has put there, and what two
// garbage collections have passed. A builder that is lost grows again from nothing, which leaves
// four times its message as garbage, which brings the next collection about: with messages of
// 1 MiB, each call built its builder anew.

const (
	// keepShort is the largest buffer that a connection keeps while it does not use it.
	keepShort = 64 << 10
	// keepLong is how much memory the store keeps in buffers of a kind, unless there is only one:
	// that may have up to keepOne bytes.
	keepLong = 16 << 20
	keepOne  = 64 << 20
	// keepPeriod is the time after which the store drops what was not used. It is up to twice as
	// long.
	keepPeriod = time.Second
	// longGarbage is how many bytes of messages bring the process a ballast, if each of them has
	// someGarbage at least: one long message, or several.
	longGarbage = 32 << 10
	someGarbage = 4 << 10
	// hugeGarbage is the length of messages that bring a larger ballast.
	hugeGarbage = 4 << 20
)

// A scratch is the memory of a call: a builder for the message that it sends, and the body that it
// receives. prepare must be called before a call, and strip after it.
type scratch struct {
	builder *flatbuffers.Builder // nil between calls if the last message was long
	body    []byte
	kept    bool // the object that was decoded from body has its memory
}

// prepare ensures that there is a builder.
func (s *scratch) prepare() {
	if s.builder == nil {
		s.builder = takeBuilder()
	}
}

// strip gives long buffers to the store.
func (s *scratch) strip() {
	if b := s.builder; b != nil && cap(b.Bytes) > keepShort {
		s.builder = nil
		if !usedLong(b) { // the next message is probably short, too
			s.builder = flatbuffers.NewBuilder(256)
		}
		giveBuilder(b)
	}
	if s.kept {
		s.body, s.kept = nil, false
	}
	if cap(s.body) > keepShort {
		giveBody(s.body)
		s.body = nil
	}
}

// yield gives all buffers away.
func (s *scratch) yield() {
	if s.builder != nil {
		giveBuilder(s.builder)
	}
	giveBody(s.body)
	s.builder, s.body = nil, nil
}

// len returns how many bytes the buffers have.
func (s *scratch) len() int {
	n := cap(s.body)
	if s.builder != nil {
		n += cap(s.builder.Bytes)
	}
	return n
}

// builders are the short ones.
var builders sync.Pool // of *flatbuffers.Builder

// takeBuilder returns a builder: a long one if there is one, as one that is too short grows.
func takeBuilder() *flatbuffers.Builder {
	if b, ok := long.builders.take(0, math.MaxInt); ok {
		return b
	}
	if b, ok := builders.Get().(*flatbuffers.Builder); ok {
		return b
	}
	return flatbuffers.NewBuilder(256)
}

// giveBuilder takes a builder that is not used any more.
func giveBuilder(b *flatbuffers.Builder) {
	if n := cap(b.Bytes); n > keepShort {
		long.builders.give(b, n, usedLong(b))
	} else {
		builders.Put(b)
	}
}

// usedLong reports whether the message in b is long.
func usedLong(b *flatbuffers.Builder) bool { return b.Offset() > keepShort }

// takeBody returns memory for a body of n bytes, or nil if there is none. The capacity is less than
// twice n, because the limits of a connection count capacities.
func takeBody(n int) []byte {
	if n <= keepShort {
		return nil
	}
	b, _ := long.bodies.take(n, 2*n-1)
	return b
}

// giveBody takes the memory of a body that is not used any more.
func giveBody(body []byte) {
	if n := cap(body); n > keepShort {
		long.bodies.give(body[:0], n, true)
	}
}

// A bodyShelf is a shelf to which long bodies come back by themselves. An object may keep the
// memory of its message, and only the garbage collector knows when nothing refers to it any more.
// Memory that the collector frees may lose its pages before it is allocated again, and each
// allocation brings the next collection closer.
type bodyShelf struct {
	shelf[[]byte]
	returning atomic.Int64 // how many bytes the bodies have that come back
}

// newBody returns an empty body with room for n bytes, which are not cleared. A long one comes
// back, unless as much comes back already as the shelf keeps, or the process has a limit of memory:
// what comes back outlives a collection.
func (s *bodyShelf) newBody(n int, b *ballast) []byte {
	body := makeBody(n)
	switch {
	case n <= keepShort, memoryLimited():
	case s.returning.Add(int64(n)) <= keepLong:
		s.await(body, b)
	default:
		s.returning.Add(-int64(n))
	}
	return body
}

// await puts body on the shelf once nothing refers to it any more, if the process still receives
// much then. Otherwise the collector may have it.
func (s *bodyShelf) await(body []byte, b *ballast) {
	onceUnused(body, func(body []byte) {
		if b.there.Load() && s.give(body, cap(body), true) {
			s.await(body, b)
			return
		}
		s.returning.Add(-int64(cap(body)))
	})
}

// newBody returns an empty body with room for n bytes, which are not cleared.
func newBody(n int) []byte { return long.bodies.newBody(n, ballastOf(record.Message, n)) }

// long is the store of this process.
var long = struct {
	builders shelf[*flatbuffers.Builder]
	bodies   bodyShelf
	ballast  ballast
	light    ballast // for calls of some KiB
	heavy    ballast // for messages of many MiB
}{
	ballast: ballast{len: 16 << 20},
	light:   ballast{len: 4 << 20},
	heavy:   ballast{len: 32 << 20},
}
