// Package command runs a command of the demo until it is done, a signal ends it, or its time is
// over.
package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit statuses.
const (
	OK          = 0
	Failed      = 1
	Usage       = 2
	Interrupted = 130 // 128 + SIGINT, as shells count
)

// A Command is what is run.
type Command struct {
	Name    string        // before each message
	Started string        // what it has started, and shuts down when it is interrupted: "machines"
	Timeout time.Duration // how long it may take; 0 for no limit
	Stderr  io.Writer     // where it says why it has failed
}

// Run runs f, and returns the exit status. The context of f ends at a signal that asks this process
// to end, as that of a terminal which is closed does, and when the time is over. What is ignored
// since the start of the process, as by nohup, stays ignored.
func (c *Command) Run(f func(context.Context) error) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	interrupted, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	ctx := interrupted
	if c.Timeout != 0 {
		limited, cancel := context.WithTimeoutCause(interrupted, c.Timeout,
			fmt.Errorf("not done after %v; see -timeout", c.Timeout))
		defer cancel()
		ctx = limited
	}
	switch err := f(ctx); {
	case err == nil:
		return OK
	case interrupted.Err() != nil:
		fmt.Fprintf(c.Stderr, "%s: interrupted; all %s are shut down\n", c.Name, c.Started)
		return Interrupted
	default:
		fmt.Fprintf(c.Stderr, "%s: %v\n", c.Name, err)
		return Failed
	}
}
