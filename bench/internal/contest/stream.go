package contest

import (
	"context"
	"time"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// stream is the project's typed stream, written and read in place. The header
// is set and looked at, and the payload left alone: what handing over a block
// costs, whatever is in it.
func stream() *Contestant {
	return &Contestant{
		Key: StreamKey, Name: "ipcgen, typed stream, payload left in place", Ours: true,
		Note: "a struct with raw payload; the struct is written and read, the payload stays " +
			"where it is",
		Serve: func(s peer.Setup) error { return serveCalls(s, new(handler), nil) },
		OpenStream: func(s peer.Setup) (Stream, error) {
			ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
			calls, err := dialCalls(s, nil)
			if err != nil {
				cancel()
				return nil, err
			}
			w, err := bulk.OpenChunkWriter(ctx, callChannel,
				ipc.StreamOptions{Depth: streamDepth, Payload: s.Size}, ipc.WithDomain(s.Dir))
			if err != nil {
				cancel()
				calls.Close()
				return nil, err
			}
			return &streamSession{callSession: calls, w: w, ctx: ctx, cancel: cancel,
				size: s.Size}, nil
		},
	}
}

const (
	// streamDepth blocks of the largest size are less than a stream may take.
	streamDepth = 32
	// streamTimeout is longer than any turn: a stream that stands still for that
	// long has failed.
	streamTimeout = time.Minute
)

// A streamSession writes to a stream. Its connection for calls asks how many
// blocks have been read.
type streamSession struct {
	*callSession
	w      *bulk.ChunkWriter
	ctx    context.Context
	cancel context.CancelFunc
	size   int
}

func (s *streamSession) Send() error {
	s.sent++
	return s.w.Write(s.ctx, s.size, func(header *bulk.Chunk, _ []byte) error {
		header.MutateSequence(s.sent)
		return nil
	})
}

func (s *streamSession) Close() error {
	defer s.cancel()
	s.w.Close()
	return s.callSession.Close()
}

// readChunks counts the blocks of a stream until its writer closes it.
func (h *handler) readChunks(ctx context.Context, r *bulk.ChunkReader) error {
	for {
		err := r.Read(ctx, func(header *bulk.Chunk, _ []byte, lost uint64) error {
			h.received.Store(header.Sequence())
			return nil
		})
		if err != nil {
			return err
		}
	}
}
