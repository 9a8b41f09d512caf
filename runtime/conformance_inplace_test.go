package ipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

func callsInPlace(t *testing.T, v ipc.RendezvousOption) {
	for channel, opts := range map[string][]ipc.ServerOption{"copied": nil,
		"trusted": {ipc.WithTrustedClients()}} {
		ipctest.Serve(t, v, channel, append(opts, echoes(ipc.HandleInPlace(methodEcho,
			func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var m blob
				if _, err := decodeBlob(req, &m); err != nil {
					return ipc.Errorf(ipc.CodeInvalidArgument, "%w", err)
				}
				if string(m.Data) == "refuse" {
					return ipc.Errorf(ipc.CodeNotFound, "refused")
				}
				return reply.Build(len(m.Data)+64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &m)
				})
			})))...)
		c := ipctest.Dial(t, v, channel)
		call := func(data []byte, room int) (got blob, err error) {
			err = c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
				Method: methodEcho.Info(), Size: room,
				Build: func(b *flatbuffers.Builder, _ uint64) {
					_ = encodeBlob(b, 0, &blob{Data: data})
				},
				Read: func(reply []byte) error {
					_, err := decodeBlob(reply, &got)
					return err
				},
			})
			return got, err
		}
		for _, n := range []int{0, 100, 5000, 300 << 10} {
			for _, room := range []int{0, n / 2, n + 64, 2*n + 100} {
				data := bytes.Repeat([]byte{byte(n), 3}, n/2)
				if got, err := call(data, room); err != nil || !bytes.Equal(got.Data, data) {
					t.Errorf("%s, %d bytes in room for %d: %d came back, %v", channel, n, room,
						len(got.Data), err)
				}
			}
		}
		_, err := call([]byte("refuse"), 100)
		want(t, err, ipc.CodeNotFound, ipc.Executed, "refused")
		still(t, c) // a plain call to a handler in place
	}
}

// largeInPlace shows that half of a ring can be built in place, and that the limit of
// messages holds there, too.
func largeInPlace(t *testing.T, v ipc.RendezvousOption) {
	const ring, limit = 2 << 20, 900_000
	host(t, v, ipc.WithRings(ring, ring), ipc.WithMaxMessage(limit), echoService())
	c := dial(t, v, ipc.WithRings(ring, ring))
	call := func(n int) error {
		data := bytes.Repeat([]byte("place"), n/5)
		return c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
			Method: methodEcho.Info(), Size: n + 64,
			Build: func(b *flatbuffers.Builder, _ uint64) {
				if room := len(b.Bytes); room < n+64 || room > n+80 {
					t.Errorf("a builder of %d bytes for a request of %d", room, n)
				}
				_ = encodeBlob(b, 0, &blob{Data: data})
			},
			Read: func(reply []byte) error {
				var got blob
				if _, err := decodeBlob(reply, &got); err != nil || !bytes.Equal(got.Data, data) {
					t.Errorf("%d bytes came back instead of %d, %v", len(got.Data), n, err)
				}
				return nil
			},
		})
	}
	for range 10 {
		if err := call(800_000); err != nil {
			t.Error(err)
		}
	}
	want(t, call(1_000_000), ipc.CodeTooLarge, ipc.NotSent, "900000")
	still(t, c)
}

