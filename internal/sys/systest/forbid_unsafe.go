//go:build linux

package systest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EnvVar tells a test's process which system calls are to fail: a list of
// "<call>=<errno>", as of "memfd_create=EPERM,pidfd_open=ENOSYS".
const EnvVar = "SYSTEST_FORBID"

// calls are the system calls that may be named, and those whose flags, the
// argument of that number, must not be 0 for them to fail.
var calls = map[string]struct{ number, flags uint32 }{
	"memfd_create":      {unix.SYS_MEMFD_CREATE, 0},
	"fallocate":         {unix.SYS_FALLOCATE, 0},
	"pidfd_open":        {unix.SYS_PIDFD_OPEN, 0},
	"pidfd_open-flags":  {unix.SYS_PIDFD_OPEN, 1},
	"pidfd_send_signal": {unix.SYS_PIDFD_SEND_SIGNAL, 0},
	"kill":              {unix.SYS_KILL, 0},
	"inotify_init1":     {unix.SYS_INOTIFY_INIT1, 0},
	"inotify_add_watch": {unix.SYS_INOTIFY_ADD_WATCH, 0},
	"set_robust_list":   {unix.SYS_SET_ROBUST_LIST, 0},
	"socketpair":        {unix.SYS_SOCKETPAIR, 0},
	"setsid":            {unix.SYS_SETSID, 0},
	"setpgid":           {unix.SYS_SETPGID, 0},
}

var errnos = map[string]unix.Errno{"EPERM": unix.EPERM, "ENOSYS": unix.ENOSYS, "EINVAL": unix.EINVAL, "ENOSPC": unix.ENOSPC, "ENOMEM": unix.ENOMEM, "EMFILE": unix.EMFILE}

// Obey makes the system calls fail that EnvVar lists, in this process and in those
// that it starts, for ever.
func Obey() error {
	list := os.Getenv(EnvVar)
	if list == "" {
		return nil
	}
	prog := []unix.SockFilter{load(0)} // the call's number
	for _, rule := range strings.Split(list, ",") {
		name, errno, _ := strings.Cut(rule, "=")
		call, known := calls[name]
		if !known || errnos[errno] == 0 {
			return fmt.Errorf("%s=%q: %q names no system call and error", EnvVar, list, rule)
		}
		fail := uint32(unix.SECCOMP_RET_ERRNO) | uint32(errnos[errno])
		if call.flags == 0 {
			prog = append(prog, jumpUnless(call.number, 1), answer(fail))
			continue
		}
		prog = append(prog, jumpUnless(call.number, 4),
			load(16+8*call.flags), // where the arguments are; its lower half
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1},
			answer(fail), load(0))
	}
	prog = append(prog, answer(unix.SECCOMP_RET_ALLOW))
	filter := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

// jumpUnless skips n instructions unless the value is k.
func jumpUnless(k uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: n, K: k}
}

func answer(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}
