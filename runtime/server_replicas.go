package ipc

import (
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// This file is for those who keep a service in several processes alike: they take a call's Body
// from a server's interceptor, and have it executed elsewhere by a Handler.

// Applicable returns nil when several processes can execute alike everything that s handles and
// that may change something, and otherwise an [*Error] with [CodeFailedPrecondition] that
// names what they cannot:
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

// EncodeReply encodes the call's Reply as [Handler.Handle] does for a call with the number 0. The
// reply is encoded with b and lies in its memory.
func (c *ServerCall) EncodeReply(b *flatbuffers.Builder) ([]byte, error) {
	if c.codec == nil || c.codec.reply == nil {
		return nil, Errorf(CodeInvalidArgument, "a %v has no reply to encode", c.Kind)
	}
	body, err := encode(b, func() error { return c.codec.reply(b, 0, c.refSeq, c.Reply) })
	if err != nil {
		return nil, cannotEncode(err.Err)
	}
	return body, nil
}

// DecodeReply sets the call's Reply to what EncodeReply, or [Handler.Handle], has encoded. An
// interceptor that has the call executed elsewhere answers it so, without calling next.
func (c *ServerCall) DecodeReply(body []byte) error {
	if c.Kind != KindCall || c.InPlace || c.codec == nil || c.codec.reply == nil {
		return Errorf(CodeInvalidArgument, "a %v has no reply to decode", c.Kind)
	}
	reply := c.Method.newReply()
	if _, err := c.Method.decodeReply(body, reply); err != nil {
		return malformedAnswer("reply", err).with(Executed)
	}
	c.Reply = reply
	return nil
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

// AnswerAfter makes the answer of a call wait for another process: it is sent when wait has
// returned nil, and is the error of wait otherwise. An interceptor calls it once, at its end, and
// returns its error if there is one.
//
// Where a server can, it puts the answer off: AnswerAfter returns nil at once, and wait is called
// when the server has handled what else has come from the client, in which case it often finds
// nothing left to wait for. So a wait serves the answers of many calls. They may be waited for in
// any order, and the last one is first. Otherwise, AnswerAfter itself calls wait, and lets the
// server read on meanwhile: for an interceptor that is not the outermost one, for a call in place
// or one that streams, and for a method that has proved to be slow. When an interceptor further out
// has returned already, the call is answered, and AnswerAfter only calls wait.
func (c *ServerCall) AnswerAfter(wait func() error) error {
	if c.passage.postpone(wait) {
		return nil
	}
	return wait()
}

// Protocol returns the protocol that s handles. It must not be changed.
func (s *Service) Protocol() *Protocol { return s.protocol }
