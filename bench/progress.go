package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// A progress shows what is being done in one line of a terminal, and nothing
// elsewhere.
type progress struct {
	w     io.Writer // nil if no terminal shows it
	start time.Time
}

func newProgress(w io.Writer) *progress {
	p := &progress{start: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = w
	}
	return p
}

// say replaces the line.
func (p *progress) say(what string) {
	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K%4.0f s  %s", time.Since(p.start).Seconds(), what)
	}
}

// clear removes the line.
func (p *progress) clear() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
