package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// hesitation is how long a server may be silent before it is said.
const hesitation = 2 * time.Second

// whileSilent calls tell if the function that it returns is not called within a time, and that
// function then waits for tell, and reports that it was called.
func whileSilent(limit time.Duration, tell func()) (end func() (told bool)) {
	var telling sync.WaitGroup
	telling.Add(1)
	late := time.AfterFunc(limit, func() {
		defer telling.Done()
		tell()
	})
	return func() bool {
		if late.Stop() {
			return false
		}
		telling.Wait()
		return true
	}
}

// serverIn names a server by its process, which may not be known.
func serverIn(pid int) string {
	if pid == 0 {
		return "the server"
	}
	return fmt.Sprintf("process %d", pid)
}

// hangs says that a server does not answer, and what can be done: but not to kill process 0, which
// is to kill those of the user's own process group.
func hangs(pid int) string {
	text := serverIn(pid) + " does not answer: it is stopped or hangs"
	if pid != 0 {
		text += fmt.Sprintf("; kill -QUIT %d prints what it does, and ends it", pid)
	}
	return text
}

// recovers says that a server which has hung answers.
func recovers(pid int) string { return serverIn(pid) + " answers again" }

// next takes records from the tap, for which it waits, and tells if the server hangs: it answers
// after that time, whatever happens there.
func (w *watching) next(ctx context.Context, wait time.Duration, say func(string, ...any)) (
	records []*introspect.TapRecordT, lost uint64, err error) {
	pid := int(w.server.Description.Pid)
	end := whileSilent(wait+hesitation, func() { say("%s", hangs(pid)) })
	records, lost, err = w.tap.Take(ctx, wait)
	if end() && err == nil {
		say("%s", recovers(pid))
	}
	return records, lost, err
}
