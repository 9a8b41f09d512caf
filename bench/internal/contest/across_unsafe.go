package contest

import (
	"sync/atomic"
	"unsafe"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// across is the least that two processes can do to hand bytes over: one copies them
// into shared memory and counts, the other copies them out and counts. The places are of one
// size, and nothing says what is in them. What a ring takes longer, it takes for
// what it does beside that; what both take longer than a copy within one process is
// what moving bytes from one processor's cache to the other's takes.
func across() *Contestant {
	return &Contestant{
		Key: "across", Name: "bare copies, in and out",
		Note: "places of one size in a shared memfd, two counters, both sides spinning: copied " +
			"in and, by the other process, out",
		Files: sharedMemory(placesLen),
		Serve: func(s peer.Setup) error {
			p, err := mapPlaces(s)
			if err != nil {
				return err
			}
			go p.receive()
			return nil
		},
		OpenStream: func(s peer.Setup) (Stream, error) { return mapPlaces(s) },
	}
}

// places are a row of places for pieces of messages, the memory of a ring of default
// capacity, and the counters of those that were filled and emptied.
type places struct {
	mem             []byte
	filled, emptied *atomic.Uint64
	row             []byte
	piece           int    // of a message; what a place holds
	n               uint64 // pieces that this side has copied
	seen            uint64 // the other side's counter when it was last read
	msg             []byte
}

const (
	placesAt  = 4096
	placesLen = placesAt + 256<<10
)

func mapPlaces(s peer.Setup) (*places, error) {
	mem, err := sys.MapFile(s.Files[0], 0, placesLen, true)
	if err != nil {
		return nil, err
	}
	return &places{
		mem:     mem,
		filled:  (*atomic.Uint64)(unsafe.Pointer(&mem[0])),
		emptied: (*atomic.Uint64)(unsafe.Pointer(&mem[1024])),
		row:     mem[placesAt:],
		piece:   min(s.Size, ringPiece),
		msg:     make([]byte, s.Size),
	}, nil
}

// place is where the piece of that number lies.
func (p *places) place(n uint64) []byte {
	at := int(n%uint64(len(p.row)/p.piece)) * p.piece
	return p.row[at : at+p.piece]
}

func (p *places) Send() error {
	room := uint64(len(p.row) / p.piece)
	for at := 0; at < len(p.msg); at += p.piece {
		for p.n-p.seen == room {
			p.seen = p.emptied.Load()
		}
		copy(p.place(p.n), p.msg[at:])
		p.n++
		p.filled.Store(p.n)
	}
	return nil
}

func (p *places) receive() {
	for {
		for at := 0; at < len(p.msg); at += p.piece {
			for p.seen == p.n {
				p.seen = p.filled.Load()
			}
			copy(p.msg[at:], p.place(p.n))
			p.n++
			p.emptied.Store(p.n)
		}
	}
}

func (p *places) Drain() error {
	for p.emptied.Load() != p.n {
	}
	return nil
}

func (p *places) Close() error { return sys.UnmapFile(p.mem) }
