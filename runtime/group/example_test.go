package group_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// The supervisor starts the replicas, and keeps one of them the primary until Shutdown.
func ExampleStart() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	g, err := group.Start(ctx, group.Config{
		Service: "audio_compute",
		Command: func(index int) *exec.Cmd {
			return exec.Command("audio_service", strconv.Itoa(index))
		},
		Events: func(ev group.Event) { log.Print(ev) },
	})
	if err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
	// The replicas answer the calls that they have taken. This waits for their end.
	if err := g.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// After an update of the program: replace the processes, one by one.
func ExampleGroup_Roll() {
	ctx := context.Background()
	command := func(index int) *exec.Cmd {
		return exec.Command("audio_service", strconv.Itoa(index))
	}
	g, err := group.Start(ctx, group.Config{Service: "audio_compute", Command: command})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Shutdown(context.Background())
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

// A publisher is an option of the replica's server. Only the primary can publish.
func ExampleRun_topic() {
	ctx := context.Background()
	publisher := robot.NewStatusPublisher(topic.Options{})
	defer publisher.Close()
	publish := func() {
		for number := uint64(0); ; number++ {
			err := publisher.Publish(ctx, &robot.StatusT{Changes: number})
			if err != nil && ipc.CodeOf(err) != ipc.CodeFenced { // which a standby gets
				log.Print(err)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	err := group.Run(ctx, group.RunConfig{
		Options: []ipc.ServerOption{publisher},
		Ready:   func() { go publish() },
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A client of the group is a source of topics: the subscription goes on with the next primary.
func ExampleClient_LinkSource() {
	ctx := context.Background()
	client, err := group.Dial(ctx, "robot", group.DialConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	subscription, err := robot.SubscribeStatus(ctx, client, topic.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()
	for status, err := range subscription.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if a := subscription.Arrival(); a.Break {
			fmt.Println("a new primary, of epoch", a.Epoch)
		}
		fmt.Println(status.Changes)
	}
}

func ExampleDialSupervisor() {
	ctx := context.Background()
	o, err := group.DialSupervisor(ctx, "audio_compute", "")
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()
	status, err := o.Failover(ctx, 0)
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("the primary is", status.Replicas[status.Primary].Name)
}
