package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// isTerminal reports whether a stream of a command is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress shows a line on a terminal, again and again, until the function that it returns is
// called.
func (t *terminal) progress(line func() string) (stop func()) {
	if !isTerminal(t.err) {
		return func() {}
	}
	done, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(t.err, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(t.err, "\r\x1b[K%s", line())
			}
		}
	}()
	return func() { close(done); <-ended }
}
