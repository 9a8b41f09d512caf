package group

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// A launcher starts processes from one OS thread that lives as long as it: the
// kernel kills a tethered child when the thread that made it ends, and Go's own
// threads may end.
type launcher struct {
	jobs chan func()
	done sync.WaitGroup
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func())}
	l.done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread() // the thread goes back to Go's pool
		for job := range l.jobs {
			job()
		}
	})
	return l
}

// close waits for the job that runs.
func (l *launcher) close() {
	close(l.jobs)
	l.done.Wait()
}

// A process is one start of an instance.
type process struct {
	cmd    *exec.Cmd // nil when another supervisor started it
	path   string    // of the executable
	pidfd  *os.File
	pid    int
	stderr tail
	flush  func()
}

// launch starts an instance. It must run on a launcher's thread.
func launch(cfg *Config, dir *domain.Dir, command func(int) *exec.Cmd, index int, incarnation uint64) (*process, error) {
	cmd := command(index)
	if cmd == nil {
		return nil, &InstanceError{Instance: instanceName(cfg.Service, index), Problem: "has no command: the function that makes it returned nil"}
	}
	cmd.Env = append(cmd.Environ(),
		memberVar+"="+formatMembership(cfg.Service, index, incarnation),
		domain.EnvVar+"="+dir.Path())
	p := &process{cmd: cmd, path: cmd.Path, flush: func() {}}
	p.connect(cfg, index)
	// Its group is killed when the leader has died, so that nobody keeps the
	// pipes open; were somebody to escape, we would wait no longer than this.
	cmd.WaitDelay = time.Second
	pidfd, err := sys.StartLeader(cmd, !cfg.Survive)
	if err != nil {
		return nil, startError(instanceName(cfg.Service, index), cmd, err)
	}
	p.pidfd, p.pid = pidfd, cmd.Process.Pid
	return p, nil
}

// connect directs the process's output.
func (p *process) connect(cfg *Config, index int) {
	stdout, stderr := cfg.Stdout, cfg.Stderr
	if cfg.Prefix != nil {
		prefix := cfg.Prefix(index)
		o, e := &prefixer{w: stdout, prefix: prefix}, &prefixer{w: stderr, prefix: prefix}
		stdout, stderr = o, e
		p.flush = func() { o.flush(); e.flush() }
	}
	if p.cmd.Stdout == nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.Stderr = stderr // a file, which a survivor keeps
	if !cfg.Survive {
		p.stderr.next = stderr
		p.cmd.Stderr = &p.stderr
	}
}

func startError(name string, cmd *exec.Cmd, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the path is told already
	}
	e := &InstanceError{Instance: name, Path: cmd.Path, Problem: "cannot be started", Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		e.Hint = "give the path of the service's executable"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "give the path of an executable file (chmod +x)"
	}
	return e
}

// wait blocks until the process is dead, calls dead, then clears up after it:
// what is left of its process group is killed and the process reaped. It
// returns how it ended.
func (p *process) wait(dead func()) error {
	if err := sys.WaitExit(p.pidfd); err != nil {
		return fmt.Errorf("waiting for pid %d: %w", p.pid, err)
	}
	dead()
	if p.cmd == nil {
		p.pidfd.Close()
		return errNotOurs
	}
	sys.KillGroup(p.pid) // not reaped yet, so the number is still its own
	err := p.cmd.Wait()
	p.pidfd.Close()
	p.flush()
	return err
}

// errNotOurs is how an adopted process ends.
var errNotOurs = errors.New("exit status unknown, for an earlier supervisor started it")

// terminate asks the process to end, also when it is stopped.
func (p *process) terminate() {
	sys.SignalProcess(p.pidfd, sys.SIGTERM)
	sys.SignalProcess(p.pidfd, sys.SIGCONT)
}

// kill ends the process whatever it does.
func (p *process) kill() { sys.SignalProcess(p.pidfd, sys.SIGKILL) }
