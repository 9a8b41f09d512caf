package group

import (
	"context"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file holds the errors for nil where a value is needed. All of them have the code
// InvalidArgument, and say what to do.

func invalid(msg string) error {
	return &ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotSent, Msg: msg}
}

var (
	errNilContext = invalid("the context is nil; give context.Background()")
	// Of the methods of a nil value: the caller has ignored the error of the function that made it.
	errNilClient = invalid("the *group.Client is nil; use the one that Dial returned, after a " +
		"look at its error")
	errNilGroup = invalid("the *group.Group is nil or empty; use the one that Start returned, " +
		"after a look at its error")
	errNilReplica = invalid("the *group.Replica is nil; use the one that Join returned, after a " +
		"look at its error")
	errNilOperator = invalid("the *group.Operator is nil; use the one that DialSupervisor " +
		"returned, after a look at its error")
	errNilCommand = invalid("the command is nil; give a function that returns the command of a " +
		"replica, such as the Config.Command of the group")
	errNilCondition = invalid("the condition is nil; give a function of a Status, such as " +
		"Status.Healthy")
	errNilService = invalid("a Service is nil; make it with the generated NewXService")
)

// usable returns an error if the group was not made by Start, or if ctx is nil.
func (g *Group) usable(ctx context.Context) error {
	switch {
	case g == nil || g.s == nil:
		return errNilGroup
	case ctx == nil:
		return errNilContext
	}
	return nil
}

// ended is closed.
var ended = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
