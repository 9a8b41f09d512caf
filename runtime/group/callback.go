package group

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file contains calls of the user's code. If such code panics or ends its goroutine
// (runtime.Goexit), it ends neither the process nor the work that the goroutine does for others,
// and it leaves a trace.

// errExited is the answer, on every replica, of a handler that has ended its goroutine.
var errExited = ipc.Errorf(ipc.CodeInternal, "the handler ended its goroutine (runtime.Goexit)")

// contain runs f, the user's code called what, on a goroutine of its own. It returns an error for a
// panic, and for the end of that goroutine.
func contain(log *slog.Logger, what string, f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = fmt.Errorf("%s ended its goroutine (runtime.Goexit)", what)
		returned := false
		defer func() {
			p := recover()
			if p != nil {
				err = fmt.Errorf("%s panicked: %v", what, p)
			}
			if !returned {
				traced(log).Error("a callback did not return", "err", err, "stack",
					string(debug.Stack()))
			}
		}()
		err = f()
		returned = true
	}()
	<-done
	return err
}

// traced returns the logger for events that must leave a trace: log or, if that is nil, the default
// logger.
func traced(log *slog.Logger) *slog.Logger {
	if log == nil || log.Handler() == slog.DiscardHandler {
		return slog.Default()
	}
	return log
}
