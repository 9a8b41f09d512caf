package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// pattern returns n bytes that tell which message they belong to.
func pattern(i, n int) []byte {
	return bytes.Repeat([]byte{byte(i), byte(i >> 8), byte(n)}, n/3+1)[:n]
}

// mixed are lengths of messages that follow each other: longer and shorter, empty, and so long that
// other memory takes them.
func (v *venue) mixed() []int {
	return []int{64, 5000, 0, 3, v.longest(70_000), 10, 300, v.longest(100_000), 1, 4096}
}

// holding answers Long from the memory of the call, once gate is closed. A request that changes
// meanwhile is an error.
func holding(entered chan<- struct{}, gate <-chan struct{}) ipc.Route {
	return ipc.Handle(echo.Long, func(ctx context.Context, m *echo.Blob) (*echo.Blob, error) {
		first := bytes.Clone(m.Data)
		entered <- struct{}{}
		<-gate
		if !bytes.Equal(m.Data, first) {
			return nil, errors.New("the request has changed")
		}
		rep := ipc.Scratch[echo.Blob](ctx)
		*rep = echo.Blob{Data: append(rep.Data[:0], m.Data...)}
		return rep, nil
	})
}

// makeCalls makes calls of all lengths, whose requests take the memory that there is.
func (v *venue) makeCalls(t *testing.T, c ipc.Caller) {
	t.Helper()
	for range 3 {
		for i, n := range v.mixed() {
			if got, err := echo.Call(t.Context(), c, pattern(i, n)); err != nil ||
				!bytes.Equal(got, pattern(i, n)) {
				t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
			}
		}
	}
}

// recycledRequests keeps requests in their handlers, which must not change while others come.
func recycledRequests(t *testing.T, v *venue) {
	entered, gate := make(chan struct{}), make(chan struct{})
	outcome := make(chan error, 1) // of a handler whose interceptor does not wait for it
	abandoned := []byte("abandoned")
	v.host(echo.Service(holding(entered, gate)), ipc.WithRecycling(), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if m, ok := call.Request.(*echo.Blob); !ok || !bytes.Equal(m.Data, abandoned) {
				return next(ctx)
			}
			begun := make(chan struct{})
			go func() {
				close(begun)
				outcome <- next(context.WithoutCancel(ctx))
			}()
			<-begun
			entered <- struct{}{} // its handler, or this
			return ipc.Errorf(ipc.CodeResourceExhausted, "the handler takes too long")
		}))
	c := v.dial(t)
	left := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(t.Context(), c, echo.Long, &echo.Blob{Data: abandoned})
		left <- err
	}()
	<-entered
	<-entered // the handler, and the interceptor
	if err := <-left; ipc.CodeOf(err) != ipc.CodeResourceExhausted {
		t.Errorf("a handler that was left behind: %v", err)
	}
	const held = 4
	var wg sync.WaitGroup
	failed := make(chan error, held)
	for i := range held {
		wg.Go(func() {
			want := pattern(i, 1000*i+10)
			rep, err := ipc.Invoke(t.Context(), c, echo.Long, &echo.Blob{Data: want})
			if err == nil && !bytes.Equal(rep.Data, want) {
				err = errors.New("the reply is another one")
			}
			failed <- err
		})
	}
	for range held {
		<-entered
	}
	v.makeCalls(t, c)
	close(gate)
	wg.Wait()
	for range held {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if err := <-outcome; err != nil {
		t.Errorf("the handler that was left behind: %v", err)
	}
}

// recycledReplies has two Recyclers over one client. The reply of each stays as it is until its own
// next call.
func recycledReplies(t *testing.T, v *venue) {
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	close(gate)
	v.host(echo.Service(holding(entered, gate)), ipc.WithRecycling())
	c := v.dial(t)
	var recyclers [2]*ipc.Recycler
	for i := range recyclers {
		recyclers[i] = ipc.NewRecycler(c)
	}
	var replies [2]*echo.Blob
	var want [2][]byte
	for round := range 4 * len(v.mixed()) {
		i := round % 2
		want[i] = pattern(round, v.mixed()[round%len(v.mixed())])
		rep, err := ipc.Invoke(t.Context(), recyclers[i], echo.Long, &echo.Blob{Data: want[i]})
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		replies[i] = rep
		if rep, err := ipc.Invoke(t.Context(), recyclers[i], echo.Fail,
			&echo.Blob{Data: want[i]}); rep != nil || ipc.CodeOf(err) != ipc.CodeNotFound {
			t.Fatalf("%v, %v", rep, err)
		}
		echo.Still(t, c)
		for i, rep := range replies {
			if rep != nil && !bytes.Equal(rep.Data, want[i]) {
				t.Fatalf("round %d: a reply of %d bytes has changed", round, len(want[i]))
			}
		}
	}
	v.recyclerOfMany(t, c)
}

