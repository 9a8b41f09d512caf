// Command host starts a plug-in as a process of its own and sends it blocks of sound. When the
// plug-in crashes, the host goes on: a new process takes the plug-in's place, and the block
// that was in it is sent again.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"time"

	"github.com/ipcgen/ipcgen/examples/pluginhost/gen/plugin"
	"github.com/ipcgen/ipcgen/runtime/group"
)

const (
	blocks  = 250
	samples = 256
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: host PLUGIN [ARGUMENT ...]")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, path string, args []string) error {
	g, err := group.Start(ctx, group.Config{
		Service:  "plugin_1",
		Replicas: 1,
		Command:  func(int) *exec.Cmd { return exec.Command(path, args...) },
	})
	if err != nil {
		return err
	}
	defer g.Shutdown(context.Background())
	client, err := group.Dial(ctx, "plugin_1", group.DialConfig{})
	if err != nil {
		return err
	}
	defer client.Close()
	effect := plugin.NewEffectClient(client)

	d, err := effect.Describe(ctx, &plugin.QueryT{})
	if err != nil {
		return err
	}
	fmt.Printf("host: loaded %s, version %d\n", d.Name, d.Version)
	process := 0
	for n := range blocks {
		in := &plugin.BlockT{Samples: make([]float32, samples)}
		in.Samples[0] = 1
		// Process is idempotent, so the client sends a block again whose fate is unknown.
		out, err := effect.Process(ctx, in)
		if err != nil {
			return fmt.Errorf("block %d: %w", n, err)
		}
		if len(out.Samples) != samples {
			return fmt.Errorf("block %d: %d samples came back, want %d", n,
				len(out.Samples), samples)
		}
		if pid := g.Status().Replicas[0].PID; pid != process {
			if process != 0 {
				fmt.Printf("host: the plug-in crashed; process %d goes on at block %d\n", pid, n)
			}
			process = pid
		}
	}
	fmt.Printf("host: %d blocks processed\n", blocks)
	return nil
}
