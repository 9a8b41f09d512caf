//go:build ipccrash && linux

package sys

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

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
		sig, what := syscall.SIGKILL, "crash at "
		if crash.action == "stop" {
			sig, what = syscall.SIGSTOP, "stop at "
		}
		os.Stderr.WriteString(what + strconv.FormatInt(Monotonic(), 10) + "\n")
		// The signal goes to this very thread, which therefore does not go on before it has taken
		// effect. One that goes to the process is for any of its threads, and stops the others, of
		// which this one may be, only when that thread gets a processor.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	}
}
