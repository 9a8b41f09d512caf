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

// A launcher starts processes from one OS thread that lives as long as the launcher. The kernel
// kills a tethered child when the thread that started it ends, and threads of the Go runtime may
// end.
type launcher struct {
	jobs chan func()
	done sync.WaitGroup
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func())}
	l.done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread() // the thread goes back to the pool of the Go runtime
		for job := range l.jobs {
			job()
		}
	})
	return l
}

// close waits for the current job, and ends the launcher.
func (l *launcher) close() {
	close(l.jobs)
	l.done.Wait()
}

// A process is one start of a replica.
type process struct {
	page    *page
	index   int
	cmd     *exec.Cmd // nil if another supervisor started the process
	path    string    // of the executable
	handle  *sys.Process
	pid     int
	stderr  tail
	streams []*stream // the parts of its output that go through this process
}

// A plan is what the user's functions say of a process that is to be started.
type plan struct {
	cmd    *exec.Cmd
	prefix string // of the lines of its output
}

// plan calls the user's functions.
func (s *supervisor) plan(command func(int) *exec.Cmd, index int) (p plan, err error) {
	ctx, stop := withPatience(s.ctx, s.cfg.ReadyTimeout)
	defer stop()
	p.cmd, err = await(ctx.Done(), s.cfg.Logger, "the function that makes it",
		func() (*exec.Cmd, error) { return command(index), nil })
	if err != nil || p.cmd == nil {
		e := &ReplicaError{Replica: replicaName(s.cfg.Service, index), Problem: "has no command",
			Err: err}
		if err == nil {
			e.Problem += ": the function that makes it returned nil"
		}
		return plan{}, e
	}
	if prefix := s.cfg.Prefix; prefix != nil { // if it fails, the lines go without
		p.prefix, _ = await(ctx.Done(), s.cfg.Logger, "Config.Prefix",
			func() (string, error) { return prefix(index), nil })
	}
	return p, nil
}

// launchProcess starts the process of a replica. It must run on a launcher's thread.
func (s *supervisor) launchProcess(page *page, plan plan, index int,
	incarnation uint64) (*process, error) {
	cmd := plan.cmd
	cmd.Env = append(cmd.Environ(),
		placeVar+"="+formatPlace(s.cfg.Service, index, incarnation),
		domain.EnvVar+"="+s.dir.Path())
	p := &process{page: page, index: index, cmd: cmd, path: cmd.Path}
	theirs, err := p.connect(s, page, index, plan.prefix)
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

// connect directs the output of the process, and returns the files that must be closed in this
// process after the start. It does not touch a file that the command has as its standard output.
func (p *process) connect(s *supervisor, page *page, index int,
	prefix string) (theirs []*os.File, err error) {
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
		p.cmd.Stdout, err = pipe(offStdout, &stream{to: s.out.stdout, lines: s.out.lines(prefix)})
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
		&stream{to: s.out.stderr, tail: &p.stderr, lines: s.out.lines(prefix)})
	return theirs, err
}

// reconnect takes over the output of a process that an earlier supervisor started. Output written
// while there was no supervisor is lost.
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

// endStreams reads the rest of the output of a dead process.
func (p *process) endStreams() {
	for _, st := range p.streams {
		st.end()
	}
}

// startError explains why a process could not be started. The error of the system can come from one
// of several steps, and does not name the step.
func startError(name string, cmd *exec.Cmd, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the message has the path already
	}
	e := &ReplicaError{Replica: name, Path: cmd.Path, Problem: "cannot be started", Err: err}
	fi, missing := os.Stat(cmd.Path)
	switch {
	case cmd.Dir != "" && !isFolder(cmd.Dir):
		e.Hint = "its working directory " + cmd.Dir + " is no folder that can be entered"
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist) && missing != nil:
		e.Hint = "give the path of the service's executable"
	case errors.Is(err, fs.ErrNotExist) && !exists(os.DevNull):
		e.Hint = "there is no " + os.DevNull + ", which is the standard input of a process that " +
			"is given none; mount /dev, or set Stdin of the command"
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isFolder(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// wait blocks until the process is dead, and calls dead, which withdraws the start. It then kills
// the rest of the process group, and a process that has joined elsewhere, reaps the process, and
// reads the rest of its output. It returns how the process ended. An error before the death of the
// process, or the close of its handle, ends the wait.
func (p *process) wait(dead func()) error {
	defer p.endStreams()
	defer p.handle.Close()
	if err := p.handle.Wait(); err != nil {
		return fmt.Errorf("waiting for pid %d: %w", p.pid, err)
	}
	dead()
	if p.cmd == nil {
		p.endJoined()
		return errNotOurs
	}
	p.handle.SignalGroup(sys.SIGKILL)
	p.endJoined()
	var state *os.ProcessState
	var err error
	p.handle.Reap(func() { state, err = p.cmd.Process.Wait() })
	// Cmd.Wait also waits for the goroutine that feeds the standard input, which may take forever.
	// Nothing here depends on it.
	go p.cmd.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	return err
}

// joined returns the process that has joined in this one's place, if that is another one: a shell
// or a tool that was started may have started it. known is false if no process has joined, or its
// pid has no meaning here.
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

// endJoined kills the process that has joined in the place of a dead process, if it has left the
// process group. The start must be withdrawn, so that no process joins later.
func (p *process) endJoined() {
	if other, _ := p.joined(); other != nil {
		other.Signal(sys.SIGKILL)
		other.Close()
	}
}

// errNotOurs is the result of an adopted process.
var errNotOurs = errors.New("exit status unknown, for an earlier supervisor started it")

// terminate tells the process to end, even if it is stopped. The signal goes to the joined process
// only, because a shell that started it would end by the signal before the joined process does. If
// no process has joined, the signal goes to the whole process group.
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

// kill ends the process, whatever it does.
func (p *process) kill() error { return unlessDead(p.handle.Signal(sys.SIGKILL)) }

// unlessDead returns err, an error of a signal, or nil if it means that the process is dead. The
// handle of a dead process is closed.
func unlessDead(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
