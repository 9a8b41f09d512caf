package ipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// borrowing returns a method whose replies, and items, are recycled: their data lie in the received
// message. One that begins with "bad" cannot be decoded, and is half decoded then.
func borrowing(name string, kind ipc.Streaming) *ipc.Method[blob, blob] {
	return ipc.NewMethod(echoProtocol, ipc.MethodSpec[blob, blob]{
		Name: name, ID: idOf("test.Echo/" + name), Streaming: kind, Idempotent: true,
		EncodeRequest: encodeBlob, DecodeRequest: decodeBlob, DecodeReply: decodeBlob,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, m *blob) error {
			return encodeBlob(b, 0, m)
		},
		RecycleReply: func(buf []byte, m *blob) (uint64, error) {
			at := binary.LittleEndian.Uint32(buf)
			n := binary.LittleEndian.Uint32(buf[at:])
			m.Data = buf[at+4 : at+4+n]
			if n >= 3 && string(m.Data[:3]) == "bad" {
				return 0, errors.New("on purpose")
			}
			return 0, nil
		},
	})
}

// A reply is valid until the next call, and its object is that of the next one.
func TestRecycler(t *testing.T) {
	m := borrowing("Borrow", ipc.Unary)
	conn := ipctest.Pipe(t, echoes(ipc.Handle(m, func(_ context.Context,
		req *blob) (*blob, error) {
		if string(req.Data) == "fail" {
			return nil, errors.New("on purpose")
		}
		return req, nil
	})))
	r := ipc.NewRecycler(conn)
	call := func(data string) (*blob, error) {
		return ipc.Invoke(t.Context(), r, m, &blob{Data: []byte(data)})
	}
	first, err := call("first")
	if err != nil || string(first.Data) != "first" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := call("second")
	if err != nil || second != first || string(second.Data) != "second" {
		t.Fatalf("%+v in %p after %p, %v", second, second, first, err)
	}
	for _, wrong := range []string{"bad", "fail"} {
		before, err := call("before")
		if err != nil {
			t.Fatal(err)
		}
		if rep, err := call(wrong); rep != nil || err == nil {
			t.Fatalf("%q: %+v, %v", wrong, rep, err)
		}
		after, err := call("after")
		if err != nil || after == before || string(after.Data) != "after" {
			t.Errorf("%q: used again: %v, %+v, %v", wrong, after == before, after, err)
		}
	}
	if _, err := ipc.Invoke(t.Context(), ipc.NewRecycler(nil), m, &blob{}); err == nil {
		t.Error("a Recycler over nothing has called")
	}
	var none *ipc.Recycler
	if _, err := ipc.Invoke(t.Context(), none, m, &blob{}); err == nil {
		t.Error("a nil Recycler has called")
	}
	var own blob
	if err := r.Invoke(t.Context(), ipc.Call{Method: m.Info(), Request: &blob{Data: []byte("x")},
		Reply: &own}); err != nil || string(own.Data) != "x" {
		t.Errorf("a call with an object of its own: %+v, %v", own, err)
	}
}

// What an interceptor, or a fake, puts in place of a reply remains its own.
func TestRecyclerLeavesObjectsOfOthersAlone(t *testing.T) {
	m := borrowing("Borrow", ipc.Unary)
	cached := &blob{Data: []byte("cached")}
	var seen *blob
	network := ipctest.NewNetwork()
	ipctest.Serve(t, network, "echo", echoes(ipc.Handle(m, func(_ context.Context,
		req *blob) (*blob, error) {
		return req, nil
	})))
	conn := ipctest.Dial(t, network, "echo", ipc.WithClientInterceptor(func(ctx context.Context,
		call ipc.Call, next ipc.Caller) error {
		switch string(call.Request.(*blob).Data) {
		case "cached":
			*call.Reply.(*blob) = *cached
			return nil
		case "copied":
			own := &blob{}
			rep := call.Reply
			call.Reply = own
			err := next.Invoke(ctx, call)
			seen = own
			*rep.(*blob) = *own
			return err
		}
		return next.Invoke(ctx, call)
	}))
	r := ipc.NewRecycler(conn)
	var last *blob
	for _, data := range []string{"a", "cached", "b", "copied", "c", "d"} {
		rep, err := ipc.Invoke(t.Context(), r, m, &blob{Data: []byte(data)})
		if err != nil || string(rep.Data) != data {
			t.Fatalf("%q: %+v, %v", data, rep, err)
		}
		if reused := rep == last; reused != (data == "d" || data == "cached" || data == "copied") {
			t.Errorf("%q: the object of the reply before: %v", data, reused)
		}
		last = rep
	}
	if string(cached.Data) != "cached" || string(seen.Data) != "copied" {
		t.Errorf("an object of the interceptor's has become %q, %q", cached.Data, seen.Data)
	}
}

