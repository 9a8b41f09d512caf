package ipc

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// DefaultPatience is the default of [WithPatience].
const DefaultPatience = 10 * time.Second

// WithPatience limits the total time that a call of a [Client] waits for a server, whatever its
// context allows. With 0, calls fail fast: a call waits only for an attempt to connect that is in
// progress.
func WithPatience(d time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) { c.patience = max(d, 0) })
}

// A Client is a [Caller] and a [Sender] that keeps a connection to the process that a [Resolver]
// names. It connects when there is a server, and again when the server has been restarted or
// replaced.
//
// A call waits while there is no server, until there is one, its context is done, or the client's
// patience ends ([WithPatience]).
//
// A call whose connection is lost is sent again, under the same sequence number, if it was
// certainly not executed (outcome [NotSent] or [NotExecuted]), or if its method is idempotent or
// read-only. Any other call that the server had taken returns an error with [OutcomeUnknown] and is
// never sent again. A streaming call is made again only while no item was handed out and its source
// of items has not begun. A call that two servers were lost to is not sent a third time, because it
// may have ended them. The outcome of an error covers all attempts.
//
// Interceptors belong to the connections, so they see each attempt. Handlers of messages
// ([Service]) receive the messages of every connection.
//
// A Client is safe for concurrent use.
type Client struct {
	resolver Resolver
	cfg      clientConfig

	retry *retrier // nil: none

	seq     atomic.Uint64
	resent  atomic.Uint64
	current atomic.Pointer[clientLink] // to the server; nil while there is none

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	target     Target
	connectors map[string]*connector    // the endpoints to be connected, by name
	links      map[string]*clientLink   // those that take calls, by name
	open       map[*clientLink]struct{} // those whose connections have not ended
	watchErr   error                    // why the resolver does not tell of changes
	changed    chan struct{}            // closed at the next change of the fields above
	// counts changes of current and of its reasons; written under mu
	version atomic.Uint64
}

// Connect returns a [Client] of a channel. It does not wait for the server; calls do. The error is
// an [*Error] with [CodeInvalidArgument] if a name or an option is invalid.
func Connect(channel string, opts ...ClientOption) (*Client, error) {
	cfg, err := clientConfigOf(opts)
	if err != nil {
		return nil, asError(err, "connect "+channel)
	}
	if err := checkNames(channel, cfg.dial.reply); err != nil {
		return nil, asError(err, "connect "+channel)
	}
	plugged := cfg.dial.transport != nil
	if !plugged {
		cfg.dial.transport = socketTransport{cfg.dial.domain}
	}
	r := channelResolver{Endpoint{Channel: channel, Reply: cfg.dial.reply}, cfg.dial.transport}
	if plugged {
		return newClient(containedResolver{r, cfg.dial.logger}, cfg), nil
	}
	return newClient(r, cfg), nil
}

// NewClient returns a [Client] of the server that r finds. It does not wait for the server; calls
// do.
func NewClient(r Resolver, opts ...ClientOption) (*Client, error) {
	cfg, err := clientConfigOf(opts)
	if err == nil && r == nil {
		err = invalid("the resolver is nil; give one that finds the server")
	}
	if err != nil {
		return nil, asError(err, "make a client")
	}
	return newClient(containedResolver{r, cfg.dial.logger}, cfg), nil
}

// clientConfigOf applies options to the defaults.
func clientConfigOf(opts []ClientOption) (clientConfig, error) {
	cfg := clientConfig{dial: dialConfig{common: commonDefaults()}, patience: DefaultPatience}
	for i, o := range opts {
		if o == nil {
			cfg.dial.refuse(nilOption(i))
			continue
		}
		o.applyClient(&cfg)
	}
	cfg.dial.containPlugins()
	if cfg.dial.invalid != nil {
		return cfg, cfg.dial.invalid
	}
	return cfg, nil
}

