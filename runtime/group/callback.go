package group

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is what happens to code of the user that this package calls, when it panics or
// ends its goroutine (runtime.Goexit): neither ends the process, or what the goroutine
// does for others, and both leave a trace.

// errExited is the answer of a handler that has ended its goroutine, on every replica.
var errExited = ipc.Errorf(ipc.CodeInternal, "the handler ended its goroutine (runtime.Goexit)")

// contain runs f, the user's code called what, on a goroutine of its own. A panic, and the
// end of that goroutine, are errors.
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

// traced returns the logger for what must leave a trace: the process's default where none
// was set.
func traced(log *slog.Logger) *slog.Logger {
	if log == nil || log.Handler() == slog.DiscardHandler {
		return slog.Default()
	}
	return log
}
