package shm

import "github.com/ipcgen/ipcgen/internal/sys"

// hook marks a store to shared memory, or a step of its mapping, for the crash tests; see
// sys.CrashPoint.
func hook(point string) { sys.CrashPoint(point) }
