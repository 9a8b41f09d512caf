package peer

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Pin keeps this process on one processor from now on, and its children on the
// other. The processes still believe that they have all
// processors, so that they behave as ever.
func Pin(client, server int) error {
	if err := os.Setenv(envPin, strconv.Itoa(server)); err != nil {
		return err
	}
	return pin(client)
}

// KeepPlace moves this process, a child, to the processor that Pin chose for
// it, if it did.
func KeepPlace() error {
	cpu, ok := os.LookupEnv(envPin)
	if !ok {
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
