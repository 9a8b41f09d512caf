package contest

import (
	"context"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// inPlace is the typed call without copies: requests and replies are built in
// the ring and, once verified, read there.
func inPlace() *Contestant {
	return &Contestant{
		Key: "inplace", Name: "ipcgen, typed call in place", Ours: true, Many: true, Shared: true,
		Note: "the same messages built and read in the ring, verified both ways; clients are " +
			"trusted not to rewrite them",
		Serve: serveInPlace,
		Open: func(s peer.Setup) (Session, error) {
			data := make([]byte, s.Size)
			return dialInPlace(s, func(dst []byte) { copy(dst, data) })
		},
	}
}

// resident is the same, but for the bytes of the vector, which the contestant does not
// write: the request holds the bytes that were there before.
func resident() *Contestant {
	return &Contestant{
		Key: "resident", Name: "ipcgen, in place, bytes as they are", Ours: true,
		Note: "the same, but the bytes of the vector are left as they are: what size costs " +
			"beside writing it",
		Sizes: Sizes[1:],
		Serve: serveInPlace,
		Open:  func(s peer.Setup) (Session, error) { return dialInPlace(s, func([]byte) {}) },
	}
}

// placeRings makes rings in which messages of that size have a place.
func placeRings(size int) ipc.Option {
	return ipc.WithRings(max(ipc.DefaultRingCapacity, 4*size), 0)
}

// Room for messages of the audio protocol, and for what surrounds a block.
const (
	smallRoom = 32
	blockRoom = 64
)

// someValue is what SetParam carries, and is looked at.
const someValue = 0.5

func serveInPlace(s peer.Setup) error {
	l, err := ipc.Listen(callChannel, ipc.WithDomain(s.Dir))
	if err != nil {
		return err
	}
	h := new(handler)
	srv := ipc.NewServer(ipc.WithTrustedClients(), placeRings(s.Size),
		audio.NewAudioControlInPlaceService(h,
			audio.AudioControlInPlaceHandlers{SetParam: takeParam}),
		bulk.NewBulkInPlaceService(h, bulk.BulkInPlaceHandlers{Put: takeBlock}))
	go srv.Serve(context.Background(), l)
	return nil
}

func takeParam(_ context.Context, req audio.SetParam, reply ipc.InPlaceReply[audio.Ack]) error {
	if req.Value() != someValue {
		return ipc.Errorf(ipc.CodeInvalidArgument, "value %v", req.Value())
	}
	return reply.Build(smallRoom, func(b *flatbuffers.Builder, refSeq uint64) flatbuffers.UOffsetT {
		audio.AckStart(b)
		audio.AckAddRefSeq(b, refSeq)
		return audio.AckEnd(b)
	})
}

func takeBlock(_ context.Context, req bulk.Block, reply ipc.InPlaceReply[bulk.Taken]) error {
	n := uint64(req.DataLength())
	return reply.Build(smallRoom, func(b *flatbuffers.Builder, _ uint64) flatbuffers.UOffsetT {
		bulk.TakenStart(b)
		bulk.TakenAddSize(b, n)
		return bulk.TakenEnd(b)
	})
}

// An inPlaceSession makes one call again and again.
type inPlaceSession struct {
	conn *ipc.Conn
	call func() error
}

// dialInPlace connects a client. Where messages are larger than those of the audio protocol,
// fill writes their bytes.
func dialInPlace(s peer.Setup, fill func(dst []byte)) (*inPlaceSession, error) {
	c, err := ipc.Dial(context.Background(), callChannel, ipc.WithDomain(s.Dir), placeRings(s.Size))
	if err != nil {
		return nil, err
	}
	if s.Size <= 64 {
		return &inPlaceSession{c, setParamInPlace(c)}, nil
	}
	return &inPlaceSession{c, putInPlace(c, s.Size, fill)}, nil
}

func setParamInPlace(c *ipc.Conn) func() error {
	client := audio.NewAudioControlInPlaceClient(c)
	return func() error {
		return client.SetParam(context.Background(), smallRoom,
			func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
				audio.SetParamStart(b)
				audio.SetParamAddValue(b, someValue)
				return audio.SetParamEnd(b)
			},
			func(ack audio.Ack) error {
				if ack.Status() != audio.StatusOk {
					return fmt.Errorf("status %v", ack.Status())
				}
				return nil
			})
	}
}

func putInPlace(c *ipc.Conn, size int, fill func(dst []byte)) func() error {
	client := bulk.NewBulkInPlaceClient(c)
	return func() error {
		return client.Put(context.Background(), size+blockRoom,
			func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
				at := fb.FillByteVector(b, size, fill)
				bulk.BlockStart(b)
				bulk.BlockAddData(b, at)
				return bulk.BlockEnd(b)
			},
			func(taken bulk.Taken) error {
				if taken.Size() != uint64(size) {
					return fmt.Errorf("%d bytes of %d were taken", taken.Size(), size)
				}
				return nil
			})
	}
}

func (s *inPlaceSession) Call() error { return s.call() }

func (s *inPlaceSession) Close() error { return s.conn.Close() }
