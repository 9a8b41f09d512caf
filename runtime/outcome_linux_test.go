package ipc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// These tests compare what an error says about a call with what was executed. The server is a
// process whose handlers first append the number of each call to a file. The file outlives the
// process, however the process ends.

const ledgerEnv = "IPC_TEST_LEDGER"

var (
	methodRecord        = echoMethod("Record")            // records, and answers
	methodRecordInPlace = echoMethod("RecordInPlace")     // in place
	methodRecordAgain   = idempotentMethod("RecordAgain") // records, and answers
	messageRecord       = ipc.NewMessage(echoProtocol, ipc.MessageSpec[blob]{
		Name: "RecordNote", ID: idOf("test.Echo/RecordNote"), Encode: encodeBlob,
		Decode: decodeBlob,
	})
)

// A ledger is the file of what was executed.
type ledger struct{ f *os.File }

// record appends the number of a request. One request in eight takes some time, so that some
// handlers lose the reader role and run concurrently.
func (l ledger) record(req []byte) error {
	if _, err := l.f.Write(req[:8]); err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint64(req); n%8 == 0 {
		time.Sleep(time.Duration(n%5) * time.Millisecond)
	}
	return nil
}

// recorderRole runs a server that records calls. SIGHUP closes it.
func recorderRole(domain ipc.RendezvousOption) error {
	f, err := os.OpenFile(os.Getenv(ledgerEnv), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	all := ledger{f}
	srv := ipc.NewServer(ipc.WithTrustedClients(), ipc.NewService(echoProtocol,
		ipc.Handle(methodRecord, func(_ context.Context, m *blob) (*blob, error) {
			return &blob{}, all.record(m.Data)
		}),
		ipc.Handle(methodRecordAgain, func(_ context.Context, m *blob) (*blob, error) {
			return &blob{}, all.record(m.Data)
		}),
		ipc.Handle(methodBlock, func(context.Context, *blob) (*blob, error) { select {} }),
		ipc.HandleInPlace(methodRecordInPlace,
			func(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
				var m blob
				if _, err := decodeBlob(req, &m); err != nil {
					return err
				}
				if err := all.record(m.Data); err != nil {
					return err
				}
				return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, &blob{})
				})
			}),
		ipc.Receive(messageRecord, func(_ context.Context, m *blob) error {
			return all.record(m.Data)
		}),
	))
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		<-hangup
		srv.Close()
	}()
	return readyOnce(domain, func() error { return srv.Run(context.Background(), "echo", domain) })
}

