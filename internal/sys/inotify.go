package sys

import "time"

// CheckPeriod is the period of checks whether a path still names the same file. No event of the
// kernel reports all the ways in which that can change.
const CheckPeriod = 400 * time.Millisecond

// PollPeriod is the period of checks for changes while the kernel cannot report them.
const PollPeriod = 20 * time.Millisecond
