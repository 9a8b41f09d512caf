package natsipc

import (
	"context"
	"fmt"
	"strings"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is the comparison of protocols. Each request names the versions of its protocol that
// the client can talk to, at first its own. A server with another version refuses it, unexecuted,
// and says which version it has. The client then asks that server for the description, compares,
// and sends the request again, or fails with the first difference.

// mostCompared is how many versions of the servers a request names.
const mostCompared = 4

// mostVerdicts is how many comparisons a client keeps. A server that lies may have any number of
// versions.
const mostVerdicts = 256

// greet returns what a server says of itself.
func (c *Conn) greet(ctx context.Context) (h greeting, err error) {
	return c.greetAt(ctx, c.requests)
}

// greetOne returns what a server of a name says of itself if it is there, or any other one.
func (c *Conn) greetOne(ctx context.Context, server string) (h greeting, err error) {
	if server != "" {
		if h, err = c.greetAt(ctx, c.place.own(server)); err == nil {
			return h, nil
		}
	}
	return c.greet(ctx)
}

func (c *Conn) greetAt(ctx context.Context, subject string) (h greeting, err error) {
	out, err := c.ask(ctx, &ipc.Inbound{}, kindHello, subject)
	if ipc.CodeOf(err) == ipc.CodeInvalidArgument && ipc.OutcomeOf(err) == ipc.NotExecuted {
		return h, incompatible("server", 1, "client") // it has looked for a header
	}
	if err != nil {
		return h, err
	}
	return parseHello(string(out.Body))
}

// A greeting is what a server says of itself: its limit, the names and fingerprints of its
// protocols, and those of its topics.
type greeting struct {
	longest   int
	server    string
	protocols []*ipc.Protocol // without descriptions
	topics    []greetedTopic
}

// A greetedTopic is what a server says of a topic that it publishes.
type greetedTopic struct {
	protocol   *ipc.Protocol // without description
	depth      int
	maxMessage int
}

func (h *greeting) encode() []byte {
	b := fmt.Appendf(nil, "%d %s\n", h.longest, h.server)
	for _, p := range h.protocols {
		b = fmt.Appendf(b, "%x %s\n", p.Fingerprint, p.Name)
	}
	for _, t := range h.topics {
		b = fmt.Appendf(b, "%x %s %d %d\n", t.protocol.Fingerprint, t.protocol.Name, t.depth,
			t.maxMessage)
	}
	return b
}

func parseHello(s string) (h greeting, err error) {
	first, rest, _ := strings.Cut(s, "\n")
	f := fields{rest: first}
	h.longest, h.server = int(f.uint(10, 31)), f.next()
	if f.bad || h.longest == 0 || !isServer(h.server) {
		return h, corrupt("malformed greeting %.100q", s)
	}
	names := map[string]*ipc.Protocol{}
	for line := range strings.Lines(rest) {
		f := fields{rest: strings.TrimSuffix(line, "\n")}
		p := &ipc.Protocol{Fingerprint: f.uint(16, 64), Name: f.next()}
		ofTopic, known := f.rest != "", names[p.Name]
		t := greetedTopic{protocol: p}
		if ofTopic {
			t.depth, t.maxMessage = int(f.uint(10, 31)), int(f.uint(10, 31))
		}
		switch {
		case f.bad || p.Name == "":
			return h, corrupt("malformed greeting %.100q", s)
		case known != nil && !ofTopic && *known == *p:
			continue // several services of the server have a part of it each
		case known != nil:
			return h, corrupt("the server says of %.100s twice what it is", p.Name)
		case ofTopic:
			h.topics = append(h.topics, t)
		default:
			h.protocols = append(h.protocols, p)
		}
		names[p.Name] = p
	}
	return h, nil
}

// comparedWith returns the versions that the client can talk to with p.
func (c *Conn) comparedWith(p *ipc.Protocol) fingerprints {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.compared[p]; f != nil {
		return f
	}
	f := fingerprints(nil).with(p.Fingerprint)
	c.compared[p] = f
	return f
}

// compare compares p with the version of a server that has refused a call.
func (c *Conn) compare(ctx context.Context, p *ipc.Protocol, r refusal) *ipc.Error {
	key := comparison{p, r.theirs}
	c.mu.Lock()
	verdict, known := c.verdicts[key]
	c.mu.Unlock()
	if !known {
		theirs, err := c.schema(ctx, p.Name, r)
		if err != nil {
			return err
		}
		if err := ipc.CheckCompatible(p, theirs); err != nil {
			verdict = err.(*ipc.Error)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.verdicts) == mostVerdicts {
		clear(c.verdicts)
	}
	c.verdicts[key] = verdict
	if verdict == nil {
		if f := c.compared[p]; !f.has(r.theirs) {
			c.compared[p] = f.with(r.theirs)
		}
	}
	return verdict
}

// schema asks the server that has refused a call for its version of a protocol.
func (c *Conn) schema(ctx context.Context, name string, r refusal) (*ipc.Protocol, *ipc.Error) {
	out, err := c.ask(ctx, &ipc.Inbound{Body: []byte(name)}, kindSchema, c.place.own(r.server))
	if err != nil {
		told := *err.(*ipc.Error)
		told.Outcome = ipc.NotSent // the call itself
		return nil, &told
	}
	return &ipc.Protocol{Name: name, Fingerprint: r.theirs, Schema: string(out.Body)}, nil
}
