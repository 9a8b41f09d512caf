package ipc

import (
	"context"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// OpenStreamWriter opens a stream to the server of a channel, for writing. It blocks and fails as
// [Dial] does; [CodeUnimplemented] means that the server does not read such streams. The caller
// must close the writer.
func OpenStreamWriter(ctx context.Context, channel string, info *StreamInfo, o StreamOptions,
	opts ...DialOption) (*StreamWriter, error) {
	s, mem, err := openStream(ctx, channel, info, o, false, opts)
	if err != nil {
		return nil, asError(err, "open stream "+info.Protocol.Name)
	}
	g := o.geometry(info)
	w, err := shm.NewBlockWriter(mem, g, o.Policy == StreamOverwrite)
	if err != nil {
		return nil, sys.JoinErrors(err, s.Close())
	}
	s.ends = writerEnds{w}
	return &StreamWriter{s, w, o.Policy, g.Block, g.Depth}, nil
}

// OpenStreamReader opens a stream from the server of a channel, for reading. It blocks and fails as
// [Dial] does; [CodeUnimplemented] means that the server does not write such streams. The caller
// must close the reader.
func OpenStreamReader(ctx context.Context, channel string, info *StreamInfo, o StreamOptions,
	opts ...DialOption) (*StreamReader, error) {
	s, mem, err := openStream(ctx, channel, info, o, true, opts)
	if err != nil {
		return nil, asError(err, "open stream "+info.Protocol.Name)
	}
	r, err := shm.NewBlockReader(mem, o.geometry(info), o.Policy == StreamOverwrite)
	if err != nil {
		return nil, sys.JoinErrors(err, s.Close())
	}
	s.ends = readerEnds{r}
	return &StreamReader{stream: s, r: r}, nil
}

// openStream runs the client's side of the handshake of a stream.
func openStream(ctx context.Context, channel string, info *StreamInfo, o StreamOptions, read bool,
	opts []DialOption) (*stream, []byte, error) {
	cfg, err := dialConfigOf(opts)
	if err != nil {
		return nil, nil, err
	}
	g := o.geometry(info)
	if err := sys.JoinErrors(g.Check(), checkPolicy(uint32(o.Policy))); err != nil {
		return nil, nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent, Err: err}
	}
	h := clientHelloOf(channel, cfg)
	h.protocols = []protocolID{info.Protocol.id()}
	h.stream = streamHello{open: openBlocks, read: btou(read), depth: uint32(g.Depth),
		block: uint32(g.Block), policy: uint32(o.Policy)}
	var mem []byte
	var memory shm.Memory
	link, peer, err := openLink(ctx, channel, cfg, h, 1, func(_ *serverHello,
		given []shm.Memory) (err error) {
		memory = given[0]
		if mem, err = memory.Map(g.Size()); err != nil {
			return err
		}
		if err = memory.Seal(g.Size()); err != nil {
			err = sys.JoinErrors(err, memory.Unmap(mem))
			mem = nil
		}
		return err
	})
	if err != nil {
		if mem != nil {
			err = sys.JoinErrors(err, memory.Unmap(mem))
		}
		return nil, nil, err
	}
	return newStream(info, cfg.logger, link, peer, mem, memory.Unmap), mem, nil
}

func btou(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
