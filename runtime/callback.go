package ipc

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/ipcgen/ipcgen/internal/userlog"
)

// This file is what happens to code of the user that this package calls, when it does not
// return: it panics, or it ends its goroutine (runtime.Goexit, which FailNow of package
// testing calls). A panic becomes an error. The end of a goroutine cannot be prevented, so
// every place that calls such code does what it owes to others in a deferred function.

// protect runs a callback called name and returns its error. A panic becomes an error; the end of
// the goroutine is logged.
func protect(log *slog.Logger, name string, f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if r := recover(); r != nil {
			err = panicked(log, r)
		} else {
			exited(log, name)
		}
	}()
	err = f()
	returned = true
	return err
}

// panicked returns the error for a callback that has panicked, and logs the stack, which is not for
// the peer.
func panicked(log *slog.Logger, r any) error {
	loggerOrDefault(log).Error("handler panicked", "panic", r, "stack", string(debug.Stack()))
	return &Error{Code: CodeInternal, Outcome: Executed,
		Msg: fmt.Sprint("the handler panicked: ", r)}
}

// logPanic, deferred, logs a panic that a caller turns into an error.
func logPanic(log *slog.Logger) {
	if r := recover(); r != nil {
		_ = panicked(log, r)
		panic(r)
	}
}

// errExited answers a call whose handler has ended its goroutine.
var errExited = &Error{Code: CodeInternal, Outcome: Executed,
	Msg: "the handler ended its goroutine (runtime.Goexit)"}

// exited logs that the handler called name has ended its goroutine.
func exited(log *slog.Logger, name string) {
	loggerOrDefault(log).Error("handler ended its goroutine", "handler", name, "stack",
		string(debug.Stack()))
}

// loggerOrDefault returns the logger for what must leave a trace: log, or slog.Default if the user
// has set no logger.
func loggerOrDefault(log *slog.Logger) *slog.Logger { return userlog.Traced(log) }
