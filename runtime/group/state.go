package group

import (
	"fmt"
	"time"
)

// A State is the state of a service. The group keeps it equal on all replicas, and passes it to new
// ones. docs/replication.md states the guarantees.
//
// The state must be a function of the calls that changed it. Every replica executes the same calls
// in the same order; handlers that read a clock, random numbers or other processes would make
// replicas differ. A method changes the state unless its schema marks it read_only.
//
// Snapshot and Restore are never called while a call that changes the state is executed. Calls of
// read_only methods may be executed at the same time.
type State interface {
	// Snapshot returns the whole state. Calls that change the state wait until Snapshot returns.
	// The returned slice belongs to the group.
	Snapshot() ([]byte, error)
	// Restore replaces the whole state by a snapshot that another replica has taken, perhaps one
	// with an older version of the program. The slice belongs to the callee. After an error, or a
	// panic, the replica is replaced.
	Restore(snapshot []byte) error
}

// Replication makes a group keep the [State] of its service. A call that changes the state is
// answered when the primary and every standby in sync have executed it. Only a standby in sync is
// promoted. Zero values mean the defaults.
type Replication struct {
	// MinSync is the number of standbys that must be in sync for calls that change the state. With
	// fewer, such calls fail with [ipc.CodeFailedPrecondition]. With 0, a primary that has lost its
	// standbys continues alone, and the state is lost if it dies before another one is in sync.
	MinSync int
	// AckTimeout is the time that a standby has to execute a call, in addition to four times as
	// long as the primary took, before the primary continues without it; 1 s when 0.
	AckTimeout time.Duration
	// SyncTimeout is the time that a ready replica has to get in sync, before it is replaced; 10 s
	// when 0.
	SyncTimeout time.Duration
	// Backlog limits the calls, in bytes, that the primary keeps for a standby that is not in sync
	// yet. A standby that needs more starts again from a new snapshot. 64 MiB when 0.
	Backlog int
}

// maxStateful is the largest number of replicas of a group that keeps a state: a word has a bit for
// each of them, and the epoch.
const maxStateful = 24

func (r Replication) withDefaults(replicas int) (*Replication, error) {
	if replicas > maxStateful {
		return nil, fmt.Errorf("%d replicas; a group with Replication has at most %d",
			replicas, maxStateful)
	}
	if r.MinSync < 0 || r.MinSync >= replicas {
		return nil, fmt.Errorf("Replication.MinSync is %d; choose 0 to %d, the number of standbys",
			r.MinSync, replicas-1)
	}
	if r.AckTimeout < 0 || r.SyncTimeout < 0 || r.Backlog < 0 {
		return nil, fmt.Errorf("Replication has a negative limit: %+v", r)
	}
	if r.AckTimeout == 0 {
		r.AckTimeout = time.Second
	}
	if r.SyncTimeout == 0 {
		r.SyncTimeout = 10 * time.Second
	}
	if r.Backlog == 0 {
		r.Backlog = 64 << 20
	}
	return &r, nil
}
