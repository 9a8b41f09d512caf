package shm

import (
	"errors"
	"fmt"
)

// Offsets of the words of a segment's header. The header describes the segment to an observer. The
// two sides do not use it; they agree by their handshake.
const (
	segmentMagic  = 0x6e65_6763_7069_0001
	segmentHeader = line

	offMagic    = 0
	offVersion  = 8
	offToServer = 16
	offToClient = 24
	offText     = 32
)

// A Geometry is the division of a segment: a header of 128 bytes, the ring to the server, the ring
// to the client, and a text that the server writes once.
type Geometry struct {
	ToServer, ToClient int // capacities of the two rings
	Text               int // bytes of text
}

// Size returns the number of bytes of the whole segment.
func (g Geometry) Size() int {
	return segmentHeader + ringSize(g.ToServer) + ringSize(g.ToClient) + g.Text
}

// check returns an error unless a segment can have this geometry.
func (g Geometry) check() error {
	if err := checkCapacity(g.ToServer); err != nil {
		return fmt.Errorf("ring to the server: %w", err)
	}
	if err := checkCapacity(g.ToClient); err != nil {
		return fmt.Errorf("ring to the client: %w", err)
	}
	if g.Text < 0 || g.Text > MaxCapacity {
		return errors.New("length of the text is out of range")
	}
	return nil
}

// A Segment is the memory of one connection. Its slices and rings must not be used after Close.
type Segment struct {
	geo   Geometry
	mem   []byte
	unmap func([]byte) error
}

// NewSegment maps new memory and writes the segment's header. The peer passes the same memory to
// [MapSegment]. The caller remains responsible for closing m.
func NewSegment(m Memory, g Geometry) (*Segment, error) {
	s, err := MapSegment(m, g)
	if err != nil {
		return nil, err
	}
	word(s.mem, offVersion).Store(Version)
	word(s.mem, offToServer).Store(uint64(g.ToServer))
	word(s.mem, offToClient).Store(uint64(g.ToClient))
	word(s.mem, offText).Store(uint64(g.Text))
	word(s.mem, offMagic).Store(segmentMagic)
	return s, nil
}

// MapSegment maps a segment that the peer created. The caller remains responsible for closing m.
func MapSegment(m Memory, g Geometry) (*Segment, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	mem, err := m.Map(g.Size())
	if err != nil {
		return nil, err
	}
	return &Segment{geo: g, mem: mem, unmap: m.Unmap}, nil
}

// GeometryOf returns the geometry in the header of mem, the whole memory of a segment. ok is false
// if mem is not a segment.
func GeometryOf(mem []byte) (g Geometry, ok bool) {
	if len(mem) < segmentHeader || word(mem, offMagic).Load() != segmentMagic {
		return Geometry{}, false
	}
	up, down, text := word(mem, offToServer).Load(), word(mem, offToClient).Load(),
		word(mem, offText).Load()
	if max(up, down, text) > MaxCapacity {
		return Geometry{}, false
	}
	g = Geometry{ToServer: int(up), ToClient: int(down), Text: int(text)}
	return g, g.check() == nil && g.Size() == len(mem)
}

// ToServer returns the memory of the ring from the client to the server.
func (s *Segment) ToServer() []byte {
	return s.mem[segmentHeader:][:ringSize(s.geo.ToServer):ringSize(s.geo.ToServer)]
}

// ToClient returns the memory of the ring from the server to the client.
func (s *Segment) ToClient() []byte {
	return s.mem[segmentHeader+ringSize(s.geo.ToServer):][:ringSize(s.geo.ToClient):ringSize(
		s.geo.ToClient)]
}

// Text returns the memory of the text. The peer can change it.
func (s *Segment) Text() []byte {
	return s.mem[segmentHeader+ringSize(s.geo.ToServer)+ringSize(s.geo.ToClient):]
}

// Geometry returns the division of the segment.
func (s *Segment) Geometry() Geometry { return s.geo }

// Close unmaps the memory. An access to it afterwards is fatal. Further calls have no effect.
func (s *Segment) Close() error {
	mem := s.mem
	s.mem = nil
	if mem == nil {
		return nil
	}
	return s.unmap(mem)
}
