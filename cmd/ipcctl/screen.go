package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
)

// A screen is a terminal that obeys nothing of what is written: it shows control characters as
// escapes, because names and texts come from servers and files.
type screen struct {
	io.Writer
	file *os.File
}

// screenOf returns what a command writes to: a screen if w is a terminal.
func screenOf(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		return &screen{visible.Writer(f), f}
	}
	return w
}

// terminalOf returns the terminal of a screen, which obeys, or another writer itself.
func terminalOf(w io.Writer) io.Writer {
	if s, ok := w.(*screen); ok {
		return s.file
	}
	return w
}

// clearLine clears the line of a terminal.
func clearLine(w io.Writer) { _, _ = io.WriteString(terminalOf(w), "\r\x1b[K") }

// isTerminal reports whether a stream of a command is a terminal.
func isTerminal(stream any) bool {
	if s, ok := stream.(*screen); ok {
		stream = s.file
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
