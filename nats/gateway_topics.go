package natsipc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// This file takes topics through a gateway. Each side subscribes at one end, and publishes again by
// a topic.Relay at the other one, so that numbers and losses are those of the publisher.

// gateTopics are the topics that one side of a gateway takes on.
type gateTopics struct {
	all     []gateTopic
	gateway *Gateway
	memory  int        // that further topics may take
	failed  chan error // receives why a topic has ended
	said    said
	stop    context.CancelFunc
	tasks   sync.WaitGroup
}

// A gateTopic is a topic that a gateway takes on.
type gateTopic struct {
	from *topic.Subscription
	to   *topic.Relay
}

// add subscribes to a topic at a source, and makes its relay.
func (t *gateTopics) add(ctx context.Context, from topic.Source, p *ipc.Protocol, history int,
	options func(*topic.Subscription) (*ipc.Protocol, topic.Options, error)) error {
	sub, err := topic.Subscribe(ctx, from, &topic.Info{Protocol: p},
		topic.SubscribeOptions{History: history})
	if err != nil {
		return err
	}
	full, o, err := options(sub)
	if err != nil {
		return errors.Join(err, sub.Close())
	}
	o.Slow = topic.SlowRefuse // no publisher beyond NATS waits
	if takes := o.Memory(); takes > t.memory {
		return errors.Join(&ipc.Error{Code: ipc.CodeResourceExhausted, Msg: fmt.Sprintf("its "+
			"publisher keeps %d messages of %d bytes, for which the gateway would need %d bytes "+
			"of memory, and has %d left; see Gateway.TopicMemory", o.Depth, o.MaxMessage, takes,
			t.memory)}, sub.Close())
	}
	r := topic.NewRelay(&topic.Info{Protocol: full}, o)
	if _, err := r.Info(); err != nil {
		return errors.Join(err, sub.Close())
	}
	t.memory -= o.Memory()
	t.all = append(t.all, gateTopic{sub, r})
	return nil
}

// options are those of the server that publishes the topics.
func (t *gateTopics) options() (all []ipc.ServerOption) {
	for _, g := range t.all {
		all = append(all, g.to)
	}
	return all
}

// run takes messages on until close is called.
func (t *gateTopics) run(ctx context.Context) {
	ctx, t.stop = context.WithCancel(ctx)
	for _, g := range t.all {
		t.tasks.Go(func() {
			var message []byte
			for {
				var a topic.Arrival
				var err error
				if message, a, err = g.from.Next(ctx, message); err != nil {
					if ctx.Err() == nil {
						t.failed <- err
					}
					return
				}
				t.pass(ctx, g.to, message, a)
			}
		})
	}
}

// pass publishes a message. While there are no means for it, which those of the next publisher may
// lack, it tries again, for the message may be the only one for long; what comes meanwhile may be
// lost. What cannot be published counts as lost when the next one is.
func (t *gateTopics) pass(ctx context.Context, to *topic.Relay, message []byte, a topic.Arrival) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := to.Publish(ctx, message, a)
		if err == nil || ctx.Err() != nil {
			return
		}
		t.said.log(t.gateway.log(), slog.LevelWarn, "a message is not passed on", err)
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// close ends everything.
func (t *gateTopics) close() {
	if t.stop != nil {
		t.stop()
	}
	t.tasks.Wait()
	for _, g := range t.all {
		_ = g.from.Close()
		_ = g.to.Close()
	}
}

// DefaultTopicMemory is the default of [Gateway.TopicMemory].
const DefaultTopicMemory = 1 << 30

func (g *Gateway) newTopics(n int) *gateTopics {
	return &gateTopics{gateway: g, failed: make(chan error, n),
		memory: cmp.Or(g.TopicMemory, DefaultTopicMemory)}
}

// localTopics subscribes to the topics of the local server, as far as that tells of them. Those
// that cannot be had are logged, and not exported.
func (g *Gateway) localTopics(ctx context.Context, l *local,
	d *introspect.DescriptionT) *gateTopics {
	t := g.newTopics(len(d.Protocols))
	for _, p := range d.Protocols {
		if p.Topic == nil {
			continue
		}
		known := &ipc.Protocol{Name: p.Name, Fingerprint: p.Fingerprint}
		err := t.add(ctx, l.source, known, math.MaxInt32, func(s *topic.Subscription) (
			*ipc.Protocol, topic.Options, error) {
			full, o, ok := s.Origin()
			if !ok {
				return nil, o, errors.New("the publisher is gone")
			}
			full.Definition = l.definitions[full.Name]
			return full, o, nil
		})
		if err != nil {
			g.log().Warn("a topic is not exported", "topic", p.Name,
				"why", err)
		}
	}
	return t
}

// farTopics subscribes to the topics of the servers over NATS. Those for which there is no memory
// are logged, and not imported.
func (g *Gateway) farTopics(ctx context.Context, nc *nats.Conn, c *Conn, h greeting,
	announced []*ipc.Service, opts []ipc.DialOption) (*gateTopics, error) {
	t := g.newTopics(len(h.topics))
	for i, far := range h.topics {
		// Its publisher must have nothing that the subscribers of the import do not know of.
		full := announced[i].Protocol()
		c.define(ctx, full, h)
		err := t.add(ctx, Topics(c.set.topicsOver(nc), g.Channel, opts...), full, far.depth,
			func(*topic.Subscription) (*ipc.Protocol, topic.Options, error) {
				return full, topic.Options{Depth: far.depth, MaxMessage: far.maxMessage}, nil
			})
		switch ipc.CodeOf(err) {
		case ipc.CodeOK:
		case ipc.CodeResourceExhausted, ipc.CodeInvalidArgument:
			g.log().Warn("a topic is not imported", "topic",
				far.protocol.Name, "why", err)
		default:
			t.close()
			return nil, fmt.Errorf("topic %s: %w", far.protocol.Name, err)
		}
	}
	return t, nil
}