func newClient(r Resolver, cfg clientConfig) *Client {
	c := &Client{
		resolver: r, cfg: cfg, retry: newRetrier(cfg.dial.retry),
		connectors: make(map[string]*connector),
		links:      make(map[string]*clientLink),
		open:       make(map[*clientLink]struct{}), changed: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.resolve()
	c.tasks.Go(c.watchResolver)
	return c
}

// Close closes the client and its connections, and blocks until its goroutines have ended. Calls in
// flight fail with an outcome that states whether they were executed, and calls that wait fail with
// outcome [NotSent]. Close may be called again.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true // no further task starts
	c.mu.Unlock()
	c.cancel()
	c.tasks.Wait()
	return nil
}

// errClientClosed ends what waits when the client is closed.
var errClientClosed error = clientClosed{}

// A clientClosed matches os.ErrClosed, whose text speaks of files.
type clientClosed struct{}

func (clientClosed) Error() string        { return "the client was closed by this side" }
func (clientClosed) Is(target error) bool { return target == os.ErrClosed }

// Invoke implements [Caller].
func (c *Client) Invoke(ctx context.Context, call Call) error {
	if c == nil {
		return nilCaller{}.Invoke(ctx, call)
	}
	if call.Seq == 0 {
		call.Seq = c.seq.Add(1)
	}
	if c.retry != nil && call.Method.Streaming == Unary {
		return c.invokeAgain(ctx, call)
	}
	a := clientCall{version: c.version.Load()} // before the look at current
	a.begin(ctx, c.cfg.dial.timeouts.of(call.Method))
	defer a.end()
	return c.invoke(&a, call)
}

// invokeAgain makes a call, and tries again as the policy says. The time that the call has waited
// for servers, and the servers that were lost to it, count for all attempts.
func (c *Client) invokeAgain(ctx context.Context, call Call) error {
	a := clientCall{version: c.version.Load()}
	a.begin(ctx, c.cfg.dial.timeouts.of(call.Method))
	defer a.end()
	return c.retry.do(ctx, a.bound, call.Method, c.ctx.Done(),
		func(ctx context.Context) (error, bool) {
			a.ctx, a.after, a.failed = ctx, 0, false
			err := c.invoke(&a, call)
			return err, c.ctx.Err() != nil || a.exhausted() ||
				c.cfg.patience > 0 && CodeOf(err) == CodeUnavailable && OutcomeOf(err) != Executed
		})
}

// invoke makes a call, at one server after the other if servers are lost.
func (c *Client) invoke(a *clientCall, call Call) error {
	for {
		l := c.current.Load()
		if a.after != 0 || l == nil || !l.usable() {
			var err error
			if l, err = c.await(a); err != nil {
				return call.Method.callFailed(a.unreachable(err))
			}
		}
		err := l.explain(l.conn.Invoke(a.ctx, a.Next(call)))
		if err == nil {
			return nil
		}
		again := a.Failed(err, call.Method, l.String())
		if !again || c.cfg.patience == 0 && l.usable() {
			return a.Err(err, call.Method)
		}
		c.next(a)
	}
}

// Send implements [Sender]. It waits while there is no server, as a call does. A message that was
// certainly not sent is sent again; a message is never sent twice.
func (c *Client) Send(ctx context.Context, post Post) error {
	if c == nil {
		return nilCaller{}.Send(ctx, post)
	}
	if post.Seq == 0 {
		post.Seq = c.seq.Add(1)
	}
	a := clientCall{version: c.version.Load()}
	a.begin(ctx, c.cfg.dial.timeouts.ofMessages())
	defer a.end()
	for {
		l := c.current.Load()
		if a.after != 0 || l == nil || !l.usable() {
			var err error
			if l, err = c.await(&a); err != nil {
				return post.Message.sendFailed(a.unreachable(err))
			}
		}
		err := l.explain(l.conn.Send(a.ctx, post))
		if !a.MessageFailed(err) || c.cfg.patience == 0 && l.usable() {
			return err
		}
		c.next(&a)
	}
}

