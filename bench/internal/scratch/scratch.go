// Package scratch gives a command a folder for all its temporary files, which
// is gone when the command ends, also by Ctrl-C.
package scratch

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Run makes the folder, calls f with it, and removes it. Meanwhile the folder is
// where temporary files of this process and its children go. SIGINT and SIGTERM
// end the process with all its children, and remove the folder then. A command
// calls Run once, whatever it is to do.
func Run(name string, f func(dir string) error) error {
	if dir := os.Getenv(envRemove); dir != "" {
		remove(dir)
	}
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	before, had := os.LookupEnv("TMPDIR")
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return err
	}
	defer func() {
		if had {
			os.Setenv("TMPDIR", before)
		} else {
			os.Unsetenv("TMPDIR")
		}
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case s := <-signals:
			fmt.Fprintf(os.Stderr, "\n%s: %v\n", name, s)
			interrupted(dir)
		case <-done:
		}
	}()
	return f(dir)
}
