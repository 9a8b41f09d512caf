package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// TestChronicle notes what changes from one survey to the next, in the order in which it is told.
func TestChronicle(t *testing.T) {
	began := time.Unix(1000, 0)
	record := func(name string, pid int, role registry.Role, epoch uint64) registry.Record {
		return registry.Record{Name: name, PID: pid, Role: role, Epoch: epoch, Control: name,
			StartTime: began}
	}
	primary, standby := registry.RolePrimary, registry.RoleStandby
	var c chronicle
	now := began
	for _, step := range []struct {
		what      string
		instances []registry.Record
		channels  []survey.Channel
		want      string
	}{
		{"the first survey is no news", []registry.Record{record("g.0", 1, primary, 1),
			record("g.1", 2, standby, 1)}, nil, ""},
		{"nothing", []registry.Record{record("g.0", 1, primary, 1),
			record("g.1", 2, standby, 1)}, nil, ""},
		{"a standby follows the epoch", []registry.Record{record("g.0", 1, primary, 1),
			record("g.1", 2, standby, 2)}, nil, ""},
		{"a failover", []registry.Record{record("g.0", 3, standby, 2),
			record("g.1", 2, primary, 2)}, nil,
			"lost g.0: pid 1, the primary, has ended; " +
				"promoted g.1: pid 2 is the primary, in epoch 2; " +
				"came g.0: pid 3 is there, a standby"},
		{"a new epoch", []registry.Record{record("g.0", 3, standby, 2),
			record("g.1", 2, primary, 3)}, nil, "promoted g.1: pid 2 is the primary, in epoch 3"},
		{"a step down", []registry.Record{record("g.0", 3, standby, 3),
			record("g.1", 2, standby, 3)}, nil, "changed g.1: STANDBY instead of PRIMARY"},
		{"the channel of an instance that is not registered yet", nil,
			[]survey.Channel{{Name: "plain", Live: true, PID: 9,
				Since: began.Add(4 * time.Minute)}},
			"gone g.0: pid 3 has ended; gone g.1: pid 2 has ended; came plain: pid 9 is there"},
		{"a channel that was an instance's is none of its own", nil,
			[]survey.Channel{{Name: "plain", Live: true, PID: 9, Since: began},
				{Name: "g.0", Live: true, PID: 3, Since: began}}, ""},
		{"it ends", nil, nil, "gone plain: pid 9 has ended"},
	} {
		now = now.Add(time.Minute)
		before := c.count
		some := c.note(&survey.Survey{Instances: step.instances, Channels: step.channels}, now)
		var told []string
		for i, e := range c.since(before) {
			if e.Number != before+uint64(i)+1 || !e.At.Equal(now) {
				t.Errorf("%s: event %+v", step.what, e)
			}
			told = append(told, fmt.Sprintf("%s %s: %s", e.Kind, e.Name, e.Text))
		}
		if got := strings.Join(told, "; "); got != step.want || some != (got != "") {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}

	// A young channel is not told yet.
	young := []survey.Channel{{Name: "young", Live: true, PID: 5, Since: now}}
	if c.note(&survey.Survey{Channels: young}, now.Add(settled/2)) {
		t.Error("a channel that may become an instance was told")
	}

	// The oldest are forgotten, and a page that was away gets what is left.
	for i := range 3 * mostEvents {
		var all []registry.Record
		if i%2 == 0 {
			all = append(all, record("x", i+1, primary, 1))
		}
		c.note(&survey.Survey{Instances: all}, now)
	}
	if n := len(c.events); n != mostEvents || cap(c.events) > 4*mostEvents {
		t.Errorf("%d events are kept, in room for %d", n, cap(c.events))
	}
	for _, from := range []uint64{0, c.count - 3, c.count, c.count + 10} {
		got := c.since(from)
		if want := min(int(c.count-min(from, c.count)), mostEvents); len(got) != want {
			t.Errorf("%d events since %d of %d, want %d", len(got), from, c.count, want)
		}
	}
}
