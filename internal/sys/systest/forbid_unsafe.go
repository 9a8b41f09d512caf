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

// EnvVar names the environment variable that tells a test's process which system calls fail. Its
// value is a list of "<call>=<errno>", such as "memfd_create=EPERM,pidfd_open=ENOSYS".
const EnvVar = "SYSTEST_FORBID"

// A rule is a system call that EnvVar may name, with the condition on one of its arguments under
// which it fails. The condition excludes the Go runtime's own calls, whose failure would end the
// process.
type rule struct {
	number uint32
	when   condition
	arg    uint32 // the index of the argument
	value  uint32 // compared with its lower half
}

type condition int

const (
	always condition = iota
	equal
	unequal
)

// threadFlags are the flags with which the Go runtime creates its threads.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND |
	unix.CLONE_SYSVSEM | unix.CLONE_THREAD

var calls = map[string]rule{
	"memfd_create":      {number: unix.SYS_MEMFD_CREATE},
	"fallocate":         {number: unix.SYS_FALLOCATE},
	"pidfd_open":        {number: unix.SYS_PIDFD_OPEN},
	"pidfd_open-flags":  {unix.SYS_PIDFD_OPEN, unequal, 1, 0},
	"pidfd_send_signal": {number: unix.SYS_PIDFD_SEND_SIGNAL},
	"kill":              {number: unix.SYS_KILL},
	"inotify_init1":     {number: unix.SYS_INOTIFY_INIT1},
	"inotify_add_watch": {number: unix.SYS_INOTIFY_ADD_WATCH},
	"set_robust_list":   {number: unix.SYS_SET_ROBUST_LIST},
	"socketpair":        {number: unix.SYS_SOCKETPAIR},
	"setsid":            {number: unix.SYS_SETSID},
	"setpgid":           {number: unix.SYS_SETPGID},
	"socket":            {number: unix.SYS_SOCKET},
	"bind":              {number: unix.SYS_BIND},
	"listen":            {number: unix.SYS_LISTEN},
	"connect":           {number: unix.SYS_CONNECT},
	"sendmsg":           {number: unix.SYS_SENDMSG},
	"recvmsg":           {number: unix.SYS_RECVMSG},
	"getsockopt":        {number: unix.SYS_GETSOCKOPT},
	"setsockopt":        {number: unix.SYS_SETSOCKOPT},
	"flock":             {number: unix.SYS_FLOCK},
	"linkat":            {number: unix.SYS_LINKAT},
	"mmap":              {unix.SYS_MMAP, unequal, 4, 1<<32 - 1}, // of files
	"lock":              {unix.SYS_FCNTL, equal, 1, unix.F_OFD_SETLK},
	"add_seals":         {unix.SYS_FCNTL, equal, 1, unix.F_ADD_SEALS},
	"get_seals":         {unix.SYS_FCNTL, equal, 1, unix.F_GET_SEALS},
	"fork":              {unix.SYS_CLONE, unequal, 0, threadFlags},
	"futex":             {unix.SYS_FUTEX, equal, 1, 0}, // a wait for another process
}

var errnos = map[string]unix.Errno{
	"EPERM": unix.EPERM, "EACCES": unix.EACCES, "ENOSYS": unix.ENOSYS, "EINVAL": unix.EINVAL,
	"ENOSPC": unix.ENOSPC, "ENOMEM": unix.ENOMEM, "EMFILE": unix.EMFILE, "ENFILE": unix.ENFILE,
	"ENOLCK": unix.ENOLCK, "EAGAIN": unix.EAGAIN, "ENODEV": unix.ENODEV, "ENOBUFS": unix.ENOBUFS,
	"EIO": unix.EIO,
}

// Obey makes the system calls that EnvVar lists fail in this process and in the processes that it
// starts, for the rest of their lives. With ClockVar, it executes this program again in a time
// namespace first, so it is called at the start of the program.
func Obey() error {
	if err := obeyClock(); err != nil {
		return err
	}
	list := os.Getenv(EnvVar)
	if list == "" {
		return nil
	}
	prog := []unix.SockFilter{load(0)} // the number of the call
	for _, rule := range strings.Split(list, ",") {
		name, errno, _ := strings.Cut(rule, "=")
		call, known := calls[name]
		if !known || errnos[errno] == 0 {
			return fmt.Errorf("%s=%q: %q names no system call and error", EnvVar, list, rule)
		}
		fail := uint32(unix.SECCOMP_RET_ERRNO) | uint32(errnos[errno])
		if call.when == always {
			prog = append(prog, jumpUnless(call.number, 1), answer(fail))
			continue
		}
		test := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
			K: call.value, Jf: 1}
		if call.when == unequal {
			test.Jt, test.Jf = 1, 0
		}
		prog = append(prog, jumpUnless(call.number, 4),
			load(16+8*call.arg), // the offset of the arguments; the lower half of one
			test, answer(fail), load(0))
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
