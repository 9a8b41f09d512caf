package group_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A situation is a real failure, and the error that a user gets for it.
type situation struct {
	calls  string // the functions for system calls of internal/sys that the situation covers
	do     string // what the process does: a key of deeds
	forbid string // for systest, in that process
	server string // likewise, in the server that it meets; "-": an ordinary one
	setup  string // what the process does to itself first: a key of faults
	want   []string
}

const sandbox = "a sandbox (seccomp) or a security policy forbids the system call "

var situations = []situation{
	// The client is told what a server cannot create.
	{calls: "MemfdCreate", do: "dial", server: "memfd_create=EPERM",
		want: []string{"resource exhausted", "the server cannot make the memory", sandbox +
			"memfd_create"}},
	{calls: "MemfdCreate", do: "dial", server: "memfd_create=ENOSYS",
		want: []string{"the kernel does not know the system call memfd_create"}},
	{calls: "MemfdCreate", do: "dial", server: "memfd_create=EMFILE",
		want: []string{"RLIMIT_NOFILE"}},
	{calls: "Fallocate", do: "dial", server: "fallocate=ENOSPC", want: []string{"memory.max"}},
	{calls: "FcntlInt", do: "dial", server: "add_seals=EPERM", want: []string{sandbox + "fcntl"}},
	{calls: "Mmap", do: "dial", server: "mmap=ENOMEM",
		want: []string{"resource exhausted", "vm.max_map_count"}},
	{calls: "Socketpair", do: "dial", server: "socketpair=EPERM",
		want: []string{"the server cannot hand over the memory", "make a doorbell", sandbox +
			"socketpair"}},
	{calls: "Socketpair", do: "dial", server: "socketpair=EMFILE",
		want: []string{"resource exhausted", "RLIMIT_NOFILE"}},
	{calls: "SetWriteBuffer ListenUnix", do: "listen", forbid: "setsockopt=EPERM",
		want: []string{sandbox + "setsockopt"}},

	// The client itself lacks something.
	{calls: "ReadMsgUnix", do: "dial hungry", server: "-", setup: "no descriptors but three",
		want: []string{"resource exhausted", "receive the peer's descriptors", "RLIMIT_NOFILE",
			"ulimit -n"}},
	{calls: "FileConn", do: "dial", server: "-", setup: "no descriptors but three",
		want: []string{"resource exhausted", "open a doorbell: fcntl: ", "RLIMIT_NOFILE",
			"ulimit -n"}},
	{calls: "Open OpenRoot", do: "dial", server: "-", setup: "no descriptors",
		want: []string{"resource exhausted", "RLIMIT_NOFILE"}},
	{calls: "DialUnix", do: "dial", server: "-", forbid: "socket=EPERM",
		want: []string{sandbox + "socket"}},
	{calls: "DialUnix", do: "dial", server: "-", forbid: "connect=EPERM",
		want: []string{sandbox + "connect"}},
	{calls: "DialUnix", do: "dial", server: "-", forbid: "socket=ENOBUFS",
		want: []string{"resource exhausted", "memory.max"}},
	{calls: "GetsockoptUcred", do: "dial", server: "-", forbid: "getsockopt=EPERM",
		want: []string{"credentials", sandbox + "getsockopt"}},
	{calls: "ReadMsgUnix", do: "dial", server: "-", forbid: "recvmsg=EPERM",
		want: []string{sandbox + "recvmsg"}},
	{calls: "FcntlInt", do: "dial", server: "-", forbid: "get_seals=EPERM",
		want: []string{"seals", sandbox + "fcntl"}},
	{calls: "FcntlInt", do: "dial", server: "-", forbid: "add_seals=EACCES",
		want: []string{"seal memory file", sandbox + "fcntl"}},
	{calls: "Mmap", do: "dial", server: "-", forbid: "mmap=ENOMEM",
		want: []string{"resource exhausted", "RLIMIT_AS", "vm.max_map_count"}},
	{calls: "Mmap", do: "dial", server: "-", setup: "no address space",
		want: []string{"resource exhausted", "RLIMIT_AS"}},
	{do: "dial", want: []string{"no process serves this channel"}},

	{calls: "ListenUnix", do: "listen", forbid: "bind=EPERM",
		want: []string{"bind", "the file system keeps no sockets, or a sandbox"}},
	{calls: "ListenUnix", do: "listen", forbid: "listen=EPERM", want: []string{sandbox + "listen"}},
	{calls: "ListenUnix", do: "listen", forbid: "socket=EMFILE",
		want: []string{"resource exhausted", "RLIMIT_NOFILE"}},
	{calls: "FcntlFlock", do: "listen", forbid: "lock=ENOLCK",
		want: []string{"resource exhausted", "the file system keeps no locks"}},
	{calls: "FcntlFlock", do: "listen", forbid: "lock=EPERM", want: []string{sandbox + "fcntl"}},
	{calls: "Open OpenRoot", do: "listen", setup: "no descriptors",
		want: []string{"resource exhausted", "RLIMIT_NOFILE"}},
	{calls: "OpenFile", do: "listen", setup: "read-only",
		want: []string{"the file system is read-only", "IPCGEN_DOMAIN"}},
	{calls: "OpenFile", do: "listen", setup: "no room",
		want: []string{"resource exhausted", "the file system is full"}},
	{calls: "OpenFile", do: "listen", setup: "no parent",
		want: []string{"not found", "create its parent directory", "IPCGEN_DOMAIN"}},
	{calls: "OpenFile", do: "listen", setup: "no right",
		want: []string{"permission denied", "the rights of that file, or of a folder above it"}},

	{calls: "Open Fsync CreateTemp", do: "registry", setup: "read-only",
		want: []string{"the file system is read-only"}},
	{calls: "Open", do: "registry", setup: "no room", want: []string{"the file system is full"}},
	{calls: "Fallocate", do: "registry", forbid: "fallocate=ENOSPC",
		want: []string{"the file system is full"}},
	{calls: "Fallocate", do: "registry", forbid: "fallocate=EPERM",
		want: []string{sandbox + "fallocate"}},
	{calls: "Fallocate Truncate", do: "registry", setup: "no file size",
		want: []string{"RLIMIT_FSIZE", "ulimit -f"}},
	{calls: "Linkat", do: "registry", forbid: "linkat=EIO", want: []string{"linkat", "dmesg"}},
	{calls: "Mmap", do: "registry", forbid: "mmap=ENODEV",
		want: []string{"files of this file system cannot be mapped"}},

	{calls: "Start", do: "group", setup: "noexec",
		want: []string{"svc.", "permission denied", "noexec"}},
	{calls: "Start", do: "group", setup: "no program", want: []string{"no such file or directory"}},
	{calls: "Start", do: "group", setup: "no devices", want: []string{"there is no /dev/null"}},
	{calls: "Start", do: "group", forbid: "setpgid=EPERM",
		want: []string{"SysProcAttr", "a security policy refuses"}},
	{calls: "Start", do: "group", forbid: "fork=EAGAIN",
		want: []string{"RLIMIT_NPROC", "pids.max"}},
	{calls: "Mmap", do: "group", forbid: "mmap=ENOMEM", want: []string{"RLIMIT_AS"}},
	{calls: "FcntlFlock", do: "group", forbid: "lock=ENOLCK",
		want: []string{"the file system keeps no locks"}},
	{calls: "OpenFile", do: "group", setup: "no right",
		want: []string{"permission denied", "the rights of that file"}},
	{calls: "OpenRoot", do: "group dial", setup: "no descriptors",
		want: []string{"dial group svc", "RLIMIT_NOFILE"}},
	{calls: "OpenFile", do: "group dial", setup: "read-only",
		want: []string{"the file system is read-only"}},
	{calls: "Mmap", do: "group dial", forbid: "mmap=ENOMEM", want: []string{"RLIMIT_AS"}},
}

