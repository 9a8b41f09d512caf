package contest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// call is the project's typed call, as a user gets it: of 64 bytes,
// AudioControl.SetParam, and for the larger ones a vector of bytes. Requests and
// replies are copied and verified.
func call() *Contestant {
	c := calls(CallKey, "ipcgen, typed call",
		"generated client and server, verified both ways; 64 B is SetParam, more a vector of bytes")
	c.StreamName, c.Huge = "ipcgen, typed message", true
	c.OpenStream = func(s peer.Setup) (Stream, error) { return dialCalls(s, nil) }
	return c
}

// recycledCall is the same with handlers and callers that promise not to keep what they are given.
func recycledCall() *Contestant {
	c := calls("recycled", "ipcgen, typed call, recycled",
		"the same with WithRecycling, Scratch and NewRecycler: all objects are used again",
		ipc.WithRecycling())
	c.Serve = func(s peer.Setup) error {
		return serveCalls(s, new(frugalHandler), []ipc.Option{ipc.WithRecycling()})
	}
	c.Open = func(s peer.Setup) (Session, error) {
		conn, err := connectCalls(s, nil)
		if err != nil {
			return nil, err
		}
		return callsOver(ipc.NewRecycler(conn), conn, s.Size, conn.Close), nil
	}
	c.StreamName, c.Huge = "ipcgen, typed message, recycled", true
	c.Shared = false // a Recycler belongs to one goroutine
	c.OpenStream = func(s peer.Setup) (Stream, error) { return dialCalls(s, nil) }
	return c
}

// parkedCall is the same with no spinning, so that each side sleeps whenever it
// waits.
func parkedCall() *Contestant {
	return calls(ParkedKey, "ipcgen, typed call, parked",
		"the same with WithSpin(0) on both sides: each sleeps whenever it waits",
		ipc.WithSpin(0))
}

// calls is a contestant that uses generated clients and servers with options.
func calls(key, name, note string, opts ...ipc.Option) *Contestant {
	return &Contestant{
		Key: key, Name: name, Note: note, Ours: true, Many: true, Shared: true,
		Serve: func(s peer.Setup) error { return serveCalls(s, new(handler), opts) },
		Open:  func(s peer.Setup) (Session, error) { return dialCalls(s, opts) },
	}
}

const callChannel = "bench"

// hugeRing is the ring for messages of HugeSize. They go in pieces, and in a ring of the default
// size both sides wait for each other at every second piece.
const hugeRing = 1 << 20

// limits are the options for messages of size bytes.
func limits(size int) (opts []ipc.Option) {
	if size > MaxSize {
		opts = append(opts, ipc.WithMaxMessage(2*HugeSize),
			ipc.WithRings(hugeRing, ipc.DefaultRingCapacity))
	}
	return opts
}

// A service answers calls and counts messages.
type service interface {
	audio.AudioControl
	audio.ControlMsgHandler
	bulk.Bulk
	bulk.BulkMsgHandler
	readChunks(ctx context.Context, r *bulk.ChunkReader) error
}

func serveCalls(s peer.Setup, h service, opts []ipc.Option) error {
	l, err := ipc.Listen(callChannel, ipc.WithDomain(s.Dir))
	if err != nil {
		return err
	}
	all := []ipc.ServerOption{
		audio.NewAudioControlService(h), audio.NewControlMsgService(h),
		bulk.NewBulkService(h), bulk.NewBulkMsgService(h), bulk.HandleChunkReader(h.readChunks),
	}
	for _, o := range append(limits(s.Size), opts...) {
		all = append(all, o)
	}
	go ipc.NewServer(all...).Serve(context.Background(), l)
	return nil
}

// A handler answers calls and counts messages.
type handler struct {
	audio.UnimplementedAudioControl
	audio.UnimplementedControlMsgHandler
	received atomic.Uint64
}

func (h *handler) SetParam(context.Context, *audio.SetParamT) (*audio.AckT, error) {
	return new(audio.AckT), nil
}

