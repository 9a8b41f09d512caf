// Package machine executes the changes of a group's log, alike on every member.
package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"

	"github.com/ipcgen/ipcgen/nats/internal/changelog"
)

// A Machine is the state of a member: that of its service, the answers to the last changes, and the
// position in the log that it is the state of. It is safe for concurrent use.
type Machine struct {
	handler *ipc.Handler
	state   group.State
	print   uint64 // of the protocols
	log     *slog.Logger
	stop    func(error)

	mu      sync.Mutex // held while the state changes
	at      changelog.Position
	epoch   uint64 // of the last reign
	answers *answers
	since   Work
	known   bool // the services have the method of the change that is executed
	failed  bool // a change cannot be executed here
}

// A Work is an amount of changes.
type Work struct{ Changes, Bytes int }

// New returns the machine of a member that has executed nothing. The services execute changes.
//
// print is the fingerprint of the protocols. stop is called with an [ErrVersion] if the machine can
// go on no longer: it executes nothing then.
func New(services []*ipc.Service, state group.State, print uint64, log *slog.Logger,
	stop func(error)) (*Machine, error) {
	m := &Machine{state: state, print: print, log: log, stop: stop, answers: newAnswers()}
	opts := []ipc.ServerOption{ipc.WithLogger(log), ipc.WithServerInterceptor(m.intercept)}
	for _, s := range services {
		opts = append(opts, s)
	}
	var err error
	m.handler, err = ipc.NewHandler(opts...)
	return m, err
}

// intercept notes that there is a handler, whose own word that it is not implemented is an answer
// as any other.
func (m *Machine) intercept(ctx context.Context, _ *ipc.ServerCall,
	next func(context.Context) error) error {
	m.known = true // on the goroutine that execute waits for
	return next(ctx)
}

// ErrVersion says that the log has a change of a method that this member does not have. Without it
// the state would be another one than that of the others.
var ErrVersion = errors.New("the log has a change that only another version can execute")

// Position returns what was executed last, and the epoch of the last reign.
func (m *Machine) Position() (at changelog.Position, epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at, m.epoch
}

// Since returns what was executed since the last snapshot was taken or restored here.
func (m *Machine) Since() Work {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since
}

// Apply executes the entry at a position, which is the next one, and returns the outcomes of its
// changes. A change that was executed before has the outcome of that time.
func (m *Machine) Apply(e changelog.Entry, to changelog.Position) []Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed {
		return nil
	}
	before := m.at
	m.at = to
	switch {
	case e.Void:
		m.log.Warn("the log has a message that no member has written", "message", to.Seq)
		return nil
	case e.Epoch < m.epoch: // which the fence of the log prevents
		m.log.Error("the log has a message of a reign that is over", "message", to.Seq,
			"epoch", e.Epoch)
		return nil
	case e.Reign != nil:
		m.epoch = e.Epoch
		if e.Reign.Fingerprint != m.print {
			m.log.Warn("the leader has another version of the protocols; states may differ",
				"leader", e.Reign.Member, "epoch", e.Epoch)
		}
		return nil
	}
	out := make([]Outcome, len(e.Changes))
	for i := range e.Changes {
		if out[i] = m.change(&e.Changes[i]); m.failed {
			m.at = before
			m.stop(fmt.Errorf("%w: message %d has one of the method %d, which this member does "+
				"not have; start a member with the version of the others", ErrVersion, to.Seq,
				e.Changes[i].Method))
			return nil
		}
	}
	return out
}

// change executes a change. The caller must hold m.mu.
func (m *Machine) change(c *changelog.Change) Outcome {
	key := answerKey{c.Client, c.Number}
	if c.Client != "" {
		if o, ok := m.answers.find(key); ok {
			return o
		}
	}
	m.known = false
	o := m.execute(c)
	if !m.known && o.Err != nil && o.Err.Code == ipc.CodeUnimplemented {
		m.failed = true
		return o
	}
	m.since.Changes++
	m.since.Bytes += c.Size()
	if c.Client != "" {
		m.answers.add(key, o)
	}
	return o
}

// errExited is the error of a handler that has ended its goroutine.
var errExited = &ipc.Error{Code: ipc.CodeInternal, Outcome: ipc.Executed,
	Msg: "the handler ended its goroutine"}

// execute runs the handler of a change, on a goroutine of its own, because it may end that.
func (m *Machine) execute(c *changelog.Change) (o Outcome) {
	o.Err = errExited
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err := m.handler.Handle(context.Background(), &ipc.Inbound{Method: c.Method,
			Body: c.Body})
		o = Outcome{Body: answer.Body}
		if err != nil {
			o.Err = asError(err)
		}
	}()
	<-done
	return o
}

func asError(err error) *ipc.Error {
	var e *ipc.Error
	if errors.As(err, &e) {
		return &ipc.Error{Code: e.Code, Outcome: e.Outcome, Msg: e.Msg}
	}
	return &ipc.Error{Code: ipc.CodeUnknown, Outcome: ipc.Executed, Msg: err.Error()}
}

const snapshotVersion = 1

// Snapshot returns the state at its position. Changes wait meanwhile.
func (m *Machine) Snapshot() (s changelog.Snapshot, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer contain("Snapshot", &err)
	if m.failed {
		return s, ErrVersion
	}
	state, err := m.state.Snapshot()
	if err != nil {
		return s, fmt.Errorf("take a snapshot of the state: %w", err)
	}
	b := m.answers.append([]byte{snapshotVersion})
	b = appendUint64(b, m.epoch)
	m.since = Work{}
	return changelog.Snapshot{At: m.at, Data: append(b, state...)}, nil
}

// Restore replaces the state. After an error, the machine must not be used any more.
func (m *Machine) Restore(s changelog.Snapshot) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer contain("Restore", &err)
	r := reader{rest: s.Data}
	if v := r.take(1)[0]; v != snapshotVersion {
		return fmt.Errorf("the snapshot of message %d has version %d, and this program reads "+
			"version %d; run one version of natsipc", s.At.Seq, v, snapshotVersion)
	}
	kept, err := readAnswers(&r)
	if err != nil {
		return err
	}
	epoch := r.uint64()
	if r.bad {
		return errSnapshot
	}
	if err := m.state.Restore(r.rest); err != nil {
		return fmt.Errorf("restore the state from the snapshot of message %d: %w", s.At.Seq, err)
	}
	m.at, m.epoch, m.answers, m.since = s.At, epoch, kept, Work{}
	return nil
}

// contain makes a panic of a function of the user's an error.
func contain(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the method %s of the State panicked: %v", what, p)
	}
}
