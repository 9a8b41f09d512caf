package ipc

import (
	"math/bits"
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is the memory in which messages are built and assembled. A connection keeps short
// buffers only. Long ones go to pools of the process when a message is done with, and the garbage
// collector empties the pools. So the memory of a process depends on how many long messages are
// under way, and not on how many of its connections had one before.

const (
	// keepShort is the largest buffer that a connection keeps while it does not use it.
	keepShort = 64 << 10
	// keepLong is the largest buffer that a pool keeps.
	keepLong = 4 << 20
)

// A scratch is the memory of a call: a builder for the message that it sends, and the body that it
// receives. prepare must be called before a call, and strip after it.
type scratch struct {
	builder *flatbuffers.Builder // nil between calls if the last message was long
	body    []byte
}

// prepare ensures that there is a builder.
func (s *scratch) prepare() {
	if s.builder == nil {
		s.builder = takeBuilder()
	}
}

// strip gives long buffers to the pools.
func (s *scratch) strip() {
	if b := s.builder; b != nil && cap(b.Bytes) > keepShort {
		s.builder = nil
		if b.Offset() <= keepShort { // the next message is probably short, too
			s.builder = flatbuffers.NewBuilder(256)
		}
		giveBuilder(b)
	}
	if cap(s.body) > keepShort {
		giveBody(s.body)
		s.body = nil
	}
}

// yield gives all buffers to the pools.
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

var (
	builders sync.Pool // of *flatbuffers.Builder
	// bodies has a pool for each class of capacities: classOf tells which.
	bodies [classes]sync.Pool // of *[]byte
)

const classes = 7 // of keepShort to keepLong

// classOf returns the class of a capacity, or -1 if no pool keeps such buffers. The largest
// capacity of a class is less than twice the smallest, because the limits of a connection count
// capacities.
func classOf(n int) int {
	if n < keepShort || n > keepLong {
		return -1
	}
	return bits.Len(uint(n)) - bits.Len(keepShort)
}

// takeBuilder returns a builder, used before if there is one.
func takeBuilder() *flatbuffers.Builder {
	if b, ok := builders.Get().(*flatbuffers.Builder); ok {
		return b
	}
	return flatbuffers.NewBuilder(256)
}

// giveBuilder takes a builder that is not used any more.
func giveBuilder(b *flatbuffers.Builder) {
	if cap(b.Bytes) <= keepLong {
		builders.Put(b)
	}
}

// takeBody returns memory for a body of n bytes, or nil if there is none. Its capacity may be less
// than n.
func takeBody(n int) []byte {
	if class := classOf(n); class >= 0 {
		if b, ok := bodies[class].Get().(*[]byte); ok {
			return *b
		}
	}
	return nil
}

// giveBody takes the memory of a body that is not used any more.
func giveBody(body []byte) {
	if class := classOf(cap(body)); class >= 0 {
		body = body[:0]
		bodies[class].Put(&body)
	}
}
