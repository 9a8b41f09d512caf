package natsipc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A GroupDialConfig configures [DialGroup]. The zero value is valid.
type GroupDialConfig struct {
	// Prefix is the first part of the group's subjects: [DefaultPrefix] by default.
	Prefix string
	// Patience limits the time that a call waits while there is no leader, in addition to the limit
	// of its context; 10 s when 0.
	Patience time.Duration
	// Options apply to every connection to a leader.
	Options []ipc.DialOption
}

// A GroupClient is an [ipc.Caller] and an [ipc.Sender] that follows the leader of a group over
// machines. It is safe for concurrent use.
type GroupClient struct {
	nc       *nats.Conn
	group    string
	subjects groupSubjects
	cfg      GroupDialConfig
	id       string // of this client, for the members
	seq      atomic.Uint64
	told     *nats.Subscription
	answered *nats.Subscription
	inbox    string
	begun    time.Time
	asked    atomic.Int64 // when, in nanoseconds since begun
	resent   atomic.Uint64

	ctx  context.Context // ends at Close
	stop context.CancelCauseFunc

	mu      sync.Mutex
	leader  *leader // nil while there is none
	last    uint64  // the latest epoch
	ended   uint64  // the latest that has ended
	changed chan struct{}
	refused error // why the last leader could not be dialled
	tasks   sync.WaitGroup
	closed  bool
}

// A leader is one that a client knows.
type leader struct {
	announcement
	conn *Conn
	ctx  context.Context // ends a while after the reign
	lose context.CancelCauseFunc
}

// Epoch implements [ipc.EpochSource].
func (l *leader) Epoch() uint64 { return l.announcement.Epoch }