// inPlaceWithoutRoom lets a handler in place build a reply for which there is no room, while its
// request is in the ring: the call waits until there is, or until its client is gone.
func inPlaceWithoutRoom(t *testing.T, v ipc.RendezvousOption) {
	for _, leaves := range []bool{false, true} {
		peers, gate, handling := make(chan *ipc.Peer, 1), make(chan string), make(chan bool, 1)
		channel := fmt.Sprintf("leaves-%t", leaves)
		ipctest.Serve(t, v, channel, ipc.WithTrustedClients(), pushes(peers),
			ipc.NewService(&ipc.Protocol{Name: "test.Place", Fingerprint: 1},
				ipc.HandleInPlace(echoMethod("Place"),
					func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
						handling <- true
						return reply.Build(3000, func(b *flatbuffers.Builder, _, _ uint64) {
							_ = encodeBlob(b, 0, &blob{Data: make([]byte, 2900)})
						})
					})))
		c := ipctest.Dial(t, v, channel,
			append(small(),
				echoes(ipc.Receive(messageNote, func(ctx context.Context, m *blob) error {
					select {
					case gate <- string(m.Data):
					case <-ctx.Done():
					}
					return nil
				})))...)
		peer := peerOf(t, c, peers)
		n := fill(t, peer)
		called := make(chan error, 1)
		go func() {
			_, err := ipc.Invoke(t.Context(), c, echoMethod("Place"), &blob{})
			called <- err
		}()
		<-handling
		if leaves {
			c.Close()
			want(t, <-called, ipc.CodeUnavailable, ipc.OutcomeUnknown)
			<-peer.Done()
			continue
		}
		expectNumbers(t, gate, n)
		if err := <-called; err != nil {
			t.Error(err)
		}
		still(t, c)
		// the last one may not have ended when its reply comes
		for peer.Stats().CallsInFlight != 0 {
			runtime.Gosched()
		}
	}
}

// waitsInPlace handles Echo in place: it says that it is entered, and then waits for its context in
// the way that the request says. It tells how the context has ended, or that it has not within
// bound.
func waitsInPlace(bound context.Context, entered chan<- bool, left chan<- error) ipc.Route {
	wait := func(ctx context.Context) error {
		entered <- true
		select {
		case <-ctx.Done():
			left <- ctx.Err()
		case <-bound.Done():
			left <- errors.New("the context does not end")
		}
		return ctx.Err()
	}
	return ipc.HandleInPlace(methodEcho,
		func(ctx context.Context, req []byte, reply *ipc.ReplyBuilder) error {
			var m blob
			if _, err := decodeBlob(req, &m); err != nil {
				return err
			}
			switch string(m.Data) {
			case "asks":
				entered <- true
				for ctx.Err() == nil && bound.Err() == nil {
					runtime.Gosched()
				}
				left <- ctx.Err()
				return ctx.Err()
			case "builds":
				return reply.Build(3000, func(b *flatbuffers.Builder, _, _ uint64) { // in the ring
					_ = wait(ctx)
					_ = encodeBlob(b, 0, &blob{})
				})
			}
			return wait(ctx)
		})
}

// inPlaceEnds ends connections while a handler in place waits for its context, or builds its reply
// meanwhile. The handler learns of it, also if its request lies in the ring, where the reader of
// the connection runs it.
func inPlaceEnds(t *testing.T, v ipc.RendezvousOption) {
	bound, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ends := map[string]func(*ipc.Server, *ipc.Conn) error{
		"the server": func(srv *ipc.Server, _ *ipc.Conn) error { return srv.Close() },
		"the client": func(_ *ipc.Server, c *ipc.Conn) error { return c.Close() },
	}
	if f, ok := v.(*ipctest.Faults); ok {
		ends["the network"] = func(*ipc.Server, *ipc.Conn) error {
			f.Cut()
			return nil
		}
	}
	for where, opts := range map[string][]ipc.ServerOption{"copied": nil,
		"in the ring": {ipc.WithTrustedClients()}} {
		for _, way := range []string{"waits", "asks", "builds"} {
			for by, end := range ends {
				what := fmt.Sprintf("%s ends the connection of a handler that %s, of a request %s",
					by, way, where)
				entered, left := make(chan bool, 1), make(chan error, 1)
				srv := host(t, v, append(opts, echoes(waitsInPlace(bound, entered, left)))...)
				c := dial(t, v)
				result := invoke(t.Context(), c, methodEcho, way)
				<-entered
				if err := end(srv, c); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if err := <-left; err != context.Canceled {
					t.Fatalf("%s: %v", what, err)
				}
				// A reply that is being built may reach a client that has not learned of the end.
				if err := <-result; err != nil || way != "builds" {
					want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown)
				}
				if err := srv.Shutdown(bound); err != nil {
					t.Fatalf("%s: Shutdown: %v", what, err)
				}
			}
		}
	}
}

