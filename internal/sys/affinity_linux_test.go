package sys

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShareProcessor pins a thread and a child, first to the same processor and then to different
// ones.
func TestShareProcessor(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock it: the thread ends with the goroutine
		var all unix.CPUSet
		if err := unix.SchedGetaffinity(0, &all); err != nil {
			t.Error(err)
			return
		}
		var cpus []int
		for cpu := 0; len(cpus) < all.Count(); cpu++ {
			if all.IsSet(cpu) {
				cpus = append(cpus, cpu)
			}
		}
		pin := func(cpu int) {
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Error(err)
			}
		}
		pin(cpus[0])
		child := exec.Command("cat") // inherits the affinity
		in, err := child.StdinPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer child.Wait()
		defer in.Close()
		if !ShareProcessor(child.Process.Pid) {
			t.Error("both are pinned to one processor")
		}
		if len(cpus) == 1 {
			return
		}
		pin(cpus[1])
		if ShareProcessor(child.Process.Pid) {
			t.Error("each has a processor of its own")
		}
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			t.Error(err)
		}
		if ShareProcessor(child.Process.Pid) {
			t.Error("this thread may run elsewhere")
		}
	}()
	<-done
}
