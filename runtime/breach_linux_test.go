package ipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"golang.org/x/sys/unix"
)

// The tables of this file break the rules of docs/protocol.md, each from the sides that can break
// it, and say what must happen. Whatever happens, the other side lives, its other connections go
// on, and it keeps nothing. TestPageIsTried compares the tables with the page.

// A consequence is what a breach of a rule must lead to.
type consequence int

const (
	ends    consequence = iota // the other side ends the connection, as corrupt
	ignored                    // the connection goes on
	// so it does, and the request of the breach is answered with an error
	answers
	// the breaker may not be heard any more, until it ends the connection
	alone
)

// A ruleBreach is what a peer must not do, or may do without harm.
type ruleBreach struct {
	name string
	says string // words of the page
	then consequence
	// byClient and byServer do it; nil: that side cannot.
	byClient, byServer func(b *ruleBreaker)
	code               ipc.Code // of the answer, whose outcome is always "not executed"
}

// A ruleBreaker is the side that breaks a rule.
type ruleBreaker struct {
	*ipc.Raw
	t       *testing.T
	client  bool
	request ipc.RawFrame // of the server: the call that waits for its answer
}

const (
	breachRing = 4 << 10
	breachMost = 64 << 10 // longest body
)

// send publishes a frame, and waits for room.
func (b *ruleBreaker) send(f ipc.RawFrame) {
	b.t.Helper()
	for limit := time.Now().Add(time.Minute); !b.Put(f); runtime.Gosched() {
		if time.Now().After(limit) {
			b.t.Fatal("the other side reads no more")
		}
	}
}

// raw publishes a record without a frame header.
func (b *ruleBreaker) raw(tag uint32, body ...byte) {
	b.send(ipc.RawFrame{Tag: tag, Raw: true, Body: body})
}

// mine and theirs are the rings that this side produces and consumes.
func (b *ruleBreaker) mine() []byte {
	if b.client {
		return b.Seg.ToServer()
	}
	return b.Seg.ToClient()
}

func (b *ruleBreaker) theirs() []byte {
	if b.client {
		return b.Seg.ToClient()
	}
	return b.Seg.ToServer()
}

// store writes words of a ring, each an offset and a value, and wakes the other side.
func (b *ruleBreaker) store(ring []byte, words ...uint64) {
	for i := 0; i < len(words); i += 2 {
		binary.NativeEndian.PutUint64(ring[words[i]:], words[i+1])
	}
	b.Notify()
}

// Offsets in a ring.
const (
	ringTail, ringHead, ringTaken           = 0, 128, 136
	ringSleep, ringStarve, ringRevoke, data = 256, 384, 392, 512
)

// either makes a breach of both sides.
func either(name, says string, then consequence, do func(b *ruleBreaker)) ruleBreach {
	return ruleBreach{name: name, says: says, then: then, byClient: do, byServer: do}
}

func byClient(name, says string, then consequence, do func(b *ruleBreaker)) ruleBreach {
	return ruleBreach{name: name, says: says, then: then, byClient: do}
}

func byServer(name, says string, then consequence, do func(b *ruleBreaker)) ruleBreach {
	return ruleBreach{name: name, says: says, then: then, byServer: do}
}

// refusedCall is a request that is answered with an error.
func refusedCall(name, says string, code ipc.Code, f ipc.RawFrame) ruleBreach {
	f.Tag, f.ID = f.Tag|ipc.RawRequest, 8
	return ruleBreach{name: name, says: says, then: answers, code: code,
		byClient: func(b *ruleBreaker) { b.send(f) }}
}

// announced is the beginning of a message in pieces: its length and what comes first.
func announced(length uint64, first ...byte) ipc.RawFrame {
	return ipc.RawFrame{Tag: ipc.RawMessage | ipc.RawMore, Method: idOf("test.Echo/Note"),
		Body: append(binary.NativeEndian.AppendUint64(nil, length), first...)}
}

var (
	blockID    = methodBlock.Info().ID
	tagRule    = "A tag with other flags, a kind that does not exist or that goes the other way"
	pieceRule  = "a piece without a beginning, pieces that do not add up"
	shortFrame = make([]byte, 23)
)

