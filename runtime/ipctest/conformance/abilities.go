package conformance

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// An Ability is a set of what a way to carry calls may lack. "Refuses" means an [*ipc.Error] with
// [ipc.CodeUnimplemented] or [ipc.CodeUnsupported], and an outcome that says that nothing was
// executed.
type Ability uint

// The abilities.
const (
	// OneWay is one-way messages. A client that lacks it is no [ipc.Sender], or refuses to send.
	OneWay Ability = 1 << iota
	// Streaming is streaming calls, of all three kinds. A client that lacks it refuses them.
	Streaming
	// Metadata goes with requests and comes with replies. A client that lacks it refuses calls with
	// metadata. A call whose handler sets some fails, with the outcome [ipc.Executed].
	Metadata
	// Deadlines of callers are those of the handlers' contexts. Without it, a call ends at its
	// deadline all the same, and its handler goes on.
	Deadlines
	// Cancellation of a call ends the context of its handler. Without it, a call ends when it is
	// cancelled all the same, and its handler goes on.
	Cancellation
	// Leaving is that a call ends with its context, whatever its handler does. Without it, a call
	// ends when its handler does, with an error if its context has ended.
	Leaving
	// Epochs go with calls and come with replies, for [ipc.Fence]. A client that lacks it refuses
	// the calls of a client with epochs, so that nothing is executed without its fence.
	Epochs
	// Ends are those of client and server; see [Connection]. A connection that lacks them has no
	// functions there.
	Ends
	// Health is that of the server, as [ipc.Conn.Health] returns it. A client that lacks it has no
	// such method, or refuses the question.
	Health
)

var abilities = []struct {
	ability Ability
	name    string
	without func(*testing.T, *venue)
}{
	{OneWay, "one-way messages", withoutOneWay},
	{Streaming, "streaming calls", withoutStreaming},
	{Metadata, "metadata", withoutMetadata},
	{Deadlines, "deadlines", withoutDeadlines},
	{Cancellation, "cancellation", withoutCancellation},
	{Leaving, "leaving", withoutLeaving},
	{Epochs, "epochs", withoutEpochs},
	{Ends, "ends", withoutEnds},
	{Health, "health", withoutHealth},
}

// String implements fmt.Stringer.
func (a Ability) String() string {
	var names []string
	for _, one := range abilities {
		if a&one.ability != 0 {
			names = append(names, one.name)
			a &^= one.ability
		}
	}
	if a != 0 || names == nil {
		names = append(names, fmt.Sprintf("%#x", uint(a)))
	}
	return strings.Join(names, ", ")
}

// expectRefused checks that something was refused, and not executed.
func expectRefused(t *testing.T, what string, err error) {
	t.Helper()
	switch ipc.CodeOf(err) {
	case ipc.CodeUnimplemented, ipc.CodeUnsupported:
	default:
		t.Errorf("%s is not refused: %v", what, err)
		return
	}
	if o := ipc.OutcomeOf(err); o != ipc.NotSent && o != ipc.NotExecuted {
		t.Errorf("%s is refused with the outcome %v: %v", what, o, err)
	}
}

func withoutOneWay(t *testing.T, v *venue) {
	var handled atomic.Int32
	v.host(echo.Service(ipc.Receive(echo.Note, func(context.Context, *echo.Blob) error {
		handled.Add(1)
		return nil
	})))
	c := v.dial(t)
	if s, ok := c.(ipc.Sender); ok {
		expectRefused(t, "a one-way message", echo.SendNote(t.Context(), s, "x"))
	}
	echo.Still(t, c)
	if handled.Load() > 0 {
		t.Error("the message was handled")
	}
}

func withoutStreaming(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service())
	c := v.dial(t)
	refused := func(kind string, items iter.Seq2[*echo.Blob, error]) {
		t.Helper()
		n := 0
		for _, err := range items {
			n++
			expectRefused(t, kind, err)
		}
		if n != 1 {
			t.Errorf("%s has yielded %d times", kind, n)
		}
	}
	refused("a server's stream", echo.CountTo(t.Context(), c, 3))
	refused("a stream both ways", ipc.InvokeBidiStream(t.Context(), c, echo.Jam, echo.Counted(3)))
	_, err := ipc.InvokeClientStream(t.Context(), c, echo.Upload, echo.Counted(3))
	expectRefused(t, "a client's stream", err)
	echo.Still(t, c)
}

