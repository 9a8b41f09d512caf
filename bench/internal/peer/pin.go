package peer

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// envProcs is how many processors Go may use at a time; its own choice follows
// the affinity that Pin changes.
const envProcs = "GOMAXPROCS"

// Pin keeps this process on one processor from now on, and its children on the
// other. The processes still believe that they have all processors, so that
// they behave as ever.
func Pin(client, server int) error {
	if os.Getenv(envProcs) == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		if err := os.Setenv(envProcs, strconv.Itoa(runtime.GOMAXPROCS(0))); err != nil {
			return err
		}
	}
	if err := os.Setenv(envPin, strconv.Itoa(server)); err != nil {
		return err
	}
	return pin(client)
}

// What the environment of a child says to KeepPlace, in it and its own children.
const (
	PinToFirst = envPin + "=0"
	PinNowhere = envPin + "="
)

// KeepPlace moves this process, a child, to the processor that was chosen for
// it, if one was.
func KeepPlace() error {
	cpu := os.Getenv(envPin)
	if cpu == "" {
		return nil
	}
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	return pin(n)
}

// pin moves all threads of this process; new ones inherit it from those.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("pin to processor %d: %w", cpu, err)
		}
	}
	return nil
}

// StartOnFirst starts a child that has the first processor alone, and knows it.
func StartOnFirst(cmd *exec.Cmd) error {
	var set unix.CPUSet
	set.Set(0)
	return startOn(&set, cmd)
}

// StartAnywhere starts a child that begins with all processors, wherever this
// process was pinned to.
func StartAnywhere(cmd *exec.Cmd) error {
	var set unix.CPUSet
	set.Fill()
	return startOn(&set, cmd)
}

// startOn starts a child from a thread with those processors, which it inherits.
func startOn(set *unix.CPUSet, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	if err := unix.SchedSetaffinity(0, set); err != nil {
		return os.NewSyscallError("sched_setaffinity", err)
	}
	err := cmd.Start()
	if back := unix.SchedSetaffinity(0, &before); back != nil && err == nil {
		err = os.NewSyscallError("sched_setaffinity", back)
	}
	return err
}
