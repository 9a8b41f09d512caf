package conformance

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// doneContexts tries everything that takes a context with one that is done: nothing is executed.
func doneContexts(t *testing.T, v *venue) {
	var executed atomic.Int32
	v.host(echo.StreamingService(ipc.Receive(echo.Note, func(context.Context, *echo.Blob) error {
		return nil
	})), echo.Service(), ipc.WithServerInterceptor(func(ctx context.Context, _ *ipc.ServerCall,
		next func(context.Context) error) error {
		executed.Add(1)
		return next(ctx)
	}))
	c := v.dial(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for ctx, code := range map[context.Context]ipc.Code{canceled: ipc.CodeCanceled,
		late: ipc.CodeDeadlineExceeded} {
		_, err := echo.Call(ctx, c, nil)
		echo.Want(t, err, code, ipc.NotSent)
		if !errors.Is(err, ctx.Err()) {
			t.Errorf("%v is no %v", err, ctx.Err())
		}
		if s, ok := c.(ipc.Sender); ok && v.subject.Lacks&OneWay == 0 {
			echo.Want(t, echo.SendNote(ctx, s, "x"), code, ipc.NotSent)
		}
		if v.subject.Lacks&Streaming != 0 {
			continue
		}
		for _, err := range echo.CountTo(ctx, c, 3) {
			echo.Want(t, err, code, ipc.NotSent)
		}
		_, err = ipc.InvokeClientStream(ctx, c, echo.Upload, echo.Counted(3))
		echo.Want(t, err, code, ipc.NotSent)
		for _, err := range ipc.InvokeBidiStream(ctx, c, echo.Jam, echo.Counted(3)) {
			echo.Want(t, err, code, ipc.NotSent)
		}
	}
	echo.Still(t, c)
	if n := executed.Load(); n != 1 {
		t.Errorf("%d requests were executed, not 1", n)
	}
}

// endedContexts ends contexts of calls whose handlers do not look at theirs: the calls end at once,
// and the later answers of the handlers are dropped.
func endedContexts(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(svc)
	c := v.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	var blocked [3]<-chan error
	for i := range blocked {
		blocked[i] = echo.Invoke(ctx, c, echo.Block, "late")
		await(t, entered, blocked[i])
	}
	cancel()
	for _, result := range blocked {
		err := <-result
		echo.Want(t, err, ipc.CodeCanceled, ipc.OutcomeUnknown)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is no context.Canceled", err)
		}
	}
	for handled := false; !handled; { // a server that is slow may see the deadline first
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := <-echo.Invoke(ctx, c, echo.Block, "late")
		cancel()
		select {
		case <-entered:
			handled = true
			echo.Want(t, err, ipc.CodeDeadlineExceeded, ipc.OutcomeUnknown)
		default:
			echo.Want(t, err, ipc.CodeDeadlineExceeded, ipc.OutcomeOf(err))
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is no context.DeadlineExceeded", err)
		}
		if t.Failed() {
			break
		}
	}
	echo.Still(t, c)
	release()
	for range 100 {
		echo.Still(t, c)
	}
}

// timeouts gives clients limits of time. The handler has the earliest of all limits.
func timeouts(t *testing.T, v *venue) {
	left := make(chan int, 1)
	v.host(echo.Of(ipc.Handle(echo.Echo, func(ctx context.Context,
		m *echo.Blob) (*echo.Blob, error) {
		hours := -1
		if d, ok := ctx.Deadline(); ok {
			hours = int(math.Round(time.Until(d).Hours()))
		}
		left <- hours
		return m, nil
	}), ipc.Handle(echo.Block, func(ctx context.Context, _ *echo.Blob) (*echo.Blob, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})))
	for _, tt := range []struct {
		opts    []ipc.DialOption
		context time.Duration
		hours   int
	}{
		{nil, 0, -1},
		{[]ipc.DialOption{ipc.WithTimeout(time.Hour)}, 0, 1},
		{[]ipc.DialOption{ipc.WithTimeout(time.Hour)}, 2 * time.Hour, 1},
		{[]ipc.DialOption{ipc.WithTimeout(4 * time.Hour)}, 2 * time.Hour, 2},
		{[]ipc.DialOption{ipc.WithTimeout(4 * time.Hour),
			ipc.WithMethodTimeout("test.Echo/Echo", 3*time.Hour)}, 0, 3},
		{[]ipc.DialOption{ipc.WithTimeout(time.Hour),
			ipc.WithMethodTimeout("test.Echo/Echo", 0)}, 0, -1},
	} {
		ctx := t.Context()
		if tt.context != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, tt.context)
			defer cancel()
		}
		if _, err := echo.Call(ctx, v.dial(t, tt.opts...), nil); err != nil {
			t.Error(err)
		} else if got := <-left; got != tt.hours {
			t.Errorf("the handler has %d hours, not %d", got, tt.hours)
		}
	}
	if t.Failed() {
		return
	}
	c := v.dial(t, ipc.WithTimeout(20*time.Millisecond))
	_, err := ipc.Invoke(t.Context(), c, echo.Block, &echo.Blob{})
	echo.Want(t, err, ipc.CodeDeadlineExceeded, ipc.OutcomeOf(err), "test.Echo/Block")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is no context.DeadlineExceeded", err)
	}
}
