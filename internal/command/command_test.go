package command_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/command"
)

// TestRun ends a command in each way.
func TestRun(t *testing.T) {
	until := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		timeout time.Duration
		f       func(context.Context) error
		status  int
		text    string
	}{
		{0, func(context.Context) error { return nil }, command.OK, ""},
		{0, func(context.Context) error { return errors.New("no") }, command.Failed, "x: no\n"},
		{1, until, command.Failed, "x: not done after 1ns; see -timeout\n"},
		{0, func(ctx context.Context) error {
			if err := self.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			return until(ctx)
		}, command.Interrupted, "x: interrupted; all machines are shut down\n"},
	} {
		var errOut strings.Builder
		run := command.Command{Name: "x", Started: "machines", Timeout: c.timeout, Stderr: &errOut}
		if got := run.Run(c.f); got != c.status || errOut.String() != c.text {
			t.Errorf("status %d and %q, want %d and %q", got, errOut.String(), c.status, c.text)
		}
	}
}
