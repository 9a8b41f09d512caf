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
// remove it as well and end the process, at whose end its children end.
func Run(name string, f func(dir string) error) error {
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
			os.RemoveAll(dir)
			fmt.Fprintf(os.Stderr, "\n%s: %v\n", name, s)
			os.Exit(1)
		case <-done:
		}
	}()
	return f(dir)
}
