//go:build !ipccrash || !linux

package sys

// CrashPoint marks a step after which a process may die or stop: a store to shared memory, or a
// system call. In a program built with the tag ipccrash the process dies or stops there if a crash
// test asks for it; otherwise CrashPoint does nothing.
func CrashPoint(string) {}
