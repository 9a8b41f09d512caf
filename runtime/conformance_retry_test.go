package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// promptly is a policy whose pauses do not matter.
func promptly(p ipc.RetryPolicy) ipc.RetryPolicy {
	p.Backoff, p.MaxBackoff = time.Microsecond, time.Microsecond
	return p
}

// refusal is an error of a handler that has done nothing yet.
func refusal(code ipc.Code) error {
	return &ipc.Error{Code: code, Msg: "not now", Outcome: ipc.NotExecuted}
}

// A counter handles calls, and counts them.
type counter struct {
	calls  atomic.Int64
	handle atomic.Pointer[handling]
}

// A handling is given the number of the call, from 1.
type handling func(ctx context.Context, n int64) error

func counting(f handling) *counter {
	c := new(counter)
	c.handle.Store(&f)
	return c
}

func (c *counter) route(m *ipc.Method[blob, blob]) ipc.Route {
	return ipc.Handle(m, func(ctx context.Context, _ *blob) (*blob, error) {
		return &blob{}, (*c.handle.Load())(ctx, c.calls.Add(1))
	})
}

// made checks how many calls were handled since it was last asked.
func (c *counter) made(t *testing.T, what string, want int64) {
	t.Helper()
	if n := c.calls.Swap(0); n != want {
		t.Errorf("%s: %d attempts, not %d", what, n, want)
	}
}

// A retrying caller has a policy.
type retrying struct {
	ipc.Caller
	retries func() uint64
}

// withRetry makes one of each kind.
func withRetry(t *testing.T, v ipc.RendezvousOption, p ipc.RetryPolicy,
	opts ...ipc.DialOption) map[string]retrying {
	t.Helper()
	opts = append(opts, ipc.WithRetry(p))
	conn := dial(t, v, opts...)
	clientOpts := []ipc.ClientOption{patiently()}
	for _, o := range opts {
		clientOpts = append(clientOpts, o)
	}
	client := reconnecting(t, v, clientOpts...)
	return map[string]retrying{
		"Conn":   {conn, func() uint64 { return conn.Stats().Retries }},
		"Client": {client, func() uint64 { return client.Stats().Retries }},
	}
}

// retriesUnderOneNumber refuses a call twice. Both attempts are seen by interceptors.
func retriesUnderOneNumber(t *testing.T, v ipc.RendezvousOption) {
	refuses := counting(func(_ context.Context, n int64) error {
		if n < 3 {
			return refusal(ipc.CodeResourceExhausted)
		}
		return nil
	})
	numbers := make(chan uint64, 3)
	host(t, v, echoes(refuses.route(methodEcho)), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			numbers <- call.Seq
			return next(ctx)
		}))
	var seen atomic.Int64
	for name, c := range withRetry(t, v, promptly(ipc.RetryPolicy{}), ipc.WithClientInterceptor(
		func(ctx context.Context, call ipc.Call, next ipc.Caller) error {
			seen.Add(1)
			return next.Invoke(ctx, call)
		})) {
		if _, err := echo(t.Context(), c, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		refuses.made(t, name, 3)
		if first := <-numbers; first == 0 || <-numbers != first || <-numbers != first {
			t.Errorf("%s: the attempts of a call have different numbers", name)
		}
		if n := seen.Swap(0); n != 3 {
			t.Errorf("%s: the client's interceptor has seen %d attempts", name, n)
		}
		if n := c.retries(); n != 2 {
			t.Errorf("%s: %d retries are counted, not 2", name, n)
		}
	}
}