// inPlaceDelaysNoEnd ends the connection while its reader runs a handler in place that does not
// look at its context. The handler of another call learns of it nevertheless.
func inPlaceDelaysNoEnd(t *testing.T, v ipc.RendezvousOption) {
	bound, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	entered, left, over := make(chan bool), make(chan bool, 1), make(chan struct{})
	release := sync.OnceFunc(func() { close(over) })
	defer release()
	srv := host(t, v, ipc.WithTrustedClients(), echoes(
		ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
			entered <- true
			select {
			case <-ctx.Done():
				left <- true
			case <-bound.Done():
				left <- false
			}
			return nil, ctx.Err()
		}),
		ipc.HandleInPlace(methodEcho, func(context.Context, []byte, *ipc.ReplyBuilder) error {
			entered <- true
			<-over
			return nil
		})))
	c := dial(t, v)
	other := invoke(t.Context(), c, methodBlock, "")
	<-entered
	result := invoke(t.Context(), c, methodEcho, "")
	<-entered
	c.Close()
	if !<-left {
		t.Error("the end waits for the handler in place")
	}
	release()
	for _, r := range []<-chan error{other, result} {
		want(t, <-r, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	}
	if err := srv.Shutdown(bound); err != nil {
		t.Error(err)
	}
}

// inPlaceCancelled cancels a call whose request lies in the ring: it ends, and its handler does not
// learn of that.
func inPlaceCancelled(t *testing.T, v ipc.RendezvousOption) {
	entered, cancelled, seen := make(chan bool), make(chan bool), make(chan error, 1)
	host(t, v, ipc.WithTrustedClients(), echoes(
		ipc.HandleInPlace(methodEcho, func(ctx context.Context, _ []byte,
			_ *ipc.ReplyBuilder) error {
			entered <- true
			<-cancelled
			seen <- ctx.Err()
			return ipc.Errorf(ipc.CodeNotFound, "too late")
		})))
	c := dial(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	result := invoke(ctx, c, methodEcho, "")
	<-entered
	cancel()
	want(t, <-result, ipc.CodeCanceled, ipc.OutcomeUnknown)
	cancelled <- true
	if err := <-seen; err != nil {
		t.Errorf("the handler's context has ended: %v", err)
	}
}

// interceptorsInPlace shows that a server's interceptors guard calls in place, too.
func interceptorsInPlace(t *testing.T, v ipc.RendezvousOption) {
	var handled atomic.Int32
	host(t, v, ipc.WithTrustedClients(), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			if call.Request != nil || call.Method.Name != "Echo" || call.Peer == nil {
				return ipc.Errorf(ipc.CodeInternal, "the interceptor sees %+v", call)
			}
			var m blob
			if _, err := decodeBlob(call.Body, &m); err != nil || string(m.Data) == "secret" {
				return ipc.Errorf(ipc.CodePermissionDenied, "not for you")
			}
			return next(ctx)
		}), echoes(ipc.HandleInPlace(methodEcho,
		func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
			handled.Add(1)
			return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
				_ = encodeBlob(b, 0, &blob{})
			})
		})))
	c := dial(t, v)
	for data, code := range map[string]ipc.Code{"secret": ipc.CodePermissionDenied,
		"open": ipc.CodeOK} {
		err := c.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
			Method: methodEcho.Info(), Size: 64,
			Build: func(b *flatbuffers.Builder, _ uint64) {
				_ = encodeBlob(b, 0, &blob{Data: []byte(data)})
			},
			Read: func([]byte) error { return nil },
		})
		if ipc.CodeOf(err) != code {
			t.Errorf("%s: %v", data, err)
		}
	}
	c.Close()
	if n := handled.Load(); n != 1 {
		t.Errorf("%d calls reached the handler, want 1", n)
	}
}

// beats is a stream of numbered blocks.
var beats = &ipc.StreamInfo{Protocol: &ipc.Protocol{Name: "test.Beat", Fingerprint: 1},
	HeaderSize: 8}