func withoutMetadata(t *testing.T, v *venue) {
	var handled atomic.Int32
	v.host(echo.Service(ipc.Handle(echo.Long, func(ctx context.Context,
		m *echo.Blob) (*echo.Blob, error) {
		handled.Add(1)
		return m, ipc.SetReplyMetadata(ctx, "seen", "yes")
	})))
	c := v.dial(t)
	_, err := ipc.Invoke(ipc.WithMetadata(t.Context(), "trace", "1"), c, echo.Long, &echo.Blob{})
	expectRefused(t, "metadata", err)
	if handled.Load() > 0 {
		t.Error("the call was executed without its metadata")
	}
	_, err = ipc.Invoke(t.Context(), c, echo.Long, &echo.Blob{})
	if code := ipc.CodeOf(err); code != ipc.CodeUnimplemented && code != ipc.CodeUnsupported ||
		ipc.OutcomeOf(err) != ipc.Executed {
		t.Errorf("a reply with metadata: %v", err)
	}
	echo.Still(t, c)
}

func withoutDeadlines(t *testing.T, v *venue) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	v.withoutEnd(t, ctx, func() { <-ctx.Done() }, ipc.CodeDeadlineExceeded)
}

func withoutCancellation(t *testing.T, v *venue) {
	ctx, cancel := context.WithCancel(t.Context())
	v.withoutEnd(t, ctx, cancel, ipc.CodeCanceled)
}

// withoutEnd makes a call whose context ends in the handler, which does not learn of it.
func (v *venue) withoutEnd(t *testing.T, ctx context.Context, end func(), code ipc.Code) {
	svc, entered, release := waiting(t)
	v.host(svc)
	c := v.dial(t)
	result := echo.Invoke(ctx, c, echo.Block, "")
	select {
	case <-entered:
	case <-ctx.Done(): // it has not come that far
	}
	end()
	if v.subject.Lacks&Leaving != 0 {
		release()
	}
	err := <-result
	echo.Want(t, err, code, ipc.OutcomeOf(err))
	if !errors.Is(err, ctx.Err()) {
		t.Errorf("%v is no %v", err, ctx.Err())
	}
	release()
	echo.Still(t, c)
}

func withoutLeaving(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(svc)
	c := v.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := echo.Invoke(ctx, c, echo.Block, "")
	await(t, entered, result)
	cancel()
	release()
	if err := <-result; err != nil { // the handler may have answered all the same
		echo.Want(t, err, ipc.CodeCanceled, ipc.OutcomeOf(err))
	}
	echo.Still(t, c)
}

func withoutEpochs(t *testing.T, v *venue) {
	var handled atomic.Int32
	v.host(ipc.WithFence(echo.NewReign(7)), echo.Of(ipc.Handle(echo.Echo,
		func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			handled.Add(1)
			return m, nil
		})))
	c := v.dial(t, ipc.WithEpoch(echo.NewReign(6)))
	_, err := echo.Call(t.Context(), c, nil)
	expectRefused(t, "a call with an epoch", err)
	if handled.Load() > 0 {
		t.Error("the call was executed without its fence")
	}
}

func withoutEnds(t *testing.T, v *venue) {
	v.host(echo.Service())
	c := v.connect(t)
	if c.Close != nil || c.Shutdown != nil || c.Abort != nil {
		t.Error("the connection has ends after all; do not list them in Lacks")
	}
	echo.Still(t, c.Client)
}

func withoutHealth(t *testing.T, v *venue) {
	v.host(echo.Service())
	c := v.dial(t)
	if h, ok := c.(healthy); ok {
		_, err := h.Health(t.Context(), "")
		expectRefused(t, "the question for the health", err)
	}
	echo.Still(t, c)
}