// DialGroup returns a client of a group over machines. It does not wait for the group; calls and
// [GroupClient.WaitLeader] do. The caller must close the client. nc must stay open until then, and
// belongs to the caller. It must have been made as for [Dial].
//
// A client needs no JetStream: it subscribes to one subject of the group, asks on another one, and
// calls the channel of the leader.
func DialGroup(ctx context.Context, nc *nats.Conn, group string,
	cfg GroupDialConfig) (*GroupClient, error) {
	if group == "" {
		return nil, invalid("DialGroup needs the name of a group")
	}
	if err := made(nc); err != nil {
		return nil, at("dial group "+group, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial group %s: %w", group, err)
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	set := take(cfg.Options)
	if err := errors.Join(checkTokens("prefix", cfg.Prefix), set.answered(nc),
		noServices(cfg.Options)); err != nil {
		return nil, fmt.Errorf("dial group %s: %w", group, err)
	}
	if cfg.Patience == 0 {
		cfg.Patience = ipc.DefaultPatience
	}
	c := &GroupClient{nc: nc, group: group, subjects: groupSubjectsOf(cfg.Prefix, group), cfg: cfg,
		id: nuid.Next(), inbox: nc.NewInbox(), changed: make(chan struct{}), begun: time.Now()}
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	var err error
	if c.told, err = nc.Subscribe(c.subjects.reign, c.hear); err != nil {
		return nil, fmt.Errorf("dial group %s: %w", group, err)
	}
	if c.answered, err = nc.Subscribe(c.inbox, c.hear); err != nil {
		return nil, errors.Join(fmt.Errorf("dial group %s: %w", group, err), c.Close())
	}
	c.ask()
	return c, nil
}

// ask asks for the leader, unless that was done just now.
func (c *GroupClient) ask() {
	now := int64(time.Since(c.begun)) // by the clock that nobody sets back
	if last := c.asked.Load(); last != 0 && now-last < int64(50*time.Millisecond) ||
		!c.asked.CompareAndSwap(last, now) {
		return
	}
	_ = c.nc.PublishRequest(c.subjects.who, c.inbox, nil) // those who wait ask again
}

// hear takes in what a member says.
func (c *GroupClient) hear(msg *nats.Msg) {
	var a announcement
	if json.Unmarshal(msg.Data, &a) != nil || a.Epoch == 0 {
		return // nobody answers, or no member of this version
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.leader
	switch {
	case c.closed, a.Epoch < c.last, a.Epoch == c.ended:
	case a.Ended:
		c.last, c.ended = a.Epoch, a.Epoch
		if known != nil && known.announcement.Epoch <= a.Epoch {
			c.forget(known, fmt.Errorf("the reign of %s is over", known.Member))
		}
	case known != nil && known.announcement.Epoch == a.Epoch:
	case known == nil || known.announcement.Epoch < a.Epoch:
		if known != nil {
			c.forget(known, fmt.Errorf("%s has taken the place of %s", a.Member, known.Member))
		}
		c.last = a.Epoch
		l := &leader{announcement: a}
		l.ctx, l.lose = context.WithCancelCause(c.ctx)
		c.leader = l
		c.tasks.Go(func() { c.connect(l) })
	}
}

// farewell is the time that calls in flight have when their leader is not the leader any more. Its
// answers, and those of NATS, say more of their outcomes than its loss does.
const farewell = time.Second

// forget ends the use of a leader. The caller must hold c.mu.
func (c *GroupClient) forget(l *leader, why error) {
	c.tasks.Go(func() {
		sys.Within(farewell, l.ctx.Done())
		l.lose(why)
	})
	if c.leader == l {
		c.leader = nil
	}
	c.broadcast()
}

// broadcast wakes those who wait. The caller must hold c.mu.
func (c *GroupClient) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// connect makes the connection to a leader, and closes it at the end of the reign.
func (c *GroupClient) connect(l *leader) {
	for l.ctx.Err() == nil {
		opts := append([]ipc.DialOption{WithPrefix(c.subjects.members), ipc.WithEpoch(l)},
			c.cfg.Options...)
		conn, err := Dial(l.ctx, c.nc, l.Channel, opts...)
		c.mu.Lock()
		c.refused = err
		if err == nil {
			l.conn = conn
		}
		c.broadcast()
		c.mu.Unlock()
		if err == nil {
			<-l.ctx.Done()
			_ = conn.Close() // those who have calls there know why
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-l.ctx.Done():
		}
	}
}

// Close ends the client. Calls in flight fail, with an outcome that says what is known of their
// execution. Close blocks until the client's goroutines have ended. It may be called again.
func (c *GroupClient) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop(errGroupClientClosed)
	var errs []error
	for _, s := range []*nats.Subscription{c.told, c.answered} {
		if s != nil && s.IsValid() && !c.nc.IsClosed() {
			errs = append(errs, s.Unsubscribe())
		}
	}
	c.tasks.Wait()
	return errors.Join(errs...)
}

var errGroupClientClosed = errors.New("the client was closed by this side")

// A groupCall is a call or message, with its attempts so far and its waits for leaders.
type groupCall struct {
	ipc.Attempts
	op      string
	pause   time.Duration // before the same leader is asked again
	waited  time.Duration // for leaders, in all
	refused *leader       // has refused the call, and is not asked again at once
}

// Invoke implements [ipc.Caller].
//
// While there is no leader, Invoke waits for one, for at most [GroupDialConfig.Patience]. If the
// leader is lost, or refuses the call because its reign is over, Invoke sends the call again with
// the same sequence number, if the call was certainly not executed, or is idempotent or read_only.
// Any other call that was in flight returns an error with the outcome [ipc.OutcomeUnknown]. So does
// an idempotent call when a second leader is lost that had taken it. The rules are those of
// [ipc.Attempts]. A change that is sent again is executed once, if the group has a State.
func (c *GroupClient) Invoke(ctx context.Context, call ipc.Call) error {
	m := call.Method
	if call.Seq == 0 {
		call.Seq = c.seq.Add(1)
	}
	ctx = ipc.WithMetadata(ctx, clientKey, c.id)
	a := groupCall{op: "call " + m.Protocol.Name + "/" + m.Name}
	return c.attempt(ctx, &a, attempt{
		once: func(ctx context.Context, conn *Conn) error {
			return conn.Invoke(ctx, a.Next(call))
		},
		again: func(err error, l *leader) bool { return a.Failed(err, m, l.Member) },
		err:   func(err error) error { return a.Err(err, m) },
	})
}

// Send implements [ipc.Sender]. While there is no leader it waits for one, as Invoke does. It never
// sends a message twice.
func (c *GroupClient) Send(ctx context.Context, post ipc.Post) error {
	if post.Seq == 0 {
		post.Seq = c.seq.Add(1)
	}
	a := groupCall{op: "send " + post.Message.Protocol.Name + "/" + post.Message.Name}
	return c.attempt(ctx, &a, attempt{
		once:  func(ctx context.Context, conn *Conn) error { return conn.Send(ctx, post) },
		again: func(err error, _ *leader) bool { return a.MessageFailed(err) },
		err:   func(err error) error { return err },
	})
}

// An attempt is what is done once, and what is said of its failure.
type attempt struct {
	once  func(context.Context, *Conn) error
	again func(error, *leader) bool // another one may be made
	err   func(error) error         // of the whole
}

// attempt makes a call or sends a message, at one leader after the other if leaders are lost.
func (c *GroupClient) attempt(ctx context.Context, a *groupCall, what attempt) error {
	for {
		l, missing := c.await(ctx, a)
		if missing != nil {
			return missing.at(a.op, a.Outcome())
		}
		once, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
		err := what.once(once, l.conn)
		stop()
		cancel(nil)
		if err == nil {
			return nil
		}
		err = c.explain(ctx, l, a.op, err)
		if !what.again(err, l) {
			return what.err(err)
		}
		a.refused = l
		a.pause = min(max(2*a.pause, 5*time.Millisecond), time.Second)
		c.resent.Add(1)
	}
}

// explain returns the error of an attempt, of which the loss of the leader may be the cause.
func (c *GroupClient) explain(ctx context.Context, l *leader, op string, err error) error {
	if ctx.Err() != nil || l.ctx.Err() == nil || ipc.CodeOf(err) != ipc.CodeCanceled ||
		ipc.OutcomeOf(err) == ipc.Executed {
		return err
	}
	return &ipc.Error{Code: ipc.CodeUnavailable, Op: op, Outcome: ipc.OutcomeOf(err),
		Msg: fmt.Sprintf("the leader %s was lost", l.Member), Err: context.Cause(l.ctx)}
}

// A missing is why there is no leader.
type missing struct {
	code ipc.Code
	err  error
}

// at returns the error of an operation.
func (m *missing) at(op string, o ipc.Outcome) error {
	return &ipc.Error{Code: m.code, Op: op, Outcome: o, Err: m.err}
}

// await blocks until there is a connection to a leader.
func (c *GroupClient) await(ctx context.Context, a *groupCall) (*leader, *missing) {
	limit := sys.NewPatience(c.cfg.Patience - a.waited)
	defer func() { a.waited += limit.Spent() }()
	rested := a.pause == 0
	pause := time.NewTimer(sys.Jitter(a.pause))
	defer pause.Stop()
	for {
		// A leader may have come while this process stood still, so what follows is a look also
		// when no time is left.
		left := limit.Next()
		c.mu.Lock()
		l, changed := c.leader, c.changed
		here := l != nil && l.conn != nil
		absent := c.absence()
		c.mu.Unlock()
		if here && (rested || l != a.refused) {
			return l, nil
		}
		if left == 0 {
			if tried := a.Tried(c.cfg.Patience); here && tried != nil {
				return nil, &missing{ipc.CodeOf(tried), tried}
			}
			return nil, &missing{ipc.CodeUnavailable, fmt.Errorf("waited %v: %w", c.cfg.Patience,
				absent)}
		}
		if !here {
			c.ask()
		}
		select {
		case <-changed:
		case <-time.After(min(left, 100*time.Millisecond)): // to ask again
		case <-pause.C:
			rested = true
			c.ask()
		case <-ctx.Done():
			return nil, &missing{ipc.CodeOf(ctx.Err()), fmt.Errorf("%w, and there is no leader: %w",
				context.Cause(ctx), absent)}
		case <-c.ctx.Done():
			return nil, &missing{ipc.CodeUnavailable, errGroupClientClosed}
		}
	}
}

// absence returns why there is no leader. The caller must hold c.mu.
func (c *GroupClient) absence() error {
	switch {
	case !c.nc.IsConnected():
		return fmt.Errorf("there is no connection to a NATS server: %w", nats.ErrDisconnected)
	case c.leader != nil && c.refused != nil:
		return fmt.Errorf("no connection to %s: %w", c.leader.Member, c.refused)
	case c.leader != nil:
		return fmt.Errorf("no connection to %s yet", c.leader.Member)
	case c.last != 0:
		return fmt.Errorf("group %s has no leader after epoch %d", c.group, c.last)
	}
	return fmt.Errorf("no member says that it leads group %s; start one, and check that its "+
		"servers have a quorum", c.group)
}

// A Leader describes the leader of a group.
type Leader struct {
	Member string
	Epoch  uint64
}

// WaitLeader blocks until there is a connection to a leader, and describes it. It returns an error
// when ctx is done, after [GroupDialConfig.Patience], or after Close.
func (c *GroupClient) WaitLeader(ctx context.Context) (Leader, error) {
	a := groupCall{op: "wait for a leader"}
	l, err := c.await(ctx, &a)
	if err != nil {
		return Leader{}, err.at(a.op, ipc.NotSent)
	}
	return Leader{l.Member, l.announcement.Epoch}, nil
}