// A Connection describes the current connection of a [Client].
type Connection struct {
	Endpoint Endpoint
	Epoch    uint64 // in which the endpoint is the server; 0 for none
	// Conn is the connection. It belongs to the client, and ends with the server. It offers what a
	// Client lacks: calls in place, health checks, and statistics.
	Conn *Conn
}

// WaitConnected blocks until the client has a connection to the server, and returns it. It fails as
// a call does.
func (c *Client) WaitConnected(ctx context.Context) (Connection, error) {
	c.resolve()
	a := clientCall{ctx: ctx}
	l, err := c.await(&a)
	if err != nil {
		e := a.unreachable(err)
		e.Op = "wait for a connection"
		return Connection{}, e
	}
	return Connection{Endpoint: l.endpoint, Epoch: l.Epoch(), Conn: l.conn}, nil
}

// A clientCall is a call of a Client, with its attempts so far and its waits for servers.
type clientCall struct {
	Attempts
	ctx     context.Context
	bound   bound         // of all attempts together, until ctx has it
	stop    func()        // ends ctx; nil until it has the bound
	version uint64        // of the client, before the last look at current
	after   uint64        // wait for a change since that version, or for pause; 0: do not
	pause   time.Duration // before the same connection is tried again
	waited  time.Duration // for servers, in all, as a Patience counts
}

const (
	// shortestRetry and longestRetry bound the pause before an attempt to connect, or a
	// call, is repeated. The pauses double.
	shortestRetry = time.Millisecond
	longestRetry  = time.Second
)

// begin starts a call that t limits. Its first attempt is limited by the connection: most calls
// have no other, and need no context with a timer.
func (a *clientCall) begin(ctx context.Context, t timeout) {
	a.ctx = ctx
	if ctx != nil {
		a.bound = t.bind(ctx)
	}
}

// limit gives the context the rest of the call's time, before the call waits for anything.
func (a *clientCall) limit() {
	if a.stop == nil {
		a.ctx, a.stop = a.bound.context(a.ctx)
	}
}

// end frees the context.
func (a *clientCall) end() {
	if a.stop != nil {
		a.stop()
	}
}

// next prepares a for another attempt, after one that failed.
func (c *Client) next(a *clientCall) {
	c.resolve()
	c.resent.Add(1)
	a.after, a.version = max(a.version, 1), c.version.Load()
	a.pause = min(max(2*a.pause, shortestRetry), longestRetry)
}

// await blocks until there is a connection to the server, and returns it.
func (c *Client) await(a *clientCall) (*clientLink, error) {
	if a.ctx == nil {
		return nil, ended(a.ctx)
	}
	a.limit()
	ctx := a.ctx
	limit := sys.NewPatience(c.cfg.patience - a.waited)
	defer func() { a.waited += limit.Spent() }()
	pause := time.NewTimer(sys.Jitter(a.pause))
	defer pause.Stop()
	for rested := a.after == 0; ; {
		// A server may have come while this process stood still, so what follows is a look also
		// when no time is left.
		left := limit.Next()
		if c.ctx.Err() != nil {
			return nil, errClientClosed
		}
		c.mu.Lock()
		l, version, changed := c.current.Load(), c.version.Load(), c.changed
		here := l != nil && l.usable()
		why := c.failFast(here)
		c.mu.Unlock()
		if here && (rested || version != a.after) {
			return l, nil
		}
		if why != nil {
			return nil, why
		}
		var step <-chan time.Time
		switch {
		case left > 0:
			step = time.After(left)
		case here && a.last != nil:
			return nil, a.Tried(c.cfg.patience)
		case c.cfg.patience > 0:
			return nil, fmt.Errorf("waited %v: %w", c.cfg.patience, c.waitReason())
		}
		select {
		case <-changed:
		case <-pause.C:
			rested = true
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, and there is no server: %w", context.Cause(ctx),
				c.waitReason())
		case <-c.ctx.Done():
		case <-step:
		}
	}
}