// readyOnce runs a server, and says that this process is ready once the server can be reached.
func readyOnce(domain ipc.RendezvousOption, run func() error) error {
	go func() {
		for {
			if c, err := ipc.Dial(context.Background(), "echo", domain); err == nil {
				c.Close()
				fmt.Println("ready")
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return run()
}

// A claim is the outcome that a client got for a call.
type claim struct {
	form string
	err  error
}

// A witness makes calls, each with a number of its own, and keeps what it was told.
type witness struct {
	next   atomic.Uint64
	over   atomic.Int64 // calls that have ended
	mu     sync.Mutex
	claims map[uint64]claim

	callers sync.WaitGroup // of record
	stop    atomic.Bool    // ends them
}

// record makes callers that call until stop, half of them by a method that may be executed again.
// blame is called with the form and the error of each call that failed.
func (w *witness) record(c ipc.Caller, callers int, blame func(form string, err error)) {
	for i := range callers {
		w.callers.Go(func() {
			form, method := "once", methodRecord
			if i%2 == 0 {
				form, method = "again", methodRecordAgain
			}
			for !w.stop.Load() {
				n := w.next.Add(1)
				_, err := ipc.Invoke(context.Background(), c, method,
					&blob{Data: binary.LittleEndian.AppendUint64(nil, n)})
				w.mu.Lock()
				w.claims[n] = claim{form, err}
				w.mu.Unlock()
				w.over.Add(1)
				if err != nil {
					blame(form, err)
				}
			}
		})
	}
}

// forms are the ways to have something executed.
var forms = []struct {
	name string
	do   func(ctx context.Context, c *ipc.Conn, data []byte) error
}{
	{"plain", func(ctx context.Context, c *ipc.Conn, data []byte) error {
		_, err := ipc.Invoke(ctx, c, methodRecord, &blob{Data: data})
		return err
	}},
	{"in pieces", func(ctx context.Context, c *ipc.Conn, data []byte) error {
		_, err := ipc.Invoke(ctx, c, methodRecord,
			&blob{Data: append(data, make([]byte, 100<<10)...)})
		return err
	}},
	{"in place", func(ctx context.Context, c *ipc.Conn, data []byte) error {
		return c.InvokeInPlace(ctx, &ipc.InPlaceCall{
			Method: methodRecordInPlace.Info(), Size: len(data) + 64,
			Build: func(b *flatbuffers.Builder, _ uint64) {
				_ = encodeBlob(b, 0, &blob{Data: data})
			},
			Read: func([]byte) error { return nil },
		})
	}},
	{"one-way", func(ctx context.Context, c *ipc.Conn, data []byte) error {
		return ipc.Send(ctx, c, messageRecord, &blob{Data: data})
	}},
}

// call makes one call in a form, and keeps what it is told.
func (w *witness) call(ctx context.Context, c *ipc.Conn, form int) error {
	n := w.next.Add(1)
	err := forms[form].do(ctx, c, binary.LittleEndian.AppendUint64(nil, n))
	w.mu.Lock()
	w.claims[n] = claim{forms[form].name, err}
	w.mu.Unlock()
	w.over.Add(1)
	return err
}

// check compares the claims with the ledger, of a server that is at its end, and returns
// how often each outcome was claimed.
func (w *witness) check(t *testing.T, path string) (count map[ipc.Outcome]int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	executed := make(map[uint64]int)
	for ; len(b) >= 8; b = b[8:] {
		executed[binary.LittleEndian.Uint64(b)]++
	}
	count = make(map[ipc.Outcome]int)
	for n, c := range w.claims {
		o := ipc.OutcomeOf(c.err)
		count[o]++
		switch times := executed[n]; {
		case times > 1 && c.form != "again": // which may be sent again
			t.Errorf("%s call %d was executed %d times", c.form, n, times)
		case times == 1 && (o == ipc.NotSent || o == ipc.NotExecuted):
			t.Errorf("%s call %d was executed, and its error says that it was not: %v",
				c.form, n, c.err)
		case times == 0 && o == ipc.Executed && c.form != "one-way":
			t.Errorf("%s call %d was not executed, and was answered: %v", c.form, n, c.err)
		}
	}
	t.Logf("%d calls: %v", len(w.claims), count)
	return count
}

// outcomeEnv is how often each event is tried.
const outcomeEnv = "IPC_OUTCOME_ROUNDS"

func outcomeRounds() int {
	if n, err := strconv.Atoi(os.Getenv(outcomeEnv)); err == nil {
		return n
	}
	return 2
}

// A strange context ends with DeadlineExceeded and states no deadline.
type strange struct{ context.Context }

func (strange) Deadline() (time.Time, bool) { return time.Time{}, false }

// TestOutcomes has callers of several connections under way while something happens, and
// holds every outcome against what was executed in the end.
func TestOutcomes(t *testing.T) {
	type stage struct {
		srv   *child
		conns []*ipc.Conn
		w     *witness
	}
	// more waits until so many calls have ended from now on, or all callers have.
	more := func(s *stage, n int64, ended <-chan struct{}) {
		for n += s.w.over.Load(); s.w.over.Load() < n; runtime.Gosched() {
			select {
			case <-ended:
				return
			default:
			}
		}
	}
	patient := func() (context.Context, context.CancelFunc) {
		return context.Background(), func() {}
	}
	hasty := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(),
			time.Duration(rand.N(int64(2*time.Millisecond))))
	}
	events := []struct {
		name   string
		limit  func() (context.Context, context.CancelFunc)
		happen func(t *testing.T, s *stage, ended <-chan struct{})
	}{
		{"close of the client", patient, func(t *testing.T, s *stage, _ <-chan struct{}) {
			for _, c := range s.conns {
				c.Close()
			}
		}},
		{"cancellation", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Duration(rand.N(int64(time.Millisecond))), cancel)
			return ctx, cancel
		}, func(_ *testing.T, s *stage, ended <-chan struct{}) { more(s, 2000, ended) }},
		{"deadlines", hasty, func(_ *testing.T, s *stage, ended <-chan struct{}) {
			more(s, 2000, ended)
		}},
		{"deadlines that the server is not told", func() (context.Context, context.CancelFunc) {
			ctx, cancel := hasty()
			return strange{ctx}, cancel
		}, func(_ *testing.T, s *stage, ended <-chan struct{}) { more(s, 2000, ended) }},
		{"shutdown of the server", patient, func(t *testing.T, s *stage, ended <-chan struct{}) {
			s.srv.Process.Signal(syscall.SIGTERM)
			<-ended
		}},
		{"interrupt of the server", patient, func(t *testing.T, s *stage, ended <-chan struct{}) {
			s.srv.Process.Signal(os.Interrupt)
			<-ended
		}},
		{"close of the server", patient, func(t *testing.T, s *stage, ended <-chan struct{}) {
			s.srv.Process.Signal(syscall.SIGHUP)
			<-ended
		}},
		{"kill of the server", patient, func(t *testing.T, s *stage, ended <-chan struct{}) {
			s.srv.Process.Kill()
			<-ended
		}},
		{"a stop of the server, and deadlines", hasty,
			func(t *testing.T, s *stage, ended <-chan struct{}) {
				stopProcess(t, s.srv)
				more(s, 200, ended)
				s.srv.Process.Signal(syscall.SIGCONT)
				more(s, 200, ended)
			}},
		{"a stop of the server, and close of the client", patient,
			func(t *testing.T, s *stage, ended <-chan struct{}) {
				stopProcess(t, s.srv)
				for _, c := range s.conns {
					c.Close()
				}
				<-ended
				s.srv.Process.Signal(syscall.SIGCONT)
			}},
		{"a stop of the server, and its kill", patient,
			func(t *testing.T, s *stage, ended <-chan struct{}) {
				stopProcess(t, s.srv)
				s.srv.Process.Kill()
				<-ended
			}},
	}
	for _, ev := range events {
		t.Run(ev.name, func(t *testing.T) {
			for range outcomeRounds() {
				dir := t.TempDir()
				domain, path := filepath.Join(dir, "d"), filepath.Join(dir, "ledger")
				s := &stage{srv: startChild(t, "recorder", domain, ledgerEnv+"="+path),
					w: &witness{claims: map[uint64]claim{}}}
				for range 3 {
					s.conns = append(s.conns, dial(t, ipc.WithDomain(domain)))
				}
				var callers sync.WaitGroup
				var stop atomic.Bool
				for i := range 4 * len(forms) {
					callers.Go(func() {
						c := s.conns[i%len(s.conns)]
						for !stop.Load() && c.Err() == nil {
							ctx, cancel := ev.limit()
							err := s.w.call(ctx, c, i%len(forms))
							cancel()
							if i%len(forms) == 3 {
								runtime.Gosched() // one-way messages would crowd the calls out
							}
							if ipc.CodeOf(err) == ipc.CodeUnavailable {
								return
							}
						}
					})
				}
				ended := make(chan struct{})
				go func() { callers.Wait(); close(ended) }()
				more(s, 500, ended)
				ev.happen(t, s, ended)
				stop.Store(true)
				<-ended
				for _, c := range s.conns {
					c.Close()
				}
				s.srv.Process.Signal(syscall.SIGTERM) // which lets it end what it has taken
				<-s.srv.done
				count := s.w.check(t, path)
				if n := count[ipc.OutcomeUnknown]; n > 0 &&
					(ev.name == "shutdown of the server" || ev.name == "interrupt of the server") {
					t.Errorf("a drain left the outcome of %d calls unknown", n)
				}
			}
		})
	}
}