// An interceptor that answers by itself, or calls another method, finds an empty reply, as ever.
func TestRecyclerShowsEmptyReplies(t *testing.T) {
	m, other := borrowing("Borrow", ipc.Unary), streamingMethod("Other", ipc.ServerStreaming)
	flow := borrowing("Flow", ipc.ServerStreaming)
	items := func(_ context.Context, req *blob) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			for range 2 {
				if !yield(req, nil) {
					return
				}
			}
		}
	}
	network := ipctest.NewNetwork()
	ipctest.Serve(t, network, "echo", echoes(ipc.Handle(m, func(_ context.Context,
		req *blob) (*blob, error) {
		return req, nil
	}), ipc.HandleServerStream(flow, items), ipc.HandleServerStream(other, items)))
	conn := ipctest.Dial(t, network, "echo", ipc.WithClientInterceptor(func(ctx context.Context,
		call ipc.Call, next ipc.Caller) error {
		if call.Reply != nil && call.Reply.(*blob).Data != nil {
			t.Errorf("before the call, the reply is %q", call.Reply.(*blob).Data)
		}
		switch string(call.Request.(*blob).Data) {
		case "nothing":
			return nil // the reply is empty
		case "twice":
			if err := next.Invoke(ctx, call); err != nil {
				return err
			}
		case "other":
			call.Method = other.Info()
		}
		return next.Invoke(ctx, call)
	}))
	r := ipc.NewRecycler(conn)
	for _, data := range []string{"a", "nothing", "b", "twice", "c"} {
		rep, err := ipc.Invoke(t.Context(), r, m, &blob{Data: []byte(data)})
		if err != nil || string(rep.Data) != data && (data != "nothing" || len(rep.Data) > 0) {
			t.Errorf("%q: %+v, %v", data, rep, err)
		}
	}
	for _, data := range []string{"a", "other", "b", "other"} {
		n := 0
		for item, err := range ipc.InvokeServerStream(t.Context(), r, flow,
			&blob{Data: []byte(data)}) {
			if err != nil || string(item.Data) != data {
				t.Fatalf("%q: %+v, %v", data, item, err)
			}
			n++
		}
		if n != 2 {
			t.Errorf("%q: %d items", data, n)
		}
	}
}

