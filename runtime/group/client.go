package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// DialConfig configures [Dial]. The zero value is valid.
type DialConfig struct {
	// Domain is the domain of the group; "" is the default domain.
	Domain string
	// Patience limits the time that a call waits while there is no primary, in addition to the
	// limit of its context; 10 s when 0.
	Patience time.Duration
	// Options apply to every connection to a replica.
	Options []ipc.DialOption
}

// A Client is an [ipc.Caller] and an [ipc.Sender] that follows the primary of a group. It keeps a
// connection to every replica, so that a call after a promotion uses a connection that exists
// already. It is safe for concurrent use.
type Client struct {
	service  string
	patience time.Duration
	options  []ipc.DialOption
	dir      *domain.Dir
	reg      *registry.Registry

	seq     atomic.Uint64
	current atomic.Pointer[link] // to the primary; nil while there is none

	ctx    context.Context // ends at Close
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup

	mu         sync.Mutex
	page       *page // nil while there is no group
	reign      reign
	links      map[string]*link      // the connected replicas, by name
	connectors map[string]*connector // of the registered replicas, by name
	trouble    error                 // the last failure to connect
	changed    chan struct{}         // closed at the next change of a field above
	version    atomic.Uint64         // counts these changes; written under mu
}

// A link is a connection to a replica. It is the ipc.EpochSource of the requests on that
// connection: their epoch is that of the last reign in which the replica was the primary.
type link struct {
	rec   registry.Record
	conn  *ipc.Conn
	epoch atomic.Uint64
}

// Epoch implements ipc.EpochSource.
func (l *link) Epoch() uint64 { return l.epoch.Load() }

// Dial returns a client of the group called service. It does not wait for the group; calls and
// [Client.WaitConnected] do. ctx has an effect only if it is done already. Dial returns an error if
// the name, the domain or the registry of the domain is not usable. The caller must close the
// Client.
func Dial(ctx context.Context, service string, cfg DialConfig) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial group %s: %w", service, err)
	}
	if err := domain.CheckName("service", service); err != nil {
		return nil, fmt.Errorf("dial group: %w", err)
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	dir, err := domain.Open(cfg.Domain)
	if err != nil {
		return nil, fmt.Errorf("dial group %s: %w", service, err)
	}
	c := &Client{
		service: service, patience: cfg.Patience, options: cfg.Options, dir: dir,
		reign: reign{primary: none}, links: make(map[string]*link),
		connectors: make(map[string]*connector),
		changed:    make(chan struct{}),
	}
	if err := c.open(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("dial group %s: %w", service, sys.ExplainOf(err))
	}
	return c, nil
}

// errNilClient is the error of the methods of a nil Client: the caller has ignored the error of
// Dial.
var errNilClient = &ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotSent,
	Msg: "the *group.Client is nil; use the one that Dial returned, after a look at its error"}

func (c *Client) open() (err error) {
	if c.reg, err = registry.Open(c.dir.Path(), nil); err != nil {
		return err
	}
	if err := c.dir.Root().Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		c.reg.Close()
		return err
	}
	pages, err := sys.WatchDir(filepath.Join(c.dir.Path(), folder))
	if err != nil {
		c.reg.Close()
		return err
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.tasks.Go(func() { c.watchPage(pages) })
	c.tasks.Go(c.watchReplicas)
	return nil
}

// Close ends the client. Calls in flight fail, with an outcome that says what is known of their
// execution. Close blocks until the client's goroutines have ended. It may be called again.
func (c *Client) Close() error {
	c.cancel(ErrClosed)
	c.tasks.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.page != nil {
		c.page.close()
		c.page = nil
	}
	return sys.JoinErrors(c.reg.Close(), c.dir.Close())
}

