package topic_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestVersions lets publishers and subscribers with different versions of a message meet. The rule
// is that of calls.
func TestVersions(t *testing.T) {
	const old = "table test.Meter\nfield 0 peak float32 0\n"
	longer := old + "field 1 rms float32 0\n"
	renamed := strings.Replace(old, "peak", "top", 1)
	tables := []struct {
		name, ours, theirs string
		want               ipc.Code
		says               string
	}{
		{"a field that is new there", old, longer, ipc.CodeOK, ""},
		{"a field that is new here", longer, old, ipc.CodeOK, ""},
		{"another field", old, renamed, ipc.CodeIncompatible, "another field needs another id"},
		{"a struct there", old, "struct test.Meter 4 4\nfield 0 peak float32 0\n",
			ipc.CodeIncompatible, "table test.Meter is a struct there"},
		{"no description here", "", old, ipc.CodeIncompatible, "build both from the same schema"},
		{"no description there", old, "", ipc.CodeIncompatible, "build both from the same schema"},
		{"nonsense there", old, "nonsense", ipc.CodeIncompatible, "the peer's protocol test.Meter"},
	}
	overEach(t, func(t *testing.T, where ipc.RendezvousOption) {
		for i, c := range tables {
			channel := "versions" + string(rune('a'+i))
			version := func(text string, fingerprint uint64) *topic.Info {
				return &topic.Info{Protocol: &ipc.Protocol{Name: "test.Meter", Schema: text,
					Fingerprint: fingerprint}}
			}
			p := topic.NewPublisher(version(c.theirs, 1), topic.Options{})
			t.Cleanup(func() { p.Close() })
			ipctest.Serve(t, where, channel, p)
			s, err := topic.Subscribe(within(t), topic.Channel(channel, where),
				version(c.ours, 2), topic.SubscribeOptions{})
			if ipc.CodeOf(err) != c.want || c.says != "" && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", c.name, err)
			}
			if err != nil {
				continue
			}
			if err := p.Publish(within(t), []byte("a message")); err != nil {
				t.Fatal(err)
			}
			if m, _, err := s.Next(within(t), nil); string(m) != "a message" {
				t.Errorf("%s: %q, %v", c.name, m, err)
			}
			s.Close()
		}
	})
}

// TestHostileDescription offers a description that is longer than the memory that it stands in.
func TestHostileDescription(t *testing.T) {
	network := ipctest.NewNetwork()
	p := topic.NewPublisher(meter, topic.Options{})
	defer p.Close()
	kind := &ipc.LinkKind{
		Protocol: &ipc.Protocol{Name: "test.Meter", Fingerprint: 1,
			Schema: strings.Repeat("table t\n", 1<<10)},
		Open: func(r ipc.LinkRequest) (*ipc.LinkOffer, error) {
			m, err := r.NewMemory(4096)
			return &ipc.LinkOffer{Memory: []shm.Memory{m, m}, Sizes: [2]uint32{4096, 4096},
				Run:   func(context.Context, *ipc.LinkEnd) error { return nil },
				Close: func() {}}, err
		},
	}
	ipctest.Serve(t, network, "hostile", ipc.ServeLinks(kind))
	source, err := ipc.NewLinkSource("hostile", network)
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Open(within(t), &ipc.Protocol{Name: "test.Meter", Fingerprint: 2,
		Schema: "table test.Meter\n"}, [4]uint32{},
		func(memory []shm.Memory, sizes [3]int) ([]byte, error) {
			return memory[0].Map(sizes[0])
		})
	if ipc.CodeOf(err) != ipc.CodeCorrupt || !strings.Contains(err.Error(), "is too long") {
		t.Error(err)
	}
}

// TestStructsHaveTheirSize publishes bytes that are no struct of the topic.
func TestStructsHaveTheirSize(t *testing.T) {
	network := ipctest.NewNetwork()
	eight := &topic.Type[[8]byte]{Protocol: &ipc.Protocol{Name: "test.Eight", Fingerprint: 8},
		Size: 8,
		Encode: func(b *flatbuffers.Builder, m *[8]byte) error {
			if m[0] == 1 {
				return errors.New("not this one")
			}
			b.Prep(8, 8)
			for i := range m {
				b.PlaceByte(m[7-i])
			}
			return nil
		},
		Decode: func(message []byte, m *[8]byte) { copy(m[:], message) }}
	p := topic.NewTypedPublisher(eight, topic.Options{})
	defer p.Close()
	ipctest.Serve(t, network, channelName, p)
	s, err := topic.SubscribeTyped(within(t), topic.Channel(channelName, network), eight,
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := [8]byte{3, 1, 4, 1, 5, 9, 2, 6}
	if err := p.Publish(within(t), &m); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(within(t), &[8]byte{1}); err == nil || err.Error() != "not this one" {
		t.Error(err)
	}
	var got [8]byte
	if a, err := s.Next(within(t), &got); err != nil || got != m || a.Number != 0 {
		t.Errorf("%v, %+v, %v", got, a, err)
	}
	heardOf(t, p.Bytes(), 1)
	if err := p.Bytes().Publish(within(t), make([]byte, 9)); ipc.CodeOf(err) != ipc.CodeTooLarge {
		t.Error(err)
	}
	if err := p.Bytes().Publish(within(t), make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(within(t), &got); ipc.CodeOf(err) != ipc.CodeCorrupt {
		t.Error(err)
	}
}
