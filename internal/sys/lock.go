package sys

import "errors"

// ErrLocked is the error of TryLock while another process holds the lock.
var ErrLocked = errors.New("locked by another process")
