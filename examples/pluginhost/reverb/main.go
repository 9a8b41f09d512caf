// Command reverb is a plug-in: a process that serves the Effect service for the host that
// starts it. It is as unreliable as its -crash-after flag makes it.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/examples/pluginhost/gen/plugin"
	"github.com/ipcgen/ipcgen/runtime/group"
)

type reverb struct {
	crashAfter uint64
	blocks     atomic.Uint64
}

// Describe implements plugin.Effect.
func (*reverb) Describe(context.Context, *plugin.QueryT) (*plugin.DescriptionT, error) {
	return &plugin.DescriptionT{Name: "reverb", Version: 1}, nil
}

// Process implements plugin.Effect.
func (r *reverb) Process(_ context.Context, in *plugin.BlockT) (*plugin.BlockT, error) {
	if n := r.blocks.Add(1); r.crashAfter > 0 && n > r.crashAfter {
		os.Exit(3) // as a crash in the middle of a block would
	}
	out := &plugin.BlockT{Samples: make([]float32, len(in.Samples))}
	for i, s := range in.Samples {
		out.Samples[i] = s
		if i >= 4 {
			out.Samples[i] += out.Samples[i-4] / 2
		}
	}
	return out, nil
}

func main() {
	log.SetFlags(0)
	r := &reverb{}
	flag.Uint64Var(&r.crashAfter, "crash-after", 0, "exit while processing the block after so many")
	flag.Parse()
	if err := group.Run(context.Background(), group.RunConfig{},
		plugin.NewEffectService(r)); err != nil {
		log.Fatal(err)
	}
}
