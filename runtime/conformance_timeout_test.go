package ipc_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// methodLimited has a timeout of three hours in its schema.
var methodLimited = func() *ipc.Method[blob, blob] {
	spec := echoSpec("Limited")
	spec.Timeout = 3 * time.Hour
	return ipc.NewMethod(echoProtocol, spec)
}()

// hoursLeft makes a service that tells how many hours each handler has, or -1 for no limit.
func hoursLeft(told chan<- int) *ipc.Service {
	tell := func(ctx context.Context, m *blob) (*blob, error) {
		hours := -1
		if d, ok := ctx.Deadline(); ok {
			hours = int(math.Round(time.Until(d).Hours()))
		}
		told <- hours
		return m, nil
	}
	return echoes(ipc.Handle(methodEcho, tell), ipc.Handle(methodLimited, tell))
}

// inPlace makes a call in place with n bytes, whose reply is not read.
func inPlace(ctx context.Context, c *ipc.Conn, m *ipc.Method[blob, blob], n int) error {
	return c.InvokeInPlace(ctx, &ipc.InPlaceCall{Method: m.Info(), Size: n + 64,
		Build: func(b *flatbuffers.Builder, _ uint64) {
			_ = encodeBlob(b, 0, &blob{Data: make([]byte, n)})
		},
		Read: func([]byte) error { return nil }})
}

// timeoutsReachTheServer gives calls every combination of limits.
func timeoutsReachTheServer(t *testing.T, v ipc.RendezvousOption) {
	told := make(chan int, 1)
	host(t, v, hoursLeft(told))
	one := ipc.WithTimeout(time.Hour)
	two := ipc.WithMethodTimeout("test.Echo/Limited", 2*time.Hour)
	lifted := ipc.WithMethodTimeout("test.Echo/Limited", 0)
	opts := func(opts ...ipc.DialOption) []ipc.DialOption { return opts }
	for _, c := range []struct {
		name    string
		opts    []ipc.DialOption
		method  *ipc.Method[blob, blob]
		context int // in hours; 0: no deadline
		want    int
	}{
		{"nothing", nil, methodEcho, 0, -1},
		{"the connection's", opts(one), methodEcho, 0, 1},
		{"the connection's is earlier", opts(one), methodEcho, 2, 1},
		{"the context's is earlier", opts(ipc.WithTimeout(4 * time.Hour)), methodEcho, 2, 2},
		{"the schema's", nil, methodLimited, 0, 3},
		{"the schema's and the connection's", opts(one), methodLimited, 0, 3},
		{"another for the method", opts(one, two), methodLimited, 0, 2},
		{"another for another method", opts(one, two), methodEcho, 0, 1},
		{"the last one", opts(two, lifted, two), methodLimited, 0, 2},
		{"none for the method", opts(one, lifted), methodLimited, 0, -1},
		{"taken back", opts(one, ipc.WithTimeout(0)), methodEcho, 0, -1},
	} {
		ctx := t.Context()
		if c.context != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(c.context)*time.Hour)
			defer cancel()
		}
		conn := dial(t, v, c.opts...)
		clientOpts := []ipc.ClientOption{patiently()}
		for _, o := range c.opts {
			clientOpts = append(clientOpts, o)
		}
		client := reconnecting(t, v, clientOpts...)
		for form, call := range map[string]func() error{
			"a call of a client": func() error {
				_, err := ipc.Invoke(ctx, client, c.method, &blob{})
				return err
			},
			"a call in place": func() error { return inPlace(ctx, conn, c.method, 0) },
		} {
			if err := call(); err != nil {
				t.Errorf("%s, %s: %v", c.name, form, err)
			} else if got := <-told; got != c.want {
				t.Errorf("%s, %s: the handler has %d hours, not %d", c.name, form, got, c.want)
			}
		}
	}
}

