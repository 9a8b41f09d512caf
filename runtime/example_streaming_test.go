package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"time"

	"github.com/ipcgen/ipcgen/gen/mixing"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A desk implements the service mixing.Mixer. Each of its methods is a plain loop.
type desk struct{ mixing.UnimplementedMixer }

func (desk) Levels(ctx context.Context,
	req *mixing.LevelsRequestT) iter.Seq2[*mixing.LevelT, error] {
	return func(yield func(*mixing.LevelT, error) bool) {
		for n := range req.Count {
			if !yield(&mixing.LevelT{Peak: float32(n) / 2}, nil) {
				return // the client has left its loop, or is gone
			}
		}
	}
}

func (desk) Upload(ctx context.Context,
	in iter.Seq2[*mixing.ChunkT, error]) (*mixing.UploadedT, error) {
	var up mixing.UploadedT
	for chunk, err := range in {
		if err != nil {
			return nil, err // the client has given up, or is gone
		}
		up.Bytes += uint64(len(chunk.Data))
	}
	return &up, nil
}

func (desk) Jam(ctx context.Context,
	in iter.Seq2[*mixing.NoteT, error]) iter.Seq2[*mixing.NoteT, error] {
	return func(yield func(*mixing.NoteT, error) bool) {
		for note, err := range in {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&mixing.NoteT{Pitch: note.Pitch + 4}, nil) {
				return
			}
		}
	}
}

// chunks are the parts of a file.
func chunks(n int) iter.Seq2[*mixing.ChunkT, error] {
	return func(yield func(*mixing.ChunkT, error) bool) {
		for range n {
			if !yield(&mixing.ChunkT{Data: make([]byte, 1000)}, nil) {
				return
			}
		}
	}
}

// A client of a method that streams ranges over the result, or gives a sequence, or both.
func ExampleInvokeServerStream() {
	network, server := newServer(mixing.NewMixerService(desk{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx := context.Background()
	client := mixing.NewMixerClient(conn)
	for level, err := range client.Levels(ctx, &mixing.LevelsRequestT{Count: 1000}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(level.Peak)
		if level.Peak == 1 {
			break // ends the call
		}
	}

	up, err := client.Upload(ctx, chunks(3))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(up.Bytes, "bytes")
	// Output:
	// 0
	// 0.5
	// 1
	// 3000 bytes
}

// OpenBidiStream is for code that sends and receives step by step.
func ExampleOpenBidiStream() {
	network, server := newServer(mixing.NewMixerService(desk{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	jam := ipc.OpenBidiStream(context.Background(), mixing.NewMixerClient(conn).Jam)
	defer jam.Close()
	for _, pitch := range []byte{60, 62} {
		if err := jam.Send(&mixing.NoteT{Pitch: pitch}); err != nil {
			log.Fatal(err)
		}
		note, err := jam.Receive()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(note.Pitch)
	}
	jam.CloseSend()
	_, err = jam.Receive()
	fmt.Println(errors.Is(err, io.EOF))
	// Output:
	// 64
	// 66
	// true
}

// A meter measures until its server shuts down.
type meter struct{ mixing.UnimplementedMixer }

func (meter) Levels(ctx context.Context,
	_ *mixing.LevelsRequestT) iter.Seq2[*mixing.LevelT, error] {
	return func(yield func(*mixing.LevelT, error) bool) {
		for yield(&mixing.LevelT{Peak: 0.5}, nil) {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done(): // the client has ended the call, or is gone
				return
			case <-ipc.DrainingFromContext(ctx): // the server shuts down: end in order
				return
			}
		}
	}
}

func ExampleDrainingFromContext() {
	network, server := newServer(mixing.NewMixerService(meter{}))
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	shutdown := make(chan error, 1)
	begun := false
	for _, err := range mixing.NewMixerClient(conn).Levels(context.Background(),
		&mixing.LevelsRequestT{}) {
		if err != nil {
			fmt.Println(err)
		}
		if !begun {
			begun = true
			go func() { shutdown <- server.Shutdown(context.Background()) }()
		}
	}
	fmt.Println(<-shutdown)
	// Output: <nil>
}
