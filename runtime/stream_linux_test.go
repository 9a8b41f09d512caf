package ipc_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func TestStreamToServer(t *testing.T) {
	d := newDomain(t)
	const blocks = 20_000
	type result struct {
		n   uint64
		err error
	}
	done := make(chan result, 1)
	serve(t, d, ipc.HandleStreamReader(blockStream,
		func(ctx context.Context, r *ipc.StreamReader) error {
			for want := uint64(0); ; want++ {
				n, lost, err := readBlock(ctx, r)
				if err == nil && (n != want || lost != 0) {
					err = errors.New("a block is missing")
				}
				if err != nil {
					done <- result{want, err}
					return nil
				}
			}
		}))
	w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream,
		ipc.StreamOptions{Depth: 8, Payload: 512}, d)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(blocks) {
		if err := writeBlock(t.Context(), w, n, int(n%512)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.n != blocks || r.err != io.EOF {
		t.Errorf("the server read %d blocks of %d, then: %v", r.n, blocks, r.err)
	}
	if err := writeBlock(t.Context(), w, 0, 0); ipc.CodeOf(err) != ipc.CodeUnavailable {
		t.Errorf("write after Close: %v", err)
	}
}

// TestStreamOverwrite reads slowly what a server in another process overwrites, and
// expects whole blocks, in order, with an exact count of the lost ones, and the end
// when the server is killed, which is no io.EOF.
func TestStreamOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	srv := startChild(t, "server", path)
	r, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream,
		ipc.StreamOptions{Depth: 4, Payload: 4096, Policy: ipc.StreamOverwrite},
		ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Peer().PID != srv.Process.Pid {
		t.Errorf("peer %d, want %d", r.Peer().PID, srv.Process.Pid)
	}
	next := uint64(0)
	for i := range 20_000 {
		n, lost, err := readBlock(t.Context(), r)
		if errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF && i > 10_000 {
			return
		}
		if err != nil || n != next+lost {
			t.Fatalf("block %d after %d and %d lost: %v", n, next, lost, err)
		}
		next = n + 1
		if i == 10_000 {
			srv.kill()
		}
	}
	t.Error("no end after the death of the writer")
}

func TestStreamPolicies(t *testing.T) {
	d := newDomain(t)
	hold := make(chan struct{})
	defer close(hold)
	serve(t, d, ipc.HandleStreamReader(blockStream, func(context.Context, *ipc.StreamReader) error {
		<-hold
		return nil
	}))
	for policy, want := range map[ipc.StreamPolicy]ipc.Code{
		ipc.StreamBlock: ipc.CodeDeadlineExceeded, ipc.StreamFail: ipc.CodeResourceExhausted,
		ipc.StreamOverwrite: ipc.CodeOK,
	} {
		w, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream,
			ipc.StreamOptions{Depth: 2, Policy: policy}, d)
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(2) {
			if err := writeBlock(t.Context(), w, n, 10); err != nil {
				t.Errorf("policy %d, block %d: %v", policy, n, err)
			}
		}
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if policy == ipc.StreamBlock {
			ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
		}
		if err := writeBlock(ctx, w, 2, 10); ipc.CodeOf(err) != want {
			t.Errorf("policy %d: %v", policy, err)
		}
		cancel()
		if err := writeBlock(t.Context(), w, 0, 1<<20); ipc.CodeOf(err) != ipc.CodeTooLarge {
			t.Errorf("policy %d, too large: %v", policy, err)
		}
		w.Close()
	}
	for _, policy := range []uint32{3, 1<<8 + uint32(ipc.StreamOverwrite)} {
		if err := ipc.RawStreamAsk(t.Context(), "echo", blockStream, 1, policy,
			d); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Errorf("policy %d at the server: %v", policy, err)
		}
	}
	for _, kind := range []uint32{2, 3} { // 2 is a topic
		if err := ipc.RawStreamAsk(t.Context(), "echo", blockStream, kind, 0,
			d); ipc.CodeOf(err) != ipc.CodeUnimplemented {
			t.Errorf("a connection of kind %d: %v", kind, err)
		}
	}
	if _, err := ipc.OpenStreamWriter(t.Context(), "echo", blockStream,
		ipc.StreamOptions{Policy: 3}, d); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("policy 3: %v", err)
	}
	other := *blockStream
	other.Protocol = &ipc.Protocol{Name: "test.Block", Fingerprint: 8}
	if _, err := ipc.OpenStreamWriter(t.Context(), "echo", &other, ipc.StreamOptions{},
		d); ipc.CodeOf(err) != ipc.CodeIncompatible {
		t.Errorf("another layout: %v", err)
	}
	if _, err := ipc.OpenStreamReader(t.Context(), "echo", blockStream, ipc.StreamOptions{},
		d); ipc.CodeOf(err) != ipc.CodeUnimplemented {
		t.Errorf("wrong direction: %v", err)
	}
}