// watchPage follows the changes of the reign.
func (c *Client) watchPage(pages *sys.DirWatch) {
	defer pages.Close()
	stop := context.AfterFunc(c.ctx, func() { pages.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		c.refresh()
		if pages.Next(func(string, bool) {}) != nil {
			return
		}
	}
}

// watchReplicas follows the changes of the registry, until the client ends.
func (c *Client) watchReplicas() {
	for c.ctx.Err() == nil {
		err := c.watchRegistry()
		c.mu.Lock()
		c.trouble = err
		c.settle()
		c.mu.Unlock()
		select {
		case <-time.After(sys.CheckPeriod):
		case <-c.ctx.Done():
		}
	}
}

func (c *Client) watchRegistry() error {
	for ev, err := range c.reg.Watch(c.ctx, c.service) {
		if err != nil {
			return err
		}
		if ev.Record.Incarnation == 0 || ev.Record.Service != c.service {
			continue // not the group's
		}
		switch ev.Kind {
		case registry.Appeared:
			c.connect(ev.Record)
		case registry.Disappeared:
			c.disconnect(ev.Record)
		}
	}
	return nil
}

// refresh loads the reign from the page, or from a new page if the present one has lost its name.
func (c *Client) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	if c.page == nil || !c.page.named(c.service) {
		c.findPage()
	}
	if c.page == nil {
		return
	}
	if r := c.page.reign(); r != c.reign {
		c.reign = r
		c.settle()
	}
}

// findPage opens the page that has the group's name now. While there is no such page, or no process
// supervises it, the present page is kept: its supervisor may be about to create another one. The
// caller must hold c.mu.
func (c *Client) findPage() {
	dir, own := c.dir, false
	if !dir.InPlace() {
		var err error
		if dir, err = dir.Again(); err != nil {
			return
		}
		own = true
	}
	p, err := openPage(dir, c.service)
	if err != nil {
		if own {
			dir.Close()
		}
		return
	}
	p.own = own
	if c.page != nil {
		if there, err := p.supervised(); err != nil || !there {
			p.close()
			return
		}
		c.page.close()
	}
	c.page = p
}

// settle chooses the current link anew, and wakes the calls that wait for it. The caller must hold
// c.mu.
func (c *Client) settle() {
	var l *link
	if c.reign.primary != none {
		l = c.links[replicaName(c.service, c.reign.primary)]
	}
	if l != nil {
		l.epoch.Store(c.reign.epoch)
	}
	old := c.current.Swap(l)
	if old != nil && old != l && c.reign.primary != none &&
		old.rec.Name != replicaName(c.service, c.reign.primary) {
		// Another replica is the primary now. The old one refuses calls that it has not taken yet,
		// and does not answer those that it has taken. So no call has to wait until the old
		// connection reports its end.
		c.tasks.Go(func() { old.conn.Close() })
	}
	c.version.Add(1)
	close(c.changed)
	c.changed = make(chan struct{})
}

// A connector maintains the link to one registered replica.
type connector struct {
	incarnation uint64
	cancel      context.CancelFunc
}

func (c *Client) connect(rec registry.Record) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	old := c.connectors[rec.Name]
	if old != nil && old.incarnation == rec.Incarnation { // reported again, by a new watch
		c.mu.Unlock()
		cancel()
		return
	}
	if old != nil {
		old.cancel()
	}
	c.connectors[rec.Name] = &connector{rec.Incarnation, cancel}
	c.mu.Unlock()
	c.tasks.Go(func() {
		defer cancel()
		for delay := time.Millisecond; ctx.Err() == nil; delay = min(2*delay, time.Second) {
			if c.hold(ctx, rec) {
				delay = time.Millisecond
			}
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
		}
	})
}

func (c *Client) disconnect(rec registry.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.connectors[rec.Name]; k != nil && k.incarnation == rec.Incarnation {
		k.cancel()
		delete(c.connectors, rec.Name)
	}
}

