//go:build ipccrash

package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// An itemTally is a file with one byte for each item that the code of a process has taken. It
// outlives the process.
type itemTally struct{ *os.File }

func openTally(path string) (itemTally, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	return itemTally{f}, err
}

func (y itemTally) add() error {
	_, err := y.Write([]byte{1})
	return err
}

func (y itemTally) count(t *testing.T) uint64 {
	t.Helper()
	st, err := y.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return uint64(st.Size())
}

// tallyEnv names the file of a child's tally.
const tallyEnv = "IPC_TEST_TALLY"

var (
	methodPour   = streamingMethod("Pour", ipc.ClientStreaming)
	methodMirror = streamingMethod("Mirror", ipc.BidiStreaming)
)

func init() {
	roles["pouring"] = pouringRole
	roles["pourer"] = pourerRole
}

// crashItems is how many items a call of these tests has, in each direction that it has, and
// crashWindow the window, which holds some of them.
const (
	crashItems  = 200
	crashWindow = 4096
)

// inOrder counts the items of a call, which are numbers from 0.
type inOrder struct{ n int }

func (o *inOrder) take(item *blob) error {
	if string(item.Data) != fmt.Sprint(o.n) {
		return fmt.Errorf("item %d is %q", o.n, item.Data)
	}
	o.n++
	return nil
}

// pouringRole serves methods whose handlers tally the items that they take.
func pouringRole(domain ipc.RendezvousOption) error {
	y, err := openTally(os.Getenv(tallyEnv))
	if err != nil {
		return err
	}
	l, err := ipc.Listen("echo", domain)
	if err != nil {
		return err
	}
	srv := ipc.NewServer(ipc.WithStreamingWindow(crashWindow), streamingService(
		ipc.HandleClientStream(methodPour, func(_ context.Context,
			in iter.Seq2[*blob, error]) (*blob, error) {
			var o inOrder
			for item, err := range in {
				if err == nil {
					err = errors.Join(y.add(), o.take(item))
				}
				if err != nil {
					return nil, err
				}
			}
			return &blob{Data: fmt.Append(nil, o.n)}, nil
		}),
		ipc.HandleBidiStream(methodMirror, func(_ context.Context,
			in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				for item, err := range in {
					if err == nil {
						err = y.add()
					}
					if !yield(item, err) {
						return
					}
				}
			}
		})), echoService())
	fmt.Println("ready")
	return srv.Serve(context.Background(), l)
}

