package main

import (
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
)

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
				clearLine(t.err)
				return
			case <-tick.C:
				clearLine(t.err)
				fmt.Fprint(t.err, visible.Line(line()))
			}
		}
	}()
	return func() { close(done); <-ended }
}