var ruleBreaches = []ruleBreach{
	either("a tail beyond the ring", "`tail − head ≤ capacity`", ends, func(b *ruleBreaker) {
		b.store(b.mine(), ringTail, breachRing+8)
	}),
	either("a tail at no multiple of 8", "tail is a multiple of 8", ends, func(b *ruleBreaker) {
		b.store(b.mine(), data, 4, ringTail, 12)
	}),
	either("a tail that decreases", "and never decreases", ends, func(b *ruleBreaker) {
		for range 3 {
			b.send(ipc.RawFrame{Tag: ipc.RawAbort, Raw: true})
		}
		for binary.NativeEndian.Uint64(b.mine()[ringHead:]) < 3*8 {
			runtime.Gosched()
		}
		b.store(b.mine(), ringTail, 8)
	}),
	either("a record longer than what is published",
		"a record lies within the published bytes", ends, func(b *ruleBreaker) {
			b.store(b.mine(), data, 100|uint64(ipc.RawAbort)<<32, ringTail, 16)
		}),
	either("a record beyond the ring", "and within the ring", ends, func(b *ruleBreaker) {
		b.store(b.mine(), data, math.MaxUint32|uint64(ipc.RawMessage)<<32, ringTail, breachRing)
	}),
	either("padding that ends before the ring", "fills the rest", ends, func(b *ruleBreaker) {
		b.store(b.mine(), data, 8|math.MaxUint32<<32, ringTail, 24)
	}),
	either("padding alone", "it is published together with the record behind it", ends,
		func(b *ruleBreaker) {
			b.store(b.mine(), data, breachRing-8|math.MaxUint32<<32, ringTail, breachRing)
		}),
	either("a head at no multiple of 8", "The producer checks that head is a multiple of 8", ends,
		func(b *ruleBreaker) { b.store(b.theirs(), ringHead, 4); b.provoke() }),
	either("a head beyond the tail", "and is never beyond tail", ends,
		func(b *ruleBreaker) { b.store(b.theirs(), ringHead, 1<<40); b.provoke() }),
	either("a taken beyond all", "taken | consumer", ignored,
		func(b *ruleBreaker) { b.store(b.theirs(), ringTaken, math.MaxUint64) }),
	either("sleeps of any number", "the number of its sleep", ignored, func(b *ruleBreaker) {
		for n := range uint64(20) {
			b.store(b.theirs(), ringSleep, n<<60|n)
		}
		b.store(b.theirs(), ringSleep, 0)
	}),
	either("waits of any number", "the number of its wait", ignored, func(b *ruleBreaker) {
		for n := range uint64(20) {
			b.store(b.mine(), ringStarve, n<<60|n)
		}
	}),
	byServer("a revocation by the consumer", "revoke | producer", ignored,
		func(b *ruleBreaker) { b.store(b.mine(), ringRevoke, 1) }),

	either("another flag", tagRule, ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawMessage | 0x800}) }),
	either("the highest flag", tagRule, ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawMessage | 1<<31}) }),
	either("both flags", "The flags `0x100` and `0x200` are not combined.", ends,
		func(b *ruleBreaker) {
			f := announced(100, goodBlob...)
			f.Tag |= ipc.RawGap
			b.send(f)
		}),
	either("a piece built in place", tagRule, ends, func(b *ruleBreaker) {
		b.send(announced(100, goodBlob...))
		b.raw(ipc.RawPiece|ipc.RawGap, make([]byte, 100-len(goodBlob))...)
	}),
	either("an abort with more to come", tagRule, ends,
		func(b *ruleBreaker) { b.raw(ipc.RawAbort | ipc.RawMore) }),
	byClient("a cancellation in pieces", tagRule, ends, func(b *ruleBreaker) {
		b.send(ipc.RawFrame{Tag: ipc.RawCancel | ipc.RawMore, Body: make([]byte, 8)})
	}),
	either("kind 0", tagRule, ends, func(b *ruleBreaker) { b.send(ipc.RawFrame{}) }),
	either("kind 12", tagRule, ends, func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: 12}) }),
	either("kind 255", tagRule, ends, func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: 255}) }),
	byServer("a request to a client", tagRule, ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawRequest, Body: goodBlob}) }),
	byServer("a cancellation to a client", tagRule, ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawCancel}) }),
	byClient("a reply to a server", tagRule, ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawReply, Body: goodBlob}) }),
	byClient("an error to a server", tagRule, ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawError}) }),
	either("metadata of an abort", tagRule, ends,
		func(b *ruleBreaker) { b.raw(ipc.RawAbort | 0x400) }),
	either("metadata of a piece", "pieces have no other than `0x100`", ends, func(b *ruleBreaker) {
		b.send(announced(10, 1, 2, 3))
		b.raw(ipc.RawPiece|0x400, make([]byte, 7)...)
	}),
	byClient("metadata of a cancellation", "Cancellations, aborts and credits have no flag", ends,
		func(b *ruleBreaker) { b.send(ipc.RawFrame{Tag: ipc.RawCancel | 0x400}) }),
	either("metadata that is longer than its record", "the length of the pairs", ends,
		func(b *ruleBreaker) {
			b.raw(ipc.RawMessage|0x400, append(make([]byte, 24), words32(100, 0)...)...)
		}),
	either("no frame header", "All kinds but 6 and 7 begin with a frame header of 24 bytes", ends,
		func(b *ruleBreaker) { b.raw(ipc.RawMessage, shortFrame...) }),
	byClient("a request with a short header", "A request has 16 bytes more", ends,
		func(b *ruleBreaker) { b.raw(ipc.RawRequest, make([]byte, 39)...) }),
	either("a piece without a beginning", pieceRule, ends,
		func(b *ruleBreaker) { b.raw(ipc.RawPiece, 1, 2, 3) }),
	either("too many pieces", pieceRule, ends, func(b *ruleBreaker) {
		b.send(announced(50, 1, 2, 3))
		b.raw(ipc.RawPiece|ipc.RawMore, make([]byte, 60)...)
	}),
	either("too few pieces", pieceRule, ends, func(b *ruleBreaker) {
		b.send(announced(50, 1, 2, 3))
		b.raw(ipc.RawPiece, 4)
	}),
	either("a last piece with more to come", pieceRule, ends, func(b *ruleBreaker) {
		b.send(announced(4, 1, 2, 3))
		b.raw(ipc.RawPiece|ipc.RawMore, 4)
	}),
	either("less announced than comes with it", pieceRule, ends,
		func(b *ruleBreaker) { b.send(announced(2, 1, 2, 3)) }),
	either("no length", "behind the frame header the length of the whole body", ends,
		func(b *ruleBreaker) {
			b.send(ipc.RawFrame{Tag: ipc.RawMessage | ipc.RawMore, Body: []byte{1}})
		}),
	either("a message within another", "a message that begins within another", ends,
		func(b *ruleBreaker) {
			b.send(announced(50, 1, 2, 3))
			b.send(ipc.RawFrame{Tag: ipc.RawMessage, Body: goodBlob})
		}),
	either("a message in pieces within another", "a message that begins within another", ends,
		func(b *ruleBreaker) { b.send(announced(50, 1)); b.send(announced(50, 1)) }),
	either("aborts of nothing", "An abort without a message in progress is ignored.", ignored,
		func(b *ruleBreaker) {
			for range 1000 {
				b.raw(ipc.RawAbort)
			}
		}),
	either("messages that are given up", "the message in progress is abandoned", ignored,
		func(b *ruleBreaker) {
			for range 1000 {
				b.send(announced(breachMost, make([]byte, 500)...))
				b.raw(ipc.RawAbort)
			}
		}),
	either("an empty piece again and again", "Records of kind 6 bring the rest", ignored,
		func(b *ruleBreaker) {
			b.send(announced(50, 1, 2, 3))
			for range 1000 {
				b.raw(ipc.RawPiece | ipc.RawMore)
			}
			b.raw(ipc.RawAbort)
		}),
	either("a message longer than the limit", "a peer that exceeds it is corrupt", ends,
		func(b *ruleBreaker) { b.send(announced(breachMost+1, 1, 2, 3)) }),
	either("a message of 2^64 − 1 bytes", "a peer that exceeds it is corrupt", ends,
		func(b *ruleBreaker) { b.send(announced(math.MaxUint64, 1, 2, 3)) }),
	either("a gap longer than the record", "the number of unused bytes", ends,
		func(b *ruleBreaker) {
			b.send(ipc.RawFrame{Tag: ipc.RawMessage | ipc.RawGap,
				Body: binary.NativeEndian.AppendUint64(nil, 1)})
		}),
	either("a gap without its number", "the number of unused bytes", ends, func(b *ruleBreaker) {
		b.send(ipc.RawFrame{Tag: ipc.RawMessage | ipc.RawGap, Body: []byte{1}})
	}),
	either("a last byte of a header", "The last byte of a frame header (0) is not checked.",
		ignored, func(b *ruleBreaker) {
			f := make([]byte, 24)
			f[23] = 0xff
			b.raw(ipc.RawMessage, f...)
		}),
	either("an epoch of another world", "of the sender; 0 for none", ignored, func(b *ruleBreaker) {
		b.send(ipc.RawFrame{Tag: ipc.RawMessage, Epoch: math.MaxUint64, Body: goodBlob})
	}),
	either("messages to nobody", "A one-way message that the receiver does not know", ignored,
		func(b *ruleBreaker) {
			for range 1000 {
				b.send(ipc.RawFrame{Tag: ipc.RawMessage, Method: 1, Body: goodBlob})
			}
		}),
	either("malformed messages", "then it verifies the request and handles it", ignored,
		func(b *ruleBreaker) {
			for n := range 100 {
				b.send(ipc.RawFrame{Tag: ipc.RawMessage, Method: idOf("test.Echo/Note"),
					Body: make([]byte, n)})
			}
		}),
	either("noise on the socket", "the socket carries one more byte at most", ignored,
		func(b *ruleBreaker) { _, _ = b.Write(make([]byte, 1000)) }),
	either("a doorbell that never stops", "rings without a reason may fill the buffer", alone,
		func(b *ruleBreaker) {
			for range 10_000 {
				b.Notify()
			}
		}),
	either("a process that is gone and has published no record", "reads what the ring still holds",
		alone, func(b *ruleBreaker) { b.store(b.mine(), ringStarve, 1, ringRevoke, 1) }),

	byClient("two calls of one id", "A request with the id of a call in flight is corruption",
		ends, func(b *ruleBreaker) {
			for range 2 {
				b.send(ipc.RawFrame{Tag: ipc.RawRequest, ID: 8, Method: blockID, Body: goodBlob})
			}
		}),
	byClient("cancellations of nothing", "A cancelled call is answered like any other", ignored,
		func(b *ruleBreaker) {
			for n := range uint64(1000) {
				b.send(ipc.RawFrame{Tag: ipc.RawCancel, ID: n})
			}
		}),
	byServer("answers to nothing", "A reply with an id that is not in flight is dropped.", ignored,
		func(b *ruleBreaker) {
			for n := range uint64(70) { // bits of the id
				b.send(ipc.RawFrame{Tag: ipc.RawReply, ID: b.request.ID ^ 1<<n>>1<<3,
					Body: goodBlob})
				b.send(ipc.RawFrame{Tag: ipc.RawError, ID: b.request.ID + n + 1})
			}
		}),
	refusedCall("a method that does not exist", "the server answers a method that it lacks",
		ipc.CodeUnimplemented, ipc.RawFrame{Method: 1, Body: goodBlob}),
	refusedCall("a call of a message", "the server answers a method that it lacks",
		ipc.CodeUnimplemented, ipc.RawFrame{Method: idOf("test.Echo/Note"), Body: goodBlob}),
	refusedCall("a deadline that has passed",
		"The server does not begin a call whose deadline has passed.",
		ipc.CodeDeadlineExceeded, ipc.RawFrame{Method: blockID, Deadline: 1, Body: goodBlob}),
	refusedCall("a deadline before all time",
		"The server does not begin a call whose deadline has passed.",
		ipc.CodeDeadlineExceeded,
		ipc.RawFrame{Method: blockID, Deadline: math.MinInt64, Body: goodBlob}),
	refusedCall("a request that is no FlatBuffer", "then it verifies the request and handles it",
		ipc.CodeInvalidArgument, ipc.RawFrame{Method: blockID, Body: []byte{1, 2, 3}}),
	refusedCall("an empty request", "then it verifies the request and handles it",
		ipc.CodeInvalidArgument, ipc.RawFrame{Method: blockID}),
	refusedCall("a request that is all gap", "the number of unused bytes",
		ipc.CodeInvalidArgument, ipc.RawFrame{Tag: ipc.RawGap, Method: blockID,
			Body: binary.NativeEndian.AppendUint64(nil, 0)}),
	byClient("a deadline after all time", "nanoseconds of the machine's `CLOCK_MONOTONIC`",
		ignored, func(b *ruleBreaker) {
			b.send(ipc.RawFrame{Tag: ipc.RawRequest, ID: 8, Method: methodEcho.Info().ID,
				Deadline: math.MaxInt64, Body: goodBlob})
			if f := answerOf(b.t, b.Raw); f.Tag != ipc.RawReply {
				b.t.Errorf("answered with %+v", f)
			}
		}),
}

