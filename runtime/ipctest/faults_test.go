package ipctest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// inBubble runs a test with a talker's server and a client behind faults, in a bubble in which
// synctest.Wait shows that nothing more happens by itself.
func inBubble(t *testing.T, f func(*testing.T, *talker, *ipctest.Faults, *ipc.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		n, tk := ipctest.NewNetwork(), newTalker()
		ipctest.Serve(t, n, "talk", tk.service())
		faults := n.Faulty()
		f(t, tk, faults, ipctest.Dial(t, faults, "talk", ipc.NewService(talk, ipc.Receive(tell,
			func(_ context.Context, m *text) error {
				tk.told <- m.s
				return nil
			}))))
	})
}

// expectPending checks that a call does not end while nothing changes.
func expectPending(t *testing.T, result <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-result:
		t.Errorf("the call ended: %v", err)
	default:
	}
}

// still checks that the connection works.
func still(t *testing.T, c *ipc.Conn) {
	t.Helper()
	if err := <-ask(t.Context(), c, "still there?"); err != nil {
		t.Errorf("the connection does not work any more: %v", err)
	}
}

func TestWithoutFaults(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		for i := range 10 {
			if err := <-ask(t.Context(), c, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
		if up, down := f.Passed(ipctest.ToServer),
			f.Passed(ipctest.ToClient); up != 10 || down != 10 {
			t.Errorf("%d and %d messages passed, want 10", up, down)
		}
	})
}

func TestCut(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		handlers := make(chan error, 1)
		tk.wait = func(ctx context.Context, said string) error {
			if said != "hello" {
				return nil
			}
			<-ctx.Done()
			handlers <- ctx.Err()
			return ctx.Err()
		}
		result := ask(t.Context(), c, "hello")
		<-tk.said
		f.Cut()
		want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
		<-c.Done()
		if err := <-handlers; err != context.Canceled {
			t.Errorf("the server's handler ended with %v", err)
		}
		still(t, ipctest.Dial(t, f, "talk")) // a new connection works
	})
}

// TestCutAt shows the outcome of a call whose request, or whose reply, is lost by the peer's death.
func TestCutAt(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		f.At(ipctest.ToServer, 3, ipctest.Cut)
		for range 2 {
			still(t, c)
			<-tk.said
		}
		want(t, <-ask(t.Context(), c, "lost"), ipc.CodeUnavailable, ipc.NotExecuted)
		if len(tk.said) != 0 {
			t.Errorf("the server has got %q", <-tk.said)
		}

		c = ipctest.Dial(t, f, "talk")
		f.At(ipctest.ToClient, 1, ipctest.Cut)
		want(t, <-ask(t.Context(), c, "heard"), ipc.CodeUnavailable, ipc.OutcomeUnknown)
		if s := <-tk.said; s != "heard" {
			t.Errorf("the server has got %q", s)
		}
	})
}

func TestHold(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		f.Hold(ipctest.ToServer)
		first, second := ask(t.Context(), c, "first"), ask(t.Context(), c, "second")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		want(t, <-ask(ctx, c, "third"), ipc.CodeDeadlineExceeded, ipc.NotExecuted)
		expectPending(t, first)
		if n := f.Passed(ipctest.ToServer); n != 0 || len(tk.said) != 0 {
			t.Errorf("%d messages have passed, %d arrived", n, len(tk.said))
		}
		f.Release(ipctest.ToServer)
		for _, r := range []<-chan error{first, second} {
			if err := <-r; err != nil {
				t.Error(err)
			}
		}
		if len(tk.said) != 2 {
			t.Errorf("the server has got %d calls, want 2", len(tk.said))
		}

		synctest.Wait()                         // the late answer of the third call has passed
		f.At(ipctest.ToClient, 2, ipctest.Hold) // the reply after the next
		still(t, c)
		held := ask(t.Context(), c, "held")
		expectPending(t, held)
		f.Release(ipctest.ToClient)
		if err := <-held; err != nil {
			t.Error(err)
		}
		still(t, c)
	})
}