// timeoutsEndCalls shows where a call may be when its time is over.
func timeoutsEndCalls(t *testing.T, v ipc.RendezvousOption) {
	// The handler answers after its client has given up.
	var gaveUp atomic.Pointer[chan struct{}]
	host(t, v, ipc.WithMaxCalls(1), echoService(
		ipc.Receive(messageNote, func(ctx context.Context, _ *blob) error {
			<-ctx.Done()
			return nil
		}),
		ipc.Handle(methodLimited, func(ctx context.Context, _ *blob) (*blob, error) {
			<-ctx.Done()
			<-*gaveUp.Load()
			return nil, ctx.Err()
		})))
	c := dial(t, v, append(small(), ipc.WithTimeout(20*time.Millisecond),
		ipc.WithMethodTimeout("test.Echo/Limited", 30*time.Millisecond),
		ipc.WithMethodTimeout("test.Echo/Block", 0))...)

	// In its handler, which is told.
	const why = "the timeout of 30ms (WithMethodTimeout) passed"
	var err error
	taken := func(call func() error) {
		t.Helper()
		for err = nil; err == nil || ipc.OutcomeOf(err) == ipc.NotExecuted; { // the server is slow
			answer := make(chan struct{})
			gaveUp.Store(&answer)
			err = call()
			close(answer)
			want(t, err, ipc.CodeDeadlineExceeded, ipc.OutcomeOf(err), "test.Echo/Limited", why)
		}
		if o := ipc.OutcomeOf(err); o != ipc.OutcomeUnknown {
			t.Errorf("%v: %v", err, o)
		}
	}
	taken(func() error {
		_, err := ipc.Invoke(t.Context(), c, methodLimited, &blob{})
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is no DeadlineExceeded", err)
	}
	taken(func() error { return inPlace(t.Context(), c, methodLimited, 0) })

	// Before there is a place for it.
	ctx, cancel := context.WithCancel(t.Context())
	blocked := invoke(ctx, c, methodBlock, "")
	for c.Stats().CallsInFlight == 0 {
		pause(100)
	}
	_, err = echo(t.Context(), c, nil)
	want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent, "calls in flight",
		"the timeout of 20ms (WithTimeout) passed")
	cancel()
	want(t, <-blocked, ipc.CodeCanceled, ipc.OutcomeUnknown)

	// Before there is room for it, or for a message.
	fills := func() {
		t.Helper()
		for err = nil; err == nil; {
			err = note(t.Context(), c, strings.Repeat("x", 1000))
		}
		want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent, "room in the ring",
			"the timeout of 20ms (WithTimeout) passed")
	}
	for err = nil; err == nil; { // a server that is slow may have made room after all
		fills()
		_, err = echo(t.Context(), c, make([]byte, 2000))
	}
	if o := ipc.OutcomeOf(err); ipc.CodeOf(err) != ipc.CodeDeadlineExceeded || o != ipc.NotSent &&
		o != ipc.NotExecuted {
		t.Errorf("a call to a server that does not read: %v", err)
	}
}

// timeoutsWithoutServer shows that the wait for a server is part of a call, and so is every
// attempt.
func timeoutsWithoutServer(t *testing.T, v ipc.RendezvousOption) {
	c := reconnecting(t, v, patiently(), ipc.WithTimeout(20*time.Millisecond),
		ipc.WithMethodTimeout("test.Echo/Again", time.Minute))
	const why = "the timeout of 20ms (WithTimeout) passed, and there is no server"
	_, err := echo(t.Context(), c, nil)
	want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent, why)
	want(t, ipc.Send(t.Context(), c, messageNote, &blob{}), ipc.CodeDeadlineExceeded, ipc.NotSent,
		why)
	early := invoke(t.Context(), c, methodAgain, "")
	host(t, v, echoes(answer(methodAgain)))
	if err := <-early; err != nil {
		t.Errorf("a call with more time: %v", err)
	}
}

// timeoutsThatAreWrong shows that a mistake in an option is an error of what gets the option.
func timeoutsThatAreWrong(t *testing.T, v ipc.RendezvousOption) {
	host(t, v, echoService())
	for _, c := range []struct {
		opt  ipc.DialOption
		text string
	}{
		{ipc.WithTimeout(-1), "WithTimeout was given -1ns"},
		{ipc.WithMethodTimeout("test.Echo/Echo", -time.Second), "given -1s for test.Echo/Echo"},
		{ipc.WithMethodTimeout("test.Echo/Ecco", time.Second),
			`service test.Echo has no method "Ecco"; it has `},
		{ipc.WithMethodTimeout("test.Ecco/Echo", time.Second),
			`no service of this program is called "test.Ecco"; there is `},
		{ipc.WithMethodTimeout("Echo", time.Second), `Write a method as "package.Service/Method"`},
		{ipc.WithMethodTimeout("", time.Second), `Write a method as "package.Service/Method"`},
	} {
		_, err := ipc.Dial(t.Context(), "echo", v, c.opt)
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, c.text)
		_, err = ipc.Connect("echo", v, c.opt)
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, c.text)
		_, err = ipc.NewClient(&switchboard{}, v, c.opt)
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, c.text)
		domain := filepath.Join(t.TempDir(), "d")
		_, err = group.Dial(t.Context(), "echo",
			group.DialConfig{Domain: domain, Options: []ipc.DialOption{c.opt}})
		if !errors.Is(err, errors.ErrUnsupported) {
			want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, c.text)
		}
	}
}

// BenchmarkTimeout compares a call without a deadline, one with a context that has a deadline, and
// one with a timeout of its connection.
func BenchmarkTimeout(b *testing.B) {
	d := newDomain(b)
	serve(b, d)
	plain, limited := dial(b, d), dial(b, d, ipc.WithTimeout(time.Minute))
	call := ipc.Call{Method: methodEcho.Info(), Request: &blob{Data: make([]byte, 64)},
		Reply: &blob{}}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"none", func() error { return plain.Invoke(context.Background(), call) }},
		{"context", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			return plain.Invoke(ctx, call)
		}},
		{"option", func() error { return limited.Invoke(context.Background(), call) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
