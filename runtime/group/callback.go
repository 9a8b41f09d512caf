package group

import (
	"cmp"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/ipcgen/ipcgen/internal/userlog"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file contains calls of the user's code. If such code panics or ends its goroutine
// (runtime.Goexit), it ends neither the process nor the work that the goroutine does for others,
// and it leaves a trace.

// errExited is the answer, on every replica, of a handler that has ended its goroutine.
var errExited = ipc.Errorf(ipc.CodeInternal, "the handler ended its goroutine (runtime.Goexit)")

// contain runs f, the user's code called what, on a goroutine of its own. It returns an error for a
// panic, and for the end of that goroutine.
func contain(log *slog.Logger, what string, f func() error) error {
	_, err := await(nil, log, what, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// await is contain for a function with a result. When stop is closed before f has returned, await
// returns an error, and f runs on.
func await[T any](stop <-chan struct{}, log *slog.Logger, what string,
	f func() (T, error)) (v T, err error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: failed(what + " ended its goroutine (runtime.Goexit)")}
		returned := false
		defer func() {
			r.err = orPanic(recover(), what, r.err)
			if !returned {
				trace(log, r.err)
			}
			done <- r
		}()
		r.v, r.err = f()
		returned = true
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-stop:
		return v, failed(what + " has not returned")
	}
}

// here runs f, the user's code called what, on this goroutine. It returns an error for a panic.
func here(log *slog.Logger, what string, f func()) (err error) {
	returned := false
	defer func() {
		err = orPanic(recover(), what, err)
		if !returned {
			trace(log, cmp.Or(err, failed(what+" ended its goroutine (runtime.Goexit)")))
		}
	}()
	f()
	returned = true
	return nil
}

func failed(msg string) error { return &ipc.Error{Code: ipc.CodeInternal, Msg: msg} }

// orPanic returns the error for the value of a panic or, if there is none, err.
func orPanic(panicked any, what string, err error) error {
	if panicked == nil {
		return err
	}
	return failed(fmt.Sprint(what, " panicked: ", panicked))
}

// trace logs that a callback did not return, with the stack, which shows where.
func trace(log *slog.Logger, err error) {
	userlog.Traced(log).Error("a callback did not return", "err", err, "stack",
		string(debug.Stack()))
}