// provoke makes the other side write into its ring until it has looked at the head: a server by
// requests, and a client by its own calls.
func (b *ruleBreaker) provoke() {
	if !b.client {
		return
	}
	inundate(b.Raw, 1000, func(n int) ipc.RawFrame {
		return ipc.RawFrame{Tag: ipc.RawRequest, ID: uint64(n+1) << 3,
			Method: methodEcho.Info().ID, Body: goodBlob}
	})
}

// TestBreaches commits each breach from both sides.
func TestBreaches(t *testing.T) {
	for _, b := range ruleBreaches {
		if b.byClient != nil {
			t.Run("client: "+b.name, func(t *testing.T) {
				expectNothingLeft(t)
				breachByClient(t, b)
			})
		}
		if b.byServer != nil {
			t.Run("server: "+b.name, func(t *testing.T) {
				expectNothingLeft(t)
				breachByServer(t, b)
			})
		}
	}
	expectFew(t, 500, 100<<20)
}

// untilClosed returns when the other side has closed the connection.
func (b *ruleBreaker) untilClosed() {
	b.t.Helper()
	if err := b.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, b.Raw); errors.Is(err, os.ErrDeadlineExceeded) {
		b.t.Fatal("the other side goes on")
	}
}

func breachByClient(t *testing.T, b ruleBreach) {
	d := newDomain(t)
	srv := serve(t, d, ipc.WithMaxMessage(breachMost),
		ipc.NewService(&ipc.Protocol{Name: "test.Notes"}, ipc.Receive(messageNote,
			func(context.Context, *blob) error { return nil })))
	honest := dial(t, d)
	still(t, honest)
	raw := &ruleBreaker{Raw: rawDial(t, d, ipc.WithRings(breachRing, breachRing)), t: t,
		client: true}
	b.byClient(raw)
	switch b.then {
	case ends:
		raw.untilClosed()
		for srv.Conns() > 1 {
			runtime.Gosched()
		}
		if n := srv.Corrupted(); n != 1 {
			t.Errorf("the server counts %d corruptions", n)
		}
	case answers:
		if f := answerOf(t, raw.Raw); f.Tag != ipc.RawError || f.ID != 8 || f.Code != b.code ||
			f.Outcome != ipc.NotExecuted {
			t.Errorf("answered with %+v", f)
		}
		fallthrough
	case ignored:
		raw.send(ipc.RawFrame{Tag: ipc.RawRequest, ID: 1 << 30, Method: methodEcho.Info().ID,
			Body: goodBlob})
		if f := answerOf(t, raw.Raw); f.Tag&0xff != ipc.RawReply || f.ID != 1<<30 {
			t.Errorf("a call after it is answered with %+v", f)
		}
		if n := srv.Corrupted(); n != 0 {
			t.Errorf("the server counts %d corruptions", n)
		}
	case alone:
		raw.Link.Close()
		for srv.Conns() > 1 {
			runtime.Gosched()
		}
	}
	still(t, honest)
	still(t, dial(t, d))
}

