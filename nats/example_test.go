package natsipc_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

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

// A server that a signal ends: it answers the calls that it has taken.
func ExampleServer_Shutdown() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var engine audio.UnimplementedAudioControl
	nc, err := natsipc.Connect("nats://10.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	srv, err := natsipc.Serve(ctx, nc, "audio", audio.NewAudioControlService(engine))
	if err != nil {
		log.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-srv.Done(): // nc was closed
	}
	within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(within); err != nil {
		log.Print("calls were cut off: ", err)
	}
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
