package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// These tests end streams in every way, at either end and in either direction, and look at
// what the other end is told.

// endEnv says how a child ends its streams after streamLength blocks, and sideEnv which
// side of the stream it opens.
const (
	endEnv  = "IPC_TEST_END"
	sideEnv = "IPC_TEST_SIDE"
	// lossyEnv makes a child open a stream whose writer overwrites.
	lossyEnv = "IPC_TEST_LOSSY"

	streamLength = 50
)

var shortStream = ipc.StreamOptions{Depth: 4, Payload: 64}

// overwriting is shortStream with blocks that are lost.
var overwriting = ipc.StreamOptions{Depth: 4, Payload: 64, Policy: ipc.StreamOverwrite}

// writeAll writes the whole stream.
func writeAll(ctx context.Context, w *ipc.StreamWriter) error {
	for n := range uint64(streamLength) {
		if err := writeBlock(ctx, w, n, 10); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads the whole stream.
func readAll(ctx context.Context, r *ipc.StreamReader) error {
	for range streamLength {
		if _, _, err := readBlock(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// endHandler ends a handler as endEnv says.
func endHandler(ctx context.Context) error {
	switch os.Getenv(endEnv) {
	case "error":
		return ipc.Errorf(ipc.CodeNotFound, "it %s", "ran dry")
	case "long error":
		return errors.New(strings.Repeat("x", 5000))
	case "panic":
		panic("on purpose")
	case "goexit":
		runtime.Goexit()
	case "kill":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "shutdown":
		err := syscall.Kill(os.Getpid(), syscall.SIGTERM)
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	case "eof":
		return io.EOF
	}
	return nil
}

// streamerRole serves streams in both directions.
func streamerRole(domain ipc.RendezvousOption) error {
	srv := ipc.NewServer(
		ipc.HandleStreamWriter(blockStream, func(ctx context.Context, w *ipc.StreamWriter) error {
			if err := writeAll(ctx, w); err != nil {
				return err
			}
			return endHandler(ctx)
		}),
		ipc.HandleStreamReader(blockStream, func(ctx context.Context, r *ipc.StreamReader) error {
			if err := readAll(ctx, r); err != nil {
				return err
			}
			return endHandler(ctx)
		}))
	go func() {
		for {
			if c, err := ipc.Dial(context.Background(), "echo", domain); err == nil {
				c.Close()
				fmt.Println("ready")
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return srv.Run(context.Background(), "echo", domain)
}

// openerRole opens one stream, uses all of it and ends it.
func openerRole(domain ipc.RendezvousOption) error {
	fmt.Println("ready")
	ctx := context.Background()
	var end interface {
		Close() error
		CloseWithError(error) error
	}
	var err error
	o := shortStream
	if os.Getenv(lossyEnv) != "" {
		o = overwriting
	}
	if os.Getenv(sideEnv) == "writer" {
		var w *ipc.StreamWriter
		if w, err = ipc.OpenStreamWriter(ctx, "echo", blockStream, o,
			domain); err == nil {
			end, err = w, writeAll(ctx, w)
		}
	} else {
		var r *ipc.StreamReader
		if r, err = ipc.OpenStreamReader(ctx, "echo", blockStream, o,
			domain); err == nil {
			end, err = r, readAll(ctx, r)
		}
	}
	if err != nil {
		return err
	}
	switch os.Getenv(endEnv) {
	case "close":
		return end.Close()
	case "error":
		return end.CloseWithError(ipc.Errorf(ipc.CodeNotFound, "it ran dry"))
	case "kill":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	os.Exit(0)
	return nil
}

// An ending is what the other end of a stream is told.
type ending struct {
	code ipc.Code // CodeOK: io.EOF for a reader
	text string
	dead bool // it matches io.ErrUnexpectedEOF
}

var (
	ranDry = ending{code: ipc.CodeNotFound, text: "it ran dry"}
	cutOff = ending{code: ipc.CodeUnavailable,
		text: "is gone without having closed the stream", dead: true}
	noMore  = ending{code: ipc.CodeUnavailable, text: "the reader has closed the stream"}
	orderly = ending{}
)

func (want ending) check(t *testing.T, err error) {
	t.Helper()
	if want.code == ipc.CodeOK {
		if err != io.EOF {
			t.Errorf("the end is %v, not io.EOF", err)
		}
		return
	}
	var e *ipc.Error
	if !errors.As(err, &e) || e.Code != want.code || !strings.Contains(err.Error(), want.text) ||
		errors.Is(err, io.ErrUnexpectedEOF) != want.dead || errors.Is(err, io.EOF) {
		t.Errorf("the end is %v; want %+v", err, want)
	}
}

// blocksUntil reads until the end, and returns how many blocks were written before it.
func blocksUntil(ctx context.Context, r *ipc.StreamReader, o ipc.StreamOptions) (n uint64,
	err error) {
	for ; ; n++ {
		got, lost, err := readBlock(ctx, r)
		if err != nil {
			return n, err
		}
		if n += lost; got != n || lost != 0 && o.Policy != ipc.StreamOverwrite {
			return n, fmt.Errorf("block %d where %d should be, %d lost", got, n, lost)
		}
	}
}

// writesUntil writes until that fails.
func writesUntil(ctx context.Context, w *ipc.StreamWriter) error {
	for n := uint64(0); ; n++ {
		if err := writeBlock(ctx, w, n, 10); err != nil {
			return err
		}
	}
}

func TestServerEndsStream(t *testing.T) {
	for how, want := range map[string]struct{ reader, writer ending }{
		"return": {orderly, noMore},
		"eof":    {orderly, noMore},
		"error":  {ranDry, ranDry},
		"long error": {ending{code: ipc.CodeUnknown, text: "(5000 bytes in all)"},
			ending{code: ipc.CodeUnknown, text: "(5000 bytes in all)"}},
		"panic": {ending{code: ipc.CodeInternal, text: "on purpose"},
			ending{code: ipc.CodeInternal, text: "on purpose"}},
		"goexit": {ending{code: ipc.CodeInternal, text: "Goexit"},
			ending{code: ipc.CodeInternal, text: "Goexit"}},
		"kill": {cutOff, cutOff},
		"shutdown": {ending{code: ipc.CodeUnavailable, text: "the server is shutting down"},
			ending{code: ipc.CodeUnavailable, text: "the server is shutting down"}},
	} {
		t.Run(how, func(t *testing.T) {
			start := func() ipc.RendezvousOption {
				path := filepath.Join(t.TempDir(), "d")
				srv := newChild(t, "streamer", path, endEnv+"="+how)
				srv.Stderr = io.Discard // the panic's traceback
				if !srv.start(t) {
					t.Fatal("the server ended before it was ready")
				}
				return ipc.WithDomain(path)
			}
			r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, shortStream, start())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for range 2 { // the end stays what it is
				n, err := blocksUntil(t.Context(), r, shortStream)
				want.reader.check(t, err)
				if n != streamLength && n != 0 {
					t.Errorf("%d blocks", n)
				}
			}
			w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream, shortStream, start())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			for range 2 {
				err := writesUntil(t.Context(), w)
				want.writer.check(t, err)
				if o := ipc.OutcomeOf(err); o != ipc.NotSent {
					t.Errorf("outcome %v", o)
				}
			}
			switch err := w.Close(); {
			case want.writer == noMore && err != nil:
				t.Errorf("Close: %v", err)
			case want.writer != noMore:
				want.writer.check(t, err)
			}
			if err := w.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

// TestClientEndsStream has a client process end a stream that this process serves.
func TestClientEndsStream(t *testing.T) {
	for how, want := range map[string]struct{ reader, writer ending }{
		"close": {orderly, noMore},
		"error": {ranDry, ranDry},
		"kill":  {cutOff, cutOff},
		"exit":  {cutOff, cutOff}, // without having closed
	} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			read, written := make(chan error, 1), make(chan error, 1)
			serve(t, ipc.WithDomain(path),
				ipc.HandleStreamReader(blockStream,
					func(ctx context.Context, r *ipc.StreamReader) error {
						n, err := blocksUntil(ctx, r, shortStream)
						if n != streamLength {
							t.Errorf("%d blocks", n)
						}
						read <- err
						return nil
					}),
				ipc.HandleStreamWriter(blockStream,
					func(ctx context.Context, w *ipc.StreamWriter) error {
						written <- writesUntil(ctx, w)
						return nil
					}))
			startChild(t, "opener", path, endEnv+"="+how, sideEnv+"=writer")
			want.reader.check(t, <-read)
			startChild(t, "opener", path, endEnv+"="+how, sideEnv+"=reader")
			want.writer.check(t, <-written)
		})
	}
}

// TestIdleHandlersLearnOfTheEnd ends streams whose handlers neither read nor write at that moment,
// as those of a source of rare events: their contexts are done. What is left can still be read, and
// the reader of a complete stream is not disturbed.
func TestIdleHandlersLearnOfTheEnd(t *testing.T) {
	for how, want := range map[string]ending{"close": orderly, "error": ranDry, "kill": cutOff,
		"exit": cutOff} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			read, written := make(chan error, 1), make(chan error, 1)
			srv := serve(t, ipc.WithDomain(path),
				ipc.HandleStreamReader(blockStream,
					func(ctx context.Context, r *ipc.StreamReader) (err error) {
						for n := 0; err == nil; n++ {
							if n == streamLength-shortStream.Depth { // the writer writes the rest
								peer, _ := ipc.PeerFromContext(ctx)
								<-peer.Done()
								if how != "close" {
									<-ctx.Done()
								}
							}
							_, _, err = readBlock(ctx, r)
							if (err != nil) != (n == streamLength) {
								t.Errorf("block %d: %v", n, err)
							}
						}
						if how == "close" && ctx.Err() != nil {
							t.Error(context.Cause(ctx))
						}
						read <- err
						return nil
					}),
				ipc.HandleStreamWriter(blockStream,
					func(ctx context.Context, w *ipc.StreamWriter) error {
						err := writeAll(ctx, w)
						<-ctx.Done()
						written <- err
						return ctx.Err()
					}))
			startChild(t, "opener", path, endEnv+"="+how, sideEnv+"=writer")
			within(t, "the reader learns of the end", func() { want.check(t, <-read) })
			startChild(t, "opener", path, endEnv+"="+how, sideEnv+"=reader")
			within(t, "the writer learns of the end", func() {
				if err := <-written; err != nil {
					t.Error(err)
				}
			})
			within(t, "the connections end", func() {
				for srv.Conns() > 0 {
					time.Sleep(time.Millisecond)
				}
			})
		})
	}
}

// TestCloseDuringStream closes a stream while an operation of this side waits.
func TestCloseDuringStream(t *testing.T) {
	d := newDomain(t)
	hold := make(chan struct{})
	defer close(hold)
	serve(t, d,
		ipc.HandleStreamReader(blockStream, func(context.Context, *ipc.StreamReader) error {
			<-hold
			return nil
		}),
		ipc.HandleStreamWriter(blockStream, func(context.Context, *ipc.StreamWriter) error {
			<-hold
			return nil
		}))
	r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, shortStream, d)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream, shortStream, d)
	if err != nil {
		t.Fatal(err)
	}
	read, written := make(chan error, 1), make(chan error, 1)
	go func() { _, err := blocksUntil(t.Context(), r, shortStream); read <- err }()
	go func() { written <- writesUntil(t.Context(), w) }()
	for range 2 {
		if err := errors.Join(r.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	}
	here := ending{code: ipc.CodeUnavailable, text: "the stream is closed"}
	here.check(t, <-read)
	here.check(t, <-written)
}
