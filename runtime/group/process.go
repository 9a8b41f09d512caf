package group

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

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

// A process is one start of a replica.
type process struct {
	page    *page
	index   int
	cmd     *exec.Cmd // nil when another supervisor started it
	path    string    // of the executable
	handle  *sys.Process
	pid     int
	stderr  tail
	streams []*stream // what of its output goes through this process
}

// launchProcess starts a replica. It must run on a launcher's thread.
func (s *supervisor) launchProcess(page *page, command func(int) *exec.Cmd, index int,
	incarnation uint64) (*process, error) {
	var cmd *exec.Cmd
	if err := contain(nil, "Config.Command", func() error {
		cmd = command(index)
		return nil
	}); err != nil {
		return nil, err
	}
	if cmd == nil {
		return nil, &ReplicaError{Replica: replicaName(s.cfg.Service, index),
			Problem: "has no command: the function that makes it returned nil"}
	}
	cmd.Env = append(cmd.Environ(),
		placeVar+"="+formatPlace(s.cfg.Service, index, incarnation),
		domain.EnvVar+"="+s.dir.Path())
	p := &process{page: page, index: index, cmd: cmd, path: cmd.Path}
	theirs, err := p.connect(s, page, index)
	if err == nil {
		p.handle, err = sys.StartLeader(cmd, !s.cfg.Survive)
	}
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		p.endStreams()
		return nil, startError(replicaName(s.cfg.Service, index), cmd, err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// connect directs the process's output, and returns the files to close in this
// process once it is started. A file that the command has as its standard output is
// the command's own affair.
func (p *process) connect(s *supervisor, page *page, index int) (theirs []*os.File, err error) {
	pipe := func(word int, st *stream) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		st.r = r
		st.read()
		theirs, p.streams = append(theirs, w), append(p.streams, st)
		id, err := sys.FileID(w)
		wordAt(page.mem, placeOffset(index)+word).Store(id)
		return w, err
	}
	wordAt(page.mem, placeOffset(index)+offStdout).Store(0)
	wordAt(page.mem, placeOffset(index)+offStderr).Store(0)
	switch out := p.cmd.Stdout.(type) {
	case *os.File:
	case nil:
		if s.out.stdoutFile != nil {
			p.cmd.Stdout = s.out.stdoutFile
			break
		}
		p.cmd.Stdout, err = pipe(offStdout, &stream{to: s.out.stdout, lines: s.out.lines(index)})
	default:
		p.cmd.Stdout, err = pipe(offStdout,
			&stream{to: newSink(out, nil, s.out.log, &s.out.lost), own: true})
	}
	if err != nil {
		return theirs, err
	}
	if s.out.stderrFile != nil {
		p.cmd.Stderr = s.out.stderrFile
		return theirs, nil
	}
	p.cmd.Stderr, err = pipe(offStderr,
		&stream{to: s.out.stderr, tail: &p.stderr, lines: s.out.lines(index)})
	return theirs, err
}

// reconnect takes over the output of a process that an earlier supervisor
// started. What it wrote while there was none is lost.
func (p *process) reconnect(s *supervisor, index int) {
	for _, o := range []struct {
		fd, word int
		to       *sink
		tail     *tail
	}{{1, offStdout, s.out.stdout, nil}, {2, offStderr, s.out.stderr, &p.stderr}} {
		id := s.page.placeWord(index, o.word)
		if id == 0 {
			continue // a file
		}
		r, err := sys.OpenPipe(p.pid, o.fd, id)
		if err != nil {
			s.events.log(slog.LevelWarn, "output of an adopted replica cannot be read, and is lost",
				"replica", replicaName(s.cfg.Service, index), "pid", p.pid, "err", err)
			continue
		}
		st := &stream{r: r, to: o.to, tail: o.tail}
		p.streams = append(p.streams, st)
		st.read()
	}
}

// endStreams reads the rest of the output of a process that is dead.
func (p *process) endStreams() {
	for _, st := range p.streams {
		st.end()
	}
}

// startError says why a process could not be started. The system's error is of
// one of several steps, of which it does not say which.
func startError(name string, cmd *exec.Cmd, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the path is told already
	}
	e := &ReplicaError{Replica: name, Path: cmd.Path, Problem: "cannot be started", Err: err}
	fi, missing := os.Stat(cmd.Path)
	switch {
	case cmd.Dir != "" && !isFolder(cmd.Dir):
		e.Hint = "its working directory " + cmd.Dir + " is no folder that can be entered"
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist) && missing != nil:
		e.Hint = "give the path of the service's executable"
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "the executable is there, but not the program that runs it: the interpreter in " +
			"its first line, or its dynamic linker"
	case missing == nil && fi.IsDir():
		e.Hint = "it is a folder; give the path of the service's executable"
	case missing == nil && fi.Mode()&0o111 == 0:
		e.Hint = "give the path of an executable file (chmod +x)"
	case errors.Is(err, syscall.EACCES):
		e.Hint = "this user may not execute it: see the rights of the file and of the folders " +
			"above it, and whether its file system is mounted noexec"
	default:
		e.Hint = sys.CauseOf("start", err)
	}
	return e
}

