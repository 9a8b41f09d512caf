package group_test

import (
	"context"
	"fmt"
	"log"
	"os/exec"
	"strconv"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// The supervisor starts the replicas, and keeps one of them the primary until Shutdown.
func ExampleStart() {
	ctx := context.Background()
	command := func(index int) *exec.Cmd {
		return exec.Command("audio_service", strconv.Itoa(index))
	}
	g, err := group.Start(ctx, group.Config{
		Service: "audio",
		Command: command,
		Events:  func(ev group.Event) { log.Print(ev.Kind, " ", ev.Replica) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Shutdown(ctx)
	// After an update of the program: replace the processes, one by one.
	if err := g.Roll(ctx, command); err != nil {
		log.Fatal(err)
	}
}

// A replica is one call. Without a supervisor the same program serves alone, on the channel that
// RunConfig.Record names.
func ExampleRun() {
	engine := audio.UnimplementedAudioControl{} // here goes the implementation
	err := group.Run(context.Background(), group.RunConfig{},
		audio.NewAudioControlService(engine))
	if err != nil {
		log.Fatal(err)
	}
}

// A client follows the primary. Calls wait while there is none, and are sent again where that is
// safe.
func ExampleDial() {
	ctx := context.Background()
	client, err := group.Dial(ctx, "audio", group.DialConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	reply, err := audio.NewAudioControlClient(client).SetParam(ctx, &audio.SetParamT{Value: 0.5})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Status)
}
