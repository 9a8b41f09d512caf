package report

import (
	"fmt"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/failover"
	"github.com/ipcgen/ipcgen/bench/internal/names"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// Registry writes the table of the registry's costs, a column for each number
// of instances.
func Registry(w io.Writer, all []*names.Costs) error {
	head := []string{"registry, medians"}
	for _, c := range all {
		head = append(head, fmt.Sprintf("%d instances", c.Instances))
	}
	t := NewTable(head...)
	for _, op := range []struct {
		name  string
		value func(*names.Costs) time.Duration
	}{
		{"look up a name", func(c *names.Costs) time.Duration { return c.Lookup }},
		{"look up a name that is not there", func(c *names.Costs) time.Duration {
			return c.Missing
		}},
		{"list all", func(c *names.Costs) time.Duration { return c.List }},
		{"register", func(c *names.Costs) time.Duration { return c.Register }},
		{"close a registration", func(c *names.Costs) time.Duration { return c.Close }},
		{"register, until a watcher is told", func(c *names.Costs) time.Duration {
			return c.Appear
		}},
		{"close, until a watcher is told", func(c *names.Costs) time.Duration {
			return c.Disappear
		}},
	} {
		row := []string{op.name}
		for _, c := range all {
			row = append(row, Duration(op.value(c)))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

// Failover is what was measured of a group.
type Failover struct {
	Kills   []*failover.Kills
	Hangs   failover.Times
	Beat    group.Heartbeat
	Rolling *failover.Rolling
}

// Write writes the tables.
func (f *Failover) Write(w io.Writer) error {
	if len(f.Kills) > 0 || len(f.Hangs) > 0 {
		t := NewTable("from the kill of the primary", "p50", "p99", "max",
			"÷ earliest notice", "kills")
		for _, k := range f.Kills {
			size := Bytes(int64(k.Ballast))
			row := func(name string, times failover.Times) {
				if len(times) == 0 {
					return
				}
				t.Row(size+": "+name, Duration(times.Quantile(0.5)), Duration(times.Quantile(0.99)),
					Duration(times.Quantile(1)),
					Ratio(float64(times.Quantile(0.5)), float64(k.Futex.Quantile(0.5))),
					fmt.Sprint(len(times)))
			}
			row("kernel's notice by robust futex", k.Futex)
			row("kernel's notice by pidfd", k.Pidfd)
			row("kernel's notice by pidfd, memory in huge pages", k.HugePidfd)
			row("kernel's notice by socket", k.Socket)
			row("the supervisor has promoted the standby", k.Promoted)
			row("the standby handles a call", k.Handled)
			row("first reply, warm standby", k.Warm)
			row("first reply, supervisor in a process of its own", k.Apart)
			row("first reply, the same, memory in huge pages", k.Huge)
			row("first reply, new process", k.Cold)
		}
		if len(f.Hangs) > 0 {
			t.Row(fmt.Sprintf("first reply after a hang, heartbeat of %v, %v grace", f.Beat.Period,
				f.Beat.Grace),
				Duration(f.Hangs.Quantile(0.5)), Duration(f.Hangs.Quantile(0.99)),
				Duration(f.Hangs.Quantile(1)), "", fmt.Sprint(len(f.Hangs)))
		}
		if _, err := t.WriteTo(w); err != nil {
			return err
		}
	}
	if r := f.Rolling; r != nil {
		_, err := fmt.Fprintf(w,
			"\n%d rolling restarts of two replicas under four callers, %s each: %d calls, %d "+
				"failed, the longest took %s.\n",
			r.Restarts, Duration(r.Took), r.Calls, r.Failed, Duration(r.Longest))
		return err
	}
	return nil
}
