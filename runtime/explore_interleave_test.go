//go:build ipcinterleave

package ipc

import (
	"os"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// moreSwitches is how many more switches the long form allows.
const moreSwitches = 2

// longer returns how many switches the form of a test that runs allows; 0 is no limit.
func longer(switches int) int {
	if switches > 0 && os.Getenv("IPC_TEST_LONG") != "" {
		switches += moreSwitches
	}
	return switches
}

// explore is a subtest that runs a scene in every order.
func explore(t *testing.T, name string, start func(*testing.T, *interleave.Run)) {
	t.Run(name, func(t *testing.T) {
		rep := interleave.Explore(func(r *interleave.Run) { start(t, r) })
		if rep.Err != nil {
			t.Errorf("%v\n%s", rep.Err, strings.Join(rep.Trace, "\n"))
		}
		t.Logf("%d states, %d runs, at most %d steps", rep.States, rep.Runs, rep.Deepest)
	})
}
