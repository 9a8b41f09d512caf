package sys

import (
	"math"

	"golang.org/x/sys/unix"
)

// PhysicalMemory returns the size of the machine's memory in bytes, or the largest number if it is
// unknown.
func PhysicalMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return math.MaxUint64
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// freeSwap returns the number of bytes of swap space that are free.
func freeSwap() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Freeswap) * uint64(info.Unit)
}