// TestRunIsBounded tells a server to end whose handler does not, and a second time.
func TestRunIsBounded(t *testing.T) {
	dir := t.TempDir()
	domain := filepath.Join(dir, "d")
	srv := startChild(t, "recorder", domain, ledgerEnv+"="+filepath.Join(dir, "ledger"))
	c := dial(t, ipc.WithDomain(domain))
	result := invoke(t.Context(), c, methodBlock, "")
	for c.Stats().Sent == 0 {
		runtime.Gosched()
	}
	// so it has taken that one
	if _, err := ipc.Invoke(t.Context(), c, methodRecord,
		&blob{Data: make([]byte, 8)}); err != nil {
		t.Fatal(err)
	}
	srv.Process.Signal(syscall.SIGTERM)
	for { // until the client knows
		_, err := ipc.Invoke(t.Context(), c, methodRecord, &blob{Data: make([]byte, 8)})
		if ipc.OutcomeOf(err) == ipc.NotSent {
			break
		}
	}
	select {
	case err := <-result:
		t.Errorf("the call ended while the server drains: %v", err)
	default:
	}
	srv.Process.Signal(os.Interrupt)
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	<-srv.done
	if code := srv.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestRun(t *testing.T) {
	d := newDomain(t)
	entered, gate := make(chan struct{}), make(chan struct{})
	svc := echoService(ipc.Handle(methodCrash, func(context.Context, *blob) (*blob, error) {
		close(entered)
		<-gate
		return &blob{}, nil
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	run := func(opts ...ipc.ServerOption) {
		ran <- ipc.NewServer(append(opts, svc)...).Run(ctx, "echo", d)
	}
	go run(ipc.WithGrace(time.Hour))
	var c *ipc.Conn
	for c == nil {
		c, _ = ipc.Dial(t.Context(), "echo", d)
	}
	defer c.Close()
	result := invoke(t.Context(), c, methodCrash, "")
	<-entered
	run() // of the same name
	want(t, <-ran, ipc.CodeAlreadyExists, ipc.OutcomeUnknown)
	cancel()
	close(gate)
	if err := <-result; err != nil {
		t.Errorf("a call in flight at the end of the context: %v", err)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}

	entered, gate = make(chan struct{}), make(chan struct{})
	ctx, cancel = context.WithCancel(context.Background())
	go run(ipc.WithGrace(time.Millisecond))
	for c, _ = ipc.Dial(t.Context(), "echo", d); c == nil; c, _ = ipc.Dial(t.Context(), "echo", d) {
	}
	defer c.Close()
	result = invoke(t.Context(), c, methodCrash, "")
	<-entered
	cancel()
	want(t, <-ran, ipc.CodeDeadlineExceeded, ipc.OutcomeUnknown, "WithGrace")
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	close(gate)
}

// TestRunDoesNotWaitForSilence drains a server to which a process has connected that sends nothing.
func TestRunDoesNotWaitForSilence(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	d := ipc.WithDomain(dir)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() {
		ran <- ipc.NewServer(echoService(), ipc.WithGrace(time.Hour),
			ipc.WithHandshakeTimeout(time.Hour)).Run(ctx, "echo", d)
	}()
	var silent net.Conn
	for silent == nil {
		silent, _ = net.Dial("unix", filepath.Join(dir, "echo.sock"))
	}
	defer silent.Close()
	still(t, dial(t, d)) // so the silent one is accepted
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
