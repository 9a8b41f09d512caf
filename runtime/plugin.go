package ipc

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// This file is what users plug in below calls: fences, guards, epoch sources, resolvers and
// transports. Each is wrapped where it enters, so that a panic in it is an error of what called
// it, wherever that is. They are called too often for a goroutine each, so they must return: what
// follows runtime.Goexit in one of them is not defined.

// plugin turns a panic in one of these, called what, into an error. It must be deferred.
func plugin(log *slog.Logger, what string, err *error) {
	if r := recover(); r != nil {
		*err = pluginPanicked(log, what, r)
	}
}

func pluginPanicked(log *slog.Logger, what string, r any) *Error {
	loggerOrDefault(log).Error(what+" panicked", "panic", r, "stack", string(debug.Stack()))
	return &Error{Code: CodeInternal, Msg: fmt.Sprint(what, " panicked: ", r)}
}

// containPlugins wraps what options have plugged in.
func (c *serverConfig) containPlugins() {
	if c.fence != nil {
		c.fence = containedFence{c.fence, c.logger}
	}
	if c.guard != nil {
		c.guard = containedGuard{c.guard, c.logger}
	}
}

// containPlugins wraps what options have plugged in.
func (c *dialConfig) containPlugins() {
	if c.epoch != nil {
		c.epoch = containedEpoch{c.epoch, c.logger}
	}
	if c.transport != nil {
		c.transport = containTransport(c.transport, c.logger)
	}
}

// A containedFence admits nothing when the user's fence panics.
type containedFence struct {
	users Fence
	log   *slog.Logger
}

func (f containedFence) Epoch() uint64 {
	var err error
	defer plugin(f.log, "Fence.Epoch", &err)
	return f.users.Epoch()
}

func (f containedFence) Admit(epoch uint64) (err error) {
	defer plugin(f.log, "Fence.Admit", &err)
	return f.users.Admit(epoch)
}

type containedGuard struct {
	users Guard
	log   *slog.Logger
}

func (g containedGuard) Enter(request uint64) (place int, err error) {
	defer func() {
		if r := recover(); r != nil {
			why := pluginPanicked(g.log, "Guard.Enter", r)
			why.Outcome = NotExecuted
			err = why
		}
	}()
	return g.users.Enter(request)
}

func (g containedGuard) Leave(place int) {
	var err error
	defer plugin(g.log, "Guard.Leave", &err)
	g.users.Leave(place)
}

// A containedEpoch acts in an epoch that no server has when the user's source panics: then servers
// refuse its requests, and it refuses their replies.
type containedEpoch struct {
	users EpochSource
	log   *slog.Logger
}

func (s containedEpoch) Epoch() (epoch uint64) {
	var err error
	epoch = math.MaxUint64
	defer plugin(s.log, "EpochSource.Epoch", &err)
	return s.users.Epoch()
}

// A containedResolver has no server when the user's resolver panics.
type containedResolver struct {
	users Resolver
	log   *slog.Logger
}

func (c containedResolver) Resolve() (t Target) {
	defer plugin(c.log, "Resolver.Resolve", &t.Absent)
	return c.users.Resolve()
}

// Watch ends with an error if the user's Watch ends its goroutine.
func (c containedResolver) Watch(ctx context.Context, changed func()) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = &Error{Code: CodeInternal,
			Msg: "Resolver.Watch ended its goroutine (runtime.Goexit)"}
		defer plugin(c.log, "Resolver.Watch", &err)
		err = c.users.Watch(ctx, changed)
	}()
	<-done
	return err
}

type containedTransport struct {
	users Transport
	log   *slog.Logger
}

type containedWatchable struct{ containedTransport }

func containTransport(t Transport, log *slog.Logger) Transport {
	c := containedTransport{t, log}
	if _, ok := t.(WatchableTransport); ok {
		return containedWatchable{c}
	}
	return c
}

func (t containedTransport) Listen(channel string) (l LinkListener, err error) {
	defer plugin(t.log, "Transport.Listen", &err)
	if l, err = t.users.Listen(channel); err == nil {
		l = containedListener{l, t.log}
	}
	return l, err
}

func (t containedTransport) Dial(ctx context.Context, channel string) (l Link, err error) {
	defer plugin(t.log, "Transport.Dial", &err)
	if l, err = t.users.Dial(ctx, channel); err == nil {
		l = containedLink{l, t.log}
	}
	return l, err
}

func (t containedWatchable) Watch(ctx context.Context, channel string,
	changed func()) (err error) {
	defer plugin(t.log, "WatchableTransport.Watch", &err)
	return t.users.(WatchableTransport).Watch(ctx, channel, changed)
}

type containedListener struct {
	users LinkListener
	log   *slog.Logger
}

func (c containedListener) Accept() (l Link, err error) {
	defer plugin(c.log, "LinkListener.Accept", &err)
	if l, err = c.users.Accept(); err == nil {
		l = containedLink{l, c.log}
	}
	return l, err
}

func (c containedListener) Close() (err error) {
	defer plugin(c.log, "LinkListener.Close", &err)
	return c.users.Close()
}

// A containedLink closes the user's link when that panics in a method that returns no error.
type containedLink struct {
	users Link
	log   *slog.Logger
}

// broken, deferred, ends a link that has panicked.
func (c containedLink) broken(what string) {
	if r := recover(); r != nil {
		_ = pluginPanicked(c.log, what, r)
		_ = c.Close()
	}
}

func (c containedLink) Notify() { defer c.broken("Link.Notify"); c.users.Notify() }
func (c containedLink) Expect() { defer c.broken("Link.Expect"); c.users.Expect() }
func (c containedLink) Poke()   { defer c.broken("Link.Poke"); c.users.Poke() }

func (c containedLink) Clock() int64 { defer c.broken("Link.Clock"); return c.users.Clock() }

func (c containedLink) SpinPays() bool {
	defer c.broken("Link.SpinPays")
	return c.users.SpinPays()
}

func (c containedLink) Wait(recheck func() bool) (err error) {
	defer plugin(c.log, "Link.Wait", &err)
	return c.users.Wait(recheck)
}

func (c containedLink) Read(p []byte) (n int, err error) {
	defer plugin(c.log, "Link.Read", &err)
	return c.users.Read(p)
}

func (c containedLink) Write(p []byte) (n int, err error) {
	defer plugin(c.log, "Link.Write", &err)
	return c.users.Write(p)
}

func (c containedLink) Close() (err error) {
	defer plugin(c.log, "Link.Close", &err)
	return c.users.Close()
}

func (c containedLink) Send(p []byte, m ...shm.Memory) (err error) {
	defer plugin(c.log, "Link.Send", &err)
	return c.users.Send(p, m...)
}

func (c containedLink) Receive(p []byte) (n int, m []shm.Memory, err error) {
	defer plugin(c.log, "Link.Receive", &err)
	return c.users.Receive(p)
}

func (c containedLink) SetDeadline(t time.Time) (err error) {
	defer plugin(c.log, "Link.SetDeadline", &err)
	return c.users.SetDeadline(t)
}

func (c containedLink) NewMemory(size int) (m shm.Memory, err error) {
	defer plugin(c.log, "Link.NewMemory", &err)
	return c.users.NewMemory(size)
}

func (c containedLink) Peer() (p Peer, err error) {
	defer plugin(c.log, "Link.Peer", &err)
	return c.users.Peer()
}