// notSituations has the reasons why system calls of internal/sys have no situation.
var notSituations = map[string]string{
	"Read":         "of a pipe that this process read before",
	"ClockGettime": "cannot fail", "SYS_SCHED_YIELD": "cannot fail", "Gettid": "cannot fail",
	"Getpid":  "cannot fail",
	"Close":   "its error says nothing that a caller could act on",
	"Munmap":  "fails for arguments alone",
	"Madvise": "a hint", "SchedGetaffinity": "a hint", "Getrlimit": "a hint",
	"Flock":  "a hint to cleaners, tried again every second",
	"Sendto": "fails when the peer is gone, which the connection tells of", "Recvfrom": "as Sendto",
	"SendmsgN": "TestDrainEndsDespiteClients: a client that is not told is turned away later",
	"Fstat":    "fails for descriptors that are not open alone", "Fstatfs": "as Fstat",
	"Stat": "as Fstat; without /proc namespaces are taken to be one",
	"Exit": "cannot fail", "SetNonblock": "fails for descriptors that are not open alone",
	"InotifyInit1": "TestGroupOutlivesShortageOfWatches: the process polls and WatchTrouble " +
		"tells",
	"InotifyAddWatch": "TestGroupOutlivesShortageOfWatches",
	"InotifyRmWatch":  "fails for watches that are gone",
	"PidfdOpen":       "TestGroupWithoutProcessHandles: there are other ways",
	"PidfdSendSignal": "TestShutdownWithoutSignals", "Kill": "TestShutdownWithoutSignals",
	"Poll":                "of one pidfd, without a wait",
	"Waitid":              "the way without pidfds; of a child it cannot fail",
	"Remove":              "of a temporary file of its own",
	"SYS_SET_ROBUST_LIST": "a replica whose death the kernel cannot mark is known by its pidfd",
	"SYS_FUTEX":           "a process that cannot wait for a death learns of it by its pidfd",
	"WriteMsgUnix":        "fails when the peer is gone, which the connection tells of",
	"AcceptUnix":          "package ipc's TestDescriptorsRunOut: Serve logs the limit and goes on",
	"Link":                "as Linkat, where the file system knows no O_TMPFILE",
	"Readlink": "of /proc: without it, the time namespace is taken for the machine's; see " +
		"docs/outcomes.md",
	"Sysinfo": "for limits: where it is forbidden, they are those of a machine with endless memory",
	"ReadFile": "of /proc/vmstat: without it, every kill by SIGKILL is taken for one " +
		"from outside; of vm.max_map_count and control groups: without them, no limit is known",
	"SchedGetAttr": "a hint", "SchedSetAttr": "cmd/audio_host's TestPriorityRefused",
	"Mlockall": "as SchedSetAttr", "Capget": "a hint: without it, a limit counts",
	"ClockNanosleep": "cannot fail", "Getrusage": "cannot fail",
	"ReadDir": "of /proc: without it, there is no real-time priority",
	"Rename":  "as CreateTemp", "Prctl": "tests alone", "Notify": "cannot fail",
}

