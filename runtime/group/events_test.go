package group_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/group"
)

// TestEventsAreLines checks that an event of each form prints as one line, also if a replica wrote
// several lines before its end.
func TestEventsAreLines(t *testing.T) {
	died := &group.ReplicaError{Replica: "svc.1", Path: "/bin/svc", PID: 321, Problem: "ended",
		Err: errors.New("exit status 1"), Stderr: "panic: oops\n\ngoroutine 1:"}
	for want, ev := range map[string]group.Event{
		"svc.0 promoted (pid 321, epoch 2)": {Time: time.Now(), Kind: group.Promoted,
			Replica: "svc.0", PID: 321, Epoch: 2},
		"svc.1 died (pid 321, epoch 2): svc.1 (/bin/svc, pid 321) ended: exit status 1; " +
			"it last wrote: panic: oops | goroutine 1:": {Kind: group.Died, Replica: "svc.1",
			PID: 321, Epoch: 2, Cause: "ended", Err: died},
		"svc.0 out of sync (pid 321, epoch 2): it gave up its registration, or its process " +
			"ended: it is gone": {Kind: group.OutOfSync, Replica: "svc.0", PID: 321, Epoch: 2,
			Err: &group.OutOfSyncError{Replica: "svc.0", PID: 321, Reason: group.OutOfSyncGone,
				Detail: "it is gone"}},
		"degraded (epoch 0) for 3s: too many restarts": {Kind: group.Degraded,
			Delay: 3 * time.Second, Cause: "too many restarts"},
	} {
		if got := ev.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
