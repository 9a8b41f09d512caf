package echo

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// ExpectNothingLeft fails the test if, after everything that it cleans up, it
// has more goroutines or files than now.
func ExpectNothingLeft(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), len(systest.Descriptors())
	t.Cleanup(func() {
		// What ends by itself needs a processor for that; the limit is for what
		// does not.
		for limit := time.Now().Add(time.Minute); ; runtime.Gosched() {
			g, f := runtime.NumGoroutine(), len(systest.Descriptors())
			if g <= goroutines && f <= files {
				return
			}
			if time.Now().After(limit) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines and %d files, before %d and %d\n%s", g, f, goroutines,
					files, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
}

// Of makes a service of the protocol.
func Of(routes ...ipc.Route) *ipc.Service { return ipc.NewService(Protocol, routes...) }

// Want checks an error's code and outcome, and that its text holds all of parts.
func Want(t *testing.T, err error, code ipc.Code, outcome ipc.Outcome, parts ...string) {
	t.Helper()
	if ipc.CodeOf(err) != code || ipc.OutcomeOf(err) != outcome {
		t.Errorf("error %v: %v, %v; want %v, %v", err, ipc.CodeOf(err), ipc.OutcomeOf(err),
			code, outcome)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

// Invoke calls a method in the background.
func Invoke(ctx context.Context, c ipc.Caller, m *ipc.Method[Blob, Blob],
	data string) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(ctx, c, m, &Blob{Data: []byte(data)})
		result <- err
	}()
	return result
}

// Still checks that a connection works.
func Still(t *testing.T, c ipc.Caller) {
	t.Helper()
	if got, err := Call(t.Context(), c, []byte("still here")); err != nil ||
		string(got) != "still here" {
		t.Errorf("the connection does not work any more: %q, %v", got, err)
	}
}

// Blocking is a service whose Block, and Aside in place, say when they are entered and left.
func Blocking() (svc *ipc.Service, entered, left chan struct{}) {
	entered, left = make(chan struct{}, 10), make(chan struct{}, 10)
	block := func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		left <- struct{}{}
		return ctx.Err()
	}
	return Of(
		ipc.Handle(Echo, func(_ context.Context, m *Blob) (*Blob, error) { return m, nil }),
		ipc.Handle(Block, func(ctx context.Context, _ *Blob) (*Blob, error) {
			return nil, block(ctx)
		}),
		ipc.HandleInPlace(Aside, func(ctx context.Context, _ []byte, _ *ipc.ReplyBuilder) error {
			return block(ctx)
		})), entered, left
}

// A Reign is a fence that admits one epoch.
type Reign struct {
	mu    sync.Mutex
	epoch uint64
}

// NewReign returns a fence that admits epoch, and calls without one.
func NewReign(epoch uint64) *Reign { return &Reign{epoch: epoch} }

// Set begins another epoch.
func (r *Reign) Set(epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch = epoch
}

// Epoch implements ipc.Fence.
func (r *Reign) Epoch() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch
}

// Admit implements ipc.Fence.
func (r *Reign) Admit(epoch uint64) error {
	if now := r.Epoch(); epoch != 0 && epoch != now {
		return fmt.Errorf("epoch %d, this is %d", epoch, now)
	}
	return nil
}