// TestHoldFillsTheRing shows that a side whose peer does not read must wait, and that no message is
// lost meanwhile.
func TestHoldFillsTheRing(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, _ *ipc.Conn) {
		c := ipctest.Dial(t, f, "talk", ipc.WithRings(4096, 4096))
		f.Hold(ipctest.ToServer)
		n := 0
		for ; ; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := ipc.Send(ctx, c, tell, &text{fmt.Sprint(n)})
			cancel()
			if err != nil {
				want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent)
				break
			}
		}
		if n == 0 || n > 4096/32 {
			t.Errorf("%d messages went into a ring of 4096 bytes", n)
		}
		f.Release(ipctest.ToServer)
		for i := range n {
			if s := <-tk.told; s != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, s)
			}
		}
	})
}

func TestDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		f.Delay(ipctest.ToServer, time.Second)
		f.Delay(ipctest.ToClient, time.Minute)
		start := time.Now()
		var results [10]<-chan error
		for i := range results {
			results[i] = ask(t.Context(), c, fmt.Sprint(i))
		}
		for _, r := range results { // none waits for another
			if err := <-r; err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start); d != time.Minute+time.Second {
			t.Errorf("the replies took %v", d)
		}
		f.Delay(ipctest.ToServer, 0)
		f.Delay(ipctest.ToClient, 0)
		start = time.Now()
		still(t, c)
		if d := time.Since(start); d != 0 {
			t.Errorf("the reply took %v", d)
		}
	})
}

func TestDropAndDuplicate(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		f.At(ipctest.ToServer, 1, ipctest.Drop)
		f.At(ipctest.ToServer, 3, ipctest.Duplicate)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		want(t, <-ask(ctx, c, "dropped"), ipc.CodeDeadlineExceeded, ipc.OutcomeUnknown)
		still(t, c)
		for _, s := range []string{"a", "b"} {
			if err := ipc.Send(t.Context(), c, tell, &text{s}); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"a", "a", "b"} {
			if s := <-tk.told; s != want {
				t.Errorf("message %q, want %q", s, want)
			}
		}

		f.At(ipctest.ToClient, 1, ipctest.Duplicate)
		still(t, c)
		still(t, c)
		synctest.Wait()
		if s := c.Stats(); s.Dropped != 1 {
			t.Errorf("%d replies dropped, want the duplicate", s.Dropped)
		}
	})
}

// TestLargeMessages shows that a fault applies to all pieces of a message.
func TestLargeMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, _ *ipc.Conn) {
		c := ipctest.Dial(t, f, "talk", ipc.WithRings(4096, 4096))
		large := func(c byte) string { return string(make([]byte, 20_000)) + string(c) }
		f.At(ipctest.ToServer, 1, ipctest.Drop)
		f.At(ipctest.ToServer, 2, ipctest.Duplicate)
		f.At(ipctest.ToServer, 3, ipctest.Corrupt)
		for _, b := range []byte("abcd") {
			if err := ipc.Send(t.Context(), c, tell, &text{large(b)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range []byte("bbd") {
			if s := <-tk.told; s != large(b) {
				t.Errorf("a message of %d bytes ends with %q, want %q", len(s), s[len(s)-1], b)
			}
		}
		if n := f.Passed(ipctest.ToServer); n != 4 {
			t.Errorf("%d messages passed", n)
		}
	})
}

func TestCorruptAndBreak(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		f.At(ipctest.ToServer, 1, ipctest.Corrupt)
		want(t, <-ask(t.Context(), c, "damaged"), ipc.CodeInvalidArgument, ipc.NotExecuted)
		f.At(ipctest.ToClient, 1, ipctest.Corrupt)
		want(t, <-ask(t.Context(), c, "damaged"), ipc.CodeCorrupt, ipc.Executed)
		still(t, c)

		f.At(ipctest.ToClient, 1, ipctest.Break)
		err := <-ask(t.Context(), c, "broken")
		want(t, err, ipc.CodeCorrupt, ipc.OutcomeUnknown)
		if !errors.Is(err, ipc.ErrCorrupt) {
			t.Errorf("%v is no ErrCorrupt", err)
		}
		<-c.Done()

		c = ipctest.Dial(t, f, "talk")
		f.At(ipctest.ToServer, 1, ipctest.Break)
		want(t, <-ask(t.Context(), c, "broken"), ipc.CodeUnavailable, ipc.OutcomeUnknown)
		<-c.Done()
	})
}

