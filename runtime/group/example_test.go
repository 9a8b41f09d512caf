package group_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os/exec"
	"strconv"
	"sync"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// The supervisor starts the replicas, and keeps one of them the primary until Shutdown.
func ExampleStart() {
	ctx := context.Background()
	command := func(index int) *exec.Cmd {
		return exec.Command("audio_service", strconv.Itoa(index))
	}
	g, err := group.Start(ctx, group.Config{Service: "audio_compute", Command: command})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Shutdown(ctx)

	// After an update of the program: replace the processes, one by one.
	if err := g.Roll(ctx, command); err != nil {
		log.Print(err)
	}
}

// A replica is one call. Without a supervisor the same program serves alone, on the channel that
// RunConfig.Record names.
func ExampleRun() {
	ctx := context.Background()
	engine := &mixer{}
	err := group.Run(ctx, group.RunConfig{
		Record: registry.Record{Control: "audio_ctrl_0", Reply: "audio_reply_0"},
	}, audio.NewAudioControlService(engine))
	if err != nil {
		log.Fatal(err)
	}
}

// A mixer has one parameter, which its snapshot holds.
type mixer struct {
	audio.UnimplementedAudioControl
	mu   sync.Mutex
	gain float32
}

func (m *mixer) SetParam(_ context.Context, req *audio.SetParamT) (*audio.AckT, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gain = req.Value
	return &audio.AckT{}, nil
}

func (m *mixer) Snapshot() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(m.gain)), nil
}

func (m *mixer) Restore(snapshot []byte) error {
	if len(snapshot) != 4 {
		return fmt.Errorf("a snapshot of %d bytes", len(snapshot))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gain = math.Float32frombits(binary.LittleEndian.Uint32(snapshot))
	return nil
}

// A replica whose state the group keeps: the supervisor sets Config.Replication, and the replica
// gives its State.
func ExampleState() {
	engine := &mixer{}
	err := group.Run(context.Background(), group.RunConfig{
		Join: group.JoinConfig{State: engine},
	}, audio.NewAudioControlService(engine))
	if err != nil {
		log.Fatal(err)
	}
}

// A client follows the primary. Calls wait while there is none, and are sent again where that is
// safe.
func ExampleDial() {
	ctx := context.Background()
	c, err := group.Dial(ctx, "audio_compute", group.DialConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	client := audio.NewAudioControlClient(c)
	reply, err := client.SetParam(ctx, &audio.SetParamT{Value: 0.5})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Status)
}
