package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// streamingMethod declares a method that streams.
func streamingMethod(name string, kind ipc.Streaming, readOnly bool) *ipc.Method[words, words] {
	spec := listSpec(name, readOnly, !readOnly) // idempotent, so that calls may be sent again
	spec.Streaming = kind
	return ipc.NewMethod(listProtocol, spec)
}

var (
	// methodWatch tells of the list again and again: the pid, the length, and the last number. It
	// ends when the server drains, with 0 in place of the pid.
	methodWatch = streamingMethod("Watch", ipc.ServerStreaming, true)
	// methodPeek sends the number in the request and the pid, after the test has let it pass.
	methodPeek = streamingMethod("Peek", ipc.ServerStreaming, true)
	// methodPour records the items, and answers with their number.
	methodPour = streamingMethod("Pour", ipc.ClientStreaming, false)
	// methodMirror records the items, and sends them back.
	methodMirror = streamingMethod("Mirror", ipc.BidiStreaming, false)
	// methodEndless counts until its context ends, whether or not the server drains.
	methodEndless = streamingMethod("Endless", ipc.ServerStreaming, false)
)

func (l *list) watch(ctx context.Context, _ *words) iter.Seq2[*words, error] {
	return func(yield func(*words, error) bool) {
		for pid := uint64(os.Getpid()); ; {
			l.mu.Lock()
			n, last := uint64(len(l.all)), uint64(0)
			if n > 0 {
				last = l.all[n-1]
			}
			l.mu.Unlock()
			if !yield(&words{pid, n, last}, nil) || pid == 0 {
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return
			case <-ipc.DrainingFromContext(ctx):
				pid = 0
			}
		}
	}
}

func peek(_ context.Context, w *words) iter.Seq2[*words, error] {
	return func(yield func(*words, error) bool) {
		if err := pauseAtBarrier(); err != nil {
			yield(nil, err)
			return
		}
		yield(&words{(*w)[0], uint64(os.Getpid())}, nil)
	}
}

