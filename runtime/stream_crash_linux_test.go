//go:build ipccrash

package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestCrashStream kills and stops one side of a stream at every store, as a client and as a server,
// as the reader and as the writer. The other side is told of the end that is the case.
func TestCrashStream(t *testing.T) {
	t.Run("that waits", func(t *testing.T) { crashStream(t, shortStream) })
	t.Run("that overwrites", func(t *testing.T) { crashStream(t, overwriting, lossyEnv+"=1") })
}

// crashStream is TestCrashStream for streams of one kind, which a child opens in env.
func crashStream(t *testing.T, o ipc.StreamOptions, env ...string) {
	inDomain := func() (string, ipc.RendezvousOption) {
		path := filepath.Join(t.TempDir(), "d")
		return path, ipc.WithDomain(path)
	}
	read := func(ctx context.Context, r *ipc.StreamReader) error {
		n, err := blocksUntil(ctx, r, o)
		if err == io.EOF && n != streamLength {
			t.Errorf("io.EOF after %d blocks of %d", n, streamLength)
		}
		return err
	}
	writes, reads := "block publish", "block release"
	if o.Policy == ipc.StreamOverwrite {
		writes, reads = "block cleared", "block claimed"
	}
	t.Run("a client that writes", func(t *testing.T) {
		path, d := inDomain()
		results := make(chan error, 1)
		serve(t, d, ipc.HandleStreamReader(blockStream,
			func(ctx context.Context, r *ipc.StreamReader) error {
				results <- read(ctx, r)
				return nil
			}))
		crashAtEachPoint(t, "opener", writes, path, orderly, func() error { return <-results },
			append(env, endEnv+"=close", sideEnv+"=writer")...)
	})
	t.Run("a server that writes", func(t *testing.T) {
		path, d := inDomain()
		crashAtEachPoint(t, "streamer", writes, path, orderly, func() error {
			r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, o, d)
			if err != nil {
				return err
			}
			defer r.Close()
			return read(t.Context(), r)
		})
	})
	t.Run("a client that reads", func(t *testing.T) {
		path, d := inDomain()
		results := make(chan error, 1)
		serve(t, d, ipc.HandleStreamWriter(blockStream,
			func(ctx context.Context, w *ipc.StreamWriter) error {
				results <- writesUntil(ctx, w)
				return nil
			}))
		crashAtEachPoint(t, "opener", reads, path, noMore, func() error { return <-results },
			append(env, endEnv+"=close")...)
	})
	t.Run("a server that reads", func(t *testing.T) {
		path, d := inDomain()
		crashAtEachPoint(t, "streamer", reads, path, noMore, func() error {
			w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream, o, d)
			if err != nil {
				return err
			}
			defer w.CloseWithError(nil)
			return writesUntil(t.Context(), w)
		})
	})
}

// crashAtEachPoint runs a child once for each point of a stream that it reaches, and as often as
// crashRounds says, in which it is killed there, and stopped and continued. The point must is among
// them. use returns how the stream ends for this process: as meant, unless the child was killed.
func crashAtEachPoint(t *testing.T, role, must, path string, meant ending, use func() error,
	env ...string) {
	var said bytes.Buffer
	c := newChild(t, role, path, append(env, sys.CrashEnv+"=list")...)
	c.Stderr = &said
	if !c.start(t) {
		t.Fatal("not ready")
	}
	meant.check(t, use())
	c.end()
	points := lines(said.String(), "crash point: ")
	points = slices.DeleteFunc(points, func(p string) bool {
		return !strings.HasPrefix(p, "block ")
	})
	if !slices.Contains(points, "block text") || !slices.Contains(points, "block end") ||
		!slices.Contains(points, "block ended") ||
		!slices.Contains(points, must) {
		t.Fatalf("%s reaches only %q", role, points)
	}
	ends := make(map[string]int)
	for _, point := range points {
		for visit := 1; visit <= crashRounds(); visit++ {
			for _, action := range []string{"kill", "stop"} {
				c := newChild(t, role, path,
					append(env, fmt.Sprintf("%s=%s:%s:%d", sys.CrashEnv, action, point, visit))...)
				c.Stderr = io.Discard
				if !c.start(t) {
					t.Fatalf("%s, %s at %q: not ready", role, action, point)
				}
				goOn := c.keepGoing()
				err := use()
				goOn()
				if action == "kill" && errors.Is(err, io.ErrUnexpectedEOF) {
					cutOff.check(t, err)
					ends["cut off"]++
				} else {
					meant.check(t, err)
					ends["as meant, after "+action]++
				}
				c.kill()
			}
		}
	}
	t.Log(points, ends)
	if ends["cut off"] == 0 {
		t.Error("no stream was cut off")
	}
}
