package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/ipctest/conformance"
)

// A carrierFunc is a carrier.
type carrierFunc func(context.Context, *ipc.Inbound) (ipc.Outbound, error)

func (f carrierFunc) Handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
	return f(ctx, in)
}

// A fault is a way to carry calls that breaks a promise, by the check that finds it. A carrier with
// it is in front of a Handler, or a connection with it belongs to a network.
type fault struct {
	check string
	// carrier returns a carrier with the fault, in front of next.
	carrier func(next ipc.Carrier) carrierFunc
	// link puts the fault into a connection.
	link func(*conformance.Connection)
	// deaf says that the options of clients have no effect.
	deaf    bool
	lacks   conformance.Ability
	longest int
}

// before changes what comes in, and after what goes out.
func before(f func(*ipc.Inbound)) func(ipc.Carrier) carrierFunc {
	return func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			changed := *in
			f(&changed)
			return next.Handle(ctx, &changed)
		}
	}
}

func after(f func(*ipc.Outbound)) func(ipc.Carrier) carrierFunc {
	return func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			out, err := next.Handle(ctx, in)
			f(&out)
			return out, err
		}
	}
}

// failing changes errors.
func failing(f func(*ipc.Error)) func(ipc.Carrier) carrierFunc {
	return func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			out, err := next.Handle(ctx, in)
			return out, changed(err, f)
		}
	}
}

// changed returns a changed copy of an error.
func changed(err error, f func(*ipc.Error)) error {
	var e *ipc.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	f(&c)
	return &c
}

// every makes a function that reports true every n-th time.
func every(n int64) func() bool {
	var count atomic.Int64
	return func() bool { return count.Add(1)%n == 0 }
}

var errBusy = &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent, Msg: "busy"}

// oneAtATime refuses calls while others are handled.
func oneAtATime(most int64) func(ipc.Carrier) carrierFunc {
	return func(next ipc.Carrier) carrierFunc {
		var running atomic.Int64
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			defer running.Add(-1)
			if running.Add(1) > most {
				return ipc.Outbound{}, errBusy
			}
			return next.Handle(ctx, in)
		}
	}
}

// brokenAfter refuses everything once a call has failed with a code.
func brokenAfter(code ipc.Code) func(ipc.Carrier) carrierFunc {
	return func(next ipc.Carrier) carrierFunc {
		var broken atomic.Bool
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if broken.Load() {
				return ipc.Outbound{}, errBusy
			}
			out, err := next.Handle(ctx, in)
			if ipc.CodeOf(err) == code {
				broken.Store(true)
			}
			return out, err
		}
	}
}

// alone handles calls on goroutines of their own, with a context that derive makes, and does not
// wait for them when the context of the call has ended.
func alone(derive func(context.Context) (context.Context, context.CancelFunc)) func(
	ipc.Carrier) carrierFunc {
	return func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			type result struct {
				out ipc.Outbound
				err error
			}
			own, cancel := derive(ctx)
			done := make(chan result, 1)
			mine := *in
			mine.Builder, mine.Body = nil, bytes.Clone(in.Body)
			go func() {
				defer cancel()
				out, err := next.Handle(own, &mine)
				done <- result{out, err}
			}()
			select {
			case r := <-done:
				return r.out, r.err
			case <-ctx.Done():
				code := ipc.CodeCanceled
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					code = ipc.CodeDeadlineExceeded
				}
				return ipc.Outbound{}, &ipc.Error{Code: code, Err: ctx.Err()}
			}
		}
	}
}

// withoutDeadline keeps the end of a context, and not its deadline.
func withoutDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, cancel)
	return own, cancel
}

func withoutEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithoutCancel(ctx), func() {}
}

// each treats each item of the server.
func each(f func(item []byte, pass func([]byte) bool) bool) func(ipc.Carrier) carrierFunc {
	return before(func(in *ipc.Inbound) {
		if pass := in.Out; pass != nil {
			in.Out = func(item []byte) bool { return f(item, pass) }
		}
	})
}