// streamAll makes streaming calls of each kind, in order, left early and cancelled, until one fails
// that should not. It checks each end against what the server has tallied.
func streamAll(t *testing.T, c *ipc.Conn, y itemTally, what string) error {
	ctx := t.Context()
	before := y.count(t)
	// ended checks the end of a call that has sent so many items.
	ended := func(call string, err error, sent uint64) {
		t.Helper()
		taken := y.count(t) - before
		before += taken
		if taken > sent {
			t.Errorf("%s: %s: %d items were taken, of %d", what, call, taken, sent)
		}
		if err == nil {
			return
		}
		var e *ipc.Error
		switch o := ipc.OutcomeOf(err); {
		case !errors.As(err, &e) || e.Code != ipc.CodeUnavailable:
			t.Errorf("%s: %s: %v", what, call, err)
		case e.Taken > taken:
			t.Errorf("%s: %s: the error says that %d items were taken, and %d were", what, call,
				e.Taken, taken)
		case taken > 0 && o != ipc.OutcomeUnknown:
			t.Errorf("%s: %s: %d items were taken; the outcome is %v", what, call, taken, o)
		}
	}
	sent := uint64(0)
	source := func(yield func(*blob, error) bool) {
		sent = 0
		counted(crashItems)(func(item *blob, err error) bool {
			sent++
			return yield(item, err)
		})
	}
	rep, err := ipc.InvokeClientStream(ctx, c, methodPour, source)
	if err == nil && string(rep.Data) != fmt.Sprint(crashItems) {
		t.Errorf("%s: the answer is %q", what, rep.Data)
	}
	ended("Pour", err, sent)
	if err != nil {
		return err
	}
	// download makes a call with items of the server, and leaves it after so many.
	download := func(items iter.Seq2[*blob, error], leave int) (n int, failed error) {
		var o inOrder
		for item, err := range items {
			if err != nil {
				return o.n, err
			}
			if err := o.take(item); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if o.n == leave {
				return o.n, nil
			}
		}
		if o.n != crashItems {
			t.Errorf("%s: a clean end after %d items", what, o.n)
		}
		return o.n, nil
	}
	back, err := download(ipc.InvokeBidiStream(ctx, c, methodMirror, counted(crashItems)), 0)
	if taken := y.count(t) - before; uint64(back) > taken {
		t.Errorf("%s: %d items came back, and %d were taken", what, back, taken)
	}
	ended("Mirror", err, crashItems)
	if err != nil {
		return err
	}
	for _, leave := range []int{0, crashItems / 2} {
		n, err := download(count(ctx, c, crashItems), leave)
		if err != nil && n > 0 && ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
			t.Errorf("%s: Count: the outcome after %d items is %v", what, n, ipc.OutcomeOf(err))
		}
		ended("Count", err, 0)
		if err != nil {
			return err
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err = ipc.InvokeClientStream(cancelled, c, methodPour, func(yield func(*blob, error) bool) {
		for i := 0; yield(&blob{Data: fmt.Append(nil, i)}, nil); i++ {
			if i == crashItems/2 {
				cancel()
			}
		}
	})
	if ipc.CodeOf(err) == ipc.CodeCanceled {
		return nil
	}
	ended("a call that is cancelled", err, crashItems)
	return err
}

// pourerRole makes the calls of streamAll as a client, and tallies the items that it takes.
func pourerRole(domain ipc.RendezvousOption) error {
	y, err := openTally(os.Getenv(tallyEnv))
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := ipc.Dial(ctx, "echo", domain, ipc.WithStreamingWindow(crashWindow))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := ipc.InvokeClientStream(ctx, c, methodPour, counted(crashItems)); err != nil {
		return err
	}
	for _, leave := range []int{crashItems, crashItems / 2} {
		for _, items := range []iter.Seq2[*blob, error]{count(ctx, c, crashItems),
			ipc.InvokeBidiStream(ctx, c, methodMirror, counted(crashItems))} {
			n := 0
			for _, err := range items {
				if err == nil {
					err = y.add()
				}
				if err != nil {
					return err
				}
				if n++; n == leave {
					break
				}
			}
		}
	}
	return c.Close()
}

// streamingPoints are the crash points that a role reaches and that are tried with streaming calls:
// each kind of frame, and the stores by which a ring passes it.
func streamingPoints(t *testing.T, said string, frames ...string) (points []string) {
	t.Helper()
	ring := []string{"header", "publish", "published", "take", "taken", "release", "released",
		"sleep", "slept", "awake", "starve", "starved", "notify", "notified"}
	for _, p := range lines(said, "crash point: ") {
		if isFramePoint(p) || slices.Contains(ring, p) {
			points = append(points, p)
		}
	}
	slices.Sort(points)
	for _, f := range frames {
		for _, when := range []string{"", " sent"} {
			if !slices.Contains(points, "frame "+f+when) {
				t.Errorf("the point %q is not reached; %q are", "frame "+f+when, points)
			}
		}
	}
	t.Logf("%q", points)
	return points
}

// visits are those at which a point is tried: the first, and later ones among the items.
func visits(point string) (all []int) {
	all = []int{1}
	for n := range crashRounds() {
		if strings.HasSuffix(point, "open") || strings.HasSuffix(point, "end") ||
			strings.HasSuffix(point, "end sent") || strings.HasSuffix(point, "open sent") {
			all = append(all, 2+n)
		} else {
			all = append(all, 7+31*n)
		}
	}
	return all
}

// TestCrashStreaming kills and stops one side of streaming calls at each store that a frame passes.
// The other side learns of the end that is the case. No item is lost before a clean end, comes
// twice, or counts as taken that the code of a killed process has not had.
func TestCrashStreaming(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		ends := make(map[string]int)
		run := func(crash string) (said string) {
			path, file := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "tally")
			y, err := openTally(file)
			if err != nil {
				t.Fatal(err)
			}
			defer y.Close()
			var errOut bytes.Buffer
			c := newChild(t, "pouring", path, tallyEnv+"="+file, sys.CrashEnv+"="+crash)
			c.Stderr = &errOut
			if !c.start(t) {
				ends["died early"]++
				c.kill()
				return errOut.String()
			}
			goOn := c.keepGoing()
			conn, err := ipc.Dial(t.Context(), "echo", ipc.WithDomain(path),
				ipc.WithStreamingWindow(crashWindow))
			if err == nil {
				err = streamAll(t, conn, y, crash)
				conn.Close()
			}
			goOn()
			switch {
			case err == nil:
				ends["finished"]++
			case !strings.HasPrefix(crash, "kill"):
				t.Errorf("%s: %v", crash, err)
			default:
				ends["cut off"]++
			}
			c.kill()
			return errOut.String()
		}
		points := streamingPoints(t, run("list"), "item", "credit", "end")
		crashAtPoints(points, func(crash string) { run(crash) })
		t.Log(ends)
		if ends["cut off"] < len(points)/2 {
			t.Errorf("too few calls were cut off: %v", ends)
		}
	})
	t.Run("client", func(t *testing.T) {
		ends := make(map[string]int)
		run := func(crash string) string { return crashPourer(t, crash, ends) }
		points := streamingPoints(t, run("list"), "open", "item", "credit", "end")
		crashAtPoints(points, func(crash string) { run(crash) })
		t.Log(ends)
		if ends["clean"] == 0 || ends["cut off"] < len(points)/2 {
			t.Errorf("the ends of the client's items are %v", ends)
		}
	})
}