// retriesOfWhatIsSafe answers calls with every error in every state.
func retriesOfWhatIsSafe(t *testing.T, v ipc.RendezvousOption) {
	answers := new(counter)
	host(t, v, echoes(answers.route(methodEcho), answers.route(methodAgain),
		answers.route(methodLimited)))
	policy := promptly(ipc.RetryPolicy{Attempts: 4, MaxTokens: 1e6,
		Codes: []ipc.Code{ipc.CodeNotFound}})
	for name, c := range withRetry(t, v, policy) {
		for code := ipc.CodeCanceled; code <= ipc.CodeUnknown; code++ {
			if name == "Client" && (code == ipc.CodeUnavailable || code == ipc.CodeFenced) {
				continue // it has patience with those, policy or not
			}
			for _, method := range []*ipc.Method[blob, blob]{methodEcho, methodAgain} {
				again := method == methodAgain
				for outcome := ipc.OutcomeUnknown; outcome <= ipc.Executed; outcome++ {
					err := &ipc.Error{Code: code, Msg: "because", Outcome: outcome}
					answer := handling(func(context.Context, int64) error { return err })
					answers.handle.Store(&answer)
					_, got := ipc.Invoke(t.Context(), c, method, &blob{})
					listed := code == ipc.CodeNotFound
					passing := code == ipc.CodeUnavailable || code == ipc.CodeResourceExhausted
					attempts := int64(1)
					switch outcome := ipc.OutcomeOf(got); {
					case (outcome == ipc.NotSent || outcome == ipc.NotExecuted) &&
						(passing || listed),
						outcome == ipc.OutcomeUnknown && again && (passing || listed),
						outcome == ipc.Executed && again && listed:
						attempts = 4
					}
					what := fmt.Sprintf("%s, %v, %v, idempotent %v", name, code, outcome, again)
					answers.made(t, what, attempts)
					if ipc.CodeOf(got) != code || !strings.Contains(got.Error(), "because") {
						t.Errorf("%s: %v", what, got)
					}
					said := strings.Contains(got.Error(), "gave up after 4 attempts")
					if said != (attempts == 4) || strings.Count(got.Error(), "test.Echo") != 1 {
						t.Errorf("%s: %v", what, got)
					}
				}
			}
		}
	}
}

// attemptTimeout is longer than a server needs that is not asleep on purpose, if the machine does
// not stand still.
const attemptTimeout = time.Second

// retriesOfSlowAttempts has attempts time out.
func retriesOfSlowAttempts(t *testing.T, v ipc.RendezvousOption) {
	slow := new(counter)
	host(t, v, echoes(slow.route(methodEcho), slow.route(methodAgain)))
	policy := promptly(ipc.RetryPolicy{AttemptTimeout: attemptTimeout})
	for name, c := range withRetry(t, v, policy) {
		call := func(method *ipc.Method[blob, blob]) (made int64, err error) {
			release := make(chan bool)
			first := handling(func(ctx context.Context, n int64) error {
				if n == 1 {
					<-release
				}
				return nil
			})
			slow.handle.Store(&first)
			_, err = ipc.Invoke(t.Context(), c, method, &blob{})
			close(release)
			return slow.calls.Swap(0), err
		}
		const why = "the timeout of 1s (WithRetry, for an attempt) passed"
		for made := int64(0); made == 0; { // unless no attempt has come to the handler in time
			var err error
			made, err = call(methodEcho)
			o := ipc.OutcomeUnknown // the schema does not allow to execute it twice
			if made == 0 {
				o = ipc.OutcomeOf(err)
			}
			if want(t, err, ipc.CodeDeadlineExceeded, o, why); made > 1 || t.Failed() {
				t.Fatalf("%s: %d attempts: %v", name, made, err)
			}
		}
		for {
			made, err := call(methodAgain)
			if err == nil {
				if made < 2 || made > 3 {
					t.Errorf("%s: %d attempts", name, made)
				}
				break
			}
			// The machine stood still for each of the others, too.
			if want(t, err, ipc.CodeDeadlineExceeded, ipc.OutcomeOf(err), why,
				"gave up after 3 attempts"); t.Failed() {
				break
			}
		}
	}
}

