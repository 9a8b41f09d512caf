package ipc_test

import (
	"context"
	"iter"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A breach is a sequence of frames, as answers to what is seen, that breaks the rules of streaming
// calls.
type breach struct {
	name   string
	frames []ipc.RawFrame // for the call that is open; an opening among them has another id
}

func item(number uint32) ipc.RawFrame {
	return ipc.RawFrame{Tag: ipc.RawItem, Method: number, Body: goodBlob}
}

// breaches are those that both sides can commit, towards a call with items both ways of which the
// other side has sent one.
var breaches = []breach{
	{"a number twice", []ipc.RawFrame{item(0), item(0)}},
	{"a number left out", []ipc.RawFrame{item(0), item(2)}},
	{"an item beyond the window", func() (all []ipc.RawFrame) {
		for i := range uint32(4096/(64+28) + 2) {
			all = append(all, item(i))
		}
		return all
	}()},
	{"an item longer than the window", []ipc.RawFrame{{Tag: ipc.RawItem,
		Body: make([]byte, 5000)}}},
	{"a credit for more items", []ipc.RawFrame{{Tag: ipc.RawCredit, Seq: 100}}},
	{"a credit for more bytes", []ipc.RawFrame{{Tag: ipc.RawCredit, Deadline: 1 << 40}}},
	{"a credit that overflows", []ipc.RawFrame{{Tag: ipc.RawCredit, Seq: 1<<64 - 1, Deadline: -1}}},
	{"a credit that shrinks", []ipc.RawFrame{{Tag: ipc.RawCredit, Seq: 1, Deadline: 64},
		{Tag: ipc.RawCredit}}},
	{"an end that takes more", []ipc.RawFrame{{Tag: ipc.RawEnd, Code: 1, Seq: 1 << 40}}},
}

// TestHostileStreamingClients breaks each rule towards a server, which ends the connection as
// corrupt, and nothing else.
func TestHostileStreamingClients(t *testing.T) {
	hold := streamingMethod("Hold", ipc.BidiStreaming)
	d := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	srv := host(t, d, echoService(), streamingService(ipc.HandleBidiStream(hold,
		func(ctx context.Context, _ iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				yield(&blob{Data: make([]byte, 20)}, nil)
				<-ctx.Done()
			}
		}), newEndless().Route()), ipc.WithStreamingWindow(4096), ipc.WithMaxStreamingCalls(3))
	honest := dial(t, d)
	open := ipc.RawFrame{Tag: ipc.RawOpen, ID: 7, Method: idOf("test.Echo/Hold")}
	all := append([]breach{
		{"an id twice", []ipc.RawFrame{open}},
		{"a half-close twice", []ipc.RawFrame{{Tag: ipc.RawEnd}, {Tag: ipc.RawEnd}}},
		{"an item after the half-close", []ipc.RawFrame{{Tag: ipc.RawEnd}, item(0)}},
		{"an item in a direction that has none", []ipc.RawFrame{{Tag: ipc.RawOpen, ID: 9,
			Body: goodBlob, Method: idOf("test.Echo/Endless")}, {Tag: ipc.RawItem, ID: 9}}},
	}, breaches...)
	for i, b := range all {
		t.Run(b.name, func(t *testing.T) {
			raw, err := ipc.RawDial(t.Context(), "echo", d, ipc.WithStreamingWindow(4096))
			if err != nil {
				t.Fatal(err)
			}
			defer raw.End()
			raw.Put(open)
			take(t, raw, ipc.RawItem)
			for _, f := range b.frames {
				if f.ID == 0 {
					f.ID = 7
				}
				raw.Put(f)
			}
			for srv.Corrupted() < uint64(i+1) {
				runtime.Gosched()
			}
			still(t, honest)
		})
	}
	// What may be late is dropped, and what is beyond the limit is refused.
	raw, err := ipc.RawDial(t.Context(), "echo", d)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.End()
	for _, f := range []ipc.RawFrame{item(0), {Tag: ipc.RawCredit, Seq: 1 << 60}, {Tag: ipc.RawEnd},
		{Tag: ipc.RawEnd, Code: 1}} {
		f.ID = 99
		raw.Put(f)
	}
	for id := range uint64(5) {
		open.ID = id
		raw.Put(open)
	}
	for range 2 {
		f := take(t, raw, ipc.RawEnd)
		if f.Code != ipc.CodeResourceExhausted || f.Outcome != ipc.NotExecuted || f.ID < 3 {
			t.Errorf("a call beyond the limit: %+v", f)
		}
	}
	for id := range uint64(3) { // cancelled ones do not count
		raw.Put(ipc.RawFrame{Tag: ipc.RawEnd, ID: id, Code: ipc.CodeCanceled})
	}
	open.ID = 10
	raw.Put(open)
	take(t, raw, ipc.RawItem)
	still(t, honest)
	if n := srv.Corrupted(); n != uint64(len(all)) {
		t.Errorf("%d connections were corrupt, want %d", n, len(all))
	}
}

// TestHostileStreamingServers breaks each rule towards a client.
func TestHostileStreamingServers(t *testing.T) {
	d := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	l, err := ipc.Listen("echo", d)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hello := ipc.RawHello{ToServer: 64 << 10, ToClient: 64 << 10, MaxMessage: 1 << 20, MaxCalls: 10}
	for _, b := range append([]breach{
		{"an opening", []ipc.RawFrame{{Tag: ipc.RawOpen}}},
	}, breaches...) {
		t.Run(b.name, func(t *testing.T) {
			result := make(chan error, 1)
			go func() {
				raw, err := ipc.RawAccept(l, hello, echoProtocol)
				if err != nil {
					result <- err
					return
				}
				defer raw.End()
				open := take(t, raw, ipc.RawOpen)
				take(t, raw, ipc.RawItem)
				for _, f := range b.frames {
					f.ID = open.ID
					raw.Put(f)
				}
				result <- nil
				for _, err := raw.Read(make([]byte, 1)); err == nil; {
				}
			}()
			c, err := ipc.Dial(t.Context(), "echo", d, ipc.WithStreamingWindow(4096))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, err := range ipc.InvokeBidiStream(t.Context(), c, methodJam, func(
				yield func(*blob, error) bool) {
				yield(&blob{Data: make([]byte, 20)}, nil)
				<-c.Done()
			}) {
				if err == nil { // it takes no more, but others read the connection
					for c.Err() == nil {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
						_, _ = echo(ctx, c, nil)
						cancel()
					}
					continue
				}
				want(t, err, ipc.CodeCorrupt, ipc.OutcomeUnknown)
			}
			if err := <-result; err != nil {
				t.Error(err)
			}
			<-c.Done()
			want(t, c.Err(), ipc.CodeCorrupt, ipc.OutcomeUnknown)
		})
	}
}