// faults are things that a process does to itself, or to its domain, before the deed.
var faults = map[string]func(domain *string) error{
	"no descriptors": func(*string) error { return limitDescriptors(0) },
	// The socket, and the descriptor of its folder, still fit.
	"no descriptors but three": func(*string) error { return limitDescriptors(3) },
	"no file size": func(*string) error {
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096})
	},
	"no address space": func(*string) error {
		return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	},
	"no parent": func(d *string) error { *d += "/no/such"; return nil },
	"no right": func(d *string) error {
		if err := os.Mkdir(*d, 0o500); err != nil {
			return err
		}
		if err := os.Chown(*d, 4712, 4712); err != nil {
			return err
		}
		return syscall.Setuid(4712)
	},
	"read-only": func(d *string) error { return mount(*d, syscall.MS_RDONLY, "mode=700") },
	"no room":   func(d *string) error { return mount(*d, 0, "mode=700,nr_inodes=1") },
	"noexec": func(d *string) error {
		folder := *d + ".programs"
		if err := mount(folder, syscall.MS_NOEXEC, "mode=755"); err != nil {
			return err
		}
		program = filepath.Join(folder, "replica")
		return os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755)
	},
	"no devices": func(*string) error {
		return syscall.Mount("causes", "/dev", "tmpfs", 0, "mode=755")
	},
	"no program": func(d *string) error { program = *d + "/replica"; return nil },
}

