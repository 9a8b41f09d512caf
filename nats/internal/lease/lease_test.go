package lease_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ipcgen/ipcgen/nats/internal/lease"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
)

// watchdog ends a test that hangs.
const watchdog = 5 * time.Minute

// long is a lease that outlasts a machine that stands still for a second or two.
const long = 5 * time.Second

func newBucket(t *testing.T) (jetstream.KeyValue, *natstest.Server) {
	t.Helper()
	s := natstest.Start(t, natstest.JetStream(t.TempDir()))
	return bucketOf(t, s.ClientURL()), s
}

// bucketOf returns the bucket over a connection of its own.
func bucketOf(t *testing.T, url string) jetstream.KeyValue {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.Timeout(watchdog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases"})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func config(kv jetstream.KeyValue, member string, d time.Duration) lease.Config {
	return lease.Config{Bucket: kv, Key: "leader", Member: member, Channel: "channel." + member,
		Lease: d}
}

func acquire(t *testing.T, cfg lease.Config) *lease.Held {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	h, err := lease.Acquire(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestOneHolder has members compete for a lease, and release it. There is one holder at a time, and
// each has a later epoch than the one before.
func TestOneHolder(t *testing.T) {
	t.Parallel()
	kv, _ := newBucket(t)
	var mu sync.Mutex
	var epochs []uint64
	holders := 0
	var members sync.WaitGroup
	for i := range 4 {
		members.Go(func() {
			for range 3 {
				h, err := lease.Acquire(t.Context(), config(kv, fmt.Sprint(i), time.Minute))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if holders++; holders > 1 {
					t.Errorf("%d holders", holders)
				}
				if n := len(epochs); n > 0 && epochs[n-1] >= h.Epoch() {
					t.Errorf("epoch %d after %v", h.Epoch(), epochs)
				}
				epochs = append(epochs, h.Epoch())
				mu.Unlock()
				if !h.Valid() {
					t.Error("a fresh lease is over")
				}
				mu.Lock()
				holders--
				mu.Unlock()
				if err := h.Release(t.Context()); err != nil {
					t.Error(err)
				}
				if h.Valid() {
					t.Error("a lease that was released is held")
				}
			}
		})
	}
	members.Wait()
	if len(epochs) != 12 {
		t.Errorf("epochs %v", epochs)
	}
}

// expectRenewals waits for n renewals of a lease.
func expectRenewals(t *testing.T, kv jetstream.KeyValue, h *lease.Held, n int) {
	t.Helper()
	w, err := kv.Watch(t.Context(), "leader", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for range n {
		select {
		case <-w.Updates():
		case <-h.Lost():
			t.Fatal(h.Err())
		case <-time.After(watchdog):
			t.Fatal("no renewal")
		}
	}
}

// TestRenewals holds a lease for many times its length.
func TestRenewals(t *testing.T) {
	t.Parallel()
	kv, _ := newBucket(t)
	h := acquire(t, config(kv, "a", long))
	expectRenewals(t, kv, h, 6)
	if err := h.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestServerGone ends the server of a holder: the lease is over when its time is over, and not
// before. Nothing blocks.
func TestServerGone(t *testing.T) {
	t.Parallel()
	kv, s := newBucket(t)
	h := acquire(t, config(kv, "a", time.Second))
	s.Stop()
	select {
	case <-h.Lost():
	case <-time.After(watchdog):
		t.Fatal("the lease goes on without a server")
	}
	if !errors.Is(h.Err(), lease.ErrLost) || h.Valid() {
		t.Errorf("%v, valid %v", h.Err(), h.Valid())
	}
	s.Restart(t)
	next := acquire(t, config(kv, "b", time.Second))
	if next.Epoch() <= h.Epoch() {
		t.Errorf("epoch %d after epoch %d", next.Epoch(), h.Epoch())
	}
}

// A hand is a clock that a test sets.
type hand struct {
	mu   sync.Mutex
	base time.Time    // of the real clock
	zero lease.Moment // of this clock
	rate float64
}

func newHand(ahead time.Duration, rate float64) *hand {
	now := time.Now()
	return &hand{base: now, zero: lease.Moment{Steady: now, Wall: now.Add(ahead)}, rate: rate}
}

func (h *hand) now() lease.Moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	passed := time.Duration(float64(time.Since(h.base)) * h.rate)
	return lease.Moment{Steady: h.zero.Steady.Add(passed), Wall: h.zero.Wall.Add(passed)}
}

// jump moves both clocks, and set the one of the day alone.
func (h *hand) jump(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.zero.Steady = h.zero.Steady.Add(d)
	h.zero.Wall = h.zero.Wall.Add(d)
}

func (h *hand) set(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.zero.Wall = h.zero.Wall.Add(d)
}

// TestSkew has two members whose clocks differ by hours, and in their rates, take the lease from
// each other: the holder is cut off, which its pause of renewals simulates. The one is never valid
// when the other has taken it.
func TestSkew(t *testing.T) {
	for _, c := range []struct {
		name          string
		holder, taker time.Duration
		slow, fast    float64
	}{
		{name: "hours apart", holder: 5 * time.Hour, taker: -7 * time.Hour, slow: 1, fast: 1},
		{name: "the holder is behind", holder: -9 * time.Hour, taker: 3 * time.Hour, slow: 1,
			fast: 1},
		{name: "rates", slow: 0.95, fast: 1.05},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t, natstest.JetStream(t.TempDir()))
			other := bucketOf(t, s.ClientURL())
			cut := make(chan struct{})
			cfg := config(cutOff{bucketOf(t, s.ClientURL()), cut}, "a", 500*time.Millisecond)
			cfg.Clock = newHand(c.holder, c.slow).now
			h := acquire(t, cfg)
			close(cut)
			next := config(other, "b", 500*time.Millisecond)
			next.Clock = newHand(c.taker, c.fast).now
			g := acquire(t, next)
			if h.Valid() {
				t.Error("the lease was taken before it was over for its holder")
			}
			if g.Epoch() <= h.Epoch() {
				t.Errorf("epoch %d after epoch %d", g.Epoch(), h.Epoch())
			}
		})
	}
}

// A cutOff is a bucket whose server is out of reach for renewals as soon as cut is closed.
type cutOff struct {
	jetstream.KeyValue
	cut chan struct{}
}

func (c cutOff) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	select {
	case <-c.cut:
		<-ctx.Done()
		return 0, ctx.Err()
	default:
		return c.KeyValue.Update(ctx, key, value, rev)
	}
}