func breachByServer(t *testing.T, b ruleBreach) {
	d := newDomain(t)
	serve(t, d)
	honest := dial(t, d)
	other := newDomain(t)
	l, err := ipc.Listen("echo", other)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan *ipc.Raw, 1)
	go func() {
		raw, err := ipc.RawAccept(l, ipc.RawHello{ToServer: breachRing, ToClient: breachRing,
			MaxMessage: breachMost, MaxCalls: 64}, echoProtocol)
		if err != nil {
			t.Error(err)
		}
		accepted <- raw
	}()
	c := dial(t, other, ipc.WithRings(breachRing, breachRing), ipc.WithMaxMessage(breachMost),
		ignoreNotes())
	raw := &ruleBreaker{Raw: <-accepted, t: t}
	if raw.Raw == nil {
		return
	}
	defer raw.End()
	if err := raw.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	result := invoke(t.Context(), c, methodEcho, "first")
	raw.request = answerOf(t, raw.Raw)
	b.byServer(raw)
	switch b.then {
	case ends:
		limit := time.Now().Add(20 * time.Second)
		for c.Err() == nil { // what it reads or writes next shows it the breach
			if time.Now().After(limit) {
				t.Fatal("the client goes on")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, _ = echo(ctx, c, make([]byte, 1000))
			cancel()
		}
		raw.untilClosed()
		if err := <-result; err == nil {
			t.Error("the call was answered")
		} else if ipc.CodeOf(err) != ipc.CodeCorrupt {
			t.Errorf("the call: %v", err)
		}
		<-c.Done()
		if s := c.Stats(); ipc.CodeOf(c.Err()) != ipc.CodeCorrupt || s.Corruptions != 1 {
			t.Errorf("the client ends with %v and counts %d corruptions", c.Err(), s.Corruptions)
		}
	case ignored:
		answer := raw.request
		for range 2 {
			raw.send(ipc.RawFrame{Tag: ipc.RawReply, ID: answer.ID, Body: answer.Body})
			if err := <-result; err != nil {
				t.Errorf("a call after it: %v", err)
			}
			if answer.ID != raw.request.ID {
				break
			}
			result = invoke(t.Context(), c, methodEcho, "second")
			answer = answerOf(t, raw.Raw)
		}
	case alone:
		raw.Link.Close()
		want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		<-c.Done()
	}
	still(t, honest)
}

// The following hellos are bytes as a peer sends them, in the order of the page's tables.

