//go:build !linux

package sys

import (
	"errors"
	"fmt"
	"runtime"
)

// unsupported returns the error of a function that this platform cannot offer.
func unsupported(op string) error {
	return fmt.Errorf("%s on %s: shared-memory transport needs Linux: %w", op, runtime.GOOS,
		errors.ErrUnsupported)
}
