package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file explains the errors of system calls to people who run a program. It is the only place
// that does so.

const forbidden = "a sandbox (seccomp) or a security policy forbids the system call %s; allow " +
	"it in the profile"

const lockLimit = "this user may not lock memory without a limit; set memlock to unlimited in " +
	"/etc/security/limits.conf (ulimit -l, LimitMEMLOCK=), or give the program CAP_IPC_LOCK"

// causes has a sentence for a system call and its error. "%s" in a sentence stands for the name of
// the system call.
var causes = map[string]map[unix.Errno]string{
	"memfd_create": {
		unix.ENOSPC: "the machine or this control group has no memory left for shared memory; " +
			"choose smaller rings or fewer connections",
	},
	"fallocate": {
		unix.EFBIG: "the file would exceed what this process may write (RLIMIT_FSIZE); raise " +
			"that limit (ulimit -f)",
	},
	"reserve memory": {
		unix.ENOSPC: "the machine or this control group (memory.max) has no memory left for it; " +
			"choose smaller rings or fewer connections",
		unix.EFBIG: "it exceeds what this process may write to a file (RLIMIT_FSIZE); raise " +
			"that limit (ulimit -f)",
	},
	"inotify_init1": {
		unix.EMFILE: "this user has as many inotify instances as it may; raise the sysctl " +
			"fs.inotify.max_user_instances, or end processes that hold some",
	},
	"inotify_add_watch": {
		unix.ENOSPC: "this user has as many inotify watches as it may; raise the sysctl " +
			"fs.inotify.max_user_watches",
	},
	"mmap": {
		unix.ENODEV: "files of this file system cannot be mapped; choose a domain on a tmpfs or " +
			"a local disk (IPCGEN_DOMAIN)",
		unix.EAGAIN: "this process may lock no more memory (RLIMIT_MEMLOCK); raise that limit " +
			"(ulimit -l)",
		unix.ENOMEM: "this process has no address space left (RLIMIT_AS) or too many mappings " +
			"(the sysctl vm.max_map_count), or the machine has no memory; raise the limit",
	},
	"sched_setattr": {
		unix.EPERM: "this user may not ask for real-time priority; allow it by rtprio in " +
			"/etc/security/limits.conf (ulimit -r, LimitRTPRIO=), or give the program " +
			"CAP_SYS_NICE",
	},
	"mlockall": {
		unix.EPERM:  lockLimit,
		unix.ENOMEM: lockLimit,
	},
	"lock": {
		unix.ENOLCK: "the file system keeps no locks, or no more of them; choose a domain " +
			"on a tmpfs or a local disk (IPCGEN_DOMAIN)",
		unix.EOPNOTSUPP: "the file system keeps no locks; choose a domain on a tmpfs or a local " +
			"disk (IPCGEN_DOMAIN)",
		unix.EINVAL: "the kernel knows no locks of open files, which Linux has since 3.15, or " +
			"the file system does not; choose a domain on a tmpfs or a local disk (IPCGEN_DOMAIN)",
	},
	"kill": {
		unix.EPERM: "the process belongs to another user now, or a security policy protects it; " +
			"end it yourself",
	},
	"start": {
		unix.EAGAIN: "this user has as many processes as it may (RLIMIT_NPROC), or this " +
			"control group (pids.max); raise the limit",
		unix.ENOMEM: "the machine or this control group (memory.max) has no memory left to " +
			"start a process",
		unix.E2BIG: "its arguments and environment are too long together; shorten them",
		unix.ENOEXEC: "the file is no program for this machine, or a script without a first " +
			"line that begins with #!",
		unix.ETXTBSY: "a process has the executable open for writing; start it when it is complete",
		unix.EPERM: "the system refuses the attributes of the process (SysProcAttr: user, " +
			"groups, namespaces, terminal, chroot) to this user, or a security policy refuses " +
			"the program",
		unix.ELOOP: "the path of the executable goes round in symbolic links",
	},
	"bind": {
		unix.EADDRINUSE: "the socket exists already",
		unix.EPERM: "the file system keeps no sockets, or a sandbox (seccomp) or a " +
			"security policy forbids this; choose a domain on a tmpfs or a local disk " +
			"(IPCGEN_DOMAIN)",
		unix.EOPNOTSUPP: "the file system keeps no sockets; choose a domain on a tmpfs or a " +
			"local disk (IPCGEN_DOMAIN)",
	},
	"connect": {
		unix.EPERM: forbidden,
		unix.EACCES: "the socket belongs to another user; use that user's domain, or have it " +
			"grant access",
		unix.EAGAIN: "the server's queue of connections is full, for it does not accept them; " +
			"see whether it hangs",
	},
}