// retriesAndOutcomes has attempts end in different ways: the outcome of a call is the worst.
func retriesAndOutcomes(t *testing.T, v ipc.RendezvousOption) {
	mixed := new(counter)
	host(t, v, echoes(mixed.route(methodAgain)))
	policy := promptly(ipc.RetryPolicy{Attempts: 4, AttemptTimeout: attemptTimeout})
	for name, c := range withRetry(t, v, policy) {
		var err error
		for made := int64(0); made != 4 && !t.Failed(); {
			release := make(chan bool)
			second := handling(func(ctx context.Context, n int64) error {
				if n == 2 {
					<-release
				}
				return refusal(ipc.CodeResourceExhausted)
			})
			mixed.handle.Store(&second)
			_, err = ipc.Invoke(t.Context(), c, methodAgain, &blob{})
			close(release)
			if made = mixed.calls.Swap(0); made > 4 {
				t.Fatalf("%s: %d attempts", name, made)
			}
			if ipc.CodeOf(err) == ipc.CodeDeadlineExceeded || made < 4 {
				// The machine stood still for another attempt, which may not have been handled.
				want(t, err, ipc.CodeOf(err), ipc.OutcomeOf(err), "gave up after 4 attempts")
				made = 0
			}
		}
		// The third attempt is refused, and so is the fourth: the second is not known.
		want(t, err, ipc.CodeResourceExhausted, ipc.OutcomeUnknown,
			"gave up after 4 attempts: resource exhausted: not now (not executed)")
		var last *ipc.Error
		if !errors.As(errors.Unwrap(err), &last) || last.Outcome != ipc.NotExecuted {
			t.Errorf("%s: %v does not wrap the last error", name, err)
		}
	}
}

// retriesEndInTime shows that no pause outlasts the call.
func retriesEndInTime(t *testing.T, v ipc.RendezvousOption) {
	refused := make(chan bool, 1)
	refuses := counting(func(context.Context, int64) error {
		refused <- true
		return refusal(ipc.CodeResourceExhausted)
	})
	host(t, v, echoes(refuses.route(methodEcho), refuses.route(methodLimited)))
	const forever = math.MaxInt64
	for name, c := range withRetry(t, v, ipc.RetryPolicy{Backoff: forever}) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := echo(ctx, c, nil)
		cancel()
		<-refused
		want(t, err, ipc.CodeResourceExhausted, ipc.NotExecuted,
			"gave up after 1 attempt, as no time is left for another: resource exhausted")
		_, err = ipc.Invoke(t.Context(), c, methodLimited, &blob{}) // which has a timeout
		<-refused
		want(t, err, ipc.CodeResourceExhausted, ipc.NotExecuted, "no time is left for another")

		ctx, cancel = context.WithCancel(t.Context())
		result := invoke(ctx, c, methodEcho, "")
		<-refused
		pause(1000) // so that the call has probably begun to wait
		cancel()
		switch err := <-result; ipc.CodeOf(err) {
		case ipc.CodeCanceled:
			if ipc.OutcomeOf(err) == ipc.NotExecuted && !strings.Contains(err.Error(),
				"waiting for attempt 2 of the call: context canceled; the last one failed: "+
					"resource exhausted: not now") {
				t.Errorf("%s: a call that was cancelled: %v", name, err)
			}
		case ipc.CodeResourceExhausted: // it was cancelled before the error arrived
		default:
			t.Errorf("%s: a call that was cancelled: %v", name, err)
		}
		refuses.made(t, name, 3)
	}
}

// retriesHaveBudget has all calls fail, and then succeed.
func retriesHaveBudget(t *testing.T, v ipc.RendezvousOption) {
	var healthy atomic.Bool
	sick := counting(func(context.Context, int64) error {
		if healthy.Load() {
			return nil
		}
		return refusal(ipc.CodeResourceExhausted)
	})
	host(t, v, echoes(sick.route(methodEcho)))
	policy := promptly(ipc.RetryPolicy{Attempts: 5, MaxTokens: 20, TokenRatio: 0.5})
	for name, c := range withRetry(t, v, policy) {
		healthy.Store(false)
		var err error
		for range 100 {
			_, err = echo(t.Context(), c, nil)
		}
		want(t, err, ipc.CodeResourceExhausted, ipc.NotExecuted,
			"gave up after 1 attempt, as too many calls fail: resource exhausted: not now")
		// Of 20 tokens, 9 may go before half of them are left; one of those went with a call that
		// had no attempt left.
		sick.made(t, name, 100+8)
		if n := c.retries(); n != 8 {
			t.Errorf("%s: %d retries are counted", name, n)
		}
		healthy.Store(true)
		for range 40 {
			if _, err := echo(t.Context(), c, nil); err != nil {
				t.Error(err)
			}
		}
		sick.made(t, name, 40)
		healthy.Store(false)
		_, err = echo(t.Context(), c, nil)
		want(t, err, ipc.CodeResourceExhausted, ipc.NotExecuted, "gave up after 5 attempts")
		sick.made(t, name, 5)
	}
}