func words32(ns ...uint32) (b []byte) {
	for _, n := range ns {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

func helloString(s string) []byte { return append(words32(uint32(len(s))), s...) }

// handshake puts the length before a message.
func handshake(parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return append(words32(uint32(len(body))), body...)
}

const (
	magic  = 0x63706930
	closed = ipc.Code(1000) // in place of the code of an answer
)

// A helloFields is a client's hello.
type helloFields struct {
	magic, version, layout, toServer, toClient, maxMessage uint32
	channel, reply                                         string
	protocols                                              []byte
	stream                                                 [6]uint32 // and the window
}

// helloWith returns a correct hello that f has changed.
func helloWith(f func(h *helloFields)) []byte {
	h := helloFields{magic: magic, version: 3, layout: 3, channel: "echo", protocols: words32(0)}
	f(&h)
	return handshake(words32(h.magic, h.version, h.layout, h.toServer, h.toClient, h.maxMessage),
		helloString(h.channel), helloString(h.reply), h.protocols, words32(h.stream[:]...))
}

// streamWith returns a hello that opens the stream of blocks, which the server reads.
func streamWith(f func(h *helloFields)) []byte {
	return helloWith(func(h *helloFields) {
		h.protocols = append(append(words32(1), helloString("test.Block")...),
			words32(7, 0, 0, 0)...)
		h.stream = [6]uint32{1, 0, 4, 100, 0, 0}
		f(h)
	})
}

// clientHellos are what clients say at first, with the code of the server's answer; closed: it
// closes the socket without one.
var clientHellos = []struct {
	name, says string
	hello      []byte
	files      int // that come with it
	code       ipc.Code
}{
	{"a correct one", "Client hello", helloWith(func(*helloFields) {}), 0, ipc.CodeOK},
	{"another magic number", "Every body begins with the magic number",
		helloWith(func(h *helloFields) { h.magic++ }), 0, ipc.CodeIncompatible},
	{"another version", "`0x63706930`, 3, 3",
		helloWith(func(h *helloFields) { h.version = 2 }), 0, ipc.CodeIncompatible},
	{"another layout", "`0x63706930`, 3, 3",
		helloWith(func(h *helloFields) { h.layout = 1 }), 0, ipc.CodeIncompatible},
	{"rings of 4 GiB", "cut to what the server allows",
		helloWith(func(h *helloFields) { h.toServer, h.toClient = math.MaxUint32, 1<<31 }), 0,
		ipc.CodeOK},
	{"rings of 1 byte", "A capacity is rounded up to a power of two",
		helloWith(func(h *helloFields) { h.toServer, h.toClient = 1, 1 }), 0, ipc.CodeOK},
	{"messages of 4 GiB", "wanted limit of a message's body",
		helloWith(func(h *helloFields) { h.maxMessage = math.MaxUint32 }), 0, ipc.CodeOK},
	{"another reply channel", "the expected name of the reply channel",
		helloWith(func(h *helloFields) { h.reply = "other" }), 0, ipc.CodeIncompatible},
	{"more than 64 KiB", "at most 64 KiB", words32(64<<10 + 1), 0, closed},
	{"4 GiB", "at most 64 KiB", words32(math.MaxUint32), 0, closed},
	{"nothing in it", "A client hello that cannot be read is refused as incompatible.",
		words32(0), 0, ipc.CodeIncompatible},
	{"a magic number alone", "A client hello that cannot be read is refused as incompatible.",
		handshake(words32(magic)), 0, ipc.CodeIncompatible},
	{"a name that goes beyond it", "`str` is a length (`uint32`)",
		handshake(words32(magic, 3, 2, 0, 0, 0, math.MaxUint32)), 0, ipc.CodeIncompatible},
	{"protocols that go beyond it", "protocols that the client will use",
		handshake(words32(magic, 3, 2, 0, 0, 0, 0, 0, math.MaxUint32)), 0, ipc.CodeIncompatible},
	{"descriptors", "two descriptors are attached to its first byte",
		helloWith(func(*helloFields) {}), 2, closed},
	{"three descriptors", "two descriptors are attached to its first byte",
		helloWith(func(*helloFields) {}), 3, closed},
	{"a stream", "A client that sets `open`", streamWith(func(*helloFields) {}), 0, ipc.CodeOK},
	{"a stream of no struct", "names one struct in `protocols`",
		streamWith(func(h *helloFields) { h.protocols = words32(0) }), 0, ipc.CodeIncompatible},
	{"a stream of another struct", "Its fingerprint must equal the server's.",
		streamWith(func(h *helloFields) {
			h.protocols[len(h.protocols)-16]++
		}), 0, ipc.CodeIncompatible},
	{"a stream that the server does not write", "`read` is 1 if the client reads",
		streamWith(func(h *helloFields) { h.stream[1] = 1 }), 0, ipc.CodeUnimplemented},
	{"a stream of no depth", "`depth` is the number of blocks",
		streamWith(func(h *helloFields) { h.stream[2] = 0 }), 0, ipc.CodeInvalidArgument},
	{"a stream of any depth", "`depth` is the number of blocks",
		streamWith(func(h *helloFields) { h.stream[2] = math.MaxUint32 }), 0,
		ipc.CodeInvalidArgument},
	{"a stream of blocks shorter than the struct", "struct included",
		streamWith(func(h *helloFields) { h.stream[3] = 7 }), 0, ipc.CodeResourceExhausted},
	{"a stream of any block", "the length of the longest block",
		streamWith(func(h *helloFields) { h.stream[3] = math.MaxUint32 }), 0,
		ipc.CodeInvalidArgument},
	{"a stream of more than 64 MiB", "memory of a stream | 64 MiB | `resource exhausted`",
		streamWith(func(h *helloFields) { h.stream[2], h.stream[3] = 64, 1<<20 }), 0,
		ipc.CodeResourceExhausted},
	{"a stream of another policy", "A server refuses a policy above 2.",
		streamWith(func(h *helloFields) { h.stream[4] = 3 }), 0, ipc.CodeInvalidArgument},
}

// shake connects to a server, says hello, and returns the code of its answer.
func shake(t *testing.T, path string, hello []byte, files int) (s *net.UnixConn, code ipc.Code) {
	t.Helper()
	s, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(path, "echo.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var rights []byte
	if files > 0 {
		fds := make([]int, files)
		for i := range fds {
			fds[i] = int(os.Stderr.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := s.WriteMsgUnix(hello, rights, nil); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 20)
	if _, err := io.ReadFull(s, head); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the server says nothing")
		}
		return s, closed
	}
	if m := binary.NativeEndian.Uint32(head[4:]); m != magic {
		t.Errorf("the answer's magic number is %#x", m)
	}
	return s, ipc.Code(binary.NativeEndian.Uint32(head[16:]))
}

// TestBrokenClientHellos says each hello to a server. Then it ends the handshake in every wrong
// way.
func TestBrokenClientHellos(t *testing.T) {
	expectNothingLeft(t)
	path := filepath.Join(t.TempDir(), "d")
	d := ipc.WithDomain(path)
	srv := serve(t, d, ipc.HandleStreamReader(blockStream,
		func(ctx context.Context, r *ipc.StreamReader) error {
			_, _, err := readBlock(ctx, r)
			return err
		}))
	honest := dial(t, d)
	for _, tt := range clientHellos {
		s, code := shake(t, path, tt.hello, tt.files)
		if code != tt.code {
			t.Errorf("%s: the server answers with %v, not %v", tt.name, code, tt.code)
		}
		if code != ipc.CodeOK {
			if _, err := io.Copy(io.Discard, s); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the server does not close the connection", tt.name)
			}
		}
		s.Close()
		still(t, honest)
	}
	for name, verdict := range map[string][]byte{
		"another magic number": handshake(words32(magic+1, 0), helloString("")),
		"a code":               handshake(words32(magic, 8), helloString("no")),
		"nothing":              {},
		"half of one":          handshake(words32(magic, 0), helloString(""))[:7],
		"4 GiB":                words32(math.MaxUint32),
		"a reason beyond it":   handshake(words32(magic, 0, math.MaxUint32)),
	} {
		s, code := shake(t, path, helloWith(func(*helloFields) {}), 0)
		if code != ipc.CodeOK {
			t.Fatal(code)
		}
		if _, err := s.Write(verdict); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, s); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("verdict %s: the server does not close the connection", name)
		}
		s.Close()
	}
	if n := srv.Conns(); n != 1 {
		t.Errorf("%d connections", n)
	}
	still(t, honest)
	honest.Close()
}

