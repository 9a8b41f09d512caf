// Package userlog calls loggers that users give to the runtime. A handler of package log/slog is
// code of the user, and runs on the runtime's goroutines: if it panics, its record is lost, and
// nothing else.
package userlog

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
)

// Silent is the logger of those who have set none.
var Silent = slog.New(slog.DiscardHandler)

// Contain returns a logger that passes records to l and never panics. A nil l is Silent.
func Contain(l *slog.Logger) *slog.Logger {
	if l == nil || l.Handler() == slog.DiscardHandler {
		return Silent
	}
	if _, ok := l.Handler().(handler); ok {
		return l
	}
	return slog.New(handler{l.Handler()})
}

// Traced returns the logger for records that must leave a trace: log, which Contain has returned,
// or slog.Default if that is Silent.
func Traced(log *slog.Logger) *slog.Logger {
	if log == nil || log.Handler() == slog.DiscardHandler {
		return Contain(slog.Default())
	}
	return log
}

// A handler calls a user's handler.
type handler struct{ users slog.Handler }

// report writes to the standard error of the process that a handler has panicked. The stack shows
// where, and what was lost.
func report(what any) {
	if p := recover(); p != nil {
		fmt.Fprintf(os.Stderr, "ipcgen: the log handler panicked: %v; lost is %v\n%s", p, what,
			debug.Stack())
	}
}

// Enabled implements slog.Handler.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	defer report(level)
	return h.users.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	defer report(r.Message)
	return h.users.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) (with slog.Handler) {
	with = h
	defer report(attrs)
	return handler{h.users.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) (with slog.Handler) {
	with = h
	defer report(name)
	return handler{h.users.WithGroup(name)}
}
