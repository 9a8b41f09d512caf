package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// notes puts the one-way messages that it receives into a channel, until the test ends.
func notes(t *testing.T, into chan<- string) ipc.Route {
	over := t.Context()
	return ipc.Receive(echo.Note, func(_ context.Context, m *echo.Blob) error {
		select {
		case into <- string(m.Data):
		case <-over.Done():
		}
		return nil
	})
}

// messagesInOrder sends messages one after the other: each is handled once, in that order.
func messagesInOrder(t *testing.T, v *venue) {
	const n = 1000
	got := make(chan string)
	v.host(echo.Service(notes(t, got)))
	c := v.dialSender(t)
	sent := make(chan error, 1)
	go func() {
		defer close(sent)
		for i := range n {
			size := 4 + i
			if i%100 == 99 {
				size = v.longest(60 << 10)
			}
			if err := echo.SendNote(t.Context(), c, echo.Number(i, size)); err != nil {
				sent <- fmt.Errorf("message %d: %w", i, err)
				return
			}
		}
		sent <- echo.SendNote(t.Context(), c, "end")
	}()
	echo.ExpectNumbers(t, got, n, sent)
	if s := <-got; s != "end" {
		t.Errorf("a message of %d bytes came twice", len(s))
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	echo.Still(t, c)
}

// messagesOfMany sends from several goroutines. Those of each come in its order.
func messagesOfMany(t *testing.T, v *venue) {
	const senders, n = 8, 100
	got := make(chan string, 2*senders*n)
	v.host(echo.Service(notes(t, got)))
	c := v.dialSender(t)
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range n {
				if err := echo.SendNote(t.Context(), c, fmt.Sprint(g, " ", i)); err != nil {
					t.Errorf("sender %d, message %d: %v", g, i, err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	var next [senders]int
	for range senders * n {
		var g, i int
		fmt.Sscan(<-got, &g, &i)
		if next[g] != i {
			t.Fatalf("message %d of sender %d came in place of %d", i, g, next[g])
		}
		next[g]++
	}
	echo.Still(t, c)
	if len(got) > 0 {
		t.Errorf("%d messages came twice", len(got))
	}
}

// slowMessageHandler makes calls while a message is handled, and others wait.
func slowMessageHandler(t *testing.T, v *venue) {
	entered, got := make(chan struct{}, 3), make(chan string)
	over := t.Context()
	v.host(echo.Service(ipc.Receive(echo.Note, func(_ context.Context, m *echo.Blob) error {
		entered <- struct{}{}
		select {
		case got <- string(m.Data):
		case <-over.Done():
		}
		return nil
	})))
	c := v.dialSender(t)
	sent := make(chan error, 1)
	go func() {
		defer close(sent)
		var errs []error
		for i := range 3 {
			errs = append(errs, echo.SendNote(t.Context(), c, echo.Number(i, 100)))
		}
		sent <- errors.Join(errs...)
	}()
	<-entered
	for range 10 {
		echo.Still(t, c)
	}
	echo.ExpectNumbers(t, got, 3, sent)
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// messagesNotHandled sends what no handler takes, or what fails in it. Send accepts the message, or
// returns an error that says as much: one of the handler, if it has run. The next message comes.
func messagesNotHandled(t *testing.T, v *venue) {
	message := func(name string, encode func(*flatbuffers.Builder, uint64,
		*echo.Blob) error) *ipc.Message[echo.Blob] {
		return ipc.NewMessage(echo.Protocol, ipc.MessageSpec[echo.Blob]{Name: name,
			ID: echo.ID("test.Echo/" + name), Encode: encode, Decode: echo.Decode})
	}
	got := make(chan string, 10)
	v.host(echo.Service(ipc.Receive(echo.Note, func(_ context.Context, m *echo.Blob) error {
		switch s := string(m.Data); s {
		case "fail":
			return ipc.Errorf(ipc.CodeNotFound, "on purpose")
		case "panic":
			panic("on purpose")
		default:
			got <- s
			return nil
		}
	})))
	c := v.dialSender(t)
	send := func(m *ipc.Message[echo.Blob], s string) error {
		return ipc.Send(t.Context(), c, m, &echo.Blob{Data: []byte(s)})
	}
	for _, tt := range []struct {
		name    string
		err     error
		code    ipc.Code
		outcome ipc.Outcome
	}{
		{"a message that the handler refuses", send(echo.Note, "fail"), ipc.CodeNotFound,
			ipc.Executed},
		{"a message whose handler panics", send(echo.Note, "panic"), ipc.CodeInternal,
			ipc.Executed},
		{"a message that the server does not know", send(message("Unknown", echo.Encode), "x"),
			ipc.CodeUnimplemented, ipc.NotExecuted},
		{"a message that is malformed", send(message("Note", garbage), "x"),
			ipc.CodeInvalidArgument, ipc.NotExecuted},
	} {
		if tt.err != nil {
			t.Log(tt.name)
			echo.Want(t, tt.err, tt.code, tt.outcome)
		}
	}
	err := send(message("Note", func(*flatbuffers.Builder, uint64, *echo.Blob) error {
		return errors.New("a required field is missing")
	}), "x")
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "a required field is missing")
	if err := send(echo.Note, "next"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "next" {
		t.Errorf("the handler has got %q", s)
	}
	echo.Still(t, c)
}

// interceptorsOfMessages lets a server's interceptor see messages, and refuse them.
func interceptorsOfMessages(t *testing.T, v *venue) {
	got := make(chan string, 10)
	seen := make(chan ipc.ServerCall, 10)
	v.host(echo.Service(notes(t, got)), ipc.WithServerInterceptor(func(ctx context.Context,
		call *ipc.ServerCall, next func(context.Context) error) error {
		if call.Kind == ipc.KindMessage {
			seen <- *call
			if string(call.Request.(*echo.Blob).Data) == "forbidden" {
				return ipc.Errorf(ipc.CodePermissionDenied, "not you")
			}
		}
		return next(ctx)
	}))
	c := v.dialSender(t)
	if err := echo.SendNote(t.Context(), c, "forbidden"); err != nil {
		echo.Want(t, err, ipc.CodePermissionDenied, ipc.OutcomeOf(err))
	}
	if err := echo.SendNote(t.Context(), c, "allowed"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "allowed" {
		t.Errorf("the handler has got %q", s)
	}
	for _, text := range []string{"forbidden", "allowed"} {
		call := <-seen
		if call.Name != "Note" || call.Protocol != echo.Protocol ||
			string(call.Request.(*echo.Blob).Data) != text {
			t.Errorf("%q is shown as %+v", text, call)
		}
	}
}