// A serverAnswer is what a server answers to a hello: its own, and what comes with it.
type serverAnswer struct {
	code, toServer, toClient, text, maxMessage, maxCalls uint32
	magic, version, layout                               uint32
	protocols                                            []byte
	tail                                                 []byte // behind the hello's fields

	raw   []byte // in place of all that
	files func(t *testing.T, size int) []*os.File
}

func (a *serverAnswer) bytes() []byte {
	if a.raw != nil {
		return a.raw
	}
	return handshake(words32(a.magic, a.version, a.layout, a.code, a.toServer, a.toClient, a.text,
		a.maxMessage, a.maxCalls), helloString("a reason"), helloString(""), a.protocols,
		words32(4096, 10), a.tail)
}

// memfd makes a memory file with seals.
func memfd(t *testing.T, size, seals int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("hostile", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "hostile")
	if err := unix.Fallocate(fd, 0, 0, int64(size)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return f
}

func bell(t *testing.T) *os.File {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine := os.NewFile(uintptr(ends[0]), "bell")
	t.Cleanup(func() { mine.Close() })
	return os.NewFile(uintptr(ends[1]), "bell")
}

func ordinary(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "file")
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const bothSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW

// serverHellos are what servers answer, with the code of the client's error.
var serverHellos = []struct {
	name, says string
	change     func(a *serverAnswer)
	code       ipc.Code
}{
	{"a correct one", "Server hello", func(*serverAnswer) {}, ipc.CodeOK},
	{"another magic number", "Every body begins with the magic number",
		func(a *serverAnswer) { a.magic++ }, ipc.CodeIncompatible},
	{"another version", "as above", func(a *serverAnswer) { a.version++ }, ipc.CodeIncompatible},
	{"another layout", "as above", func(a *serverAnswer) { a.layout++ }, ipc.CodeIncompatible},
	{"a refusal", "the error code of a refusal", func(a *serverAnswer) { a.code = 11 },
		ipc.CodePermissionDenied},
	{"a refusal with a code of its own", "A code or an outcome that a peer does not know",
		func(a *serverAnswer) { a.code = 77 }, ipc.CodeUnknown},
	{"a refusal with a code beyond 16 bits", "A code or an outcome that a peer does not know",
		func(a *serverAnswer) { a.code = 1 << 16 }, ipc.CodeUnknown},
	{"a ring of no power of two", "powers of two from 4 KiB to 1 GiB",
		func(a *serverAnswer) { a.toServer = 5000 }, ipc.CodeCorrupt},
	{"a ring of 2 KiB", "powers of two from 4 KiB to 1 GiB",
		func(a *serverAnswer) { a.toClient = 2048 }, ipc.CodeCorrupt},
	{"no ring", "powers of two from 4 KiB to 1 GiB",
		func(a *serverAnswer) { a.toClient = 0 }, ipc.CodeCorrupt},
	{"a ring of 2 GiB", "powers of two from 4 KiB to 1 GiB",
		func(a *serverAnswer) { a.toClient = 1 << 31 }, ipc.CodeCorrupt},
	{"a larger ring than wanted", "if a ring or `max_message` is larger than it wanted",
		func(a *serverAnswer) { a.toServer = 16384 }, ipc.CodeCorrupt},
	{"longer messages than wanted", "if a ring or `max_message` is larger than it wanted",
		func(a *serverAnswer) { a.maxMessage = breachMost + 1 }, ipc.CodeCorrupt},
	{"messages of 4 GiB", "if a ring or `max_message` is larger than it wanted",
		func(a *serverAnswer) { a.maxMessage = math.MaxUint32 }, ipc.CodeCorrupt},
	{"no calls", "bytes of a body, calls in flight", func(a *serverAnswer) { a.maxCalls = 0 },
		ipc.CodeOK},
	{"2^32 − 1 calls", "bytes of a body, calls in flight",
		func(a *serverAnswer) { a.maxCalls = math.MaxUint32 }, ipc.CodeOK},
	{"a text beyond the memory", "length of the text in the memory",
		func(a *serverAnswer) { a.text = 100 }, ipc.CodeCorrupt},
	{"a text of more than 16 MiB", "if the text is longer than 16 MiB",
		func(a *serverAnswer) { a.text = 16<<20 + 1 }, ipc.CodeCorrupt},
	{"a description beyond the text", "offset and length of its description in the text",
		func(a *serverAnswer) {
			a.protocols = append(append(words32(1), helloString("test.Echo")...),
				words32(9, 9, math.MaxUint32, math.MaxUint32)...)
		}, ipc.CodeCorrupt},
	{"protocols that go beyond it", "what the server serves",
		func(a *serverAnswer) { a.protocols = words32(math.MaxUint32) }, ipc.CodeIncompatible},
	{"more behind it", "Each is a length", func(a *serverAnswer) { a.tail = make([]byte, 100) },
		ipc.CodeOK},
	{"more than 1 MiB", "at most 1 MiB", func(a *serverAnswer) { a.raw = words32(1<<20 + 1) },
		ipc.CodeUnavailable},
	{"nothing in it", "Each is a length", func(a *serverAnswer) { a.raw = words32(0) },
		ipc.CodeIncompatible},
	{"no bytes", "Each is a length", func(a *serverAnswer) { a.raw = []byte{} },
		ipc.CodeUnavailable},
	{"half of a length", "Each is a length", func(a *serverAnswer) { a.raw = []byte{1, 0} },
		ipc.CodeUnavailable},
	{"no descriptors", "two descriptors are attached to its first byte",
		func(a *serverAnswer) { a.files = func(*testing.T, int) []*os.File { return nil } },
		ipc.CodeCorrupt},
	{"one descriptor", "two descriptors are attached to its first byte", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n, bothSeals)}
		}
	}, ipc.CodeUnavailable},
	{"many descriptors", "two descriptors are attached to its first byte",
		func(a *serverAnswer) {
			a.files = func(t *testing.T, n int) (fs []*os.File) {
				for range 100 {
					fs = append(fs, bell(t))
				}
				return fs
			}
		}, ipc.CodeUnavailable},
	{"no seals", "The client must check the seals", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n, 0), bell(t)}
		}
	}, ipc.CodeCorrupt},
	{"half of the seals", "The client must check the seals", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n, unix.F_SEAL_GROW), bell(t)}
		}
	}, ipc.CodeCorrupt},
	{"a seal against writing", "The client must check the seals", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n, bothSeals|unix.F_SEAL_WRITE), bell(t)}
		}
	}, ipc.CodeCorrupt},
	{"less memory", "the size and the number of blocks", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n-1, bothSeals), bell(t)}
		}
	}, ipc.CodeCorrupt},
	{"more memory", "a file that is longer is accepted", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n+1<<20, bothSeals), bell(t)}
		}
	}, ipc.CodeOK},
	{"an ordinary file", "an anonymous file of ordinary pages", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{ordinary(t, strings.Repeat("x", n)), bell(t)}
		}
	}, ipc.CodeCorrupt},
	{"a doorbell for memory", "an anonymous file of ordinary pages", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File { return []*os.File{bell(t), bell(t)} }
	}, ipc.CodeCorrupt},
	{"memory for a doorbell", "a pair of connected stream sockets", func(a *serverAnswer) {
		a.files = func(t *testing.T, n int) []*os.File {
			return []*os.File{memfd(t, n, bothSeals), memfd(t, 4096, 0)}
		}
	}, ipc.CodeUnavailable},
}

