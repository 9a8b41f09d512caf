package sys

import "time"

// CheckPeriod is how often a process looks whether a path still names what it did. No
// notice of the kernel tells of all the ways in which that can change.
const CheckPeriod = 400 * time.Millisecond

// PollPeriod is how often watchers look for themselves while the kernel cannot tell them of
// changes.
const PollPeriod = 20 * time.Millisecond