// A call that is tried again, and one that goes on at the next server, has the reply of its last
// attempt, whatever became of the others.
func TestRecyclerOfRetries(t *testing.T) {
	spec := borrowing("Borrow", ipc.Unary)
	network := ipctest.NewNetwork()
	var attempts atomic.Int32
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	serve := func(answer string) *ipc.Server {
		return ipctest.Serve(t, network, "echo", echoes(ipc.Handle(spec, func(_ context.Context,
			req *blob) (*blob, error) {
			switch string(req.Data) {
			case "again":
				if attempts.Add(1)%3 != 0 {
					return &blob{Data: []byte("bad, and long")}, nil // which is half decoded
				}
			case "wait":
				select {
				case entered <- struct{}{}:
				default:
				}
				if answer == "first" {
					<-leave
				}
			}
			return &blob{Data: append([]byte(answer+" "), req.Data...)}, nil
		})), ipc.WithRecycling())
	}
	first := serve("first")
	client, err := ipc.Connect("echo", network, ipc.WithRetry(ipc.RetryPolicy{Attempts: 3,
		Backoff: time.Microsecond, MaxTokens: 1000, Codes: []ipc.Code{ipc.CodeCorrupt}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := ipc.NewRecycler(client)
	call := func(data, want string) {
		t.Helper()
		rep, err := ipc.Invoke(t.Context(), r, spec, &blob{Data: []byte(data)})
		if err != nil || string(rep.Data) != want {
			t.Errorf("%q: %+v, %v", data, rep, err)
		}
	}
	for range 5 {
		call("once", "first once")
		call("again", "first again")
	}
	if attempts.Load() != 15 {
		t.Errorf("%d attempts", attempts.Load())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		call("wait", "second wait")
	}()
	<-entered
	first.Close()
	serve("second")
	<-done
	call("once", "second once")
	close(leave) // the handler of the first server answers no connection
	call("again", "second again")
}

// An interceptor may return before the handler. The handler of a message then holds up the next
// one, and that of a call in place its own call, whose memory it has.
func TestHandlersThatAreLeftBehind(t *testing.T) {
	aside, note := echoMethod("Aside"), messageNote
	began, leave := make(chan struct{}, 1), make(chan struct{})
	handled := make(chan string, 2)
	network := ipctest.NewNetwork()
	ipctest.Serve(t, network, "echo", echoes(
		ipc.HandleInPlace(aside, func(_ context.Context, req []byte,
			reply *ipc.ReplyBuilder) error {
			began <- struct{}{}
			<-leave
			var m blob
			if _, err := decodeBlob(req, &m); err != nil {
				return err
			}
			handled <- string(m.Data)
			return nil
		}),
		ipc.Receive(note, func(_ context.Context, m *blob) error {
			began <- struct{}{}
			if string(m.Data) == "first" {
				<-leave
			}
			handled <- string(m.Data)
			return nil
		})), ipc.WithRecycling(), ipc.WithServerInterceptor(func(ctx context.Context,
		_ *ipc.ServerCall, next func(context.Context) error) error {
		go next(ctx)
		<-began
		return errors.New("left behind")
	}))
	conn := ipctest.Dial(t, network, "echo")
	done := make(chan error)
	go func() {
		_, err := ipc.Invoke(t.Context(), conn, aside, &blob{Data: []byte("aside")})
		done <- err
	}()
	leave <- struct{}{}
	if err := <-done; err == nil {
		t.Error("a call whose interceptor has failed has a reply")
	}
	if s := <-handled; s != "aside" {
		t.Errorf("the request of a call in place has become %q", s)
	}
	for _, data := range []string{"first", "second"} {
		if err := ipc.Send(t.Context(), conn, note, &blob{Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	leave <- struct{}{}
	if a, b := <-handled, <-handled; a != "first" || b != "second" {
		t.Errorf("the messages were %q and %q", a, b)
	}
}

// A method is called once at a time, as its reply, or its item, is in use.
func TestRecyclerBelongsToOneCall(t *testing.T) {
	m, flow := borrowing("Borrow", ipc.Unary), borrowing("Flow", ipc.ServerStreaming)
	entered, leave := make(chan struct{}), make(chan struct{})
	conn := ipctest.Pipe(t, echoes(
		ipc.Handle(m, func(_ context.Context, req *blob) (*blob, error) {
			if string(req.Data) == "wait" {
				close(entered)
				<-leave
			}
			return req, nil
		}),
		ipc.HandleServerStream(flow, func(context.Context, *blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				for _, data := range []string{"one", "two", "three"} {
					if !yield(&blob{Data: []byte(data)}, nil) {
						return
					}
				}
			}
		})))
	r := ipc.NewRecycler(conn)
	refused := func(err error) {
		t.Helper()
		if ipc.CodeOf(err) != ipc.CodeFailedPrecondition || ipc.OutcomeOf(err) != ipc.NotSent {
			t.Errorf("a second call: %v", err)
		}
	}
	done := make(chan error)
	go func() {
		rep, err := ipc.Invoke(t.Context(), r, m, &blob{Data: []byte("wait")})
		if err == nil && string(rep.Data) != "wait" {
			err = errors.New(string(rep.Data))
		}
		done <- err
	}()
	<-entered
	_, err := ipc.Invoke(t.Context(), r, m, &blob{})
	refused(err)
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	var items []string
	used := make(map[*blob]bool)
	for item, err := range ipc.InvokeServerStream(t.Context(), r, flow, &blob{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range ipc.InvokeServerStream(t.Context(), r, flow, &blob{}) {
			refused(err)
		}
		if _, err := ipc.Invoke(t.Context(), r, m, &blob{}); err != nil { // another method
			t.Error(err)
		}
		items = append(items, string(item.Data))
		used[item] = true
	}
	if len(items) != 3 || items[2] != "three" || len(used) != 1 {
		t.Errorf("items %q in %d objects", items, len(used))
	}
	for item := range ipc.InvokeServerStream(t.Context(), r, flow, &blob{}) {
		if !used[item] {
			t.Error("a loop that was not left early by a failure has lost its object")
		}
		break
	}
}

// Items that are received step by step are new objects: the code has them while the call goes on.
func TestRecyclerStepByStep(t *testing.T) {
	m := borrowing("Talk", ipc.BidiStreaming)
	conn := ipctest.Pipe(t, echoes(ipc.HandleBidiStream(m, func(_ context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return in
	})))
	r := ipc.NewRecycler(conn)
	s := ipc.OpenBidiStream(t.Context(), func(ctx context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return ipc.InvokeBidiStream(ctx, r, m, in)
	})
	var got []*blob
	for _, data := range []string{"one", "two", "six"} {
		if err := s.Send(&blob{Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
		item, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item)
	}
	s.CloseSend()
	for i, data := range []string{"one", "two", "six"} {
		if string(got[i].Data) != data {
			t.Errorf("item %d has become %q", i, got[i].Data)
		}
	}
}

// After a long reply and many short ones, the Recycler has no more memory than those need.
func TestRecyclerLetsLongRepliesGo(t *testing.T) {
	m := echoMethod("Own") // whose objects have memory of their own
	conn := ipctest.Pipe(t, echoes(ipc.Handle(m, func(_ context.Context,
		req *blob) (*blob, error) {
		return req, nil
	})))
	r := ipc.NewRecycler(conn)
	call := func(n int) *blob {
		rep, err := ipc.Invoke(t.Context(), r, m, &blob{Data: make([]byte, n)})
		if err != nil || len(rep.Data) != n {
			t.Fatalf("%d bytes: %v", n, err)
		}
		return rep
	}
	if long := call(1 << 20); cap(long.Data) < 1<<20 {
		t.Fatal("the test measures nothing")
	}
	first := call(10)
	for range 100 {
		if rep := call(10); rep != first {
			if cap(rep.Data) > 1<<10 {
				t.Errorf("a new object of %d bytes", cap(rep.Data))
			}
			return
		}
	}
	t.Error("100 short replies are in the object of a long one")
}