// TestBrokenServerHellos answers a client with each hello. The client's error has a code, other
// connections go on, and no file is left open.
func TestBrokenServerHellos(t *testing.T) {
	expectNothingLeft(t)
	d := newDomain(t)
	serve(t, d)
	honest := dial(t, d)
	still(t, honest)
	for _, tt := range serverHellos {
		t.Run(tt.name, func(t *testing.T) {
			expectNothingLeft(t)
			err := dialServerThat(t, func(s *net.UnixConn) {
				a := serverAnswer{magic: magic, version: 3, layout: 3, toServer: breachRing,
					toClient: breachRing, maxMessage: breachMost, maxCalls: 10,
					protocols: append(append(words32(1), helloString("test.Echo")...),
						words32(1, 0, 0, 0)...),
					files: func(t *testing.T, n int) []*os.File {
						return []*os.File{memfd(t, n, bothSeals), bell(t)}
					}}
				tt.change(&a)
				size := 128 + 2*(512+breachRing)
				files := a.files(t, size)
				var fds []int
				for _, f := range files {
					defer f.Close()
					fds = append(fds, int(f.Fd()))
				}
				if b := a.bytes(); len(b) > 0 {
					var rights []byte
					if len(fds) > 0 {
						rights = unix.UnixRights(fds...)
					}
					if _, _, err := s.WriteMsgUnix(b, rights, nil); err != nil {
						t.Error(err)
					}
				}
				_ = s.CloseWrite()
				_, _ = io.Copy(io.Discard, s)
			})
			if ipc.CodeOf(err) != tt.code {
				t.Errorf("the client says: %v", err)
			}
			still(t, honest)
		})
	}
	honest.Close()
}