func writeBeat(ctx context.Context, w *ipc.StreamWriter, n uint64) error {
	return w.Write(ctx, 100, func(header, payload []byte) error {
		binary.NativeEndian.PutUint64(header, n)
		for i := range payload {
			payload[i] = byte(n)
		}
		return nil
	})
}

func readBeat(ctx context.Context, r *ipc.StreamReader) (n, lost uint64, err error) {
	err = r.Read(ctx, func(header, payload []byte, l uint64) error {
		n, lost = binary.NativeEndian.Uint64(header), l
		if !bytes.Equal(payload, bytes.Repeat([]byte{byte(n)}, 100)) {
			return errors.New("the block is torn")
		}
		return nil
	})
	return n, lost, err
}

// streamsOfBlocks writes a stream that waits for its reader.
func streamsOfBlocks(t *testing.T, v ipc.RendezvousOption) {
	const blocks = 2000
	ended := make(chan error, 1)
	host(t, v, ipc.HandleStreamReader(beats, func(ctx context.Context, r *ipc.StreamReader) error {
		for i := uint64(0); ; i++ {
			n, lost, err := readBeat(ctx, r)
			if err == nil && (n != i || lost != 0) {
				err = errors.New("a block is missing")
			}
			if errors.Is(err, io.EOF) && i == blocks {
				err = nil
			} else if err == nil {
				continue
			}
			ended <- err
			return nil
		}
	}))
	w, err := ipc.OpenStreamWriter(t.Context(), "echo", beats,
		ipc.StreamOptions{Depth: 4, Payload: 100}, v)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(blocks) {
		if err := writeBeat(t.Context(), w, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the reader: %v", err)
	}
	want(t, writeBeat(t.Context(), w, 0), ipc.CodeUnavailable, ipc.NotSent)
}

// streamsThatOverwrite reads a stream whose writer does not wait: every block
// is read whole or counted as lost.
func streamsThatOverwrite(t *testing.T, v ipc.RendezvousOption) {
	const blocks = 5000
	written := make(chan error, 1)
	host(t, v, ipc.HandleStreamWriter(beats, func(ctx context.Context, w *ipc.StreamWriter) error {
		for i := range uint64(blocks) {
			if err := writeBeat(ctx, w, i); err != nil {
				written <- err
				return err
			}
		}
		written <- nil
		return nil
	}))
	r, err := ipc.OpenStreamReader(t.Context(), "echo", beats,
		ipc.StreamOptions{Depth: 4, Payload: 100, Policy: ipc.StreamOverwrite}, v)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := uint64(0)
	for {
		n, lost, err := readBeat(t.Context(), r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n != next+lost {
			t.Fatalf("block %d after %d were read or lost and %d are said to be lost",
				n, next, lost)
		}
		next = n + 1
	}
	if next != blocks {
		t.Errorf("the last block is %d, want %d", next-1, blocks-1)
	}
	if err := <-written; err != nil {
		t.Errorf("the writer: %v", err)
	}
}

// streamThatNobodyReads ends the reader while the writer waits for it.
func streamThatNobodyReads(t *testing.T, v ipc.RendezvousOption) {
	leave := make(chan struct{})
	host(t, v, ipc.HandleStreamReader(beats, func(context.Context, *ipc.StreamReader) error {
		<-leave
		return nil
	}))
	w, err := ipc.OpenStreamWriter(t.Context(), "echo", beats,
		ipc.StreamOptions{Depth: 1, Payload: 100}, v)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := writeBeat(t.Context(), w, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := writeBeat(ctx, w, 1); ipc.CodeOf(err) != ipc.CodeCanceled {
		t.Errorf("write into a full stream: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- writeBeat(t.Context(), w, 1) }()
	close(leave)
	want(t, <-waiting, ipc.CodeUnavailable, ipc.NotSent, "the reader has closed the stream")
	_, err = ipc.OpenStreamReader(t.Context(), "echo", beats, ipc.StreamOptions{}, v)
	want(t, err, ipc.CodeUnimplemented, ipc.NotSent, "test.Beat")
}