// program is the program that a group runs; empty for a replica.
var program string

func mount(path string, flags uintptr, options string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return syscall.Mount("causes", path, "tmpfs", flags, options)
}

// limitDescriptors leaves a process room for n more descriptors.
func limitDescriptors(n int) error {
	// The netpoller first needs its own descriptors.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	r.Close()
	w.Close()
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		at := f.Fd()
		if int(at) >= 20 { // no gaps below
			return syscall.Setrlimit(syscall.RLIMIT_NOFILE,
				&syscall.Rlimit{Cur: uint64(int(at) + 1 + n), Max: uint64(int(at) + 1 + n)})
		}
		kept = append(kept, f)
	}
}

var kept []*os.File

var deeds = map[string]func(ctx context.Context, domain string) error{
	"listen": func(_ context.Context, d string) error {
		_, err := ipc.Listen("cause", ipc.WithDomain(d))
		return err
	},
	"dial": func(ctx context.Context, d string) error {
		_, err := ipc.Dial(ctx, "cause", ipc.WithDomain(d))
		return err
	},
	// Another part of the process takes the descriptors while it connects.
	"dial hungry": func(ctx context.Context, d string) error {
		_, err := ipc.Dial(ctx, "cause", ipc.WithDomain(d), ipc.WithAuthorize(func(ipc.Peer) error {
			for {
				f, err := os.Open("/dev/null")
				if err != nil {
					return nil
				}
				kept = append(kept, f)
			}
		}))
		return err
	},
	"registry": func(_ context.Context, d string) error {
		_, err := registry.Open(d, nil)
		return err
	},
	"group": func(ctx context.Context, d string) error {
		cfg := bareConfig(d)
		if program != "" {
			cfg.Command = func(int) *exec.Cmd { return exec.Command(program) }
		}
		cfg.ReadyTimeout = 10 * time.Second
		_, err := group.Start(ctx, cfg)
		return err
	},
	"group dial": func(_ context.Context, d string) error {
		_, err := group.Dial(context.Background(), "svc", group.DialConfig{Domain: d})
		return err
	},
	"serve": func(ctx context.Context, d string) error {
		l, err := ipc.Listen("cause", ipc.WithDomain(d))
		if err != nil {
			return err
		}
		fmt.Println("ready")
		return ipc.NewServer().Serve(ctx, l)
	},
}

