package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// serverTellsOfItself shows what a tool learns of a server without any schema, whatever the limits
// of the connection are.
func serverTellsOfItself(t *testing.T, v ipc.RendezvousOption) {
	long := strings.Repeat("definition ", 100_000)
	shown := *echoProtocol
	shown.Definition = long
	other := &ipc.Protocol{Name: "test.Other", Fingerprint: 5, Definition: long}
	host(t, v, ipc.WithMaxConns(77), ipc.WithMaxCalls(33), ipc.NewService(&shown),
		ipc.NewService(other), ipc.NewService(&ipc.Protocol{Name: "test.Plain"}),
		ipc.HandleStreamReader(blockStream,
			func(context.Context, *ipc.StreamReader) error { return nil }))
	c := dial(t, v, ipc.WithMaxMessage(4000))
	d, err := ipc.Describe(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if d.Pid == 0 || d.Started == 0 || !strings.HasPrefix(d.Go, "go1.") || d.Fenced {
		t.Errorf("it is %+v", d)
	}
	if l := d.Limits; l.MaxConns != 77 || l.MaxCalls != 33 ||
		l.MaxMessage != ipc.DefaultMaxMessage || l.RingToServer != ipc.DefaultRingCapacity {
		t.Errorf("limits %+v", l)
	}
	want := []introspect.ProtocolT{
		{Name: "test.Echo", Fingerprint: 1, Definition: 0},
		{Name: "test.Other", Fingerprint: 5, Definition: 0},
		{Name: "test.Plain", Definition: -1},
		{Name: "test.Block", Fingerprint: 7, Definition: -1, Stream: true},
	}
	if len(d.Protocols) != len(want) {
		t.Fatalf("%d protocols", len(d.Protocols))
	}
	for i, p := range d.Protocols {
		if *p != want[i] {
			t.Errorf("protocol %+v, want %+v", *p, want[i])
		}
	}
	if len(d.Definitions) != 1 || int(d.Definitions[0]) != len(long) {
		t.Fatalf("definitions of %v bytes", d.Definitions)
	}
	got, err := ipc.ReadDefinition(t.Context(), c, 0)
	if err != nil || !bytes.Equal(got, []byte(long)) {
		t.Errorf("a definition of %d bytes, %v", len(got), err)
	}
	_, err = ipc.ReadDefinition(t.Context(), c, 1)
	if ipc.CodeOf(err) != ipc.CodeNotFound {
		t.Errorf("a definition that is not there: %v", err)
	}
	protocols, err := c.Protocols()
	if err != nil || len(protocols) != 3 {
		t.Errorf("the hello has %d protocols, %v", len(protocols), err)
	}
}

// serverCounts shows that a server counts what it handles by method, from the first request for the
// counters on.
func serverCounts(t *testing.T, v ipc.RendezvousOption) {
	noted := make(chan string, 10)
	srv := host(t, v, everything(notes(noted))...)
	c := dial(t, v)
	still(t, c)
	before := counters(t, c)
	if before.Since == 0 || before.At < before.Since || before.Clients != 1 {
		t.Errorf("counters %+v", before)
	}
	for _, m := range before.Methods { // the call may be in flight still, see below
		if m.Done != 0 || m.InFlight != 0 && m.Name != "Echo" {
			t.Errorf("%s has %d calls already, and %d in flight", m.Name, m.Done, m.InFlight)
		}
	}
	other := dial(t, v)
	for range 3 {
		still(t, other)
	}
	if _, err := ipc.Invoke(t.Context(), other, methodFail, &blob{}); err == nil {
		t.Error("no error")
	}
	if _, err := ipc.Invoke(t.Context(), other, methodPanic, &blob{}); err == nil {
		t.Error("no panic")
	}
	if err := aside(t.Context(), other, nil); err != nil {
		t.Error(err)
	}
	if err := note(t.Context(), other, "x"); err != nil {
		t.Error(err)
	}
	<-noted
	pending := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(t.Context(), c, methodBlock, &blob{})
		pending <- err
	}()
	other.Close()
	for srv.Conns() > 1 {
		runtime.Gosched()
	}
	var now *introspect.CountersT
	of := make(map[string]*introspect.MethodCountersT)
	// A call is in flight until its goroutine ends, a moment after its answer.
	for late := time.Now().Add(time.Minute); now == nil || of["Block"].InFlight == 0 ||
		now.CallsInFlight > 1 && time.Now().Before(late); {
		now = counters(t, c)
		for _, m := range now.Methods {
			of[m.Name] = m
		}
	}
	if now.CallsInFlight != 1 || now.Clients != 1 {
		t.Errorf("%d calls in flight, %d clients", now.CallsInFlight, now.Clients)
	}
	if now.Received < before.Received+7 { // those of the connection that has ended
		t.Errorf("%d messages, then %d", before.Received, now.Received)
	}
	for name, code := range map[string]ipc.Code{"Echo": 0, "Fail": ipc.CodeNotFound,
		"Panic": ipc.CodeInternal, "Aside": 0, "Note": 0} {
		m := of[name]
		done := uint64(1)
		if name == "Echo" {
			done = 3
		}
		var sum uint64
		for _, n := range m.Histogram {
			sum += n
		}
		if m.Protocol != "test.Echo" || m.Done != done || sum != done || m.InFlight != 0 ||
			m.Message != (name == "Note") {
			t.Errorf("%s: %+v", name, m)
		}
		switch {
		case code == 0 && len(m.Errors) == 0:
		case code != 0 && len(m.Errors) == 1 && *m.Errors[0] ==
			introspect.ErrorCountT{Code: uint32(code), Count: 1}:
		default:
			t.Errorf("%s: errors %+v", name, m.Errors)
		}
	}
	ipc.StopCounting(srv)
	still(t, c)
	if again := counters(t, c); again.Since <= now.Since {
		t.Error("it counts although nobody has asked")
	} else if len(again.Methods) > 0 && again.Methods[0].Done != 0 {
		t.Error("it has counted before it was asked")
	} else {
		for _, m := range again.Methods { // what hangs is told to who comes later
			streams := slices.Contains([]string{"Upload", "Count", "Jam"}, m.Name)
			if (m.InFlight == 1) != (m.Name == "Block") || m.Streaming != streams {
				t.Errorf("%s of before: %d in flight, streaming %t", m.Name, m.InFlight,
					m.Streaming)
			}
		}
	}
	srv.Close()
	<-pending
}

