//go:build !linux

package sys

import "math"

// PhysicalMemory returns the largest number: the size is unknown.
func PhysicalMemory() uint64 { return math.MaxUint64 }

// GroupMemory returns the largest number: there are no control groups.
func GroupMemory() uint64 { return math.MaxUint64 }