// retriesDoNotMultiply shows that a client with a policy loses no more servers to a call than one
// without.
func retriesDoNotMultiply(t *testing.T, v ipc.RendezvousOption) {
	c := reconnecting(t, v, patiently(), ipc.WithRetry(promptly(ipc.RetryPolicy{Attempts: 5})))
	entered := make(chan struct{}, 1)
	var first atomic.Bool // attempt at a server is refused
	hangs := counting(func(ctx context.Context, _ int64) error {
		if first.CompareAndSwap(true, false) {
			return refusal(ipc.CodeResourceExhausted)
		}
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	result := invoke(t.Context(), c, methodAgain, "")
	for range 2 {
		first.Store(true)
		srv := host(t, v, echoes(hangs.route(methodAgain)))
		<-entered
		srv.Close()
	}
	third := host(t, v, echoes(hangs.route(methodAgain)))
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown, "gave up after 3 attempts",
		"2 servers were lost")
	hangs.made(t, "calls to which servers are lost", 4)
	if s := c.Stats(); s.Retries != 2 || s.Resent != 1 {
		t.Errorf("%+v; there were 2 retries, and one call was sent to another server", s)
	}
	closeNoticed(t, c, third)

	// What may not be executed twice is not, policy or not.
	result = invoke(t.Context(), c, methodEcho, "")
	srv := host(t, v, echoes(hangs.route(methodEcho)))
	<-entered
	srv.Close()
	want(t, <-result, ipc.CodeUnavailable, ipc.OutcomeUnknown)
	hangs.made(t, "a call that may not be executed twice", 1)
}

// retriesWithoutPatience shows what the policy is to a client that fails fast, and to a connection
// whose server is gone.
func retriesWithoutPatience(t *testing.T, v ipc.RendezvousOption) {
	policy := promptly(ipc.RetryPolicy{Attempts: 4})
	c := reconnecting(t, v, ipc.WithPatience(0), ipc.WithRetry(policy))
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeUnavailable, ipc.NotSent, "gave up after 4 attempts")

	srv := host(t, v, echoService())
	conn := dial(t, v, ipc.WithRetry(policy))
	srv.Close()
	<-conn.Done()
	_, err = echo(t.Context(), conn, nil)
	want(t, err, ipc.CodeUnavailable, ipc.NotSent)
	if strings.Contains(err.Error(), "attempt") || conn.Stats().Retries != 0 {
		t.Errorf("a call of a connection that has ended was tried again: %v", err)
	}
	closed := reconnecting(t, v, patiently(), ipc.WithRetry(policy))
	closed.Close()
	_, err = echo(t.Context(), closed, nil)
	want(t, err, ipc.CodeUnavailable, ipc.NotSent, "closed by this side")
	if closed.Stats() != (ipc.ClientStats{}) {
		t.Errorf("a call of a client that was closed was tried again: %v", err)
	}
}

// retriesForRoom has a call that finds the ring full find room later, on the same connection.
func retriesForRoom(t *testing.T, v ipc.RendezvousOption) {
	gate, full := make(chan struct{}), make(chan struct{}, 1000)
	host(t, v, echoService(ipc.Receive(messageNote, func(ctx context.Context, _ *blob) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return nil
	})))
	policy := ipc.RetryPolicy{Attempts: 1000, Backoff: time.Millisecond,
		MaxBackoff: 10 * time.Millisecond, MaxTokens: 1e6}
	c := dial(t, v, append(small(), ipc.WithFailFast(), ipc.WithRetry(policy),
		ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call, next ipc.Caller) error {
			err := next.Invoke(ctx, call)
			if ipc.CodeOf(err) == ipc.CodeResourceExhausted {
				full <- struct{}{}
			}
			return err
		}))...)
	// A server that is slow may have made room again after each of these steps. A call that finds
	// room waits for the gate in vain, until its deadline.
	soon := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 200*time.Millisecond)
	}
	for tried := false; !tried; {
		before := c.Stats().Retries
		var err error
		for err == nil {
			err = note(t.Context(), c, strings.Repeat("x", 1000))
		}
		// A message is not tried again: WithFailFast tells its sender at once.
		want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, "the ring is full")
		if strings.Contains(err.Error(), "attempt") {
			t.Error(err)
		}
		// Nor is a call in place.
		ctx, cancel := soon()
		err = inPlace(ctx, c, methodEcho, 2000)
		cancel()
		if err == nil || ipc.CodeOf(err) == ipc.CodeDeadlineExceeded {
			continue
		}
		want(t, err, ipc.CodeResourceExhausted, ipc.NotSent)
		if n := c.Stats().Retries; n != before {
			t.Errorf("%d retries", n-before)
		}
		ctx, cancel = context.WithCancel(t.Context())
		result := invoke(ctx, c, methodEcho, strings.Repeat("x", 2000))
		select {
		case <-full:
			close(gate)
			tried = true
			err = <-result
		case err = <-result:
		case <-time.After(200 * time.Millisecond): // it has found room at once
			cancel()
			<-result
			err = nil
		}
		cancel()
		if err != nil {
			t.Error(err)
		}
	}
	if c.Stats().Retries == 0 {
		t.Error("no retry is counted")
	}
}

