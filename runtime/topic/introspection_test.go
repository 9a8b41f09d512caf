package topic_test

import (
	"testing"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestServerTellsOfItsTopics describes a server with topics, whose numbers follow what happens.
func TestServerTellsOfItsTopics(t *testing.T) {
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		status := robot.NewStatusPublisher(topic.Options{Depth: 8, MaxMessage: 100})
		t.Cleanup(func() { status.Close() })
		p := publisher(t, where, topic.Options{InPlace: -1}, status)
		conn, err := ipc.Dial(within(t), channelName, where)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()

		describe := func() (status, meter *introspect.ProtocolT) {
			d, err := ipc.Describe(within(t), conn)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Protocols) != 2 {
				t.Fatalf("%d protocols", len(d.Protocols))
			}
			return d.Protocols[0], d.Protocols[1]
		}
		s, m := describe()
		if s.Name != "robot.Status" || s.Stream || s.Definition != 0 ||
			s.Fingerprint != robot.StatusTopic.Protocol.Fingerprint || s.Topic == nil ||
			*s.Topic != (introspect.TopicT{Depth: 8, MaxMessage: 100, InPlace: 4}) {
			t.Errorf("%+v, %+v", s, s.Topic)
		}
		if m.Name != "test.Meter" || m.Stream || m.Definition != -1 || m.Topic == nil ||
			*m.Topic != (introspect.TopicT{Depth: 64, MaxMessage: 4 << 10}) {
			t.Errorf("%+v, %+v", m, m.Topic)
		}
		definition, err := ipc.ReadDefinition(within(t), conn, 0)
		if err != nil || string(definition) != robot.StatusTopic.Protocol.Definition {
			t.Errorf("a definition of %d bytes, %v", len(definition), err)
		}

		subscribe(t, where, topic.SubscribeOptions{})
		publish(t, p, 0, 3)
		for m.Topic.Subscribers == 0 { // until the subscriber's consent has arrived
			_, m = describe()
		}
		if m.Topic.Subscribers != 1 || m.Topic.Published != 3 {
			t.Errorf("%+v", m.Topic)
		}
		if h, err := conn.Health(within(t), "test.Meter"); err != nil || h != ipc.HealthServing {
			t.Errorf("the topic is %v, %v", h, err)
		}
	})
}
