package natsipc_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestGatewayOfVersions updates the servers behind an import, one after the other, and goes back.
// The import serves the version that has all that the other one has, as long as a server has it,
// and is not made anew by answers of servers with the other one, or with an order of their own.
func TestGatewayOfVersions(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	here := domain(t)
	host := func(fingerprint uint64, schema string, first bool) *natsipc.Server {
		p, m := version(fingerprint, schema)
		all := []ipc.ServerOption{ipc.NewService(p, ipc.Handle(m, func(_ context.Context,
			b *echo.Blob) (*echo.Blob, error) {
			return b, nil
		})), ipc.NewService(relayedNotes), ipc.NewService(p)}
		if !first {
			slices.Reverse(all)
		}
		return serve(t, broker.ConnectInProcess(t), all...)
	}
	host(1, schemaOne, true)
	host(1, schemaOne, false)
	var hellos atomic.Int32
	if _, err := broker.ConnectInProcess(t).Subscribe("ipcgen.echo.call", func(m *nats.Msg) {
		if len(m.Data) > 4 && m.Data[4] == 6 {
			hellos.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	in := natsipc.Gateway{Channel: "echo", Domain: here, NATS: []ipc.Option{natsipc.WithBeat(beat)}}
	inside := broker.Connect(t)
	run(t, func(ctx context.Context) error { return in.Import(ctx, inside) })
	// stays waits for a client of the import that announces a version, and for four looks at the
	// servers, which end neither the client nor any call.
	stays := func(fingerprint uint64, schemas ...string) {
		t.Helper()
		var c *ipc.Conn
		soon(t, fmt.Sprintf("version %d is served", fingerprint), func() (err error) {
			if c, err = ipc.Dial(t.Context(), "echo", ipc.WithDomain(here)); err != nil {
				return err
			}
			all, err := c.Protocols()
			if err == nil && !slices.ContainsFunc(all, func(p *ipc.Protocol) bool {
				return p.Name == "test.Echo" && p.Fingerprint == fingerprint
			}) {
				err = fmt.Errorf("it serves %+v", all)
			}
			if err != nil {
				c.Close()
			}
			return err
		})
		defer c.Close()
		until := hellos.Load() + 4
		soon(t, "the import looks", func() error {
			for i, schema := range schemas {
				_, m := version(uint64(i+1), schema)
				if _, err := ipc.Invoke(t.Context(), c, m, &echo.Blob{}); err != nil {
					t.Fatalf("version %d, served by %d: %v", i+1, fingerprint, err)
				}
			}
			if n := hellos.Load(); n < until {
				return fmt.Errorf("%d looks of %d", n, until)
			}
			return nil
		})
		if err := c.Err(); err != nil {
			t.Fatalf("the import of version %d was made anew: %v", fingerprint, err)
		}
	}
	stays(1, schemaOne)
	updated := host(2, schemaMore, true)
	stays(2, schemaOne, schemaMore)
	updated.Close()
	stays(1, schemaOne)
}

// TestGatewayOfTopicVersions replaces a publisher behind an import by one of another version. That
// is compatible with the one before, but not with the subscriber, which must not get its messages.
func TestGatewayOfTopicVersions(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	here := domain(t)
	info := func(fingerprint uint64, fields string) *topic.Info {
		return &topic.Info{Protocol: &ipc.Protocol{Name: "test.Levels", Fingerprint: fingerprint,
			Schema: "table test.Levels\n" + fields}}
	}
	const data = "field 0 data [uint8] -\n"
	begin := func(i *topic.Info) (publish func(), end func()) {
		p := topic.NewPublisher(i, topic.Options{})
		s := serve(t, broker.ConnectInProcess(t), p)
		publish = func() {
			if err := p.Publish(t.Context(), []byte{byte(i.Protocol.Fingerprint)}); err != nil {
				t.Error(err)
			}
		}
		return publish, func() {
			s.Close()
			p.Close()
		}
	}
	publish, end := begin(info(2, data))
	in := natsipc.Gateway{Channel: "echo", Domain: here, NATS: []ipc.Option{natsipc.WithBeat(beat)}}
	inside := broker.Connect(t)
	run(t, func(ctx context.Context) error { return in.Import(ctx, inside) })
	s, err := topic.Subscribe(t.Context(), topic.Channel("echo", ipc.WithDomain(here)),
		info(1, data+"field 1 gain float32 0\n"), topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := func() (message []byte, err error) {
		soon(t, "a message, or the end", func() error {
			publish()
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer stop()
			if message, _, err = s.Next(ctx, nil); ipc.CodeOf(err) == ipc.CodeDeadlineExceeded {
				return err
			}
			return nil
		})
		return message, err
	}
	if message, err := next(); err != nil || message[0] != 2 {
		t.Fatal(message, err)
	}
	end()
	publish, end = begin(info(3, data+"field 1 mute bool 0\n"))
	defer func() { end() }()
	for {
		message, err := next()
		if err == nil && message[0] == 2 {
			continue
		}
		if ipc.CodeOf(err) != ipc.CodeIncompatible {
			t.Errorf("message %v, %v; want an end for the version", message, err)
		}
		return
	}
}