// recyclerOfMany calls through one Recycler from several goroutines: calls that would have the
// object of another one are refused.
func (v *venue) recyclerOfMany(t *testing.T, c ipc.Caller) {
	t.Helper()
	r := ipc.NewRecycler(c)
	var wg sync.WaitGroup
	var made atomic.Int64
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				_, err := ipc.Invoke(t.Context(), r, echo.Echo, &echo.Blob{Data: pattern(i, i)})
				if err == nil {
					made.Add(1)
				} else if ipc.CodeOf(err) != ipc.CodeFailedPrecondition ||
					ipc.OutcomeOf(err) != ipc.NotSent {
					t.Errorf("one of many: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if made.Load() == 0 {
		t.Error("no call was made")
	}
	v.makeCalls(t, r)
}

// recycledRepliesOfLateCalls ends calls before their replies come. No reply that comes late is
// written into what another call has.
func recycledRepliesOfLateCalls(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(svc, ipc.WithRecycling())
	c := v.dial(t)
	r := ipc.NewRecycler(c)
	block := func(ctx context.Context, data []byte) (rep *echo.Blob, result chan error) {
		rep, result = new(echo.Blob), make(chan error, 1)
		go func() {
			got, err := ipc.Invoke(ctx, r, echo.Block, &echo.Blob{Data: data})
			if err == nil {
				rep.Data = got.Data // where the Recycler has it
			}
			result <- err
		}()
		return rep, result
	}
	for i := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		_, result := block(ctx, pattern(i, 3000*i+100))
		await(t, entered, result)
		cancel()
		if err := <-result; ipc.CodeOf(err) != ipc.CodeCanceled {
			t.Errorf("a call that was cancelled: %v", err)
		}
	}
	want := pattern(6, 5000)
	rep, result := block(t.Context(), want)
	await(t, entered, result)
	release() // all of them answer now
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	v.makeCalls(t, c)
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			echo.Wait(i)
			cancel()
		}()
		data := pattern(i, 40*i)
		got, err := ipc.Invoke(ctx, r, echo.Echo, &echo.Blob{Data: data})
		if err == nil && !bytes.Equal(got.Data, data) ||
			err != nil && ipc.CodeOf(err) != ipc.CodeCanceled {
			t.Errorf("a call that is cancelled at any time: %v, %v", got, err)
		}
		<-done
	}
	if !bytes.Equal(rep.Data, want) {
		t.Error("a reply has changed when others came late")
	}
}

// recycledItems has the items of two calls at a time, and leaves a loop early.
func recycledItems(t *testing.T, v *venue) {
	v.host(echo.StreamingService(), echo.Service(), ipc.WithRecycling())
	c := v.dial(t)
	sizes := v.mixed()
	in := func(yield func(*echo.Blob, error) bool) {
		var item echo.Blob // once more and once more
		for i := range 3 * len(sizes) {
			item = echo.Blob{Data: pattern(i, sizes[i%len(sizes)])}
			if !yield(&item, nil) {
				return
			}
		}
	}
	call := func(r *ipc.Recycler) (func() (*echo.Blob, error, bool), func()) {
		return iter.Pull2(ipc.InvokeBidiStream(t.Context(), r, echo.Jam, in))
	}
	first, second := ipc.NewRecycler(c), ipc.NewRecycler(c)
	// takeTogether takes items of two calls in turn, and reports the last one, or an error.
	takeTogether := func(n int) (last *echo.Blob, err error) {
		next1, stop1 := call(first)
		defer stop1()
		next2, stop2 := call(second)
		defer stop2()
		for i := range n {
			want := pattern(i, sizes[i%len(sizes)])
			one, err1, _ := next1()
			two, err2, _ := next2()
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			if !bytes.Equal(one.Data, want) || !bytes.Equal(two.Data, want) {
				return nil, fmt.Errorf("item %d is another one", i)
			}
			last = one
		}
		if n == 3*len(sizes) {
			if item, err, more := next1(); more {
				return nil, fmt.Errorf("behind the last item: %v, %w", item, err)
			}
		}
		return last, nil
	}
	for range 2 {
		last, err := takeTogether(len(sizes))
		if err != nil {
			t.Fatal(err)
		}
		want := pattern(len(sizes)-1, sizes[len(sizes)-1])
		v.makeCalls(t, c)
		if !bytes.Equal(last.Data, want) {
			t.Error("an item has changed when its loop was left")
		}
		if _, err := takeTogether(3 * len(sizes)); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := ipc.InvokeClientStream(t.Context(), first, echo.Upload, echo.Items("a", "b", "c"))
	if err != nil || string(rep.Data) != "abc" {
		t.Errorf("upload: %v, %v", rep, err)
	}
	v.makeCalls(t, first)
}

// recycledMessages sends messages of every length, whose handler keeps each until it returns.
func recycledMessages(t *testing.T, v *venue) {
	const rounds = 20
	sizes := v.mixed()
	done := make(chan error, 1)
	n, over := 0, t.Context()
	v.host(echo.Service(ipc.Receive(echo.Note, func(_ context.Context, m *echo.Blob) error {
		want := pattern(n, sizes[n%len(sizes)])
		echo.Wait(n % 3 * 20) // more of them wait meanwhile
		if n++; !bytes.Equal(m.Data, want) {
			select {
			case done <- errors.New("a message has changed"):
			case <-over.Done():
			}
		} else if n == rounds*len(sizes) {
			done <- nil
		}
		return nil
	})), ipc.WithRecycling())
	c := v.dialSender(t)
	sent := make(chan error, 1)
	go func() {
		for i := range rounds * len(sizes) {
			if err := ipc.Send(t.Context(), c, echo.Note,
				&echo.Blob{Data: pattern(i, sizes[i%len(sizes)])}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	echo.Still(t, c)
}
