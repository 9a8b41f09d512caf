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

// hangs says that a server does not answer, and what can be done. Its process may not be known: to
// kill process 0 is to kill those of the user's own process group.
func hangs(pid int) string {
	if pid == 0 {
		return "the server does not answer: it is stopped or hangs"
	}
	return fmt.Sprintf("process %d does not answer: it is stopped or hangs; kill -QUIT %d prints "+
		"what it does, and ends it", pid, pid)
}

// next takes records from the tap, for which it waits, and tells if the server hangs: it answers
// after that time, whatever happens there.
func (w *watching) next(ctx context.Context, wait time.Duration, say func(string, ...any)) (
	records []*introspect.TapRecordT, lost uint64, err error) {
	pid := int(w.server.Description.Pid)
	end := whileSilent(wait+hesitation, func() { say("%s", hangs(pid)) })
	records, lost, err = w.tap.Take(ctx, wait)
	if end() && err == nil {
		say("process %d answers again", pid)
	}
	return records, lost, err
}
