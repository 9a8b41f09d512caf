package group_test

import (
	"context"
	"iter"
	"os"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// methodWatch tells of the list again and again, until the server drains: the pid, and the length.
var methodWatch = func() *ipc.Method[words, words] {
	spec := listSpec("Watch", true, false)
	spec.Streaming = ipc.ServerStreaming
	return ipc.NewMethod(listProtocol, spec)
}()

func (l *list) watch(ctx context.Context, _ *words) iter.Seq2[*words, error] {
	return func(yield func(*words, error) bool) {
		for {
			l.mu.Lock()
			n := len(l.all)
			l.mu.Unlock()
			if !yield(&words{uint64(os.Getpid()), uint64(n)}, nil) {
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return
			case <-ipc.DrainingFromContext(ctx):
				yield(&words{0, uint64(n)}, nil)
				return
			}
		}
	}
}

// TestStreamingCallsOfAGroup kills the primary, and then replaces it in order, in the middle of a
// streaming call.
func TestStreamingCallsOfAGroup(t *testing.T) {
	d := newDomain(t)
	g := startGroup(t, listConfig(d, 3))
	c := dialList(t, d)
	watch := func() iter.Seq2[*words, error] {
		return ipc.InvokeServerStream(t.Context(), c, methodWatch, &words{})
	}
	killed, failures := 0, 0
	var n uint64
	for item, err := range watch() {
		if err != nil {
			failures++
			if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
				t.Errorf("the primary was killed: %v", err)
			}
			break
		}
		pid := int((*item)[0])
		switch {
		case killed == 0:
			n = appendTo(t, c, 7)
			killed = pid
		case pid != killed:
			t.Fatalf("an item of %d in a call to %d", pid, killed)
		case (*item)[1] == n: // it tells of what was answered
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				t.Fatal(err)
			}
		}
	}
	if failures != 1 {
		t.Errorf("%d failures", failures)
	}
	if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	// Another call goes to the next primary, which has the same list. It ends in order.
	replaced := make(chan error, 1)
	last, items := words{}, 0
	for item, err := range watch() {
		if err != nil {
			t.Fatal(err)
		}
		if items++; items == 1 {
			if int((*item)[0]) == killed || (*item)[1] != n {
				t.Errorf("first item %v after the death of %d with %d numbers", *item, killed, n)
			}
			go func() {
				_, err := g.Failover(t.Context())
				replaced <- err
			}()
		}
		last = *item
	}
	if last[0] != 0 || last[1] != n {
		t.Errorf("the last item is %v", last)
	}
	if err := <-replaced; err != nil {
		t.Error(err)
	}
}