// policiesThatAreWrong shows that a policy that makes no sense is an error of what gets it.
func policiesThatAreWrong(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	for text, p := range map[string]ipc.RetryPolicy{
		"Attempts is 1":              {Attempts: 1},
		"Attempts is -1":             {Attempts: -1},
		"Backoff is -1s":             {Backoff: -time.Second},
		"MaxBackoff 1ms":             {Backoff: time.Second, MaxBackoff: time.Millisecond},
		"Multiplier is 0.5":          {Multiplier: 0.5},
		"Multiplier is NaN":          {Multiplier: math.NaN()},
		"Multiplier is +Inf":         {Multiplier: math.Inf(1)},
		"AttemptTimeout is -1s":      {AttemptTimeout: -time.Second},
		"MaxTokens is 2":             {MaxTokens: 2},
		"MaxTokens is NaN":           {MaxTokens: math.NaN()},
		"MaxTokens is +Inf":          {MaxTokens: math.Inf(1)},
		"TokenRatio is -1":           {TokenRatio: -1},
		"CodeOK, which is no error":  {Codes: []ipc.Code{ipc.CodeInternal, ipc.CodeOK}},
		"Attempts is 1; give 2 or m": {Attempts: 1, Multiplier: -1}, // the first one
	} {
		_, err := ipc.Dial(t.Context(), "echo", v, ipc.WithRetry(p))
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, text)
		_, err = ipc.Connect("echo", v, ipc.WithRetry(p))
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, text)
	}
}

// TestSourceServesOneAttempt loses a server that has taken nothing of a call whose items come from
// the client. The source has begun, and sequences serve once, so the call is not made again, though
// the next server could execute it: the error says that nothing was executed or taken, and who has
// the items makes another call.
func TestSourceServesOneAttempt(t *testing.T) {
	net := ipctest.NewNetwork().As(ipc.Peer{UID: os.Geteuid()})
	l, err := ipc.Listen("echo", net)
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{}, 2)
	ended := make(chan error, 1)
	go func() {
		raw, err := ipc.RawAccept(l, ipc.RawHello{ToServer: 16 << 10, ToClient: 16 << 10,
			MaxMessage: 1 << 20, MaxCalls: 4}, echoProtocol)
		if err == nil {
			<-begun
			raw.End()
		}
		ended <- errors.Join(err, l.Close())
	}()
	client, err := ipc.Connect("echo", net)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	source := func(yield func(*blob, error) bool) {
		begun <- struct{}{}
		counted(3)(yield)
	}
	within(t, "a call to a server that takes nothing", func() {
		_, err = ipc.InvokeClientStream(t.Context(), client, methodUpload, source)
		want(t, err, ipc.CodeUnavailable, ipc.NotExecuted)
		if e, ok := errors.AsType[*ipc.Error](err); !ok || e.Taken != 0 || e.Remote {
			t.Errorf("%+v", e)
		}
	})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	serve(t, net, streamingService())
	within(t, "the call, made again", func() {
		if _, err := ipc.InvokeClientStream(t.Context(), client, methodUpload,
			source); err != nil {
			t.Error(err)
		}
	})
	if len(begun) != 1 {
		t.Errorf("the source was ranged over %d times besides the first", len(begun))
	}
}
