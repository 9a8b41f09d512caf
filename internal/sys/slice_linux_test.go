package sys_test

import (
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys"
	"golang.org/x/sys/unix"
)

// slices reports whether the kernel lets threads choose their slices. The thread of the caller is
// changed and given up.
func slices(t *testing.T) bool {
	t.Helper()
	answer := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			answer <- false
			return
		}
		attr.Runtime = 5e6
		if err := unix.SchedSetAttr(0, attr, 0); err != nil {
			t.Error(err)
		}
		attr, err = unix.SchedGetAttr(0, 0)
		answer <- err == nil && attr.Runtime == 5e6
	}()
	return <-answer
}

// TestLinger has a process make way for others, and not the one that has started it.
func TestLinger(t *testing.T) {
	runtime.LockOSThread() // the kernel kills the child when this thread ends
	defer runtime.UnlockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	p, err := sys.StartLeader(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Linger()
	child, err := unix.SchedGetAttr(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	if child.Nice <= before.Nice && before.Nice < 5 {
		t.Errorf("the nice value of the child is %d, of its parent %d", child.Nice, before.Nice)
	}
	if slices(t) && child.Runtime <= before.Runtime {
		t.Errorf("the slice of the child is %d ns, of its parent %d", child.Runtime, before.Runtime)
	}
	if err := p.Signal(sys.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.Reap(func() { _ = cmd.Wait() })
	p.Linger() // which finds nothing to change
	after, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the parent was scheduled by %+v, and is by %+v", before, after)
	}
}

// TestWaitRobustKeepsTheThread shows that a thread that has waited is scheduled as before.
func TestWaitRobustKeepsTheThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if died, err := sys.WaitRobust(t.Context(), new(atomic.Uint32)); died || err != nil {
		t.Fatal(died, err)
	}
	after, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the thread was scheduled by %+v, and is by %+v", before, after)
	}
}