// A faultyCaller is a client with a fault.
type faultyCaller struct {
	*ipc.Conn
	invoke func(context.Context, ipc.Call, ipc.Caller) error
	send   func(context.Context, ipc.Post, ipc.Sender) error
	health func(ipc.Health, error) (ipc.Health, error)
}

func (c *faultyCaller) Invoke(ctx context.Context, call ipc.Call) error {
	if c.invoke != nil {
		return c.invoke(ctx, call, c.Conn)
	}
	return c.Conn.Invoke(ctx, call)
}

func (c *faultyCaller) Send(ctx context.Context, post ipc.Post) error {
	if c.send != nil {
		return c.send(ctx, post, c.Conn)
	}
	return c.Conn.Send(ctx, post)
}

func (c *faultyCaller) Health(ctx context.Context, protocol string) (ipc.Health, error) {
	h, err := c.Conn.Health(ctx, protocol)
	if c.health != nil {
		return c.health(h, err)
	}
	return h, err
}

// caller puts a fault into the client of a connection.
func caller(f faultyCaller) func(*conformance.Connection) {
	return func(c *conformance.Connection) {
		f.Conn = c.Client.(*ipc.Conn)
		c.Client = &f
	}
}

// invoking changes the contexts and the errors of calls.
func invoking(ctx func(context.Context) context.Context,
	fail func(*ipc.Error)) func(*conformance.Connection) {
	return caller(faultyCaller{invoke: func(c context.Context, call ipc.Call, to ipc.Caller) error {
		return changed(to.Invoke(ctx(c), call), fail)
	}})
}

func same(ctx context.Context) context.Context { return ctx }

// valueless is a context without values.
type valueless struct{ context.Context }

func (valueless) Value(any) any { return nil }

