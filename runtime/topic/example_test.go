package topic_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// levels are messages of one float32.
var levels = &topic.Info{
	Protocol: &ipc.Protocol{Name: "studio.Levels", Fingerprint: 1},
	Verify: func(message []byte) error {
		if len(message) != 4 {
			return fmt.Errorf("%d bytes, not 4", len(message))
		}
		return nil
	},
}

func level(v float32) []byte {
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
}

func levelOf(message []byte) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(message))
}

// serveLevels serves a publisher until the function that it returns is called.
func serveLevels(network ipc.ListenOption, p *topic.Publisher) (end func()) {
	listener, err := ipc.Listen("studio", network)
	if err != nil {
		log.Fatal(err)
	}
	server := ipc.NewServer(p)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(context.Background(), listener)
	}()
	return func() {
		_ = server.Shutdown(context.Background())
		<-ended
	}
}

func Example() {
	network, ctx := ipctest.NewNetwork(), context.Background()

	publisher := topic.NewPublisher(levels, topic.Options{Depth: 16, MaxMessage: 4})
	defer publisher.Close()
	listener, err := ipc.Listen("studio", network)
	if err != nil {
		log.Fatal(err)
	}
	server := ipc.NewServer(publisher)
	go server.Serve(context.Background(), listener)
	defer server.Close()

	if err := publisher.Publish(ctx, level(0.5)); err != nil {
		log.Fatal(err)
	}

	subscription, err := topic.Subscribe(ctx, topic.Channel("studio", network), levels,
		topic.SubscribeOptions{History: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()
	for message, err := range subscription.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		arrival := subscription.Arrival()
		fmt.Println(arrival.Number, arrival.Lost, levelOf(message))
		break
	}
	// Output: 0 0 0.5
}

func ExamplePublisher_Write() {
	network, ctx := ipctest.NewNetwork(), context.Background()
	publisher := topic.NewPublisher(levels, topic.Options{})
	defer publisher.Close()
	defer serveLevels(network, publisher)()
	subscription, err := topic.Subscribe(ctx, topic.Channel("studio", network), levels,
		topic.SubscribeOptions{InPlace: true})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()

	if err := publisher.Write(ctx, 4, func(message []byte) error {
		binary.LittleEndian.PutUint32(message, math.Float32bits(0.25))
		return nil
	}); err != nil {
		log.Fatal(err)
	}
	if err := subscription.Read(ctx, func(message []byte, a topic.Arrival) error {
		fmt.Println(levelOf(message))
		return nil
	}); err != nil {
		log.Fatal(err)
	}
	// Output: 0.25
}

func ExampleSubscription_Latest() {
	network, ctx := ipctest.NewNetwork(), context.Background()
	publisher := topic.NewPublisher(levels, topic.Options{})
	defer publisher.Close()
	defer serveLevels(network, publisher)()
	for _, v := range []float32{0.1, 0.2, 0.3} {
		if err := publisher.Publish(ctx, level(v)); err != nil {
			log.Fatal(err)
		}
	}

	subscription, err := topic.Subscribe(ctx, topic.Channel("studio", network), levels,
		topic.SubscribeOptions{Policy: topic.Latest})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()
	message, _, ok, err := subscription.Latest(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ok, levelOf(message))
	// Output: true 0.3
}

func ExampleOptions() {
	network, ctx := ipctest.NewNetwork(), context.Background()

	publisher := topic.NewPublisher(levels, topic.Options{Depth: 2, LetGo: 10 * time.Millisecond})
	defer publisher.Close()
	defer serveLevels(network, publisher)()
	subscription, err := topic.Subscribe(ctx, topic.Channel("studio", network), levels,
		topic.SubscribeOptions{Policy: topic.Lossless})
	if err != nil {
		log.Fatal(err)
	}
	defer subscription.Close()

	for publisher.Subscribers() == 0 { // until the publisher has heard of it
		time.Sleep(time.Millisecond)
	}
	for _, v := range []float32{0.1, 0.2, 0.3} { // the third one has no room
		if err := publisher.Publish(ctx, level(v)); err != nil {
			log.Fatal(err)
		}
	}
	_, _, err = subscription.Next(ctx, nil)
	fmt.Println(ipc.CodeOf(err))
	// Output: resource exhausted
}

func ExampleSubscribeOptions() {
	network, ctx := ipctest.NewNetwork(), context.Background()

	subscription, err := topic.Subscribe(ctx, topic.Channel("studio", network), levels,
		topic.SubscribeOptions{OnBreak: func(why error) error {
			fmt.Println("the publisher is gone; died:", errors.Is(why, io.ErrUnexpectedEOF))
			return nil // wait for the next one
		}})
	if err != nil {
		log.Fatal(err) // that there is no publisher yet is no error
	}
	defer subscription.Close()

	for _, v := range []float32{1, 2} {
		publisher := topic.NewPublisher(levels, topic.Options{})
		end := serveLevels(network, publisher)
		if err := publisher.Publish(ctx, level(v)); err != nil {
			log.Fatal(err)
		}
		message, arrival, err := subscription.Next(ctx, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(levelOf(message), arrival.Break)
		end()
		publisher.Close()
	}
	// Output:
	// 1 false
	// the publisher is gone; died: false
	// 2 true
}
