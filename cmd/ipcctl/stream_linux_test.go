package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/mixing"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// serveMixer serves methods that stream.
func serveMixer(channel string) {
	l, err := ipc.Listen(channel)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	panic(ipc.NewServer(mixing.NewMixerService(mixer{})).Serve(context.Background(), l))
}

type mixer struct{}

// Levels sends so many levels, or, for 0, one and then none until the call is cancelled.
func (mixer) Levels(ctx context.Context,
	req *mixing.LevelsRequestT) iter.Seq2[*mixing.LevelT, error] {
	return func(yield func(*mixing.LevelT, error) bool) {
		if req.Count == 0 {
			yield(&mixing.LevelT{Peak: 1}, nil)
			<-ctx.Done()
			yield(nil, ctx.Err())
			return
		}
		for i := range req.Count {
			if i == 5 {
				yield(nil, ipc.Errorf(ipc.CodeResourceExhausted, "five are enough"))
				return
			}
			if !yield(&mixing.LevelT{Peak: float32(i)}, nil) {
				return
			}
		}
	}
}

func (mixer) Upload(_ context.Context, in iter.Seq2[*mixing.ChunkT, error]) (*mixing.UploadedT,
	error) {
	var u mixing.UploadedT
	for c, err := range in {
		if err != nil {
			return nil, err
		}
		u.Bytes += uint64(len(c.Data))
	}
	return &u, nil
}

func (mixer) Jam(_ context.Context,
	in iter.Seq2[*mixing.NoteT, error]) iter.Seq2[*mixing.NoteT, error] {
	return func(yield func(*mixing.NoteT, error) bool) {
		for n, err := range in {
			if err != nil {
				yield(nil, err)
				return
			}
			pitch := n.Pitch + 12
			if len(os.Args) > 1 && os.Args[1] == "other" && n.Pitch == 62 {
				pitch++
			}
			if !yield(&mixing.NoteT{Pitch: pitch}, nil) {
				return
			}
		}
	}
}

// TestCallStreams calls methods that stream, with lines as items.
func TestCallStreams(t *testing.T) {
	newDomain(t)
	serve(t, "mixer")
	expect(t, 0, "{\"peak\":0}\n{\"peak\":1}\n", "", "", "call", "mixer", "Levels",
		`{"count": 2}`)
	expect(t, 0, "{\"peak\":0}\n{\"peak\":0}\n{\"peak\":1}\n", "",
		"{\"count\": 1}\n{\"count\": 2}", "call", "mixer", "Levels")
	expect(t, 70, "{\"peak\":4}\n", "five are enough", "", "call", "mixer", "Levels",
		`{"count": 9}`)
	for limit := 200 * time.Millisecond; ; limit *= 2 { // until the item comes before the deadline
		code, out, errOut := ipcctl(t, "", "call", "-timeout", limit.String(), "mixer", "Levels",
			`{}`)
		if code != 66 || !strings.Contains(errOut, "deadline exceeded") {
			t.Errorf("status %d, printed %q and %q", code, out, errOut)
		}
		if out == "{\"peak\":1}\n" || t.Failed() {
			break
		}
	}
	expect(t, 0, "{\"bytes\":3}\n", "", "{\"data\": [1, 2]}\n\n{\"data\": [3]}\n", "call", "mixer",
		"Upload")
	expect(t, 0, "{\"bytes\":0}\n", "", "", "call", "mixer", "Upload") // no items
	expect(t, 1, "", "item 2:1:2: the table mixing.Chunk has no field",
		"{\"data\": [1, 2]}\n{\"dat\": []}\n", "call", "mixer", "Upload")
	expect(t, 0, "{\"pitch\":72}\n{\"pitch\":74}\n", "", "{\"pitch\": 60}\n{\"pitch\": 62}", "call",
		"mixer", "Jam")
	expect(t, 1, "", "ipcctl: mixing.Mixer.Levels is a method that streams", "", "bench", "-n", "1",
		"mixer", "Levels", "{}")
	schema := filepath.Join("..", "..", "schema", "mixing.fbs")
	expect(t, 0, "{\"pitch\":13}\n", "", "", "call", "-schema", schema, "mixer", "Jam",
		`{"pitch": 1}`)
}

// TestStreamStepByStep answers before the end of the input, and ends by Ctrl-C.
func TestStreamStepByStep(t *testing.T) {
	newDomain(t)
	serve(t, "mixer")
	r, w := io.Pipe()
	out := newLineWriter()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"ipcctl", "call", "mixer", "Jam"}, r, out, io.Discard)
	}()
	for i := range 3 {
		fmt.Fprintf(w, "{\"pitch\": %d}\n", i)
		out.await(t, fmt.Sprintf("{\"pitch\":%d}\n", i+12))
	}
	cancel()
	if got := <-code; got != exitInterrupted {
		t.Errorf("status %d", got)
	}
	s := start(t, strings.NewReader(""), "call", "mixer", "Levels", "{}")
	s.cancel()
	s.ends(t, exitInterrupted, "", "")
}