var faults = []fault{
	{check: "calls of every size", carrier: after(func(out *ipc.Outbound) {
		out.Body = out.Body[:min(len(out.Body), 64<<10)]
	})},
	{check: "replies in any order", carrier: oneAtATime(10)},
	{check: "many callers of one client", carrier: func(next ipc.Carrier) carrierFunc {
		var last atomic.Pointer[[]byte]
		now := every(50)
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			out, err := next.Handle(ctx, in)
			body := bytes.Clone(out.Body)
			if l := last.Swap(&body); l != nil && now() {
				out.Body = *l
			}
			return out, err
		}
	}},
	{check: "a slow call delays no other", carrier: oneAtATime(1)},
	{check: "errors of handlers", carrier: failing(func(e *ipc.Error) { e.Msg = "" })},
	{check: "outcomes of handlers", carrier: failing(func(e *ipc.Error) {
		e.Outcome = ipc.Executed
	})},
	{check: "a panic ends its call alone", carrier: brokenAfter(ipc.CodeInternal)},
	{check: "malformed messages", carrier: failing(func(e *ipc.Error) {
		e.Outcome = ipc.Executed
	})},
	{check: "sequence numbers", carrier: before(func(in *ipc.Inbound) { in.Seq = 1 })},
	{check: "interceptors", deaf: true},
	{check: "fences", carrier: before(func(in *ipc.Inbound) { in.Epoch = 0 })},

	{check: "the longest message", longest: 256 << 10, carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if len(in.Body) > 256<<10 {
				return ipc.Outbound{}, errBusy
			}
			return next.Handle(ctx, in)
		}
	}},
	{check: "the longest message", longest: 256 << 10, carrier: before(func(*ipc.Inbound) {})},
	{check: "contexts that are done", link: invoking(context.WithoutCancel,
		func(*ipc.Error) {})},
	{check: "the end of a context ends the call", link: invoking(same, func(e *ipc.Error) {
		e.Outcome = ipc.Executed
	})},
	{check: "deadlines reach the server", carrier: alone(withoutDeadline)},
	{check: "deadlines of another century", carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if d, ok := ctx.Deadline(); ok && d.Year() > 2262 { // beyond 64 bits of nanoseconds
				d := time.Unix(0, d.UnixNano())
				own, cancel := context.WithDeadline(ctx, d.AddDate(-600, 0, 0))
				defer cancel()
				return next.Handle(own, in)
			}
			return next.Handle(ctx, in)
		}
	}},
	{check: "timeouts", deaf: true},
	{check: "cancellation reaches the server", carrier: failing(func(e *ipc.Error) {
		e.Code, e.Err = ipc.CodeUnknown, nil
	})},

	{check: "one-way messages in order", carrier: func(next ipc.Carrier) carrierFunc {
		var mu sync.Mutex
		var held *ipc.Inbound
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if in.Method != echo.ID("test.Echo/Note") {
				return next.Handle(ctx, in)
			}
			mu.Lock()
			defer mu.Unlock()
			if held == nil { // until the next one has come
				held = &ipc.Inbound{Method: in.Method, Seq: in.Seq, Body: bytes.Clone(in.Body)}
				return ipc.Outbound{}, nil
			}
			first := held
			held = nil
			_, err := next.Handle(ctx, in)
			next.Handle(ctx, first)
			return ipc.Outbound{}, err
		}
	}},
	{check: "one-way messages of many senders", carrier: func(next ipc.Carrier) carrierFunc {
		now := every(50)
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if in.Method == echo.ID("test.Echo/Note") && now() {
				next.Handle(ctx, in) // twice
			}
			return next.Handle(ctx, in)
		}
	}},
	{check: "a slow message handler delays no call", carrier: oneAtATime(1)},
	{check: "one-way messages that are not handled", carrier: brokenAfter(ipc.CodeNotFound)},
	{check: "interceptors of one-way messages", carrier: failing(func(e *ipc.Error) {
		e.Code = ipc.CodeUnknown
	})},

	{check: "recycled requests", carrier: func(next ipc.Carrier) carrierFunc {
		var memory oneMemory
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			changed := *in
			changed.Body, changed.Owned = memory.copy(in.Body), true
			return next.Handle(ctx, &changed)
		}
	}},
	{check: "recycled replies", carrier: func(next ipc.Carrier) carrierFunc {
		var memory oneMemory
		return after(func(out *ipc.Outbound) {
			out.Body, out.Owned = memory.copy(out.Body), true
		})(next)
	}},
	{check: "recycled replies of late calls", link: func(c *conformance.Connection) {
		var last atomic.Pointer[echo.Blob] // the longest reply of a call that is answered
		caller(faultyCaller{invoke: func(ctx context.Context, call ipc.Call, to ipc.Caller) error {
			err := to.Invoke(ctx, call)
			rep := call.Reply.(*echo.Blob)
			if err == nil && call.Method.Name == "Block" {
				last.Store(rep)
			} else if late := last.Load(); late != nil {
				clear(late.Data)
			}
			return err
		}})(c)
	}},
	{check: "recycled items", carrier: each(func(item []byte, pass func([]byte) bool) bool {
		return pass(item[:min(len(item), 64<<10)])
	})},
	{check: "recycled one-way messages", carrier: func(next ipc.Carrier) carrierFunc {
		var memory oneMemory
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if !in.OneWay {
				return next.Handle(ctx, in)
			}
			changed := *in
			changed.Body = memory.copy(in.Body)
			go next.Handle(ctx, &changed)
			return ipc.Outbound{}, nil
		}
	}},

	{check: "metadata both ways", carrier: after(func(out *ipc.Outbound) {
		out.Metadata = ipc.Metadata{}
	})},
	{check: "metadata of one-way messages", carrier: before(func(in *ipc.Inbound) {
		in.Metadata = ipc.Metadata{}
	})},
	{check: "metadata that is wrong", link: invoking(func(ctx context.Context) context.Context {
		return valueless{ctx}
	}, func(*ipc.Error) {})},
	{check: "metadata of many callers", carrier: func(next ipc.Carrier) carrierFunc {
		var last atomic.Pointer[ipc.Metadata]
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			out, err := next.Handle(ctx, in)
			mine := out.Metadata
			if l := last.Swap(&mine); l != nil {
				out.Metadata = *l
			}
			return out, err
		}
	}},
	{check: "metadata is not forwarded", carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			changed := *in
			if theirs := ipc.MetadataFromContext(ctx); theirs.Len() > 0 {
				changed.Metadata = theirs
			}
			return next.Handle(ctx, &changed)
		}
	}},

	{check: "streaming calls", carrier: func(next ipc.Carrier) carrierFunc {
		lost := every(1000)
		return each(func(item []byte, pass func([]byte) bool) bool {
			return lost() || pass(item)
		})(next)
	}},
	{check: "a thousand streaming calls", carrier: oneAtATime(500)},
	{check: "items of every size", carrier: each(func(item []byte,
		pass func([]byte) bool) bool {
		return pass(item[:min(len(item), 64<<10)])
	})},
	{check: "slow consumers", carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if in.Out == nil {
				return next.Handle(ctx, in)
			}
			q := &queue{pass: in.Out, stirred: make(chan struct{}, 1), done: make(chan struct{})}
			go q.deliver()
			changed := *in
			changed.Out = q.put
			out, err := next.Handle(ctx, &changed)
			q.end()
			return out, err
		}
	}},
	{check: "streaming calls begin at the first range",
		link: invoking(context.WithoutCancel, func(*ipc.Error) {})},
	{check: "sequences that nobody ranges over", carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			if in.In == nil {
				return next.Handle(ctx, in)
			}
			changed := *in
			pull, _ := iter.Pull2(in.In) // is never stopped
			item, err, ok := pull()
			changed.In = func(yield func([]byte, error) bool) {
				for ; ok && yield(item, err); item, err, ok = pull() {
				}
			}
			return next.Handle(ctx, &changed)
		}
	}},
	{check: "goroutines of streaming calls", link: caller(faultyCaller{
		invoke: func(ctx context.Context, call ipc.Call, to ipc.Caller) error {
			result := make(chan error)
			go func() { result <- to.Invoke(ctx, call) }()
			return <-result
		}})},
	{check: "leaving a loop ends the call", carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			changed, n := *in, 0
			if pass := in.Out; pass != nil {
				changed.Out = func(item []byte) bool {
					n++
					return pass(item) || n < 10
				}
			}
			return next.Handle(ctx, &changed)
		}
	}},
	{check: "streaming calls that fail", carrier: after(func(out *ipc.Outbound) {
		out.Taken = 0
	})},
	{check: "streaming calls that are cancelled", carrier: before(func(in *ipc.Inbound) {
		if items := in.In; items != nil {
			in.In = func(yield func([]byte, error) bool) {
				for item, err := range items {
					if err != nil {
						err = errors.New("gone")
					}
					if !yield(item, err) {
						return
					}
				}
			}
		}
	})},
	{check: "interceptors of streaming calls", deaf: true},
	{check: "fences and items", carrier: before(func(in *ipc.Inbound) { in.Epoch = 6 })},
	{check: "streaming calls step by step", carrier: failing(func(e *ipc.Error) {
		e.Outcome = ipc.Executed
	})},
	{check: "metadata of streaming calls", carrier: after(func(out *ipc.Outbound) {
		out.Metadata = ipc.Metadata{}
	})},

	{check: "close of the client", link: func(c *conformance.Connection) {
		first, end := true, c.Close
		c.Close = func() error {
			if !first {
				return os.ErrClosed
			}
			first = false
			return end()
		}
	}},
	{check: "close delivers one-way messages", link: func(c *conformance.Connection) {
		lost := every(5)
		caller(faultyCaller{send: func(ctx context.Context, p ipc.Post, to ipc.Sender) error {
			if lost() {
				return nil
			}
			return to.Send(ctx, p)
		}})(c)
	}},
	{check: "the server's end in the middle", link: invoking(same, func(e *ipc.Error) {
		e.Code = ipc.CodeInternal
	})},
	{check: "shutdown lets calls finish", link: atOnce},
	{check: "shutdown is bounded", link: func(c *conformance.Connection) {
		end := c.Shutdown
		c.Shutdown = func(ctx context.Context) error {
			end(ctx)
			return nil
		}
	}},
	{check: "ends of streaming calls", link: invoking(same, func(e *ipc.Error) {
		e.Outcome = ipc.Executed
	})},
	{check: "shutdown and streaming calls", link: func(c *conformance.Connection) {
		end := c.Shutdown
		c.Shutdown = func(ctx context.Context) error {
			end(ctx)
			return os.ErrClosed
		}
	}},

	{check: "health", link: caller(faultyCaller{health: func(ipc.Health,
		error) (ipc.Health, error) {
		return ipc.HealthServing, nil
	}})},
	{check: "health of a server that drains", link: caller(faultyCaller{health: func(h ipc.Health,
		err error) (ipc.Health, error) {
		if h == ipc.HealthDraining {
			return 0, errBusy
		}
		return h, err
	}})},

	// Those that say that they lack something, and do it half.
	{check: "without one-way messages", lacks: conformance.OneWay, carrier: passing},
	{check: "without streaming calls", lacks: conformance.Streaming, carrier: passing},
	{check: "without metadata", lacks: conformance.Metadata, carrier: before(func(in *ipc.Inbound) {
		in.Metadata = ipc.Metadata{}
	})},
	{check: "without deadlines", lacks: conformance.Deadlines, carrier: failing(func(e *ipc.Error) {
		e.Code, e.Err = ipc.CodeUnknown, nil
	})},
	{check: "without cancellation", lacks: conformance.Cancellation,
		carrier: func(next ipc.Carrier) carrierFunc {
			return failing(func(e *ipc.Error) {
				e.Code, e.Err = ipc.CodeUnknown, nil
			})(alone(withoutEnd)(next))
		}},
	{check: "without leaving", carrier: func(next ipc.Carrier) carrierFunc {
		return func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			out, err := next.Handle(ctx, in)
			if ctx.Err() != nil {
				err = &ipc.Error{Code: ipc.CodeInternal}
			}
			return out, err
		}
	}},
	{check: "without epochs", lacks: conformance.Epochs, carrier: before(func(in *ipc.Inbound) {
		in.Epoch = 0
	})},
	{check: "without ends", lacks: conformance.Ends, link: func(*conformance.Connection) {}},
	{check: "without health", lacks: conformance.Health, link: func(*conformance.Connection) {}},
}

