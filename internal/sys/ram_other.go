//go:build !linux

package sys

import "math"

// PhysicalMemory returns the largest number: the size is unknown.
func PhysicalMemory() uint64 { return math.MaxUint64 }