// TestStandstill has a holder stand still until its lease is over, which it says.
func TestStandstill(t *testing.T) {
	t.Parallel()
	kv, _ := newBucket(t)
	clock := newHand(0, 1)
	cfg := config(kv, "a", long)
	cfg.Clock = clock.now
	h := acquire(t, cfg)
	clock.jump(time.Hour)
	<-h.Lost()
	if err := h.Err(); !errors.Is(err, lease.ErrLost) || strings.Contains(err.Error(), "%!") {
		t.Errorf("error %v", err)
	}
}

// TestJumps sets the wall clock of a holder forward, as after the machine has slept: the lease is
// over at once. Set back, it changes nothing.
func TestJumps(t *testing.T) {
	t.Parallel()
	kv, _ := newBucket(t)
	clock := newHand(0, 1)
	cfg := config(kv, "a", time.Minute)
	cfg.Clock = clock.now
	h := acquire(t, cfg)
	if clock.set(-time.Hour); !h.Valid() {
		t.Error("a clock that was set back ends a lease")
	}
	if clock.set(2 * time.Hour); h.Valid() {
		t.Error("a lease of a minute is held an hour later")
	}
	cfg.Member, cfg.Key = "b", "another"
	h = acquire(t, cfg)
	clock.set(-time.Hour)
	if clock.jump(10 * time.Minute); h.Valid() {
		t.Error("a clock that was set back prolongs a lease")
	}
}

// TestJumpsOfCandidate has a candidate whose clock of the day is an hour further at each look. It
// does not take the lease of a holder that renews it.
func TestJumpsOfCandidate(t *testing.T) {
	t.Parallel()
	kv, s := newBucket(t)
	h := acquire(t, config(kv, "a", long))
	clock := newHand(0, 1)
	cfg := config(bucketOf(t, s.ClientURL()), "b", long)
	cfg.Clock = func() lease.Moment {
		clock.set(time.Hour)
		return clock.now()
	}
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan *lease.Held, 1)
	go func() {
		g, _ := lease.Acquire(ctx, cfg) // its error is that of ctx
		taken <- g
	}()
	expectRenewals(t, kv, h, 3)
	cancel()
	if g := <-taken; g != nil {
		t.Errorf("epoch %d began while the lease was held", g.Epoch())
	}
}

// A deaf bucket loses the answers to writes that it has made.
type deaf struct {
	jetstream.KeyValue
	lose func() bool
}

var errNoAnswer = errors.New("no answer")

func (d deaf) Create(ctx context.Context, key string, value []byte,
	opts ...jetstream.KVCreateOpt) (uint64, error) {
	n, err := d.KeyValue.Create(ctx, key, value, opts...)
	if d.lose() {
		return 0, errNoAnswer
	}
	return n, err
}

func (d deaf) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	n, err := d.KeyValue.Update(ctx, key, value, rev)
	if d.lose() {
		return 0, errNoAnswer
	}
	return n, err
}

// TestLostAnswers loses every second answer: the holder finds that it has written, and goes on.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	kv, _ := newBucket(t)
	var mu sync.Mutex
	n := 0
	h := acquire(t, config(deaf{kv, func() bool {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n%2 == 1
	}}, "a", long))
	expectRenewals(t, kv, h, 8)
	if err := h.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForeignKey finds something else in the key.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	kv, _ := newBucket(t)
	if _, err := kv.PutString(t.Context(), "leader", "hello"); err != nil {
		t.Fatal(err)
	}
	cfg := config(kv, "a", time.Second)
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg.Trouble = func(err error) { cancel(err) }
	_, err := lease.Acquire(ctx, cfg)
	if err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