// A oneMemory has room for one message.
type oneMemory struct {
	mu   sync.Mutex
	room [1 << 20]byte
}

func (m *oneMemory) copy(body []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.room[:copy(m.room[:], body)]
}

func passing(next ipc.Carrier) carrierFunc { return next.Handle }

// atOnce ends the server without grace.
func atOnce(c *conformance.Connection) {
	c.Shutdown = func(context.Context) error { return c.Abort() }
}

// A queue keeps all items that its consumer has not taken.
type queue struct {
	pass    func([]byte) bool
	stirred chan struct{}
	done    chan struct{} // closed when deliver has returned

	mu    sync.Mutex
	items [][]byte
	over  bool
}

func (q *queue) put(item []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, bytes.Clone(item))
	q.stir()
	return !q.over
}

func (q *queue) stir() {
	select {
	case q.stirred <- struct{}{}:
	default:
	}
}

// end waits until everything is delivered.
func (q *queue) end() {
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	q.stir()
	<-q.done
}

func (q *queue) deliver() {
	defer close(q.done)
	for {
		q.mu.Lock()
		items, over := q.items, q.over
		q.items = nil
		q.mu.Unlock()
		for _, item := range items {
			if !q.pass(item) {
				q.mu.Lock()
				q.over = true
				q.mu.Unlock()
				return
			}
		}
		if len(items) == 0 {
			if over {
				return
			}
			<-q.stirred
		}
	}
}

