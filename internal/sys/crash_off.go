//go:build !ipccrash || !linux

package sys

// CrashPoint marks a step after which a process may die or stop: a store to
// shared memory or a call of the kernel. Built with the tag ipccrash, it does so where
// the crash tests ask for it; otherwise it is nothing.
func CrashPoint(string) {}