// dialServerThat dials a server that answers as f does, and returns the error.
func dialServerThat(t *testing.T, f func(s *net.UnixConn)) error {
	t.Helper()
	path := t.TempDir()
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(path, "echo.sock")})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, err := l.AcceptUnix()
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		if err := s.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(s, head); err != nil {
			t.Error(err)
		}
		hello := make([]byte, binary.NativeEndian.Uint32(head))
		if _, err := io.ReadFull(s, hello); err != nil {
			t.Error(err)
		}
		f(s)
	}()
	c, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path),
		ipc.WithRings(breachRing, breachRing), ipc.WithMaxMessage(breachMost),
		ipc.WithProtocol(echoProtocol))
	if err == nil {
		c.Close()
	}
	<-done
	l.Close()
	return err
}

// elsewhereTried has, for rows of the page's table of limits that the tables of this file do not
// try, the tests that do.
var elsewhereTried = map[string][]string{
	"capacity of a ring": {"clientThatDoesNotRead", "serverThatDoesNotRead", "failFast",
		"TestOfferOfAServer"},
	"body of a message": {"limitsOfMessages", "TestBreaches",
		"TestOfferOfAServer"},
	"descriptions of a server's protocols": {"TestOfferOfAServer", "TestTooMuchToSay"},
	"names of a server's protocols":        {"TestBrokenServerHellos", "TestTooMuchToSay"},
	"calls in flight of a connection": {"limitsOfCalls", "TestManyCallsAtOnce",
		"answeredCallsDoNotCount"},
	"requests that the handlers of a connection's calls hold, cancelled ones too": {
		"TestLongRequestsHeld", "TestLongRequestsOfAnsweredCalls"},
	"replies of a connection that wait for room in the ring": {"TestUnreadReplies"},
	"one-way messages that wait for a slow handler": {"clientThatDoesNotRead",
		"serverThatDoesNotRead"},
	"connections of a server": {"limitsOfConnections", "TestTooManyConnections",
		"TestLimitFitsDescriptors", "TestOneProcessTakesAllConnections"},
	"descriptors of the server's process": {"TestDescriptorsRunOut",
		"TestServerWithoutDescriptors"},
	"handshake":                         {"TestBrokenClientHellos", "serverThatDoesNotAnswer"},
	"handshakes at a time":              {"TestSilentClients"},
	"memory of a stream":                {"TestBrokenClientHellos"},
	"memory of all streams of a server": {"TestStreamMemoryIsLimited"},
	"metadata of a message": {"metadataThatIsWrong", "metadataOfSmallRings",
		"TestMetadataOfAHostilePeer"},
	"memory of the messages of all clients of a server: bodies of more than 64 KiB, from their " +
		"first piece on, requests and replies of calls that do not end at once, items of " +
		"streaming calls that were not taken": {"TestMemoryOfAllConnections",
		"TestMessageMemoryIsGivenBack"},
	"memory that the server's control group has left": {"TestGroupLimitCostsOneClient"},
	"memory of a topic": {"topic.TestMisuse", "topic.TestHostilePublisher"},
	"subscriptions":     {"topic.TestLimits"},
	"subscribers of a topic that read in place": {"topic.TestLimits"},
	"streaming calls of a connection": {"limitsOfStreamingCalls",
		"TestHostileStreamingClients"},
	"items of a streaming call that were not taken": {"slowConsumers",
		"TestHostileStreamingClients"},
	"an item":          {"itemsOfEverySize"},
	"text of an error": {"conformance.errorsOfHandlers"},
}

// TestPageIsTried compares the tables with docs/protocol.md: what they quote is there, and each
// limit of the page has tests.
func TestPageIsTried(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
	page := flat(string(text))
	quoted := func(name, says string) {
		if says == "" || !strings.Contains(page, flat(says)) {
			t.Errorf("%s: docs/protocol.md does not say %q", name, says)
		}
	}
	for _, b := range ruleBreaches {
		quoted(b.name, b.says)
	}
	for _, h := range clientHellos {
		quoted(h.name, h.says)
	}
	for _, h := range serverHellos {
		quoted(h.name, h.says)
	}
	_, limits, ok := strings.Cut(string(text), "\n## Limits\n")
	if !ok {
		t.Fatal("docs/protocol.md has no section of limits")
	}
	rows := regexp.MustCompile(`(?m)^\| ([^|]+?) \|`).FindAllStringSubmatch(limits, -1)
	if len(rows) < 10 {
		t.Fatalf("the table of limits has %d rows", len(rows))
	}
	sources := map[string]string{"": testSources(t, "*_test.go"),
		"topic":       testSources(t, "topic/*_test.go"),
		"conformance": testSources(t, "ipctest/conformance/*.go")}
	there := map[string]bool{"what": true}
	for _, row := range rows {
		limit := row[1]
		if there[limit] = true; limit != "what" && len(elsewhereTried[limit]) == 0 {
			t.Errorf("no test exceeds the limit %q: add one to elsewhereTried", limit)
		}
	}
	for limit, tests := range elsewhereTried {
		if !there[limit] {
			t.Errorf("docs/protocol.md has no limit %q", limit)
		}
		for _, name := range tests {
			dir, test, found := strings.Cut(name, ".")
			if !found {
				dir, test = "", name
			}
			if !strings.Contains(sources[dir], "\nfunc "+test+"(") {
				t.Errorf("%s: there is no %s", limit, name)
			}
		}
	}
}

// testSources returns the text of all files with tests that have a name like pattern.
func testSources(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "\n%s", text)
	}
	return all.String()
}