func isFolder(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// wait blocks until the process is dead, calls dead, then clears up after it:
// what is left of its process group is killed and the process reaped, and the rest
// of its output read. It returns how it ended. An error before the process is dead,
// or the end of its handle, ends the wait.
func (p *process) wait(dead func()) error {
	defer p.endStreams()
	defer p.handle.Close()
	if err := p.handle.Wait(); err != nil {
		return fmt.Errorf("waiting for pid %d: %w", p.pid, err)
	}
	dead()
	if p.cmd == nil {
		return errNotOurs
	}
	p.handle.SignalGroup(sys.SIGKILL)
	p.endJoined()
	var state *os.ProcessState
	var err error
	p.handle.Reap(func() { state, err = p.cmd.Process.Wait() })
	// Wait of a command also waits for who feeds its standard input, which may
	// take for ever. Nobody here does.
	go p.cmd.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	return err
}

// replica returns the process that has joined in this one's place, if that is
// another: a shell or a tool that was started may have started it. known is false
// where nobody has joined, or its pid means nothing here.
func (p *process) joined() (other *sys.Process, known bool) {
	j, err := p.page.joined(p.index)
	if err != nil || j == nil {
		return nil, false
	}
	if j.pid == p.pid {
		closeAll([]*joinedProcess{j})
		return nil, true
	}
	return j.handle, j.handle != nil
}

// endMember kills the replica of a process that has died without it, and has left
// the process group.
func (p *process) endJoined() {
	if other, _ := p.joined(); other != nil {
		other.Signal(sys.SIGKILL)
		other.Close()
	}
}

// errNotOurs is how an adopted process ends.
var errNotOurs = errors.New("exit status unknown, for an earlier supervisor started it")

// terminate asks the process to end, also when it is stopped. The signal is for
// the replica alone, for a shell that had started it would end of the signal
// before the replica has; or for the whole process group, if nobody has joined.
func (p *process) terminate() error {
	signal := p.handle.Signal
	if p.cmd != nil {
		switch other, known := p.joined(); {
		case other != nil:
			defer other.Close()
			signal = other.Signal
		case !known:
			signal = func(sig os.Signal) error { return p.handle.SignalGroup(sig) }
		}
	}
	return sys.JoinErrors(unlessDead(signal(sys.SIGTERM)), unlessDead(signal(sys.SIGCONT)))
}

// kill ends the process whatever it does.
func (p *process) kill() error { return unlessDead(p.handle.Signal(sys.SIGKILL)) }

// unlessDead returns err, of a signal, if it is not that of a process that is dead:
// its handle is closed when it is.
func unlessDead(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
