package natsipc_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// The server of a channel, for clients on all machines.
func ExampleServe() {
	ctx := context.Background()
	var engine audio.UnimplementedAudioControl // the service
	nc, err := natsipc.Connect("nats://10.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	levels := audio.NewLevelsPublisher(topic.Options{})
	srv, err := natsipc.Serve(ctx, nc, "audio", audio.NewAudioControlService(engine), levels)
	if err != nil {
		log.Fatal(err)
	}
	<-srv.Done()
}

// A client of the channel.
func ExampleDial() {
	ctx := context.Background()
	nc, err := natsipc.Connect("nats://10.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	conn, err := natsipc.Dial(ctx, nc, "audio")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ack, err := audio.NewAudioControlClient(conn).SetParam(ctx, &audio.SetParamT{Value: 0.5})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ack.Status)
}

// A subscriber to a topic of the channel.
func ExampleTopics() {
	ctx := context.Background()
	nc, err := natsipc.Connect("nats://10.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	sub, err := audio.SubscribeLevels(ctx, natsipc.Topics(nc, "audio"), topic.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	for levels, err := range sub.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(levels.Peak[0], sub.Arrival().Lost)
	}
}

// A user whose replies no other user can read.
func ExampleConnect() {
	nc, err := natsipc.Connect("nats://10.0.0.1:4222", nats.UserInfo("client", "client-secret"),
		nats.CustomInboxPrefix("_INBOX.client"))
	if err != nil {
		log.Fatal(err)
	}
	nc.Close()
}