func counters(t *testing.T, c ipc.Caller) *introspect.CountersT {
	t.Helper()
	all, err := ipc.ReadCounters(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// whoMayAsk shows that a server answers questions about itself only to processes that it allows to
// ask.
func whoMayAsk(t *testing.T, v ipc.RendezvousOption) {
	var asked atomic.Int64
	var refusal atomic.Pointer[string]
	srv := host(t, v, echoService(), ipc.WithFence(closedFence{}),
		ipc.WithIntrospection(func(p ipc.Peer) error {
			asked.Store(int64(p.PID))
			if why := refusal.Load(); why != nil {
				return errors.New(*why)
			}
			return nil
		}))
	c := dial(t, v)
	if d, err := ipc.Describe(t.Context(), c); err != nil || !d.Fenced || d.Epoch != 9 {
		t.Errorf("behind a fence: %+v, %v", d, err)
	}
	if asked.Load() == 0 {
		t.Error("nobody was asked")
	}
	why := "not today"
	refusal.Store(&why)
	_, err := ipc.ReadCounters(t.Context(), c)
	want(t, err, ipc.CodePermissionDenied, ipc.NotExecuted, "not today")
	_, err = ipc.ReadDefinition(t.Context(), c, 0)
	want(t, err, ipc.CodePermissionDenied, ipc.NotExecuted, "not today")
	srv.Close()

	srv = host(t, v, echoService(), ipc.WithIntrospection(nil))
	c = dial(t, v)
	_, err = ipc.Describe(t.Context(), c)
	want(t, err, ipc.CodeUnimplemented, ipc.NotExecuted, "no method")
	srv.Close()
}

// A closedFence is that of a standby: it admits no call.
type closedFence struct{}

func (closedFence) Admit(uint64) error { return errors.New("a standby") }
func (closedFence) Epoch() uint64      { return 9 }

// tapsShowEverything shows that a tap has what another client does, beginning and end, and that it
// ends with its connection.
func tapsShowEverything(t *testing.T, v ipc.RendezvousOption) {
	noted := make(chan string, 10)
	srv := host(t, v, everything(notes(noted))...)
	c, watcher := dial(t, v), dial(t, v)
	tap, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	some, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{MaxBody: 10,
		Methods: []string{"test.Echo/Fail", "test.Echo/Nothing", "test.Other/Echo"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := echo(t.Context(), c, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	_, err = ipc.Invoke(t.Context(), c, methodFail,
		&blob{Data: []byte("what fails for a long time")})
	if err == nil {
		t.Fatal("no error")
	}
	if err := aside(t.Context(), c, []byte("aside")); err != nil {
		t.Fatal(err)
	}
	if err := note(t.Context(), c, "note"); err != nil {
		t.Fatal(err)
	}
	<-noted
	records := readTap(t, tap, 8)
	begun := make(map[uint64]*introspect.TapRecordT)
	for i, want := range []struct{ name, body, reply, text string }{
		{"Echo", "hello", "hello", ""},
		{"Fail", "what fails for a long time", "", "what fails"},
		{"Aside", "aside", "aside", ""},
		{"Note", "note", "", ""},
	} {
		r, end := records[2*i], records[2*i+1]
		kind := introspect.TapKindRequest
		if want.name == "Note" {
			kind = introspect.TapKindMessage
		}
		if r.Kind != kind || r.Name != want.name || r.Protocol != "test.Echo" || r.Pid == 0 ||
			r.At == 0 || begun[r.Call] != nil || !holds(r, want.body) {
			t.Errorf("%s: %+v", want.name, r)
		}
		begun[r.Call] = r
		if end.Kind != introspect.TapKindEnd || end.Call != r.Call || end.At < r.At ||
			!holds(end, want.reply) || !strings.Contains(end.Text, want.text) ||
			(end.Code != 0) != (want.text != "") {
			t.Errorf("the end of %s: %+v", want.name, end)
		}
	}
	records = readTap(t, some, 2)
	if r := records[0]; r.Name != "Fail" || len(r.Body) != 10 || r.Length <= 10 {
		t.Errorf("a tap of one method has %+v", r)
	}
	if err := some.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_, _, err = some.Read(t.Context())
	want(t, err, ipc.CodeNotFound, ipc.Executed, "no tap")
	for range 3 {
		if _, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{}); err != nil {
			t.Error(err)
		}
	}
	_, err = ipc.OpenTap(t.Context(), c, ipc.TapOptions{})
	want(t, err, ipc.CodeResourceExhausted, ipc.NotExecuted, "four taps")
	watcher.Close()
	for srv.Conns() > 1 {
		runtime.Gosched()
	}
	if _, err = ipc.OpenTap(t.Context(), c, ipc.TapOptions{}); err != nil {
		t.Errorf("after the client with the taps: %v", err)
	}
}

// holds reports whether the body of a record is that of a blob.
func holds(r *introspect.TapRecordT, data string) bool {
	if data == "" {
		return len(r.Body) == 0
	}
	var m blob
	_, err := decodeBlob(r.Body, &m)
	return err == nil && string(m.Data) == data && int(r.Length) == len(r.Body)
}

// readTap reads so many records from a tap that loses none.
func readTap(t *testing.T, tap *ipc.Tap, n int) (all []*introspect.TapRecordT) {
	t.Helper()
	for len(all) < n {
		records, lost, err := tap.Read(t.Context())
		if err != nil || lost != 0 {
			t.Fatalf("%d lost, %v", lost, err)
		}
		all = append(all, records...)
	}
	if len(all) != n {
		t.Fatalf("%d records instead of %d", len(all), n)
	}
	return all
}

// tapsLose shows that the server does not wait for a tap that is not read, and that the memory of
// such a tap is bounded.
func tapsLose(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	c, watcher := dial(t, v), dial(t, v)
	tap, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{MaxBody: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	const calls = 8
	for range calls {
		if _, err := echo(t.Context(), c, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	seen, lost := 0, uint64(0)
	for seen+int(lost) < 2*calls {
		var records []*introspect.TapRecordT
		if records, lost, err = tap.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen += len(records)
	}
	if seen == 0 || lost < calls || seen+int(lost) != 2*calls {
		t.Errorf("%d records, %d lost", seen, lost)
	}
}

// tapsOfMany shows that a tap with room loses nothing, however many goroutines handle calls, and
// that a reader which takes records until there are none has all of them.
func tapsOfMany(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	watcher := dial(t, v)
	tap, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const clients, calls = 8, 200
	var ends sync.WaitGroup
	for range clients {
		c := dial(t, v)
		ends.Go(func() {
			for range calls {
				if _, err := echo(t.Context(), c, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := 0
	take := func(wait time.Duration) int {
		records, lost, err := tap.Take(t.Context(), wait)
		if err != nil || lost > 0 {
			t.Fatalf("%d lost, %v", lost, err)
		}
		seen += len(records)
		return len(records)
	}
	for range 10 {
		take(time.Millisecond)
	}
	ends.Wait()
	for take(0) > 0 {
	}
	if seen != 2*clients*calls {
		t.Errorf("%d records of %d calls", seen, clients*calls)
	}
}

// tapsOfTheLeft opens taps whose clients disconnect while an interceptor decides about them. The
// server keeps no such tap.
func tapsOfTheLeft(t *testing.T, v ipc.RendezvousOption) {
	asked, answer, opened := make(chan struct{}), make(chan struct{}), make(chan error)
	var late atomic.Bool
	late.Store(true)
	srv := host(t, v, ipc.WithServerInterceptor(
		func(ctx context.Context, _ *ipc.ServerCall, next func(context.Context) error) error {
			if !late.Load() {
				return next(ctx)
			}
			asked <- struct{}{}
			<-answer
			err := next(ctx)
			opened <- err
			return err
		}))
	for range 5 {
		conn, err := ipc.Dial(t.Context(), "echo", v)
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 1)
		go func() {
			_, err := ipc.OpenTap(context.Background(), conn, ipc.TapOptions{})
			told <- err
		}()
		<-asked
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		within(t, "the end of the connection", func() {
			for srv.Conns() > 0 {
				time.Sleep(time.Millisecond)
			}
		})
		answer <- struct{}{}
		if err := <-opened; ipc.CodeOf(err) != ipc.CodeUnavailable {
			t.Errorf("opened for a client that has left: %v", err)
		}
		if err := <-told; err == nil {
			t.Error("a closed connection has a tap")
		}
	}
	late.Store(false)
	if _, err := ipc.OpenTap(t.Context(), dial(t, v), ipc.TapOptions{}); err != nil {
		t.Error(err)
	}
}

// tapsAndStreaming shows that a call of a method that streams is one call to those who watch.
func tapsAndStreaming(t *testing.T, v ipc.RendezvousOption) {
	const items = 3
	host(t, v, echoes(ipc.HandleServerStream(methodCount,
		func(context.Context, *blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				for range items {
					if !yield(&blob{}, nil) {
						return
					}
				}
				yield(nil, ipc.Errorf(ipc.CodeNotFound, "no more"))
			}
		})))
	c, watcher := dial(t, v), dial(t, v)
	tap, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	counters(t, watcher)
	for range ipc.InvokeServerStream(t.Context(), c, methodCount, &blob{Data: []byte("all")}) {
	}
	records := readTap(t, tap, 2)
	if r := records[0]; r.Kind != introspect.TapKindRequest || r.Name != "Count" ||
		!holds(r, "all") {
		t.Errorf("its opening: %+v", r)
	}
	if r := records[1]; r.Kind != introspect.TapKindEnd || r.Call != records[0].Call ||
		ipc.Code(r.Code) != ipc.CodeNotFound {
		t.Errorf("its end: %+v", r)
	}
	if m := counters(t, watcher).Methods; len(m) != 1 || m[0].Done != 1 || len(m[0].Errors) != 1 {
		t.Errorf("counted as %+v", m)
	}
}

// tapsOfItems shows that a tap which wants items has those of both directions, also of a call that
// began before, and that another tap has none.
func tapsOfItems(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoes(ipc.HandleBidiStream(methodJam, func(_ context.Context,
		in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
		return func(yield func(*blob, error) bool) {
			for item, err := range in {
				if err != nil || !yield(&blob{Data: append(item.Data, '!')}, nil) {
					return
				}
			}
		}
	})))
	c, watcher := dial(t, v), dial(t, v)
	jam := func() *ipc.BidiStream[blob, blob] {
		return ipc.OpenBidiStream(t.Context(), func(ctx context.Context,
			in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return ipc.InvokeBidiStream(ctx, c, methodJam, in)
		})
	}
	play := func(s *ipc.BidiStream[blob, blob], note string) {
		t.Helper()
		if err := s.Send(&blob{Data: []byte(note)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	before := jam()
	play(before, "a")
	plain, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tap, err := ipc.OpenTap(t.Context(), watcher, ipc.TapOptions{Items: true})
	if err != nil {
		t.Fatal(err)
	}
	play(before, "b")
	after := jam()
	play(after, "c")
	play(after, "d")
	after.CloseSend()
	if _, err := after.Receive(); err != io.EOF {
		t.Fatal(err)
	}
	records := readTap(t, tap, 8)
	for i, want := range []struct {
		kind introspect.TapKind
		seq  uint64
		body string
	}{{introspect.TapKindRequestItem, 1, "b"}, {introspect.TapKindReplyItem, 1, "b!"},
		{introspect.TapKindRequest, 0, ""},
		{introspect.TapKindRequestItem, 0, "c"}, {introspect.TapKindReplyItem, 0, "c!"},
		{introspect.TapKindRequestItem, 1, "d"}, {introspect.TapKindReplyItem, 1, "d!"},
		{introspect.TapKindEnd, 0, ""}} {
		r := records[i]
		call := records[2].Call
		if i < 2 {
			call = records[0].Call
		}
		if r.Kind != want.kind || r.Call != call || r.Call == 0 || r.Name != "Jam" ||
			want.body != "" && (r.Seq != want.seq || !holds(r, want.body)) {
			t.Errorf("record %d: %+v, want %+v", i, r, want)
		}
	}
	if records[0].Call == records[2].Call {
		t.Error("two calls have one number")
	}
	if records := readTap(t, plain, 2); records[1].Kind != introspect.TapKindEnd {
		t.Errorf("without items: %+v", records)
	}
	before.Close()
}

// countsOmitTools shows that calls of tools are not among the calls in flight that a server tells
// of.
func countsOmitTools(t *testing.T, v ipc.RendezvousOption) {
	const tools = 2
	reading := make(chan bool, 100)
	host(t, v, echoes(), ipc.WithServerInterceptor(func(ctx context.Context, c *ipc.ServerCall,
		next func(context.Context) error) error {
		if c.Method.Name == "ReadTap" {
			reading <- true
		}
		return next(ctx)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for range tools {
		tap, err := ipc.OpenTap(t.Context(), dial(t, v), ipc.TapOptions{Methods: []string{"/"}})
		if err != nil {
			t.Fatal(err)
		}
		done.Go(func() { tap.Read(ctx) })
	}
	for range tools { // they wait for a second each time
		<-reading
	}
	for range tools { // a call has its answer before the server has done with it
		c := dial(t, v)
		done.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Health(t.Context(), ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	c := dial(t, v)
	for range 500 {
		n := counters(t, c)
		for _, p := range n.Processes {
			n.CallsInFlight += p.CallsInFlight
		}
		if n.CallsInFlight != 0 {
			t.Errorf("%d calls are in flight", n.CallsInFlight)
			break
		}
	}
	cancel()
	done.Wait()
}