// subject returns what has the fault.
func (f *fault) subject() conformance.Subject {
	var s conformance.Subject
	if f.carrier != nil || f.deaf {
		s = carried(func(h ipc.Carrier) ipc.Carrier {
			if f.carrier == nil {
				return h
			}
			return f.carrier(h)
		})
	} else {
		s = over(func(*testing.T) ipc.RendezvousOption { return ipctest.NewNetwork() }, nil)
	}
	connect := s.Connect
	s.Connect = func(t *testing.T, server []ipc.ServerOption,
		client ...ipc.DialOption) conformance.Connection {
		t.Helper()
		if f.deaf {
			client = nil
		}
		c := connect(t, server, client...)
		if f.link != nil {
			f.link(&c)
		}
		return c
	}
	if s.Lacks |= f.lacks; f.longest != 0 {
		s.Longest = f.longest
	}
	return s
}

// faultEnv has the number of the fault in the process that tries it.
const faultEnv = "IPCGEN_CONFORMANCE_FAULT"

// TestFaults tries every check with a fault that it must find, each in a process of its own.
func TestFaults(t *testing.T) {
	var n int
	if _, err := fmt.Sscan(os.Getenv(faultEnv), &n); err == nil {
		conformance.SetPatience(20 * time.Second)
		conformance.TestCaller(t, faults[n].subject())
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	untried := conformance.Names()
	for n, f := range faults {
		if !slices.Contains(conformance.Names(), f.check) {
			t.Errorf("there is no check %q", f.check)
		}
		untried = slices.DeleteFunc(untried, func(name string) bool { return name == f.check })
		t.Run(f.check, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(self, "-test.run=^TestFaults$/^"+f.check+"$", "-test.count=1")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", faultEnv, n))
			out, err := cmd.CombinedOutput()
			name := "TestFaults/" + strings.ReplaceAll(f.check, " ", "_")
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+name) &&
				!strings.Contains(string(out), name+" has not ended") {
				t.Errorf("the fault is not found: %v\n%s", err, out)
			}
		})
	}
	if len(untried) > 0 {
		t.Errorf("no fault is tried for %q", untried)
	}
}

