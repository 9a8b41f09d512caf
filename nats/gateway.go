package natsipc

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A Gateway takes the calls and the topics of one place to another. Messages pass as they are
// encoded: a gateway knows protocols by their descriptions, and needs no generated code.
type Gateway struct {
	// Channel is the name of the channel over NATS.
	Channel string
	// Local is the name of the channel on this machine. If it is empty, it is Channel.
	Local string
	// NATS are options of [Dial] and [Serve]: [WithPrefix], [WithBeat] and limits.
	NATS []ipc.Option
	// Domain is the domain of the local channel; see [ipc.WithDomain].
	Domain string
	// Group is the name of a local group, which Export reaches in place of a channel: calls and
	// topics follow the primary, and calls are sent again where [group.Dial] does that.
	Group string
	// TopicMemory limits the shared memory of the topics of an export or an import, in bytes: each
	// side keeps as many messages as their publishers do, and another machine must not decide how
	// much memory that takes. 0 is [DefaultTopicMemory]. A topic for which there is not enough left
	// is logged, and does not pass.
	TopicMemory int
	// Log takes what happens to the gateway; nil: nothing.
	Log *slog.Logger
}

func (g *Gateway) local() string {
	if g.Local != "" {
		return g.Local
	}
	return g.Channel
}

// Check returns an error if a name, the prefix, an inbox or the version is none, as Export and
// Import do at once.
func (g *Gateway) Check() error {
	set, err := take(g.NATS), error(nil)
	if _, err = placeOf(set.prefix, g.Channel); err == nil {
		err = set.check()
	}
	if err == nil {
		name := g.local()
		if g.Group != "" {
			name = g.Group // the same rules hold
		}
		var opts []ipc.DialOption
		for _, o := range g.NATS {
			opts = append(opts, o)
		}
		_, err = ipc.NewLinkSource(name, opts...)
	}
	if err != nil {
		return at("gateway of "+g.Channel, err)
	}
	return nil
}

// log returns where the gateway tells what happens, with what it connects.
func (g *Gateway) log() *slog.Logger {
	l := g.Log
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	if l = l.With("channel", g.Channel); g.Group != "" {
		return l.With("group", g.Group)
	}
	return l.With("local", g.local())
}

