package scratch

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// envRemove makes a process that was interrupted remove the folder that it names.
const envRemove = "IPCGEN_BENCH_REMOVE"

// interrupted ends the process and removes the folder. To remove it at once would
// not do: other goroutines, and children, would still make files in it. So the
// process becomes this program anew, with none of its goroutines but all of its
// children, and goes on in remove.
func interrupted(dir string) {
	// children of children shall be its own when those end
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), envRemove+"="+dir))
	os.RemoveAll(dir) // the best that is left
	os.Exit(1)
}

// remove ends all children, removes the folder and ends the process.
func remove(dir string) {
	for {
		for _, pid := range children() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil && err != syscall.EINTR {
			break // there is none left
		}
	}
	os.RemoveAll(dir)
	os.Exit(1)
}

// children are the processes that this one has to wait for; none where the
// kernel does not tell, and then they are waited for all the same.
func children() (pids []int) {
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	for _, file := range files {
		list, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range bytes.Fields(list) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
