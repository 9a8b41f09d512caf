//go:build ipccrash && linux

package sys

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// CrashEnv tells a process built with the tag ipccrash what to do at its crash
// points: "list" writes the name of each to standard error when it is first
// reached; "kill:<point>:<n>" and "stop:<point>:<n>" kill or stop the process when it is
// reached for the n-th time. Before it dies it writes "crash at " and Monotonic()
// there, so that the survivor can tell how long it took to learn of it.
const CrashEnv = "IPCGEN_CRASH"

var crash struct {
	sync.Mutex
	read   bool
	action string
	point  string
	left   int
	seen   map[string]bool
}

// CrashPoint marks a step after which a process may die or stop.
func CrashPoint(point string) {
	crash.Lock()
	defer crash.Unlock()
	if !crash.read {
		crash.read = true
		f := strings.SplitN(os.Getenv(CrashEnv), ":", 3)
		crash.action = f[0]
		crash.seen = map[string]bool{}
		if len(f) == 3 {
			crash.point = f[1]
			crash.left, _ = strconv.Atoi(f[2])
		}
	}
	switch {
	case crash.action == "list" && !crash.seen[point]:
		crash.seen[point] = true
		os.Stderr.WriteString("crash point: " + point + "\n")
	case point == crash.point:
		if crash.left--; crash.left != 0 {
			return
		}
		sig := syscall.SIGKILL
		if crash.action == "stop" {
			sig = syscall.SIGSTOP
		} else {
			os.Stderr.WriteString("crash at " + strconv.FormatInt(Monotonic(), 10) + "\n")
		}
		// Sent to this very thread's process; it does not return from here
		// before the signal has taken effect.
		_ = syscall.Kill(os.Getpid(), sig)
	}
}
