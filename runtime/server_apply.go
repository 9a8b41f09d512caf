package ipc

import (
	"context"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/userlog"
)

// This file executes calls without a connection, for those who keep a service
// on several machines or processes alike: they take a call's Body from a
// server's interceptor and apply it elsewhere.

// Apply runs the handler of a method on an encoded request, outside of any
// server: no interceptors, no fence, no peer in ctx. The reply, for a nil error,
// is encoded with b and lies in its memory; its own sequence number is 0. A
// handler that panics is an error with CodeInternal. For a method that s has
// not, it is CodeUnimplemented, outcome NotExecuted.
func (s *Service) Apply(ctx context.Context, b *flatbuffers.Builder, method uint32,
	request []byte) (reply []byte, err error) {
	for i := range s.routes {
		if r := &s.routes[i]; r.id == method && r.call != nil {
			ctx = WithIncomingMetadata(ctx, Metadata{}) // what the handler sets is dropped
			err = protect(userlog.Silent, r.name, func() error {
				reply, err = r.apply(ctx, b, request)
				return err
			})
			return reply, err
		}
	}
	return nil, &Error{Code: CodeUnimplemented, Outcome: NotExecuted,
		Msg: fmt.Sprintf("protocol %s has no method with id %#x", s.protocol.Name, method)}
}

func (r *Route) apply(ctx context.Context, b *flatbuffers.Builder, request []byte) ([]byte, error) {
	req, seq, err := r.decode(request, nil)
	if err != nil {
		return nil, malformedRequest(err)
	}
	rep, err := r.call(ctx, req)
	if err != nil {
		return nil, err
	}
	return r.encodeReply(b, seq, rep)
}

func (c *codec) encodeReply(b *flatbuffers.Builder, refSeq uint64, rep any) ([]byte, error) {
	body, err := encode(b, func() error { return c.reply(b, 0, refSeq, rep) })
	if err != nil {
		return nil, cannotEncode(err.Err)
	}
	return body, nil
}

// Applicable returns nil when Apply can execute everything that s handles and that may change
// something, and otherwise an [*Error] with [CodeFailedPrecondition] that names what it cannot:
// one-way messages, calls that are handled in place, and streaming methods that are not read_only.
func (s *Service) Applicable() error {
	for _, r := range s.routes {
		switch {
		case r.stream != nil && !r.method.ReadOnly:
			return &Error{Code: CodeFailedPrecondition, Outcome: NotSent, Msg: fmt.Sprintf(
				"%s/%s streams, so it cannot be executed by several processes alike; declare it "+
					"(read_only) if it changes nothing", s.protocol.Name, r.name)}
		case r.stream == nil && r.call == nil:
			return fmt.Errorf("%s/%s is a one-way message or handled in place, not a call",
				s.protocol.Name, r.name)
		}
	}
	return nil
}

// EncodeReply encodes the call's Reply as Apply would have, with b, in whose
// memory it lies.
func (c *ServerCall) EncodeReply(b *flatbuffers.Builder) ([]byte, error) {
	if c.codec == nil || c.codec.reply == nil {
		return nil, Errorf(CodeInvalidArgument, "a %v has no reply to encode", c.Kind)
	}
	return c.codec.encodeReply(b, c.refSeq, c.Reply)
}

// EncodeRequest encodes the call's Request anew, with b, in whose memory it lies: all of
// Body that this process understands, and nothing that its protocol does not have.
func (c *ServerCall) EncodeRequest(b *flatbuffers.Builder) ([]byte, error) {
	if c.Kind != KindCall || c.InPlace {
		return nil, Errorf(CodeInvalidArgument, "a %v has no request to encode", c.Kind)
	}
	body, err := encode(b, func() error { return c.Method.encodeRequest(b, c.refSeq, c.Request) })
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Protocol returns the protocol that s handles. It must not be changed.
func (s *Service) Protocol() *Protocol { return s.protocol }
