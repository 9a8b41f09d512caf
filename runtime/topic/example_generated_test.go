package topic_test

import (
	"context"
	"fmt"
	"log"
	"time"

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

// A subscriber that keeps no message has each in the memory of the one before.
func Example_recycling() {
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
	for _, speed := range []float64{0.5, 0.25} {
		if err := publisher.Publish(ctx, &robot.StatusT{Speed: speed}); err != nil {
			log.Fatal(err)
		}
	}

	subscription, err := robot.SubscribeStatus(ctx, topic.Channel("robot", network),
		topic.SubscribeOptions{History: 2, Recycling: true})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()
	var total float64
	for status, err := range subscription.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		total += status.Speed // valid until the loop asks for the next message
		if subscription.Arrival().Number == 1 {
			break
		}
	}
	fmt.Println(total)
	// Output: 0.75
}

// Pictures are structs with raw bytes behind them, which are written and read where they lie.
func Example_payload() {
	ctx := context.Background()
	network := ipctest.NewNetwork()
	pictures := robot.NewPicturePublisher(topic.Options{Depth: 4, MaxMessage: 1 << 20})
	defer pictures.Close()
	listener, err := ipc.Listen("robot", network)
	if err != nil {
		log.Fatal(err)
	}
	server := ipc.NewServer(pictures)
	go server.Serve(ctx, listener)
	defer server.Close()
	subscription, err := robot.SubscribePicture(ctx, topic.Channel("robot", network),
		topic.SubscribeOptions{Policy: topic.Latest, InPlace: true})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()

	const width, height = 640, 480
	err = pictures.Write(ctx, width*height, func(p *robot.Picture, pixels []byte) error {
		p.MutateTimeNs(time.Now().UnixNano())
		p.MutateWidth(width)
		p.MutateHeight(height)
		return capture(pixels)
	})
	if err != nil {
		log.Fatal(err)
	}
	err = subscription.Read(ctx, func(p *robot.Picture, pixels []byte, a topic.Arrival) error {
		fmt.Println(p.Width(), p.Height(), len(pixels), pixels[0])
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 640 480 307200 255
}

// capture stands for a camera.
func capture(pixels []byte) error {
	for i := range pixels {
		pixels[i] = 255
	}
	return nil
}
