package natsipc_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats"
)

// A keeper is a service with a state.
type keeper struct {
	audio.UnimplementedAudioControl
}

func (keeper) Snapshot() ([]byte, error) { return nil, nil }
func (keeper) Restore([]byte) error      { return nil }

// A member of a group over machines.
func ExampleJoinGroup() {
	ctx, engine := context.Background(), keeper{}
	nc, err := natsipc.Connect("nats://10.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	m, err := natsipc.JoinGroup(ctx, nc, natsipc.GroupConfig{Group: "mixer", State: engine},
		audio.NewAudioControlService(engine))
	if err != nil {
		log.Fatal(err)
	}
	<-m.Done()
	log.Fatal(m.Err())
}

// A client that follows the leader of the group.
func ExampleDialGroup() {
	ctx := context.Background()
	nc, err := natsipc.Connect("nats://10.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	c, err := natsipc.DialGroup(ctx, nc, "mixer", natsipc.GroupDialConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ack, err := audio.NewAudioControlClient(c).SetParam(ctx, &audio.SetParamT{Value: 0.5})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ack.Status)
}