// The pauses between attempts of a gateway.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// repeat calls attempt again and again until ctx is done, with pauses that grow while it fails at
// once. It returns an error that no further attempt would change.
func (g *Gateway) repeat(ctx context.Context, what string,
	attempt func(context.Context) (ran bool, err error)) error {
	var said said
	what += " waits"
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		ran, err := attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch ipc.CodeOf(err) {
		case ipc.CodeInvalidArgument, ipc.CodePermissionDenied, ipc.CodeFailedPrecondition,
			ipc.CodeAlreadyExists, ipc.CodeUnsupported:
			if e, ok := errors.AsType[*ipc.Error](err); !ran && !(ok && e.Remote) {
				return err // and not the word of another machine, which may change
			}
		}
		if ran {
			pause = firstPause
			said.over(what)
		}
		said.log(g.log(), slog.LevelInfo, what, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// Export makes the local channel reachable over NATS, until ctx is done. While nobody serves the
// local channel, or it has only begun to, NATS answers clients that no server is there. The error
// says what further attempts would not change: an invalid name, or a permission that is missing.
func (g *Gateway) Export(ctx context.Context, nc *nats.Conn) error {
	if err := g.Check(); err != nil {
		return err
	}
	return g.repeat(ctx, "the export", func(ctx context.Context) (bool, error) {
		return g.exportOnce(ctx, nc)
	})
}

func (g *Gateway) exportOnce(ctx context.Context, nc *nats.Conn) (ran bool, err error) {
	local, err := g.connect(ctx)
	if err != nil {
		return false, err
	}
	defer local.close()
	described, err := ipc.Describe(ctx, local.caller)
	if err != nil {
		g.log().Warn("the export has no topics, and no definitions for tools", "why", err)
		described = nil
	}
	if local.watch != nil {
		local.watch(described)
	}
	if described == nil {
		described = &introspect.DescriptionT{}
	}
	define(ctx, local, described)
	to, err := ipc.CarryTo(local.caller, local.protocols...)
	if err != nil {
		return false, err
	}
	var own []ipc.ServerOption
	for _, o := range g.NATS {
		own = append(own, o)
	}
	b, err := handling(own)
	if err != nil {
		return false, err
	}
	b.carrier, b.served, b.health = to, local.protocols, local.health
	topics := g.localTopics(ctx, local, described)
	defer topics.close()
	s, err := serve(ctx, nc, g.Channel, append(own, topics.options()...), b)
	if err != nil {
		return false, err
	}
	topics.run(ctx)
	g.log().Info("exported")
	select {
	case <-local.done:
		err = errors.New(local.gone)
	case <-s.Done():
		err = ErrServerClosed
	case err = <-topics.failed:
	case <-ctx.Done():
	}
	within, stop := context.WithTimeout(context.WithoutCancel(ctx), ipc.DefaultGrace)
	defer stop()
	_ = s.Shutdown(within)
	return true, err
}

// define reads the definitions of the protocols of the local server, as far as it has them.
func define(ctx context.Context, l *local, d *introspect.DescriptionT) {
	l.definitions = map[string]string{}
	texts := map[int32]string{}
	for _, p := range d.Protocols {
		text, known := texts[p.Definition]
		if !known && p.Definition >= 0 {
			if b, err := ipc.ReadDefinition(ctx, l.caller, int(p.Definition)); err == nil {
				text = string(b)
			}
			texts[p.Definition] = text
		}
		l.definitions[p.Name] = text
	}
	for _, p := range l.protocols {
		p.Definition = l.definitions[p.Name]
	}
}

// A local is what an export reaches on this machine.
type local struct {
	caller    ipc.Caller
	source    topic.Source
	protocols []*ipc.Protocol
	// definitions are those of protocols and topics, by name.
	definitions map[string]string
	health      func(ctx context.Context, protocol string) (ipc.Health, error)
	done        <-chan struct{} // closed when the export must begin anew
	gone        string          // why, then
	// watch, if it is not nil, begins to look whether the description still holds, for done.
	watch func(*introspect.DescriptionT)
	close func()
}

// connect reaches the local channel, or the group.
func (g *Gateway) connect(ctx context.Context) (*local, error) {
	var opts []ipc.DialOption
	for _, o := range g.NATS {
		opts = append(opts, o)
	}
	if g.Group != "" {
		return g.follow(ctx, opts)
	}
	var where []ipc.DialOption
	if g.Domain != "" {
		where = append(where, ipc.WithDomain(g.Domain))
	}
	conn, err := ipc.Dial(ctx, g.local(), append(opts, where...)...)
	if err != nil {
		return nil, err
	}
	protocols, err := conn.Protocols()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &local{caller: conn, source: topic.Channel(g.local(), where...), protocols: protocols,
		health: conn.Health, done: conn.Done(), gone: "the local server is gone",
		close: func() { conn.Close() }}, nil
}

// Import makes a channel over NATS appear as the local channel, until ctx is done. It waits for a
// server over NATS at first, to learn what that serves. Later it stays, whether a server is there
// or not: a call that finds none fails with CodeUnavailable, not executed. If the servers serve
// other protocols than before, the local channel is served anew. While servers of several versions
// are there, it is that of the version that has all that the others have, and otherwise the one
// that it was at first. The error is as for Export.
func (g *Gateway) Import(ctx context.Context, nc *nats.Conn) error {
	if err := g.Check(); err != nil {
		return err
	}
	if g.Group != "" {
		return invalid("an import has no group; a group that is exported is imported as a " +
			"channel, by its name")
	}
	var next string // the server to begin with
	return g.repeat(ctx, "the import", func(ctx context.Context) (ran bool, err error) {
		ran, next, err = g.importOnce(ctx, nc, next)
		return ran, err
	})
}

// importOnce serves the local channel as the server called from, if that is there, does. It returns
// the server to begin with the next time, or "" for any one.
func (g *Gateway) importOnce(ctx context.Context, nc *nats.Conn, from string) (ran bool,
	next string, err error) {
	var opts []ipc.DialOption
	for _, o := range g.NATS {
		opts = append(opts, o)
	}
	c, first, err := dial(ctx, nc, g.Channel, from, opts)
	if err != nil {
		return false, "", err
	}
	defer c.Close()
	to := &importCarrier{carrier{c}, make(chan struct{}, 1)}
	announced, err := c.announced(ctx, first, to)
	if err != nil {
		return false, "", err
	}
	services := announced[:len(first.protocols)]
	topics, err := g.farTopics(ctx, nc, c, first, announced[len(services):], opts)
	if err != nil {
		return false, "", err
	}
	defer topics.close()
	var served []ipc.ServerOption
	for _, o := range g.NATS {
		served = append(served, o)
	}
	for _, svc := range services {
		c.define(ctx, svc.Protocol(), first)
		served = append(served, svc)
	}
	held := &holding{c, first.shape(), first.server, announced, map[string]bool{}}
	served = append(served, topics.options()...)
	var where []ipc.ListenOption
	if g.Domain != "" {
		where = append(where, ipc.WithDomain(g.Domain))
	}
	l, err := ipc.Listen(g.local(), where...)
	if err != nil {
		return false, "", err
	}
	s := ipc.NewServer(served...)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.WithoutCancel(ctx), l) }()
	topics.run(ctx)
	g.log().Info("imported")
	look := time.NewTicker(patience * c.set.beat)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return true, "", err
		case err = <-topics.failed:
		case <-look.C:
			next, err = held.look(ctx)
		case <-to.differs:
			next, err = held.look(ctx)
		case <-ctx.Done():
		}
		if err == nil && ctx.Err() == nil {
			continue
		}
		within, stop := context.WithTimeout(context.WithoutCancel(ctx), ipc.DefaultGrace)
		_ = s.Shutdown(within)
		stop()
		<-ended
		return true, next, err
	}
}

