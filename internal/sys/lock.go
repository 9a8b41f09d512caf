package sys

import "errors"

// ErrLocked is what TryLock returns when somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")
