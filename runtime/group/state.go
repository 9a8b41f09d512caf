package group

import (
	"fmt"
	"time"
)

// A State is what a service shall not lose: the group keeps it alike on all
// replicas and hands it to fresh ones. docs/replication.md tells what that
// guarantees.
//
// The state must be a function of the calls that changed it: every replica
// executes the same ones in the same order, and handlers that read a clock, random
// numbers or other processes would make replicas differ. A method changes the state
// unless its schema marks it read_only.
//
// Snapshot and Restore are never called while a call that changes the state is
// executed; read-only ones may be.
type State interface {
	// Snapshot returns the whole state. Calls that change it wait until it
	// returns; the bytes belong to the group from then on.
	Snapshot() ([]byte, error)
	// Restore replaces the whole state, whatever it was, by a snapshot that
	// another replica took, perhaps one of an older version of the program. The
	// bytes are its own. After an error the replica is replaced.
	Restore(snapshot []byte) error
}

// Replication makes a group keep the State of its service: a call that changes
// it is answered when the primary and every standby in sync have executed it,
// and only a standby in sync is promoted. Zero values mean the defaults.
type Replication struct {
	// MinSync is how many standbys must be in sync for calls that change the
	// state; with fewer they fail with ipc.CodeFailedPrecondition. With 0 a primary
	// that has lost its standbys goes on alone, and the state is lost with it
	// if it dies before another is in sync.
	MinSync int
	// AckTimeout is how long a standby may take to execute a call, besides four times as
	// long as the primary took for it, before the primary goes on without it; 1 s
	// when 0.
	AckTimeout time.Duration
	// SyncTimeout is how long a replica may take to be in sync, once it is
	// ready, before it is replaced; 10 s when 0.
	SyncTimeout time.Duration
	// Backlog limits the calls, in bytes, that the primary keeps for a standby
	// that is not in sync yet; with more it begins anew, from a new snapshot.
	// 64 MiB when 0.
	Backlog int
}

// maxStateful is how many replicas a group can have that keeps a state: they
// share a word with the epoch.
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
