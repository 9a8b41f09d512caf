package ipc

import (
	"context"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// DefaultGrace is the default of [WithGrace].
const DefaultGrace = 5 * time.Second

// WithGrace limits how long [Server.Run] waits for calls in flight when the server ends.
func WithGrace(d time.Duration) ServerOption {
	return serverOption(func(c *serverConfig) { c.grace = d })
}

// Run listens on a channel and serves it until ctx is done or the process receives SIGINT or
// SIGTERM. Then it drains the server, as [Server.Shutdown] does: it takes no more calls, answers
// those that it has taken, and returns nil. Calls that it has not taken fail at their clients with
// outcome [NotSent] or [NotExecuted], so that no call is lost.
//
// If calls are still in flight after the grace ([WithGrace]), or when a second SIGINT arrives, Run
// closes the server as [Server.Close] does and returns an error. A second SIGTERM has no effect,
// because service managers repeat it.
//
// The contexts of handlers carry the values of ctx. The end of ctx does not cancel them.
func (s *Server) Run(ctx context.Context, channel string, opts ...ListenOption) error {
	orders := sys.AwaitOrders()
	defer orders.Stop()
	l, err := Listen(channel, opts...)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.WithoutCancel(ctx), l) }()
	var ended error
	select {
	case <-ctx.Done():
	case <-orders.Told:
	case ended = <-served:
		served <- ErrServerClosed
	}
	err = s.drain(orders, "serve "+channel)
	if serr := <-served; ended == nil {
		ended = serr
	}
	if ended == ErrServerClosed {
		ended = nil
	}
	return sys.JoinErrors(ended, err)
}

// drain is Shutdown within the grace.
func (s *Server) drain(orders *sys.Orders, op string) error {
	ctx, cancel := orders.Grace(s.cfg.grace)
	defer cancel()
	switch err := s.Shutdown(ctx); {
	case err == nil:
		return nil
	case context.Cause(ctx) == sys.ErrUrgent:
		return &Error{Code: CodeCanceled, Op: op, Msg: "a second SIGINT cut off calls in flight"}
	}
	return &Error{Code: CodeDeadlineExceeded, Op: op, Msg: fmt.Sprintf(
		"calls were still in flight %v after the server was told to end, and were cut off; "+
			"allow more with WithGrace", s.cfg.grace)}
}
