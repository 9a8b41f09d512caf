//go:build !linux

package sys

import "time"

// SetRealtime has all threads of this process run before all ordinary ones.
func SetRealtime(priority int, inherit bool) error { return unsupported("real-time scheduling") }

// SetOrdinary gives all threads of this process the scheduling that processes have by default.
func SetOrdinary() error { return nil }

// LockMemory keeps the memory of this process from being written to disk.
func LockMemory() error { return unsupported("lock memory") }

// SleepUntil blocks until [Monotonic] reaches at.
func SleepUntil(at int64) { time.Sleep(time.Duration(at - Monotonic())) }

// ProcessorTime returns how long the threads of a process have run on processors.
func ProcessorTime(pid int) (time.Duration, error) { return 0, unsupported("processor time") }

// ChildrenProcessorTime returns how long the children of this process that were reaped have run.
func ChildrenProcessorTime() time.Duration { return 0 }

// StolenTime returns how long the machine below has given this one no time.
func StolenTime() time.Duration { return 0 }