// hold connects to a replica, and keeps the link until the connection ends. A replica that gives up
// its registration may still answer calls that it has taken, so only the end of the client closes a
// connection.
func (c *Client) hold(ctx context.Context, rec registry.Record) (connected bool) {
	l := &link{rec: rec}
	opts := append([]ipc.DialOption{ipc.WithDomain(c.dir.Path()), ipc.WithReplyChannel(rec.Reply),
		ipc.WithEpoch(l)}, c.options...)
	conn, err := ipc.Dial(ctx, rec.Control, opts...)
	c.mu.Lock()
	if err != nil {
		c.trouble = err
		c.mu.Unlock()
		return false
	}
	l.conn = conn
	c.links[rec.Name] = l
	c.settle()
	c.mu.Unlock()
	select {
	case <-conn.Done():
	case <-c.ctx.Done():
		conn.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links[rec.Name] == l {
		delete(c.links, rec.Name)
	}
	c.settle()
	return true
}

// Invoke implements [ipc.Caller]. It blocks until a reply arrives or the call fails.
//
// While there is no primary, Invoke waits for one, for at most [DialConfig.Patience]. If the
// primary is lost, Invoke sends the call again with the same sequence number, if the call was
// certainly not executed, or is idempotent. Any other call that was in flight returns an error with
// the outcome [ipc.OutcomeUnknown]. So does an idempotent call when a second primary is lost that
// had taken it, because the call itself may be the cause.
func (c *Client) Invoke(ctx context.Context, call ipc.Call) error {
	if c == nil {
		return errNilClient
	}
	if call.Seq == 0 {
		call.Seq = c.seq.Add(1)
	}
	version := c.version.Load() // before current is loaded
	l, err := c.primary(ctx, 0)
	var lost []string // primaries that had taken the call
	for outcome := ipc.NotSent; ; {
		if err != nil {
			return unreachable(ctx, err, outcome, callName(call.Method))
		}
		err = l.conn.Invoke(ctx, call)
		if err == nil {
			return nil
		}
		outcome = combine(outcome, ipc.OutcomeOf(err))
		if ipc.CodeOf(err) == ipc.CodeUnavailable && ipc.OutcomeOf(err) == ipc.OutcomeUnknown {
			lost = append(lost, fmt.Sprintf("%s (pid %d)", l.rec.Name, l.rec.PID))
		}
		if !again(err, call.Method) || len(lost) == mostLost {
			return lostTo(call.Method, withOutcome(err, outcome), lost)
		}
		c.refresh()
		after := version
		version = c.version.Load()
		l, err = c.primary(ctx, after)
	}
}

// callName returns the Op of the error of a call.
func callName(m *ipc.MethodInfo) string { return "call " + m.Protocol.Name + "/" + m.Name }

// mostLost is the number of primaries that may be lost to one call before the call fails. The limit
// holds for every service; the quarantine of a group covers callers that send the request once
// more.
const mostLost = 2

// lostTo adds to the error of a call the primaries that were lost while they had it, if there are
// several.
func lostTo(m *ipc.MethodInfo, err error, lost []string) error {
	if len(lost) < 2 {
		return err
	}
	return &ipc.Error{Code: ipc.CodeOf(err), Op: callName(m), Outcome: ipc.OutcomeOf(err), Err: err,
		Msg: fmt.Sprintf("%d primaries were lost while they had this call, which may be what "+
			"ends them: %s", len(lost), strings.Join(lost, ", "))}
}

// combine returns the outcome of a call that was sent again, from the outcome of the earlier
// attempts and that of the last one.
func combine(before, last ipc.Outcome) ipc.Outcome {
	switch {
	case last == ipc.Executed:
		return last
	case before == ipc.OutcomeUnknown, last == ipc.OutcomeUnknown:
		return ipc.OutcomeUnknown // an earlier attempt may have been executed
	}
	return max(before, last) // NotExecuted rather than NotSent
}

// withOutcome returns err, the error of the last attempt, with the outcome of all attempts.
func withOutcome(err error, o ipc.Outcome) error {
	if ipc.OutcomeOf(err) == o {
		return err
	}
	if e, ok := err.(*ipc.Error); ok {
		all := *e
		all.Outcome = o
		return &all
	}
	return &ipc.Error{Code: ipc.CodeOf(err), Outcome: o, Err: err}
}

// again reports whether a call that failed with err may be sent again.
func again(err error, m *ipc.MethodInfo) bool {
	if code := ipc.CodeOf(err); code != ipc.CodeUnavailable && code != ipc.CodeFenced {
		return false
	}
	switch ipc.OutcomeOf(err) {
	case ipc.NotSent, ipc.NotExecuted:
		return true
	case ipc.OutcomeUnknown:
		return m.Idempotent || m.ReadOnly
	}
	return false // executed: the error is the answer of the handler
}

// unreachable returns the error of an operation for which there was no primary in time.
func unreachable(ctx context.Context, err error, outcome ipc.Outcome, op string) error {
	code := ipc.CodeUnavailable
	if ctx.Err() != nil {
		code = ipc.CodeOf(ctx.Err())
	}
	return &ipc.Error{Code: code, Op: op, Outcome: outcome, Err: err}
}

// Send implements [ipc.Sender]. While there is no primary it waits for one, for at most
// [DialConfig.Patience]. It never sends a message twice.
func (c *Client) Send(ctx context.Context, post ipc.Post) error {
	if c == nil {
		return errNilClient
	}
	if post.Seq == 0 {
		post.Seq = c.seq.Add(1)
	}
	l, err := c.primary(ctx, 0)
	if err != nil {
		m := post.Message
		return unreachable(ctx, err, ipc.NotSent, "send "+m.Protocol.Name+"/"+m.Name)
	}
	return l.conn.Send(ctx, post)
}

// primary returns the link to the primary, at once or, while there is none, as soon as there is
// one. If after is not 0, it also waits for a change after that version.
func (c *Client) primary(ctx context.Context, after uint64) (*link, error) {
	if l := c.current.Load(); l != nil && after == 0 && l.conn.Err() == nil {
		return l, nil
	}
	patience := time.NewTimer(c.patience)
	defer patience.Stop()
	for {
		c.mu.Lock()
		l, version, changed := c.current.Load(), c.version.Load(), c.changed
		err := c.hopeless()
		c.mu.Unlock()
		if l != nil && version != after && l.conn.Err() == nil {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", c.why(), context.Cause(ctx))
		case <-c.ctx.Done():
			return nil, ErrClosed
		case <-patience.C:
			return nil, fmt.Errorf("waited %v: %w", c.patience, c.why())
		}
	}
}

// hopeless returns an error if no primary can be expected. The caller must hold c.mu.
func (c *Client) hopeless() error {
	if c.reign.primary == none && c.reign.phase == phaseDegraded {
		return fmt.Errorf("group %s is degraded: its replicas fail again and again", c.service)
	}
	return nil
}

// why returns an error that says what a caller waits for, and what delays it.
func (c *Client) why() error {
	err := c.missing()
	if trouble := sys.WatchTrouble(); trouble != nil {
		err = fmt.Errorf("%w (changes are noticed late: %w)", err, trouble)
	}
	return err
}

func (c *Client) missing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.page == nil:
		return fmt.Errorf("nobody supervises group %s in domain %s %s", c.service, c.dir.Path(),
			c.dir.Absence(pagePath(c.service)))
	case c.reign.phase == phaseClosing:
		return fmt.Errorf("group %s is shutting down", c.service)
	case c.reign.primary == none:
		return fmt.Errorf("group %s has no primary", c.service)
	case c.trouble != nil:
		return fmt.Errorf("no connection to %s: %w",
			replicaName(c.service, c.reign.primary), c.trouble)
	}
	return fmt.Errorf("no connection to %s yet", replicaName(c.service, c.reign.primary))
}

// A Connection describes the connection of a client to the primary.
type Connection struct {
	Name           string
	PID            int
	Control, Reply string
	Epoch          uint64
	Receivers      int // number of servers attached to the control channel
}

// WaitConnected blocks until there is a connection to the primary, and describes it. It returns an
// error when ctx is done, after [DialConfig.Patience], after Close, or if the group is degraded
// without a primary.
func (c *Client) WaitConnected(ctx context.Context) (Connection, error) {
	c.refresh()
	l, err := c.primary(ctx, 0)
	if err != nil {
		return Connection{}, err
	}
	return Connection{Name: l.rec.Name, PID: l.rec.PID, Control: l.rec.Control, Reply: l.rec.Reply,
		Epoch: l.Epoch(), Receivers: l.conn.Receivers()}, nil
}
