package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"testing"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// serveStatus publishes a message of a topic, and keeps it.
func serveStatus(channel string) {
	l, err := ipc.Listen(channel)
	if err != nil {
		panic(err)
	}
	p := robot.NewStatusPublisher(topic.Options{Depth: 8})
	if err := p.Publish(context.Background(), &robot.StatusT{Speed: 0.5, Changes: 3}); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	panic(ipc.NewServer(p).Serve(context.Background(), l))
}

// TestTopicsAreListed lists and describes the topic of a process.
func TestTopicsAreListed(t *testing.T) {
	newDomain(t)
	expect(t, 1, "", "", "", "ls", "-topics") // there is no domain
	serve(t, "greeter")
	serve(t, "topic.status")
	code, out, errOut := ipcctl(t, "", "ls", "-topics")
	if line := regexp.MustCompile(
		`(?m)^robot\.Status +topic\.status +0 +1 +1 +4 KiB$`); code != 0 || !line.MatchString(out) {
		t.Errorf("status %d\n%s%s", code, out, errOut)
	}
	expect(t, 0, `"topics":[{"name":"robot.Status","channel":"topic.status","subscribers":0,`+
		`"published":1,"depth":8,"max_message":4096}]`, "", "", "ls", "-topics", "-json")
	expect(t, 2, "", "-topics", "", "ls", "-topics", "-watch")

	expect(t, 0, "// serves      robot.Status, fingerprint "+
		fmt.Sprintf("%016x", robot.StatusTopic.Protocol.Fingerprint)+", a topic\n"+
		"//             keeps 8 messages of 4 KiB, 0 subscribers, 1 published\n", "", "",
		"describe", "topic.status")
	_, out, _ = ipcctl(t, "", "describe", "-json", "topic.status")
	var told struct{ Topics []string }
	if err := json.Unmarshal([]byte(out), &told); err != nil || len(told.Topics) != 1 ||
		told.Topics[0] != "robot.Status" {
		t.Errorf("%v, %+v", err, told)
	}
}

// TestTopicWithoutGeneratedCode reads a topic by what its server tells, and publishes it.
func TestTopicWithoutGeneratedCode(t *testing.T) {
	newDomain(t)
	serve(t, "topic.status")
	ctx := t.Context()
	conn, err := ipc.Dial(ctx, "topic.status")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server, err := dynamic.Ask(ctx, conn, "topic.status")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Schema.Topic("Statu"); err == nil {
		t.Error("a topic was found by a wrong name")
	}
	status, err := server.Schema.Topic("Status")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe(ctx, topic.Channel("topic.status"), status.Info,
		topic.SubscribeOptions{History: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	message, _, err := sub.Next(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"changes":3,"speed":0.5}`
	text, err := status.Text(message)
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}

	// Generated code reads what is published by the description.
	pub := topic.NewPublisher(status.Info, topic.Options{})
	defer pub.Close()
	if message, err = status.Buffer([]byte(want)); err == nil {
		err = pub.Publish(ctx, message)
	}
	l, lerr := ipc.Listen("copy")
	if err != nil || lerr != nil {
		t.Fatal(err, lerr)
	}
	s := ipc.NewServer(pub)
	defer s.Close()
	go s.Serve(ctx, l)
	typed, err := robot.SubscribeStatus(ctx, topic.Channel("copy"),
		topic.SubscribeOptions{History: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer typed.Close()
	var got robot.StatusT
	_, err = typed.Next(ctx, &got)
	if err != nil || got != (robot.StatusT{Changes: 3, Speed: 0.5}) {
		t.Errorf("%+v, %v", got, err)
	}
}
