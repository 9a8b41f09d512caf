// Package reach connects to what a name in a domain stands for: an instance, a channel, or a group,
// whose primary is followed.
package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A Conn is a connection that is closed in the end.
type Conn interface {
	ipc.Caller
	ipc.Sender
	io.Closer
}

// Dial connects to what a name stands for. Of a group, a primary is waited for by each call, for as
// long as patience and the call's deadline say.
func Dial(ctx context.Context, domain, name string, patience time.Duration) (Conn, error) {
	s, kind, channel, err := resolve(domain, name)
	if err != nil {
		return nil, err
	}
	if kind == survey.GroupName {
		return group.Dial(ctx, name, group.DialConfig{Domain: s.Domain, Patience: patience})
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := ipc.Dial(ctx, channel, ipc.WithDomain(s.Domain))
	if err != nil {
		return nil, hint(s, channel, err)
	}
	return conn, nil
}

// hint adds to the error of a server that does not answer what can be done.
func hint(s *survey.Survey, channel string, err error) error {
	for _, c := range s.Channels {
		if c.Name == channel && c.PID != 0 && ipc.CodeOf(err) == ipc.CodeDeadlineExceeded {
			return fmt.Errorf("%w: process %d is stopped or hangs; kill -QUIT %d prints what it "+
				"does, and ends it", err, c.PID, c.PID)
		}
	}
	return err
}

// Source returns where the topics of the server called name are found, to which conn is a
// connection.
func Source(domain, name string, conn Conn) (topic.Source, error) {
	if client, ok := conn.(*group.Client); ok {
		return client, nil
	}
	s, _, channel, err := resolve(domain, name)
	if err != nil {
		return nil, err
	}
	return topic.Channel(channel, ipc.WithDomain(s.Domain)), nil
}

// resolve looks for a name in a domain.
func resolve(domain, name string) (*survey.Survey, survey.Kind, string, error) {
	s, err := survey.Of(domain)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, "", &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent, Err: err}
	}
	if err != nil {
		return nil, 0, "", err
	}
	kind, channel, err := s.Resolve(name)
	if err != nil {
		return nil, 0, "", &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent,
			Msg: strings.TrimSpace(err.Error())}
	}
	return s, kind, channel, nil
}

// Publish makes a channel of its own for a topic, and serves it until stop is called.
func Publish(ctx context.Context, domain, channel string, info *topic.Info, o topic.Options) (
	p *topic.Publisher, stop func(), err error) {
	p = topic.NewPublisher(info, o)
	stop, err = Serve(ctx, domain, channel, p)
	if err != nil {
		_ = p.Close()
		return nil, nil, err
	}
	return p, stop, nil
}

// Serve makes a channel for the topics of publishers, and serves it until stop is called, which
// closes them. It goes on when ctx is done.
func Serve(ctx context.Context, domain, channel string, publishers ...*topic.Publisher) (
	stop func(), err error) {
	l, err := ipc.Listen(channel, ipc.WithDomain(domain))
	if err != nil {
		return nil, err
	}
	var options []ipc.ServerOption
	for _, p := range publishers {
		options = append(options, p)
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- ipc.NewServer(options...).Serve(serving, l) }()
	return func() {
		cancel()
		<-served
		for _, p := range publishers {
			_ = p.Close()
		}
	}, nil
}
