package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// tooLong ends a test that hangs.
const tooLong = 5 * time.Minute

// A started is ipcctl at work.
type started struct {
	out    *lineWriter
	err    *lineWriter
	cancel context.CancelFunc
	code   chan int
}

func start(t *testing.T, in io.Reader, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &started{out: newLineWriter(), err: newLineWriter(), cancel: cancel,
		code: make(chan int, 1)}
	go func() {
		s.code <- run(ctx, append([]string{"ipcctl"}, args...), in, s.out, s.err)
	}()
	return s
}

// ends checks the status of the command and what it printed.
func (s *started) ends(t *testing.T, code int, out, errOut string) {
	t.Helper()
	got := <-s.code
	if got != code || !strings.Contains(s.out.String(), out) ||
		!strings.Contains(s.err.String(), errOut) {
		t.Errorf("status %d, want %d\nprinted %q, want %q\nand %q, want %q", got, code, s.out, out,
			s.err, errOut)
	}
}