// general has the sentences for errors that have the same meaning for every system call.
var general = map[unix.Errno]string{
	unix.EMFILE: "this process has as many files open as it may; raise the limit of open " +
		"files (RLIMIT_NOFILE: ulimit -n, LimitNOFILE=)",
	unix.ENFILE: "the machine has as many files open as it may; raise the sysctl fs.file-max",
	unix.ENOSPC: "the file system is full; free some of it, or choose a domain on another " +
		"(IPCGEN_DOMAIN)",
	unix.EDQUOT: "this user's share of the file system is used up; free some of it, or " +
		"choose a domain on another (IPCGEN_DOMAIN)",
	unix.EACCES: "the rights of that file, or of a folder above it, do not allow this to " +
		"this user (namei -l shows them)",
	unix.ELOOP: "the path goes round in symbolic links",
	unix.ENAMETOOLONG: "the path is longer than the system allows; choose a domain with a " +
		"shorter one (IPCGEN_DOMAIN)",
	unix.ENOTDIR: "a part of the path is no folder; choose another domain (IPCGEN_DOMAIN)",
	unix.EROFS:   "the file system is read-only; choose a domain on another (IPCGEN_DOMAIN)",
	unix.ENOMEM:  "the machine or this control group (memory.max) has no memory left",
	unix.ENOBUFS: "the machine or this control group (memory.max) has no memory left for sockets",
	unix.EIO:     "the disk or the file server failed; see the kernel's log (dmesg)",
	unix.ESTALE: "the file server has lost the file; choose a domain on a tmpfs or a local " +
		"disk (IPCGEN_DOMAIN)",
	unix.ENOSYS: "the kernel does not know the system call %s, or a sandbox (seccomp) hides it; " +
		"allow it in the sandbox's profile, or run a newer kernel",
}

// unprivileged lists system calls that need no privilege. If one of them is not permitted, a
// sandbox or a security policy forbids it.
var unprivileged = strings.Fields(
	`memfd_create pidfd_open pidfd_send_signal inotify_init1 inotify_add_watch
	futex set_robust_list fallocate mmap fcntl lock socketpair socket waitid recvmsg sendmsg listen accept accept4 poll
	getsockopt setsockopt`)

// realCalls has the names of the system calls whose names in errors differ.
var realCalls = map[string]string{"lock": "fcntl", "reserve memory": "fallocate", "start": "clone"}

// CauseOf returns the meaning of err, an error of a system call, and a remedy. It returns "" if the
// error needs no explanation.
func CauseOf(call string, err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	text, ok := causes[call][errno]
	if !ok && (errno == unix.EPERM || errno == unix.EACCES) {
		for _, free := range unprivileged {
			if call == free && (errno == unix.EPERM || call != "mmap") {
				text, ok = forbidden, true
			}
		}
	}
	if !ok {
		text = general[errno]
	}
	if call == "inotify_init1" && errno == unix.EMFILE && atFileLimit() {
		text = general[errno] // the kernel has one error for two limits
	}
	if strings.Contains(text, "%s") {
		name := call
		if real, ok := realCalls[call]; ok {
			name = real
		}
		text = fmt.Sprintf(text, name)
	}
	return text
}

// Explain returns an error that states the cause of err, an error of a system call, and a remedy.
// path is the file on which the call operated, or "".
func Explain(call, path string, err error) error {
	var done *CauseError
	if err == nil || errors.As(err, &done) {
		return err
	}
	return &CauseError{Call: call, Path: path, Cause: CauseOf(call, err), Err: err}
}

// ExplainOf is like [Explain], for errors of packages os and net, which name the call themselves.
func ExplainOf(err error) error {
	var done *CauseError
	if err == nil || errors.As(err, &done) {
		return err
	}
	var call string
	var path *fs.PathError
	var link *os.LinkError
	var plain *os.SyscallError
	switch {
	case errors.As(err, &plain):
		call = plain.Syscall
	case errors.As(err, &path):
		call = path.Op
	case errors.As(err, &link):
		call = link.Op
	}
	cause := CauseOf(call, err)
	if cause == "" {
		return err
	}
	return &CauseError{Cause: cause, Err: err}
}

// Exhausted reports whether err means that a limit of the process, the user, a control group or the
// machine is reached.
func Exhausted(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.EDQUOT, unix.ENOMEM,
		unix.ENOBUFS, unix.ENOLCK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// atFileLimit reports whether this process cannot open another file.
func atFileLimit() bool {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EMFILE)
}
