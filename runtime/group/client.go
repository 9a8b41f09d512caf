package group

import (
	"context"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// DialConfig configures [Dial]. The zero value is valid.
type DialConfig struct {
	// Domain is the domain of the group; "" is the default domain.
	Domain string
	// Patience limits the time that a call waits while there is no primary, in addition to the
	// limit of its context; 10 s when 0. With a negative value, calls fail fast, see
	// [ipc.WithPatience].
	Patience time.Duration
	// Options apply to every connection to a replica.
	Options []ipc.DialOption
}

// A Client is an [ipc.Caller] and an [ipc.Sender] that follows the primary of a group. It keeps a
// connection to every replica, so that a call after a promotion uses a connection that exists
// already. It is safe for concurrent use.
type Client struct {
	client *ipc.Client
	finder *finder
}

// Dial returns a client of the group called service. It does not wait for the group; calls and
// [Client.WaitConnected] do. ctx has an effect only if it is done already. Dial returns an error if
// the name, the domain or the registry of the domain is not usable. The caller must close the
// Client.
func Dial(ctx context.Context, service string, cfg DialConfig) (*Client, error) {
	if ctx == nil {
		return nil, fmt.Errorf("dial group %s: %w", service, errNilContext)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial group %s: %w", service, err)
	}
	if err := domain.CheckName("service", service); err != nil {
		return nil, fmt.Errorf("dial group: %w", err)
	}
	if cfg.Patience == 0 {
		cfg.Patience = ipc.DefaultPatience
	}
	f, err := newFinder(cfg.Domain, service)
	if err != nil {
		return nil, fmt.Errorf("dial group %s: %w", service, sys.ExplainOf(err))
	}
	opts := []ipc.ClientOption{ipc.WithDomain(f.dir.Path()), ipc.WithPatience(cfg.Patience)}
	for _, o := range cfg.Options {
		opts = append(opts, o)
	}
	c, err := ipc.NewClient(f, opts...)
	if err != nil {
		return nil, sys.JoinErrors(err, f.close())
	}
	return &Client{c, f}, nil
}

// Close ends the client. Calls in flight fail, with an outcome that says what is known of their
// execution. Close blocks until the client's goroutines have ended. It may be called again.
func (c *Client) Close() error {
	if c == nil {
		return errNilClient
	}
	return sys.JoinErrors(c.client.Close(), c.finder.close())
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
	return c.client.Invoke(ctx, call)
}

// Send implements [ipc.Sender]. While there is no primary it waits for one, for at most
// [DialConfig.Patience]. It never sends a message twice.
func (c *Client) Send(ctx context.Context, post ipc.Post) error {
	if c == nil {
		return errNilClient
	}
	return c.client.Send(ctx, post)
}

// LinkSource makes the client a source of topics, see package topic: a subscription finds the
// publisher at the primary, and goes on with the next primary.
func (c *Client) LinkSource() (*ipc.LinkSource, error) {
	if c == nil {
		return nil, errNilClient
	}
	return c.client.LinkSource()
}

// Stats returns the counters of the client.
func (c *Client) Stats() ipc.ClientStats {
	if c == nil {
		return ipc.ClientStats{}
	}
	return c.client.Stats()
}

// A Connection describes the connection of a client to the primary.
type Connection struct {
	Name           string
	PID            int
	Control, Reply string
	Epoch          uint64
}

// WaitConnected blocks until there is a connection to the primary, and describes it. It returns an
// error when ctx is done, after [DialConfig.Patience], after Close, or if the group is degraded
// without a primary.
func (c *Client) WaitConnected(ctx context.Context) (Connection, error) {
	if c == nil {
		return Connection{}, errNilClient
	}
	if ctx == nil {
		return Connection{}, errNilContext
	}
	conn, err := c.client.WaitConnected(ctx)
	if err != nil {
		return Connection{}, err
	}
	e := conn.Endpoint
	return Connection{Name: e.Name, PID: c.finder.pid(conn), Control: e.Channel, Reply: e.Reply,
		Epoch: conn.Epoch}, nil
}