// TestServerGone ends a server, in each way, while it has not taken what a client has sent: short
// and long calls, and the opening of a streaming call. They are on their way, or already in the
// server's ring, which it does not read because it handles a call there. Only that one may have
// been executed.
func TestServerGone(t *testing.T) {
	list := ipc.NewMethod(talk, ipc.MethodSpec[text, text]{Name: "List", ID: id("List"),
		Streaming: ipc.ServerStreaming, EncodeRequest: encode, DecodeReply: decode})
	busy := ipc.NewMethod(talk, ipc.MethodSpec[text, text]{Name: "Busy", ID: id("Busy"),
		EncodeRequest: encode, DecodeReply: decode})
	for _, inRing := range []bool{false, true} {
		for _, drained := range []bool{false, true} {
			if inRing && drained {
				continue // Shutdown waits for the call
			}
			synctest.Test(t, func(t *testing.T) {
				n := ipctest.NewNetwork()
				began, over := make(chan struct{}), make(chan struct{})
				srv := ipctest.Serve(t, n, "talk", ipc.NewService(talk,
					ipc.HandleInPlace(busy, func(context.Context, []byte,
						*ipc.ReplyBuilder) error {
						close(began)
						<-over
						return nil
					})), ipc.WithTrustedClients())
				f := n.Faulty()
				c := ipctest.Dial(t, f, "talk", ipc.WithRings(64<<10, 64<<10))
				if inRing {
					go func() {
						_, err := ipc.Invoke(t.Context(), c, busy, &text{})
						want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown)
					}()
					<-began
				} else {
					f.Delay(ipctest.ToServer, time.Hour)
				}
				f.At(ipctest.ToServer, 2, ipctest.Duplicate)
				results := []<-chan error{ask(t.Context(), c, "short"), ask(t.Context(), c, "too"),
					ask(t.Context(), c, string(make([]byte, 20_000)))}
				opened := make(chan error, 1)
				go func() {
					for _, err := range ipc.InvokeServerStream(t.Context(), c, list, &text{}) {
						opened <- err
					}
				}()
				synctest.Wait()
				start, end := time.Now(), func(context.Context) error { return srv.Close() }
				if drained {
					end = srv.Shutdown
				}
				ended := make(chan error, 1)
				go func() { ended <- end(t.Context()) }()
				for _, r := range append(results, opened) {
					want(t, <-r, ipc.CodeUnavailable, ipc.NotExecuted)
				}
				if time.Since(start) > 0 {
					t.Error("the calls end later than the connection")
				}
				close(over)
				if err := <-ended; err != nil {
					t.Error(err)
				}
				<-c.Done()
			})
		}
	}
}

func TestRefuse(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		cause := errors.New("out of files")
		f.Refuse(cause)
		_, err := f.Dial(t.Context(), "talk")
		want(t, err, ipc.CodeUnavailable, ipc.NotSent)
		if !errors.Is(err, cause) {
			t.Errorf("%v is not the error given", err)
		}
		still(t, c)
		f.Refuse(nil)
		still(t, ipctest.Dial(t, f, "talk"))
	})
}

// TestCloseWhileHeld shows that messages sent before Close are delivered, also if they are held at
// that time.
func TestCloseWhileHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, tk *talker, f *ipctest.Faults, c *ipc.Conn) {
		f.Hold(ipctest.ToServer)
		if err := ipc.Send(t.Context(), c, tell, &text{"testament"}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		synctest.Wait()
		if len(tk.told) != 0 {
			t.Errorf("the server has got %q", <-tk.told)
		}
		f.Release(ipctest.ToServer)
		if s := <-tk.told; s != "testament" {
			t.Errorf("the server has got %q", s)
		}
	})
}
