//go:build !linux

package sys

import (
	"context"
	"sync/atomic"
)

// HoldRobust makes a word report the death of this process.
func HoldRobust(word *atomic.Uint32) (release func(), err error) {
	return nil, unsupported("robust futex")
}

// WaitRobust waits for the death of the process that holds a word, until ctx is done.
func WaitRobust(ctx context.Context, word *atomic.Uint32) (died bool, err error) {
	return false, unsupported("robust futex")
}

// RobustDied reports whether the process that held a word has died.
func RobustDied(word *atomic.Uint32) bool { return false }

// DropRobust ends WaitRobust for a word whose holder is gone.
func DropRobust(word *atomic.Uint32) {}