// An importCarrier tells of calls that a server has refused for its version.
type importCarrier struct {
	carrier
	differs chan struct{}
}

// Handle implements [ipc.Carrier].
func (c *importCarrier) Handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
	out, err := c.carrier.Handle(ctx, in)
	if ipc.CodeOf(err) == ipc.CodeIncompatible && ipc.OutcomeOf(err) != ipc.Executed {
		stir(c.differs)
	}
	return out, err
}

// define asks a server for the definition of a protocol, without which tools do not know how to
// show its messages. All else works without it, so it is not there if it cannot be had.
func (c *Conn) define(ctx context.Context, p *ipc.Protocol, h greeting) {
	out, err := c.ask(ctx, &ipc.Inbound{Body: []byte(p.Name)}, kindDefine, c.place.own(h.server))
	if err == nil {
		p.Definition = string(out.Body)
	}
}

// Protocols asks a server for its protocols and their descriptions.
func (c *Conn) Protocols(ctx context.Context) ([]*ipc.Protocol, error) {
	h, err := c.greet(ctx)
	if err != nil {
		return nil, err
	}
	return c.described(ctx, h)
}

// described returns the protocols of a server with their descriptions.
func (c *Conn) described(ctx context.Context, h greeting) (all []*ipc.Protocol, err error) {
	for _, p := range h.protocols {
		full, err := c.schema(ctx, p.Name, refusal{server: h.server, theirs: p.Fingerprint})
		if err != nil {
			return nil, err
		}
		all = append(all, full)
	}
	return all, nil
}
