package natsipc_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestGatewayTakesDefinitions asks an import what tools ask a server: the definitions of protocols
// and topics are those of the server, whether that is behind an export or serves over NATS itself.
func TestGatewayTakesDefinitions(t *testing.T) {
	echo.ExpectNothingLeft(t)
	for _, way := range []string{"an export", "a server"} {
		broker := natstest.Start(t)
		here := domain(t)
		options := []ipc.Option{natsipc.WithBeat(beat)}
		p := audio.NewLevelsPublisher(topic.Options{})
		service := audio.NewAudioControlService(audio.UnimplementedAudioControl{})
		outside, inside := broker.Connect(t), broker.Connect(t)
		var stopFar func()
		if way == "an export" {
			there := domain(t)
			ipctest.Serve(t, ipc.WithDomain(there), "audio", p, service)
			out := natsipc.Gateway{Channel: "audio", NATS: options, Domain: there}
			stopFar = run(t, func(ctx context.Context) error { return out.Export(ctx, outside) })
		} else {
			s, err := natsipc.Serve(t.Context(), outside, "audio", p, service,
				natsipc.WithBeat(beat))
			if err != nil {
				t.Fatal(err)
			}
			stopFar = func() { s.Close() }
		}
		in := natsipc.Gateway{Channel: "audio", NATS: options, Domain: here}
		stop := run(t, func(ctx context.Context) error { return in.Import(ctx, inside) })
		soon(t, way, func() error {
			c, err := ipc.Dial(t.Context(), "audio", ipc.WithDomain(here))
			if err != nil {
				return err
			}
			defer c.Close()
			d, err := ipc.Describe(t.Context(), c)
			if err != nil || len(d.Definitions) != 1 {
				return fmt.Errorf("%+v, %w", d, err)
			}
			named := map[string]bool{}
			for _, p := range d.Protocols {
				named[p.Name] = p.Definition == 0
			}
			if !named["audio.AudioControl"] || !named["audio.Levels"] {
				return fmt.Errorf("protocols with the definition: %v", named)
			}
			text, err := ipc.ReadDefinition(t.Context(), c, 0)
			if err == nil && string(text) != service.Protocol().Definition {
				err = fmt.Errorf("a definition of %d bytes", len(text))
			}
			return err
		})
		stop()
		stopFar()
		p.Close()
	}
}