// Put returns the number of messages received so far.
func (h *handler) Put(context.Context, *bulk.BlockT) (*bulk.TakenT, error) {
	return &bulk.TakenT{Size: h.received.Load()}, nil
}

// A frugalHandler answers with what lies in the memory of its calls.
type frugalHandler struct{ handler }

func (h *frugalHandler) SetParam(ctx context.Context, _ *audio.SetParamT) (*audio.AckT, error) {
	rep := ipc.Scratch[audio.AckT](ctx)
	*rep = audio.AckT{}
	return rep, nil
}

func (h *frugalHandler) Put(ctx context.Context, _ *bulk.BlockT) (*bulk.TakenT, error) {
	rep := ipc.Scratch[bulk.TakenT](ctx)
	*rep = bulk.TakenT{Size: h.received.Load()}
	return rep, nil
}

func (h *handler) HandleSetParam(context.Context, *audio.SetParamT) error {
	h.received.Add(1)
	return nil
}

func (h *handler) HandleBlock(context.Context, *bulk.BlockT) error {
	h.received.Add(1)
	return nil
}

func dialCalls(s peer.Setup, opts []ipc.Option) (*callSession, error) {
	c, err := connectCalls(s, opts)
	if err != nil {
		return nil, err
	}
	return callsOver(c, c, s.Size, c.Close), nil
}

func connectCalls(s peer.Setup, opts []ipc.Option) (*ipc.Conn, error) {
	all := []ipc.DialOption{ipc.WithDomain(s.Dir)}
	for _, o := range append(limits(s.Size), opts...) {
		all = append(all, o)
	}
	return ipc.Dial(context.Background(), callChannel, all...)
}

// callsOver returns a session with calls and messages of size bytes, which closes what carries
// them.
func callsOver(c ipc.Caller, sender ipc.Sender, size int, closeIt func() error) *callSession {
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	return &callSession{
		close: closeIt, ctx: ctx, cancel: cancel,
		control: audio.NewAudioControlClient(c), controlMsg: audio.NewControlMsgSender(sender),
		bulk: bulk.NewBulkClient(c), bulkMsg: bulk.NewBulkMsgSender(sender),
		block: bulk.BlockT{Data: make([]byte, size)},
	}
}

type callSession struct {
	close      func() error
	control    *audio.AudioControlClient
	controlMsg *audio.ControlMsgSender
	bulk       *bulk.BulkClient
	bulkMsg    *bulk.BulkMsgSender
	param      audio.SetParamT
	block      bulk.BlockT
	sent       uint64
	ctx        context.Context // bounds the sending
	cancel     context.CancelFunc
}

// small says whether messages are those of the audio protocol, which take
// about 64 bytes.
func (s *callSession) small() bool { return len(s.block.Data) <= 64 }

func (s *callSession) Call() error {
	var err error
	if s.small() {
		_, err = s.control.SetParam(context.Background(), &s.param)
	} else {
		_, err = s.bulk.Put(context.Background(), &s.block)
	}
	return err
}

func (s *callSession) Send() error {
	s.sent++
	if s.small() {
		return s.controlMsg.SendSetParam(s.ctx, &s.param)
	}
	return s.bulkMsg.SendBlock(s.ctx, &s.block)
}

// drainTimeout is more than enough for what is in a ring.
const drainTimeout = 10 * time.Second

// Drain asks until the server has counted all messages.
func (s *callSession) Drain() error {
	for start := time.Now(); ; {
		taken, err := s.bulk.Put(context.Background(), new(bulk.BlockT))
		if err != nil {
			return err
		}
		if taken.Size == s.sent {
			return nil
		}
		if time.Since(start) > drainTimeout {
			return fmt.Errorf("%d of %d messages arrived", taken.Size, s.sent)
		}
	}
}

func (s *callSession) Close() error {
	s.cancel()
	return s.close()
}