// childCause does a deed and prints the error that it gets.
func childCause(args []string) error {
	d := args[0]
	if fault := faults[args[2]]; fault != nil {
		if err := fault(&d); err != nil {
			return fmt.Errorf("the fault %s: %w", args[2], err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := deeds[args[1]](ctx, d); err != nil {
		fmt.Println(err)
		return nil
	}
	return errors.New("no error")
}

func init() { children["cause"] = childCause }

// noMemory is what the Go runtime says when it ends a process for want of memory.
var noMemory = regexp.MustCompile(
	`fatal error: (runtime: )?(cannot allocate memory|cannot map pages|out of memory)`)

func TestErrorsNameTheCause(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("limits, mounts and users of a test's own need root")
	}
	for _, s := range situations {
		t.Run(strings.Join(strings.Fields(s.do+" "+s.forbid+" "+s.server+" "+s.setup), "_"),
			func(t *testing.T) {
				t.Parallel()
				d := newDomain(t)
				if s.server != "" {
					startCauseServer(t, d, s.server)
				}
				out, err := s.tell(t, d)
				// A process that cannot map memory may end before it can report that, because the
				// Go runtime itself asks for memory.
				for i := 0; err != nil && i < 100 && noMemory.Match(out); i++ {
					out, err = s.tell(t, d)
				}
				for _, end := range []string{"internal allocator is out", "out of memory"} {
					if strings.Contains(string(out), "ThreadSanitizer: "+end) {
						t.Skip("the race detector needs memory itself, and ends the process")
					}
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				text := strings.TrimSpace(string(out))
				for _, w := range s.want {
					if !strings.Contains(text, w) {
						t.Errorf("says: %s\ndoes not say: %s", text, w)
					}
					if len(w) > 20 && strings.Count(text, w) > 1 { // a sentence
						t.Errorf("says more than once: %s\n%s", w, text)
					}
				}
				if strings.Contains(text, "(not ") {
					t.Errorf("speaks of the outcome of a call: %s", text)
				}
				if strings.Contains(text, "\n") {
					t.Errorf("more than a line: %q", text)
				}
			})
	}
}

// tell returns the output of a process that does s.do in the situation.
func (s *situation) tell(t *testing.T, d string) ([]byte, error) {
	cmd := childCommand("cause", d, s.do, s.setup)
	cmd.SysProcAttr = new(syscall.SysProcAttr)
	switch s.setup {
	case "read-only", "no room", "noexec", "no devices":
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	case "no right":
		for p := filepath.Dir(d); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.forbid != "" {
		cmd.Env = append(cmd.Env, systest.EnvVar+"="+s.forbid)
	}
	return cmd.CombinedOutput()
}

func startCauseServer(t *testing.T, d, forbid string) {
	t.Helper()
	cmd := childCommand("cause", d, "serve", "")
	if forbid != "-" {
		cmd.Env = append(cmd.Env, systest.EnvVar+"="+forbid)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	b := make([]byte, 64)
	if n, _ := out.Read(b); string(b[:n]) != "ready\n" {
		t.Fatalf("the server: %s", b[:n])
	}
}

// Every system call of internal/sys is in the table, or in notSituations with a reason.
func TestEverySystemCallHasASituation(t *testing.T) {
	covered := map[string]bool{}
	for _, s := range situations {
		for _, c := range strings.Fields(s.calls) {
			covered[c] = true
		}
	}
	used := systemCalls(t)
	for call := range used {
		if !covered[call] && notSituations[call] == "" {
			t.Errorf("%s, in %s: no situation, and no reason why not", call, used[call])
		}
	}
}

// systemCalls returns the functions by which internal/sys makes system calls, each with a file that
// uses it.
func systemCalls(t *testing.T) map[string]string {
	_, self, _, _ := runtime.Caller(0)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(self), "../../internal/sys/*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	// Methods that are system calls, of package net's and os's types.
	methods := map[string]bool{"ReadMsgUnix": true, "WriteMsgUnix": true, "AcceptUnix": true,
		"SetWriteBuffer": true}
	notCalls := map[string]bool{"Errno": true, "Signal": true, "NsecToTimespec": true,
		"UnixRights": true, "CmsgSpace": true,
		"ParseSocketControlMessage": true, "ParseUnixRights": true, "RawSyscall": true,
		"Syscall": true, "Syscall6": true,
		"NewFile": true, "NewSyscallError": true, "Getenv": true, "SameFile": true}
	used := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_other.go") ||
			strings.HasSuffix(name, "_windows.go") || strings.Contains(name, "crash") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(sel.Sel.Name, "SYS_") {
				used[sel.Sel.Name] = name
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, _ := sel.X.(*ast.Ident)
			direct := pkg != nil &&
				(pkg.Name == "unix" || pkg.Name == "syscall" || pkg.Name == "net" ||
					pkg.Name == "os")
			if (direct || methods[sel.Sel.Name]) && !notCalls[sel.Sel.Name] {
				used[sel.Sel.Name] = name
			}
			return true
		})
	}
	return used
}

// The event of a group's end says why in words of the group.
func TestStoppingSaysWhy(t *testing.T) {
	var events eventLog
	cfg := bareConfig(newDomain(t))
	cfg.Events = events.add
	shutdown(t, startGroup(t, cfg))
	if text := events.String(); !strings.Contains(text, "Shutdown was called") ||
		strings.Contains(text, "file already closed") {
		t.Error(text)
	}
}
