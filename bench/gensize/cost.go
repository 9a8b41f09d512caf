package main

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/report"
)

// A cost is what a command took, with all processes that it started.
type cost struct {
	wall, cpu time.Duration
	memory    int64 // of the largest of the processes, in bytes
}

// costOf runs a command. Its error holds what the command printed.
func costOf(cmd *exec.Cmd) (cost, error) {
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return cost{}, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	c := cost{wall: time.Since(start),
		cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.memory = ru.Maxrss << 10 // Linux counts in KiB, and descendants too
	}
	return c, nil
}

func seconds(s float64) string { return report.Duration(time.Duration(s * float64(time.Second))) }
