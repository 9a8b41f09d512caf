package ipc

import (
	"context"
	"time"

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
	link, peer, err := connect(ctx, channel, cfg)
	if err != nil {
		return nil, nil, err
	}
	h := clientHelloOf(channel, cfg)
	h.protocols = []protocolID{{name: info.Protocol.Name, fingerprint: info.Protocol.Fingerprint}}
	h.stream = streamHello{open: 1, read: btou(read), depth: uint32(g.Depth),
		block: uint32(g.Block), policy: uint32(o.Policy)}
	_, memory, err := negotiate(ctx, link, cfg, h)
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	defer memory.Close()
	mem, err := memory.Map(g.Size())
	if err != nil {
		link.Close()
		return nil, nil,
			&Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's memory", Err: err}
	}
	if err = memory.Seal(g.Size()); err != nil {
		err = &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's memory", Err: err}
	} else if err = link.Send(verdictOf(nil).encode(), nil); err != nil {
		err = noAnswer(err)
	} else {
		err = link.SetDeadline(time.Time{})
	}
	if err != nil {
		link.Close()
		if uerr := memory.Unmap(mem); uerr != nil {
			err = sys.JoinErrors(err, uerr)
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
