package topic_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// The publisher and the subscription of a table that the schema marks with the attribute "topic".
func Example_generated() {
	ctx := context.Background()
	network := ipctest.NewNetwork()
	publisher := robot.NewStatusPublisher(topic.Options{})
	defer publisher.Close()
	listener, err := ipc.Listen("robot", network)
	if err != nil {
		log.Fatal(err)
	}
	server := ipc.NewServer(publisher)
	go server.Serve(ctx, listener)
	defer server.Close()
	if err := publisher.Publish(ctx, &robot.StatusT{Speed: 0.5}); err != nil {
		log.Fatal(err)
	}

	subscription, err := robot.SubscribeStatus(ctx, topic.Channel("robot", network),
		topic.SubscribeOptions{History: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()
	for status, err := range subscription.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status.Speed, subscription.Arrival().Number)
		break
	}
	// Output: 0.5 0
}
