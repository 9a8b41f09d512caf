package conformance

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// link returns a connection that has ends.
func (v *venue) link(t *testing.T) Connection {
	t.Helper()
	c := v.connect(t)
	if c.Close == nil || c.Shutdown == nil || c.Abort == nil {
		t.Fatal("the connection has no Close, Shutdown or Abort; the subject lacks Ends")
	}
	return c
}

// expectOver checks that nothing is executed any more.
func expectOver(t *testing.T, v *venue, c ipc.Caller) {
	t.Helper()
	refused := func(err error) {
		t.Helper()
		outcome := ipc.NotSent
		if ipc.OutcomeOf(err) == ipc.NotExecuted { // the client learns of the end just now
			outcome = ipc.NotExecuted
		}
		echo.Want(t, err, ipc.CodeUnavailable, outcome)
	}
	_, err := echo.Call(t.Context(), c, nil)
	refused(err)
	if v.subject.Lacks&Streaming == 0 {
		for _, err := range echo.CountTo(t.Context(), c, 3) {
			refused(err)
		}
	}
	if s, ok := c.(ipc.Sender); ok && v.subject.Lacks&OneWay == 0 {
		refused(echo.SendNote(t.Context(), s, ""))
	}
}

// blocking is the methods of echo.Blocking that block, the second one in place.
var blocking = []*ipc.Method[echo.Blob, echo.Blob]{echo.Block, echo.Aside}

// closeOfTheClient closes the client while calls are handled, several times.
func closeOfTheClient(t *testing.T, v *venue) {
	for _, method := range blocking {
		svc, entered, left := echo.Blocking()
		v.host(svc, ipc.WithTrustedClients())
		c := v.link(t)
		result := echo.Invoke(t.Context(), c.Client, method, "")
		await(t, entered, result)
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		<-left // the handler learns of it
		expectOver(t, v, c.Client)
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// closeDeliversMessages closes the client behind messages that are not handled yet.
func closeDeliversMessages(t *testing.T, v *venue) {
	const n = 20
	got := make(chan string)
	v.host(echo.Service(notes(t, got)))
	c := v.link(t)
	sender, ok := c.Client.(ipc.Sender)
	if !ok {
		t.Fatal("the client is no ipc.Sender; the subject lacks OneWay")
	}
	closed := make(chan error, 1)
	go func() {
		defer close(closed)
		for i := range n {
			if err := echo.SendNote(t.Context(), sender, echo.Number(i, 100)); err != nil {
				closed <- fmt.Errorf("message %d: %w", i, err)
				return
			}
		}
		closed <- c.Close()
	}()
	echo.ExpectNumbers(t, got, n, closed)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// abortOfTheServer ends the server while a call is handled.
func abortOfTheServer(t *testing.T, v *venue) {
	for _, method := range blocking {
		svc, entered, left := echo.Blocking()
		v.host(svc, ipc.WithTrustedClients())
		c := v.link(t)
		echo.Still(t, c.Client)
		result := echo.Invoke(t.Context(), c.Client, method, "")
		await(t, entered, result)
		if err := c.Abort(); err != nil {
			t.Error(err)
		}
		echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		<-left
		expectOver(t, v, c.Client)
	}
}

// shutdownLetsCallsFinish shuts the server down while a call is handled: that is answered, and
// later ones are refused.
func shutdownLetsCallsFinish(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(svc)
	c := v.link(t)
	result := echo.Invoke(t.Context(), c.Client, echo.Block, "")
	await(t, entered, result)
	down := make(chan error, 1)
	go func() { down <- c.Shutdown(t.Context()) }()
	for {
		_, err := echo.Call(t.Context(), c.Client, nil)
		if err == nil {
			continue // the client does not know yet
		}
		if o := ipc.OutcomeOf(err); ipc.CodeOf(err) != ipc.CodeUnavailable || o != ipc.NotSent &&
			o != ipc.NotExecuted {
			t.Errorf("a call during the shutdown: %v", err)
		}
		break
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned %v while a call was being handled", err)
	default:
	}
	release()
	if err := <-result; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	expectOver(t, v, c.Client)
	if err := c.Shutdown(t.Context()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
}

// shutdownIsBounded shuts the server down, and gives a call that does not end no time.
func shutdownIsBounded(t *testing.T, v *venue) {
	svc, entered, left := echo.Blocking()
	v.host(svc)
	c := v.link(t)
	result := echo.Invoke(t.Context(), c.Client, echo.Block, "")
	await(t, entered, result)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown: %v", err)
	}
	<-left
	echo.Want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	expectOver(t, v, c.Client)
}

// endsOfStreamingCalls ends connections from each side in the middle of streaming calls.
func endsOfStreamingCalls(t *testing.T, v *venue) {
	for _, byServer := range []bool{true, false} {
		e := echo.NewEndless()
		v.host(echo.StreamingService(e.Route()))
		c := v.link(t)
		end := c.Close
		if byServer {
			end = c.Abort
		}
		n, failed := 0, 0
		for item, err := range e.Call(t.Context(), c.Client) {
			if err != nil {
				failed++
				echo.Want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown)
				continue
			}
			if string(item.Data) != fmt.Sprint(n) {
				t.Fatalf("item %d is %q", n, item.Data)
			}
			if n++; n == 10 {
				if err := end(); err != nil {
					t.Error(err)
				}
			}
		}
		if failed != 1 || n < 10 {
			t.Errorf("%d items, %d errors", n, failed)
		}
		if taken := <-e.Taken; taken > uint64(n) {
			t.Errorf("the server believes that %d items were taken, of %d", taken, n)
		}
		if err := <-e.Ended; err != context.Canceled {
			t.Errorf("the handler's context: %v", err)
		}
		expectOver(t, v, c.Client)
	}
}

// shutdownOfStreamingCalls drains a server with an open call, which its handler ends.
func shutdownOfStreamingCalls(t *testing.T, v *venue) {
	news := echo.Streaming("News", ipc.ServerStreaming)
	v.host(echo.Of(ipc.HandleServerStream(news, func(ctx context.Context,
		_ *echo.Blob) iter.Seq2[*echo.Blob, error] {
		return func(yield func(*echo.Blob, error) bool) {
			yield(&echo.Blob{Data: []byte("first")}, nil)
			select {
			case <-ipc.DrainingFromContext(ctx):
				yield(&echo.Blob{Data: []byte("last")}, nil)
			case <-ctx.Done():
			}
		}
	})))
	c := v.link(t)
	down := make(chan error, 1)
	var got []string
	for item, err := range ipc.InvokeServerStream(t.Context(), c.Client, news, &echo.Blob{}) {
		if err != nil {
			t.Error(err)
			break
		}
		if got = append(got, string(item.Data)); len(got) == 1 {
			go func() { down <- c.Shutdown(t.Context()) }()
		}
	}
	if len(got) != 2 || got[1] != "last" {
		t.Errorf("items %q", got)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	expectOver(t, v, c.Client)
}
