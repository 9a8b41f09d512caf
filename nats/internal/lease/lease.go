// Package lease elects the leader of a group over machines: the member that holds a key of a
// replicated JetStream bucket.
//
// A member takes the key with a conditional write, and renews it with further ones. The revision of
// the write that took the key is the epoch. It only grows, because revisions grow within a bucket.
//
// # Clocks
//
// Nothing here compares clocks of two machines, and no time is taken from a server. The bucket has
// no TTL: servers expire messages by their own clocks, and a message that one of them has stamped
// may be expired by another.
//
//   - A holder counts its lease from the moment before it sent the renewal that was confirmed last.
//     It counts by its monotonic clock and by its wall clock, and the longer time decides, because
//     the monotonic clock of Linux stands still while a machine sleeps.
//   - A candidate takes the key of another holder when it has seen the same revision for the lease
//     that the key states and a quarter more, by its monotonic clock, counted from when it first
//     saw that revision. The holder has sent it before. The write names the revision, so it fails
//     if the holder has renewed the key meanwhile.
//
// So two members hold the key at one time only if their clocks run at rates that differ by more
// than a quarter. A leader must not rely on that for what it writes: see package changelog.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Config says for which key a member is a candidate, and what it writes there.
type Config struct {
	Bucket jetstream.KeyValue
	Key    string
	// Member and Channel are the member's name, and where clients reach it.
	Member, Channel string
	// Lease is the time for which the key belongs to its holder after a renewal was sent.
	Lease time.Duration
	// Trouble, if not nil, is called with each error that delays the election.
	Trouble func(error)
	// Clock takes the place of the clocks of the machine, if not nil.
	Clock func() Moment
}

// A claim is the value of the key.
type claim struct {
	Member  string `json:"member"`
	Channel string `json:"channel"`
	// Epoch is missing in the first revision of a claim, whose number it is.
	Epoch uint64 `json:"epoch,omitempty"`
	// Claim tells this claim from all others, and Renewal counts its writes.
	Claim   string        `json:"claim"`
	Renewal uint64        `json:"renewal"`
	Lease   time.Duration `json:"lease_ns"`
}

// ErrLost is the cause of the end of a lease that was not released.
var ErrLost = errors.New("the lease is lost")

// drift is the part of a lease for which a candidate waits in addition: 1/drift.
const drift = 4

// A Moment is what the clocks of a machine show. Steady is for the time between two moments, and
// may stand still while the machine sleeps. Wall is the time of day, and may jump.
type Moment struct{ Steady, Wall time.Time }

func (cfg *Config) now() Moment {
	if cfg.Clock != nil {
		return cfg.Clock()
	}
	now := time.Now()
	return Moment{Steady: now, Wall: now.Round(0)}
}

func (cfg *Config) trouble(err error) {
	if cfg.Trouble != nil && err != nil {
		cfg.Trouble(err)
	}
}