// TestPlain carries plain calls alone, refuses everything else, and says so.
func TestPlain(t *testing.T) {
	refused := func(what string) error {
		return &ipc.Error{Code: ipc.CodeUnsupported, Outcome: ipc.NotSent, Msg: what}
	}
	s := carried(func(h ipc.Carrier) ipc.Carrier {
		return carrierFunc(func(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
			switch {
			case in.In != nil || in.Out != nil:
				return ipc.Outbound{}, refused("streaming calls")
			case in.Metadata.Len() > 0:
				return ipc.Outbound{}, refused("metadata")
			case in.Epoch != 0:
				return ipc.Outbound{}, refused("epochs")
			}
			out, err := alone(withoutEnd)(h)(ctx, in)
			if out.Metadata.Len() > 0 && err == nil {
				return ipc.Outbound{}, &ipc.Error{Code: ipc.CodeUnsupported, Outcome: ipc.Executed,
					Msg: "metadata of replies"}
			}
			return out, err
		})
	})
	connect := s.Connect
	s.Connect = func(t *testing.T, server []ipc.ServerOption,
		client ...ipc.DialOption) conformance.Connection {
		t.Helper()
		c := connect(t, server, client...)
		return conformance.Connection{Client: struct{ ipc.Caller }{c.Client}} // no Sender
	}
	s.Lacks = conformance.OneWay | conformance.Streaming | conformance.Metadata |
		conformance.Deadlines | conformance.Cancellation | conformance.Epochs | conformance.Ends |
		conformance.Health
	conformance.TestCaller(t, s)
}
