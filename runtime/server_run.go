package ipc

import (
	"context"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// DefaultGrace is how long Run lets calls in flight end.
const DefaultGrace = 5 * time.Second

// WithGrace sets how long Run waits, once it is told to end, for the calls that the
// server has taken.
func WithGrace(d time.Duration) ServerOption {
	return serverOption(func(c *serverConfig) { c.grace = d })
}

// Run is the whole life of a server: it listens on the channel and serves until ctx is
// done or the process receives SIGINT or SIGTERM. Then it drains: it takes no more
// calls, answers those that it has taken, as Shutdown does, and returns nil. Clients
// learn that the server ends, and calls that it has not taken fail with outcome NotSent
// or NotExecuted, so that none is lost.
//
// Run closes the server as Close does, and returns an error, when calls are still in
// flight after the grace (WithGrace), or when a second SIGINT arrives before, as of a second
// Ctrl-C. A second SIGTERM changes nothing: service managers repeat themselves.
//
// The contexts of handlers carry the values of ctx. They are not cancelled by its end.
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