// streamingRoutes are the ledger's methods that stream. record is called with each item.
func streamingRoutes(record func(uint64) error) []ipc.Route {
	return []ipc.Route{
		ipc.HandleClientStream(methodPour, func(_ context.Context,
			in iter.Seq2[*words, error]) (*words, error) {
			n := uint64(0)
			for w, err := range in {
				if err == nil {
					err = record((*w)[0])
				}
				if err != nil {
					return nil, err
				}
				n++
			}
			return &words{n}, nil
		}),
		ipc.HandleBidiStream(methodMirror, func(_ context.Context,
			in iter.Seq2[*words, error]) iter.Seq2[*words, error] {
			return func(yield func(*words, error) bool) {
				for w, err := range in {
					if err == nil {
						err = record((*w)[0])
					}
					if !yield(w, err) {
						return
					}
				}
			}
		}),
		ipc.HandleServerStream(methodEndless, func(ctx context.Context,
			_ *words) iter.Seq2[*words, error] {
			return func(yield func(*words, error) bool) {
				for n := uint64(0); yield(&words{n}, nil); n++ {
					select {
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
						return
					}
				}
			}
		}),
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
			expectCutOff(t, err)
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

// TestItemsWaitForTheStandbys has a standby in sync take its time for a change. No item tells of
// the change before the standby has it.
func TestItemsWaitForTheStandbys(t *testing.T) {
	var events eventLog
	cfg, b := barrierConfig(t, 2, &events)
	cfg.Replication = &group.Replication{MinSync: 1, AckTimeout: time.Minute}
	g := startGroup(t, cfg)
	all := g.Replicas()
	c := dialList(t, cfg.Domain)
	seen, told := make(chan struct{}), make(chan uint64, 1)
	go func() {
		defer close(told)
		first := true
		for w, err := range ipc.InvokeServerStream(t.Context(), c, methodWatch, &words{}) {
			if err != nil {
				t.Error(err)
				return
			}
			if first {
				close(seen)
				first = false
			}
			if (*w)[1] > 0 {
				told <- (*w)[2]
				return
			}
		}
	}()
	<-seen
	changed := pause(t, dialList(t, cfg.Domain), 7, 0)
	b.pass(t, all[0].PID)
	b.await(t, all[1].PID) // the primary has executed the change
	select {
	case last := <-told:
		t.Errorf("an item has told of %d, which the standby does not have", last)
	case err := <-changed:
		t.Errorf("the change was answered with %v", err)
	case <-time.After(200 * time.Millisecond): // time for an item to come, wrongly
	}
	b.pass(t, all[1].PID)
	if err := <-changed; err != nil {
		t.Error(err)
	}
	if last := <-told; last != 7 {
		t.Errorf("the item tells of %d", last)
	}
}

// TestStreamIsReopenedBeforeItsFirstItem loses primaries to a call that has handed nothing out. It
// is made again at the next primary, once.
func TestStreamIsReopenedBeforeItsFirstItem(t *testing.T) {
	var events eventLog
	cfg, b := barrierConfig(t, 3, &events)
	g := startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	call := func() <-chan error {
		result := make(chan error, 1)
		go func() {
			got := 0
			for w, err := range ipc.InvokeServerStream(t.Context(), c, methodPeek, &words{17}) {
				if err != nil {
					result <- err
					return
				}
				if got++; got > 1 || (*w)[0] != 17 {
					result <- fmt.Errorf("item %d is %v", got, *w)
					return
				}
			}
			result <- nil
		}()
		return result
	}
	// lose kills the primary when it has the call, and returns the next one.
	lose := func(s group.Status) group.Status {
		pid := s.Replicas[s.Primary].PID
		b.await(t, pid)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		next, err := g.WaitHealthy(t.Context(), s.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	result := call()
	now := lose(g.Status())
	b.pass(t, now.Replicas[now.Primary].PID)
	if err := <-result; err != nil {
		t.Errorf("a call that has handed nothing out, after a failover: %v", err)
	}
	result = call()
	lose(lose(now))
	expectCutOff(t, <-result)
}

// TestStreamEndsWithItsPrimary ends primaries in the middle of calls whose source of items has
// begun. Each call fails with what is known. No item is recorded twice or out of order, at whatever
// process, although the methods are idempotent.
func TestStreamEndsWithItsPrimary(t *testing.T) {
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM} {
		t.Run(how.String(), func(t *testing.T) {
			domain := newDomain(t)
			cfg := ledgerConfig(domain)
			cfg.Grace = 2 * time.Second
			cfg.Heartbeat = group.Heartbeat{Period: 20 * time.Millisecond, Grace: 5 * time.Second}
			if how == syscall.SIGSTOP {
				cfg.Heartbeat.Grace = 500 * time.Millisecond
			}
			g := startGroup(t, cfg)
			c := dialList(t, domain)
			path := filepath.Join(filepath.Dir(domain), "ledger")
			end := func() {
				s := g.Status()
				if err := syscall.Kill(s.Replicas[s.Primary].PID, how); err != nil {
					t.Error(err)
				}
			}
			const before = 100
			// numbers yields numbers until the call ends, and ends the primary after some, when it
			// has taken the call.
			numbers := func(sent *atomic.Uint64) iter.Seq2[*words, error] {
				return func(yield func(*words, error) bool) {
					for ; yield(&words{sent.Load()}, nil); sent.Add(1) {
						if sent.Load() == before {
							for len(ledger(t, path)) == 0 {
								runtime.Gosched()
							}
							end()
						}
					}
				}
			}
			check := func(err error, sent uint64) {
				t.Helper()
				recorded := ledger(t, path)
				expectCutOff(t, err)
				var e *ipc.Error
				if errors.As(err, &e); e != nil && e.Taken > uint64(len(recorded)) {
					t.Errorf("the error says that %d items were taken, of which %d were recorded",
						e.Taken, len(recorded))
				}
				if n := uint64(len(recorded)); n > sent+1 {
					t.Errorf("%d items were recorded, and %d sent", n, sent)
				}
				for i, n := range recorded {
					if n != uint64(i) {
						t.Fatalf("item %d is recorded as number %d", n, i)
					}
				}
				if err := os.Truncate(path, 0); err != nil {
					t.Error(err)
				}
			}
			var sent atomic.Uint64 // a source may run until shortly after its call
			status := g.Status()
			_, err := ipc.InvokeClientStream(t.Context(), c, methodPour, numbers(&sent))
			if _, herr := g.WaitHealthy(t.Context(), status.Epoch); herr != nil {
				t.Fatal(herr)
			}
			check(err, sent.Load())
			status = g.Status()
			sent.Store(0)
			back, failures := uint64(0), 0
			for w, err := range ipc.InvokeBidiStream(t.Context(), c, methodMirror,
				numbers(&sent)) {
				if err == nil {
					if (*w)[0] != back {
						t.Errorf("item %d came back in place of %d", (*w)[0], back)
					}
					back++
					continue
				}
				failures++
				if _, herr := g.WaitHealthy(t.Context(), status.Epoch); herr != nil {
					t.Fatal(herr)
				}
				if n := uint64(len(ledger(t, path))); back > n {
					t.Errorf("%d items came back, of %d that were recorded", back, n)
				}
				check(err, sent.Load())
			}
			if failures != 1 {
				t.Errorf("%d failures", failures)
			}
		})
	}
}

// ledger returns the numbers that the replicas have recorded.
func ledger(t *testing.T, path string) (all words) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	for ; len(b) >= 8; b = b[8:] {
		all = append(all, binary.LittleEndian.Uint64(b))
	}
	return all
}

// TestOrdersAndStreamingCalls replaces and ends primaries in order. A streaming call that ends when
// the server drains fails at none of these, and one that does not end is cut off after the grace,
// also if its client takes nothing meanwhile.
func TestOrdersAndStreamingCalls(t *testing.T) {
	orders := map[string]func(*group.Group, group.Config) error{
		"roll": func(g *group.Group, cfg group.Config) error {
			return g.Roll(context.Background(), cfg.Command)
		},
		"failover": func(g *group.Group, _ group.Config) error {
			_, err := g.Failover(context.Background())
			return err
		},
		"shutdown": func(g *group.Group, _ group.Config) error {
			return g.Shutdown(context.Background())
		},
	}
	for name, order := range orders {
		t.Run(name+" and a call that ends", func(t *testing.T) {
			cfg := listConfig(newDomain(t), 2)
			cfg.Grace = time.Minute
			g := startGroup(t, cfg)
			c := dialList(t, cfg.Domain)
			ordered := make(chan error, 1)
			items, last := 0, words{}
			for w, err := range ipc.InvokeServerStream(t.Context(), c, methodWatch, &words{}) {
				if err != nil {
					t.Fatal(err)
				}
				if items++; items == 3 {
					go func() { ordered <- order(g, cfg) }()
				}
				last = *w
			}
			if items < 3 || last[0] != 0 {
				t.Errorf("after %d items, the last is %v", items, last)
			}
			if err := <-ordered; err != nil {
				t.Error(err)
			}
		})
		t.Run(name+" and one that does not", func(t *testing.T) {
			cfg := ledgerConfig(newDomain(t))
			cfg.Grace = 500 * time.Millisecond
			g := startGroup(t, cfg)
			c := dialList(t, cfg.Domain)
			n, failures := uint64(0), 0
			for w, err := range ipc.InvokeServerStream(t.Context(), c, methodEndless, &words{}) {
				if err != nil {
					failures++
					expectCutOff(t, err)
					continue
				}
				if (*w)[0] != n {
					t.Fatalf("item %d in place of %d", (*w)[0], n)
				}
				if n++; n == 3 { // and takes nothing meanwhile
					if err := order(g, cfg); err != nil {
						t.Error(err)
					}
				}
			}
			if failures != 1 || n < 3 {
				t.Errorf("%d items and %d failures", n, failures)
			}
		})
	}
}
