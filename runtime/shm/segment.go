package shm

import (
	"errors"
	"fmt"
	"os"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// segmentMagic and Version start every segment, for whoever looks at one from
// outside; the two sides agree by their handshake.
const (
	segmentMagic  = 0x6e65_6763_7069_0001
	segmentHeader = line
)

// A Geometry says how a segment is divided: a header of 128 bytes, the ring
// towards the server, the ring towards the client, and a text that the server
// writes once.
type Geometry struct {
	ToServer, ToClient int // capacities of the two rings
	Text               int // bytes of text
}

// Size is the number of bytes of the whole segment.
func (g Geometry) Size() int {
	return segmentHeader + RingSize(g.ToServer) + RingSize(g.ToClient) + g.Text
}

// Check reports whether the geometry is possible.
func (g Geometry) Check() error {
	if err := CheckCapacity(g.ToServer); err != nil {
		return fmt.Errorf("ring to the server: %w", err)
	}
	if err := CheckCapacity(g.ToClient); err != nil {
		return fmt.Errorf("ring to the client: %w", err)
	}
	if g.Text < 0 || g.Text > MaxCapacity {
		return errors.New("length of the text is out of range")
	}
	return nil
}

// A Segment is the memory that one connection shares. Its slices and rings
// must not be used after Close.
type Segment struct {
	geo    Geometry
	mem    []byte
	mapped bool
}

// NewSegment creates the memory of a connection. The file, whose size is
// sealed, is what the peer needs for MapSegment; the caller closes it.
func NewSegment(g Geometry) (*Segment, *os.File, error) {
	if err := g.Check(); err != nil {
		return nil, nil, err
	}
	mem, f, err := NewBytes(g.Size())
	if err != nil {
		return nil, nil, err
	}
	s := &Segment{geo: g, mem: mem, mapped: true}
	word(s.mem, 0).Store(segmentMagic)
	word(s.mem, 8).Store(Version)
	return s, f, nil
}

// MapSegment maps a segment that the peer created. It refuses a file that the
// peer could still shrink. The file may be closed afterwards.
func MapSegment(f *os.File, g Geometry) (*Segment, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	mem, err := MapBytes(f, g.Size())
	if err != nil {
		return nil, err
	}
	return &Segment{geo: g, mem: mem, mapped: true}, nil
}

// HeapSegment makes a segment of ordinary memory, for two sides in one process.
func HeapSegment(g Geometry) (*Segment, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	return &Segment{geo: g, mem: HeapBytes(g.Size())}, nil
}

// ToServer is the memory of the ring from the client to the server.
func (s *Segment) ToServer() []byte {
	return s.mem[segmentHeader:][:RingSize(s.geo.ToServer):RingSize(s.geo.ToServer)]
}

// ToClient is the memory of the ring from the server to the client.
func (s *Segment) ToClient() []byte {
	return s.mem[segmentHeader+RingSize(s.geo.ToServer):][:RingSize(s.geo.ToClient):RingSize(s.geo.ToClient)]
}

// Text is the memory of the text. The peer can change it.
func (s *Segment) Text() []byte {
	return s.mem[segmentHeader+RingSize(s.geo.ToServer)+RingSize(s.geo.ToClient):]
}

// Geometry says how the segment is divided.
func (s *Segment) Geometry() Geometry { return s.geo }

// Close unmaps the memory. It is fatal to touch it afterwards. Further calls
// do nothing.
func (s *Segment) Close() error {
	mem := s.mem
	s.mem = nil
	if mem == nil || !s.mapped {
		return nil
	}
	return Unmap(mem)
}

// MapBytes maps the first size bytes of a memory file that a peer, or this
// side, created; see MapSegment. Unmap releases them.
func MapBytes(f *os.File, size int) ([]byte, error) {
	if err := sys.CheckMemory(f, size); err != nil {
		return nil, err
	}
	mem, err := sys.MapFile(f, 0, size, true)
	if err != nil {
		return nil, err
	}
	sys.Populate(mem)
	return mem, nil
}

// NewBytes creates a sealed memory file of size bytes and maps it.
func NewBytes(size int) ([]byte, *os.File, error) {
	f, err := sys.NewMemory("ipcgen", size)
	if err != nil {
		return nil, nil, err
	}
	mem, err := MapBytes(f, size)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return mem, f, nil
}

// Unmap releases what MapBytes or NewBytes returned.
func Unmap(mem []byte) error { return sys.UnmapFile(mem) }

// HeapBytes returns size zero bytes of ordinary memory that start at a multiple of
// 8, as shared memory does.
func HeapBytes(size int) []byte { return heapMemory(size) }
