package contest

import (
	"os"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// ring is the project's own ring without anything on top: the payload is
// copied in and, on the other side, out. Both sides spin.
func ring() *Contestant {
	return &Contestant{
		Key: "ring", Name: "ipcgen, raw ring", Ours: true,
		Note: "runtime/shm alone: bytes copied in and copied out, both sides spinning",
		Files: func(int) (mine, theirs []*os.File, err error) {
			g := ringGeometry
			f, err := shm.NewFileMemory(g.Size())
			if err != nil {
				return nil, nil, err
			}
			return []*os.File{f.File}, []*os.File{f.File}, nil
		},
		Serve: func(s peer.Setup) error {
			e, err := openRing(s, true)
			if err != nil {
				return err
			}
			go e.answer()
			return nil
		},
		Open:       func(s peer.Setup) (Session, error) { return openRing(s, false) },
		OpenStream: func(s peer.Setup) (Stream, error) { return openRing(s, false) },
	}
}

// ringGeometry stays in the cache.
var ringGeometry = shm.Geometry{ToServer: 256 << 10, ToClient: 64 << 10}

// ringPiece is how much of a message goes into one record, so that the other side copies one
// piece while this side copies the next.
const ringPiece = 32 << 10

// Tags of the records.
const (
	ringCall = 1
	ringSend = 2
	ringMore = 3 // of a message, before its last record
)

// A ringEnd is one side's view of a segment. It is a Stream on the client's
// side.
type ringEnd struct {
	seg *shm.Segment
	in  *shm.Consumer
	out *shm.Producer
	msg []byte // what the client sends
	got []byte // where messages are copied to
}

func openRing(s peer.Setup, server bool) (*ringEnd, error) {
	g := ringGeometry
	seg, err := shm.MapSegment(shm.FileMemory{File: s.Files[0]}, g)
	if err != nil {
		return nil, err
	}
	from, to, fromCap, toCap := seg.ToClient(), seg.ToServer(), g.ToClient, g.ToServer
	if server {
		from, to, fromCap, toCap = to, from, toCap, fromCap
	}
	e := &ringEnd{seg: seg, msg: make([]byte, s.Size), got: make([]byte, max(s.Size, ReplySize))}
	if e.in, err = shm.NewConsumer(from, fromCap); err != nil {
		return nil, err
	}
	if e.out, err = shm.NewProducer(to, toCap); err != nil {
		return nil, err
	}
	return e, nil
}

// put copies a message into the ring, as soon as there is room.
func (e *ringEnd) put(tag uint32, msg []byte) error {
	for len(msg) > ringPiece {
		if err := e.putRecord(ringMore, msg[:ringPiece]); err != nil {
			return err
		}
		msg = msg[ringPiece:]
	}
	return e.putRecord(tag, msg)
}

func (e *ringEnd) putRecord(tag uint32, b []byte) error {
	for {
		dst, ok, err := e.out.Reserve(len(b))
		if err != nil {
			return err
		}
		if ok {
			e.out.Commit(tag, copy(dst, b))
			return nil
		}
	}
}

// get copies the next message out of the ring, as soon as there is one.
func (e *ringEnd) get() (tag uint32, err error) {
	for n := 0; ; {
		tag, payload, ok, err := e.in.Next()
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		n += copy(e.got[n:], payload)
		e.in.Release()
		if tag != ringMore {
			return tag, nil
		}
	}
}

func (e *ringEnd) answer() {
	reply := e.msg[:min(ReplySize, len(e.msg))]
	for {
		tag, err := e.get()
		if err != nil {
			return
		}
		if tag == ringCall {
			if e.put(ringCall, reply) != nil {
				return
			}
		}
	}
}

func (e *ringEnd) Call() error {
	if err := e.put(ringCall, e.msg); err != nil {
		return err
	}
	_, err := e.get()
	return err
}

func (e *ringEnd) Send() error { return e.put(ringSend, e.msg) }

func (e *ringEnd) Drain() error { return e.Call() }

func (e *ringEnd) Close() error { return e.seg.Close() }
