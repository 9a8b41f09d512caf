package sys

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SetRealtime has the kernel run all threads of this process before all ordinary ones, and among
// themselves in the order of their coming (SCHED_FIFO). The priority is 1 to 99. With inherit, what
// these threads start has the same priority: further threads of this process, and its children.
// Without, neither has; SetRealtime must then be called again now and then.
func SetRealtime(priority int, inherit bool) error {
	want := unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: uint32(priority)}
	if !inherit {
		want.Flags = unix.SCHED_FLAG_RESET_ON_FORK
	}
	return schedule(want)
}

// SetOrdinary gives all threads of this process the scheduling that processes have by default.
func SetOrdinary() error { return schedule(unix.SchedAttr{}) }

// schedule gives all threads of this process one kind of scheduling. A thread that another one
// starts meanwhile has that of the other one, so all of them have it once a pass changes nothing.
func schedule(want unix.SchedAttr) error {
	for changed := true; changed; {
		changed = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			now, err := unix.SchedGetAttr(tid, 0)
			if err == nil && now.Policy == want.Policy && now.Priority == want.Priority &&
				now.Flags == want.Flags {
				continue
			}
			if err == nil {
				attr := want
				err = unix.SchedSetAttr(tid, &attr, 0)
			}
			switch {
			case errors.Is(err, unix.ESRCH): // the thread has ended
			case err != nil:
				return Explain("sched_setattr", "", err)
			default:
				changed = true
			}
		}
	}
	return nil
}

// LockMemory keeps the memory of this process from being written to disk: each page that it has
// touched, or will touch, stays in memory from then on.
//
// It does so only where nothing limits how much memory the process may lock. Under a limit, a later
// request of the Go runtime for memory could fail, which ends the process.
func LockMemory() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err == nil && l.Cur != unix.RLIM_INFINITY &&
		!mayLockMemory() {
		return Explain("mlockall", "", unix.EPERM)
	}
	err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	return Explain("mlockall", "", err)
}

// mayLockMemory reports whether this process has the capability to lock memory without a limit.
func mayLockMemory() bool {
	var data [2]unix.CapUserData // of 32 capabilities each
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err := unix.Capget(&head, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// SleepUntil blocks until [Monotonic] reaches at. It blocks the thread, and not the goroutine
// alone: so nothing but the kernel has a part in when it returns.
func SleepUntil(at int64) {
	ts := unix.NsecToTimespec(at + clockOffset)
	for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil),
		unix.EINTR) {
	}
}

// ProcessorTime returns how long the threads of a process, or of this one for 0, have run on
// processors.
func ProcessorTime(pid int) (time.Duration, error) {
	// The kernel's numbers of such clocks: the complement of the pid above three bits, of which 2
	// says that the time in user and system mode counts.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, Explain("clock_gettime", "", err)
	}
	return time.Duration(ts.Nano()), nil
}

// ChildrenProcessorTime returns how long the children of this process that were reaped have run.
func ChildrenProcessorTime() time.Duration {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// StolenTime returns how long processors of this machine, a virtual one, had work and could not do
// it since the machine below gave them no time.
func StolenTime() time.Duration {
	const field, perSecond = 8, 100 // of the line "cpu"; the unit of /proc is fixed
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	words := strings.Fields(string(stat))
	if len(words) <= field || words[0] != "cpu" {
		return 0
	}
	ticks, _ := strconv.ParseInt(words[field], 10, 64)
	return time.Duration(ticks) * (time.Second / perSecond)
}
