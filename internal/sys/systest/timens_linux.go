package systest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ClockVar names the environment variable that makes a test's process enter a time namespace. Its
// value is a duration, such as "24h", by which the monotonic clock of the namespace is ahead of the
// machine's.
const ClockVar = "SYSTEST_CLOCK"

func init() {
	if os.Getenv(ClockVar) != "" {
		runtime.LockOSThread() // so that obeyClock runs on the process's first thread
	}
}

// obeyClock executes this program again in the time namespace that ClockVar asks for.
func obeyClock() error {
	value := os.Getenv(ClockVar)
	if value == "" {
		return nil
	}
	ahead, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("%s: %w", ClockVar, err)
	}
	if err := unshareClock(ahead); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, ClockVar+"=")
	})
	return unix.Exec("/proc/self/exe", os.Args, env)
}

// unshareClock makes the namespace of what this thread starts or executes.
func unshareClock(ahead time.Duration) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	offset := fmt.Sprintf("monotonic %d %d\n", ahead/time.Second, ahead%time.Second)
	return os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()), []byte(offset), 0)
}

// TimeNamespaces returns why processes cannot obey ClockVar, where the kernel knows no time
// namespaces, forbids them to this process, or does not enter them when a program is executed.
func TimeNamespaces() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		own, err := os.Readlink("/proc/thread-self/ns/time")
		if err == nil {
			err = unshareClock(0)
		}
		var entered []byte
		if err == nil {
			entered, err = exec.Command("readlink", "/proc/self/ns/time").Output()
		}
		if err == nil && strings.TrimSpace(string(entered)) == own {
			err = fmt.Errorf("this kernel does not enter time namespaces at exec")
		}
		result <- err
	}()
	return <-result
}
