//go:build ipccrash

package ipc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestCrashEndOfStream kills the writer of a stream at every step, as a client and as a
// server. A reader that gets io.EOF must have got every block.
func TestCrashEndOfStream(t *testing.T) {
	t.Run("client writes", func(t *testing.T) {
		type result struct {
			n   uint64
			err error
		}
		path := filepath.Join(t.TempDir(), "d")
		results := make(chan result, 1)
		serve(t, ipc.WithDomain(path),
			ipc.HandleStreamReader(blockStream,
				func(ctx context.Context, r *ipc.StreamReader) error {
					n, err := blocksUntil(ctx, r)
					results <- result{n, err}
					return nil
				}))
		crashAtEachPoint(t, "opener", path, func(_ *child) (uint64, error) {
			r := <-results
			return r.n, r.err
		}, endEnv+"=close", sideEnv+"=writer")
	})
	t.Run("server writes", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d")
		crashAtEachPoint(t, "streamer", path, func(*child) (uint64, error) {
			r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, shortStream,
				ipc.WithDomain(path))
			if err != nil {
				return 0, err
			}
			defer r.Close()
			return blocksUntil(t.Context(), r)
		})
	})
}

// crashAtEachPoint runs a child once for each point of a stream that it reaches, and as often as
// crashRounds says, in which it is killed there. read reads the stream to its end.
func crashAtEachPoint(t *testing.T, role, path string, read func(*child) (uint64, error),
	env ...string) {
	var said bytes.Buffer
	c := newChild(t, role, path, append(env, sys.CrashEnv+"=list")...)
	c.Stderr = &said
	if !c.start(t) {
		t.Fatal("not ready")
	}
	if n, err := read(c); n != streamLength || err != io.EOF {
		t.Fatalf("without a crash: %d blocks, %v", n, err)
	}
	c.end()
	points := lines(said.String(), "crash point: ")
	points = slices.DeleteFunc(points, func(p string) bool {
		return len(p) < 5 || p[:5] != "block"
	})
	if !slices.Contains(points, "block end") || !slices.Contains(points, "block ended") ||
		!slices.Contains(points, "block index") {
		t.Fatalf("%s reaches only %q", role, points)
	}
	ends := make(map[string]int)
	for _, point := range points {
		for visit := 1; visit <= crashRounds(); visit++ {
			c := newChild(t, role, path,
				append(env, fmt.Sprintf("%s=kill:%s:%d", sys.CrashEnv, point, visit))...)
			c.Stderr = io.Discard
			if !c.start(t) {
				t.Fatalf("%s at %q: not ready", role, point)
			}
			n, err := read(c)
			switch {
			case err == io.EOF && n == streamLength:
				ends["whole"]++
			case err == io.EOF:
				t.Errorf("killed at %q, visit %d: io.EOF after %d blocks of %d", point, visit,
					n, streamLength)
			default:
				cutOff.check(t, err)
				ends["cut off"]++
			}
			c.kill()
		}
	}
	t.Log(points, ends)
	if ends["cut off"] == 0 {
		t.Error("no stream was cut off")
	}
}
