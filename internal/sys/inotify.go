package sys

import "time"

// PollPeriod is the period of checks for changes while the kernel cannot report them.
const PollPeriod = 20 * time.Millisecond