// Acquire blocks until the member holds the key, or ctx ends. Errors of the bucket delay it.
func Acquire(ctx context.Context, cfg Config) (*Held, error) {
	wake := make(chan struct{}, 1)
	watched, stop := context.WithCancel(ctx)
	defer stop()
	cfg.watch(watched, wake)
	c := candidate{cfg: &cfg}
	for {
		h, err := c.try(ctx)
		if h != nil {
			return h, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		cfg.trouble(err)
		pause := time.NewTimer(sys.Jitter(cfg.Lease / 5))
		select {
		case <-wake:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// watch puts an element into wake after a change of the key, until ctx ends. Without it, changes
// are noticed a little later.
func (cfg *Config) watch(ctx context.Context, wake chan<- struct{}) {
	w, err := cfg.Bucket.Watch(ctx, cfg.Key, jetstream.UpdatesOnly())
	if err != nil {
		cfg.trouble(err)
		return
	}
	go func() {
		defer func() { _ = w.Stop() }() // of no consequence: the subscription ends with ctx
		for {
			select {
			case _, ok := <-w.Updates():
				if !ok {
					return
				}
				select {
				case wake <- struct{}{}:
				default:
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

// A candidate has seen a revision of the key since a moment.
type candidate struct {
	cfg      *Config
	revision uint64 // 0: none
	since    time.Time
}

// try takes the key if it belongs to no member any more. It returns nil otherwise.
func (c *candidate) try(ctx context.Context) (*Held, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Lease)
	defer cancel()
	held, revision, err := c.cfg.read(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case held == nil: // released, or never taken
		c.revision = 0
		return c.take(ctx, 0)
	case revision != c.revision:
		c.revision, c.since = revision, c.cfg.now().Steady
		return nil, nil
	case c.cfg.now().Steady.Sub(c.since) < held.Lease+held.Lease/drift:
		return nil, nil
	}
	return c.take(ctx, revision)
}

// read returns the claim in the key and its revision. The claim is nil if there is none.
func (cfg *Config) read(ctx context.Context) (*claim, uint64, error) {
	e, err := cfg.Bucket.Get(ctx, cfg.Key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the key %s of bucket %s: %w", cfg.Key, cfg.Bucket.Bucket(),
			err)
	}
	held := new(claim)
	if err := json.Unmarshal(e.Value(), held); err != nil || held.Claim == "" || held.Lease <= 0 {
		return nil, 0, fmt.Errorf("the key %s of bucket %s is not a lease of ipcgen; delete it, "+
			"or give the group another name", cfg.Key, cfg.Bucket.Bucket())
	}
	return held, e.Revision(), nil
}

// take writes a new claim over a revision, or creates the key.
func (c *candidate) take(ctx context.Context, revision uint64) (*Held, error) {
	cfg := c.cfg
	h := &Held{cfg: *cfg, sent: make(map[uint64]time.Duration), lost: make(chan struct{}),
		stopped: make(chan struct{}), base: cfg.now(), claim: claim{Member: cfg.Member,
			Channel: cfg.Channel, Claim: nuid.Next(), Lease: cfg.Lease}}
	h.sent[0] = 0
	value, err := json.Marshal(&h.claim)
	if err != nil {
		return nil, err
	}
	var got uint64
	if revision == 0 {
		got, err = cfg.Bucket.Create(ctx, cfg.Key, value)
	} else {
		got, err = cfg.Bucket.Update(ctx, cfg.Key, value, revision)
	}
	if err != nil {
		c.revision = 0 // what was seen is old
		// The write may be there although its answer is not.
		now, at, readErr := cfg.read(ctx)
		if readErr != nil || now == nil || now.Claim != h.claim.Claim {
			if lostRace(err) {
				return nil, nil
			}
			return nil, fmt.Errorf("take the key %s of bucket %s: %w", cfg.Key,
				cfg.Bucket.Bucket(), err)
		}
		got = at
	}
	h.revision, h.claim.Epoch = got, got
	h.until.Store(int64(cfg.Lease))
	if !h.Valid() {
		return nil, fmt.Errorf("taking the key %s took longer than its lease of %v", cfg.Key,
			cfg.Lease)
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	go h.keep()
	return h, nil
}

// lostRace reports whether another member has written first.
func lostRace(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.Is(err, jetstream.ErrKeyRevisionMismatch)
}

// A Held is the key in the hands of this member.
type Held struct {
	cfg     Config
	claim   claim
	base    Moment                   // of the durations below
	sent    map[uint64]time.Duration // when the renewals were sent of which one is the last
	until   atomic.Int64             // the end of the lease, a duration
	ctx     context.Context
	stop    context.CancelFunc
	stopped chan struct{} // closed at the end of keep

	revision uint64 // the last that is known; owned by keep

	lose sync.Once
	lost chan struct{}
	why  error // valid when lost is closed
}

// Epoch returns the revision at which the member has taken the key.
func (h *Held) Epoch() uint64 { return h.claim.Epoch }

// Valid reports whether the key belongs to the member at this moment.
func (h *Held) Valid() bool {
	select {
	case <-h.lost:
		return false
	default:
		return h.elapsed() < time.Duration(h.until.Load())
	}
}

// Lost returns a channel that is closed at the end of the lease, and not before.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Err says why the lease has ended. It is valid when Lost is closed.
func (h *Held) Err() error { return h.why }

// elapsed returns the time since base, by the clock that says more.
func (h *Held) elapsed() time.Duration {
	now := h.cfg.now()
	return max(now.Steady.Sub(h.base.Steady), now.Wall.Sub(h.base.Wall))
}

// Release ends the lease and deletes the key, so that the next holder need not wait. An error says
// that the key stays until the lease is over.
func (h *Held) Release(ctx context.Context) error {
	h.end(nil)
	h.stop()
	<-h.stopped
	err := h.cfg.Bucket.Delete(ctx, h.cfg.Key, jetstream.LastRevision(h.revision))
	if err != nil { // a renewal may have become a revision without an answer
		if now, at, again := h.cfg.read(ctx); again == nil && now != nil &&
			now.Claim == h.claim.Claim {
			err = h.cfg.Bucket.Delete(ctx, h.cfg.Key, jetstream.LastRevision(at))
		}
	}
	if err != nil {
		return fmt.Errorf("release the key %s of bucket %s: %w", h.cfg.Key, h.cfg.Bucket.Bucket(),
			err)
	}
	return nil
}

func (h *Held) end(why error) {
	h.lose.Do(func() {
		h.why = why
		close(h.lost)
	})
}

// keep renews the lease until it is lost or released.
func (h *Held) keep() {
	defer close(h.stopped)
	for {
		select {
		case <-time.After(h.cfg.Lease / 3):
		case <-h.ctx.Done():
			return
		}
		if err := h.renew(); err != nil {
			h.end(err)
			return
		}
	}
}

// renew writes the claim again, until that succeeds or the lease is over.
func (h *Held) renew() error {
	var last error
	for h.ctx.Err() == nil {
		sent := h.elapsed()
		left := time.Duration(h.until.Load()) - sent
		if left <= 0 && last == nil {
			return fmt.Errorf("%w: this process stood still for the %v of it", ErrLost, h.cfg.Lease)
		}
		if left <= 0 {
			return fmt.Errorf("%w: it could not be renewed for %v: %w", ErrLost, h.cfg.Lease, last)
		}
		h.claim.Renewal++
		value, err := json.Marshal(&h.claim)
		if err != nil {
			return err
		}
		h.sent[h.claim.Renewal] = sent
		// A renewal that is on its way is not cut off by Release, which must know the revision.
		ctx, cancel := context.WithTimeout(context.Background(), min(left, h.cfg.Lease/3))
		got, err := h.cfg.Bucket.Update(ctx, h.cfg.Key, value, h.revision)
		cancel()
		if err == nil {
			h.confirmed(h.claim.Renewal, got)
			return nil
		}
		last = err
		if lostRace(err) {
			if err := h.compare(); err != nil {
				return err
			}
		} else {
			h.cfg.trouble(fmt.Errorf("renew the key %s: %w", h.cfg.Key, err))
		}
		select {
		case <-time.After(h.cfg.Lease / 30):
		case <-h.ctx.Done():
		}
	}
	return nil
}

// confirmed takes in that a renewal has become a revision.
func (h *Held) confirmed(renewal, revision uint64) {
	h.revision = revision
	if end := h.sent[renewal] + h.cfg.Lease; int64(end) > h.until.Load() {
		h.until.Store(int64(end))
	}
	for n := range h.sent {
		if n < renewal {
			delete(h.sent, n)
		}
	}
}

// compare reads the key after a conditional write has failed: an earlier one of this member may
// have succeeded without an answer.
func (h *Held) compare() error {
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.Lease/3)
	defer cancel()
	now, at, err := h.cfg.read(ctx)
	switch {
	case err != nil:
		h.cfg.trouble(err)
		return nil
	case now == nil:
		return fmt.Errorf("%w: the key %s of bucket %s was deleted", ErrLost, h.cfg.Key,
			h.cfg.Bucket.Bucket())
	case now.Claim != h.claim.Claim:
		return fmt.Errorf("%w: %s has taken it", ErrLost, now.Member)
	}
	if _, known := h.sent[now.Renewal]; known {
		h.confirmed(now.Renewal, at)
	}
	return nil
}