// crashAtPoints runs a process for each point, action and visit.
func crashAtPoints(points []string, run func(crash string)) {
	for _, point := range points {
		for _, action := range []string{"kill", "stop"} {
			for _, visit := range visits(point) {
				run(fmt.Sprintf("%s:%s:%d", action, point, visit))
			}
		}
	}
}

// crashPourer serves a client that crashes, and checks what its handlers learn.
func crashPourer(t *testing.T, crash string, ends map[string]int) (said string) {
	path, file := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "tally")
	y, err := openTally(file)
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	var mu sync.Mutex
	known := uint64(0) // items of the server that the client has taken, in all calls
	// takes checks the items of the client to their end.
	takes := func(in iter.Seq2[*blob, error], each func(*blob) bool) error {
		var o inOrder
		for item, err := range in {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if code := ipc.CodeOf(err); code != ipc.CodeUnavailable &&
					code != ipc.CodeCanceled {
					t.Errorf("%s: the client's items end with: %v", crash, err)
				}
				ends["cut off"]++
				return err
			}
			if err := o.take(item); err != nil {
				t.Errorf("%s: %v", crash, err)
			}
			if !each(item) {
				return nil
			}
		}
		mu.Lock()
		defer mu.Unlock()
		ends["clean"]++
		if o.n != crashItems {
			t.Errorf("%s: a clean end after %d items", crash, o.n)
		}
		return nil
	}
	// counts adds what is known at the end of a call, when the client is gone or has ended it.
	counts := func(ctx context.Context) {
		<-ctx.Done()
		n, _ := ipc.TakenFromContext(ctx)
		mu.Lock()
		defer mu.Unlock()
		known += n
		if taken := y.count(t); known > taken {
			t.Errorf("%s: the client is known to have taken %d items, and it has tallied %d", crash,
				known, taken)
		}
	}
	l, err := ipc.Listen("echo", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(ipc.WithStreamingWindow(crashWindow), echoService(), echoes(
		ipc.HandleClientStream(methodPour, func(_ context.Context,
			in iter.Seq2[*blob, error]) (*blob, error) {
			return &blob{}, takes(in, func(*blob) bool { return true })
		}),
		ipc.HandleServerStream(methodCount, func(ctx context.Context,
			_ *blob) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				defer counts(ctx)
				counted(-1)(yield)
			}
		}),
		ipc.HandleBidiStream(methodMirror, func(ctx context.Context,
			in iter.Seq2[*blob, error]) iter.Seq2[*blob, error] {
			return func(yield func(*blob, error) bool) {
				defer counts(ctx)
				if takes(in, func(item *blob) bool { return yield(item, nil) }) == nil {
					<-ctx.Done()
				}
			}
		})))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	var errOut bytes.Buffer
	c := newChild(t, "pourer", path, tallyEnv+"="+file, sys.CrashEnv+"="+crash)
	c.Stderr = &errOut
	c.start(t)
	goOn := c.keepGoing()
	<-c.done
	goOn()
	if st := c.ProcessState; !st.Success() && !strings.HasPrefix(crash, "kill") {
		t.Errorf("%s: the client ended with %v, %s", crash, st, errOut.String())
	}
	c.kill()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("%s: %v", crash, err)
	}
	if err := <-served; !errors.Is(err, ipc.ErrServerClosed) && err != io.EOF {
		t.Errorf("%s: %v", crash, err)
	}
	return errOut.String()
}
