package golden_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// Each message that a subscription decodes into the object of the one before is what was published,
// and stays so while the newest one is looked at.
func TestRecycledTopicsAreWhatWasPublished(t *testing.T) {
	ctx := minute(t)
	all := kitchens()
	for name, o := range map[string]topic.SubscribeOptions{
		"lossy":    {},
		"lossless": {Policy: topic.Lossless},
		"in place": {InPlace: true},
		"history":  {History: 100},
	} {
		o.Recycling = true
		t.Run(name, func(t *testing.T) {
			p := kitchen.NewKitchenPublisher(topic.Options{Depth: 4 * len(all),
				MaxMessage: 1 << 14})
			defer p.Close()
			from := serveTopics(t, p)
			s, err := kitchen.SubscribeKitchen(ctx, from, o)
			check(t, err)
			defer s.Close()
			for range 3 {
				for _, k := range all {
					check(t, p.Publish(ctx, k))
				}
			}
			last := asRead(all[len(all)-1])
			var newest kitchen.KitchenT
			used := make(map[*kitchen.KitchenT]bool)
			i := 0
			for m, err := range s.All(ctx) {
				check(t, err)
				if _, ok, err := s.Latest(ctx, &newest); err != nil || !ok ||
					!bytes.Equal(kitchenBuffer(&newest), last) {
					t.Fatalf("the newest message has become %+v, %v", &newest, err)
				}
				if !bytes.Equal(kitchenBuffer(m), asRead(all[i%len(all)])) {
					t.Fatalf("message %d has become %+v", i, m)
				}
				used[m] = true
				if i++; i == 3*len(all) {
					break
				}
			}
			if len(used) != 1 {
				t.Errorf("the messages were in %d objects", len(used))
			}
			check(t, p.Publish(ctx, all[0]))
			var own kitchen.KitchenT
			if _, err := s.Next(ctx, &own); err != nil ||
				!bytes.Equal(kitchenBuffer(&own), asRead(all[0])) {
				t.Errorf("%+v, %v", &own, err)
			}
			if !bytes.Equal(kitchenBuffer(&newest), last) {
				t.Error("what Latest has read has changed by Next")
			}
		})
	}
}

// A slowFeed says when a subscription waits, and what comes.
type slowFeed struct{ waits, comes chan []byte }

func (f slowFeed) LinkSource() (*ipc.LinkSource, error) { panic("not called") }

func (f slowFeed) Feed(context.Context, *topic.Info, topic.SubscribeOptions) (topic.Feed, error) {
	return f, nil
}

func (f slowFeed) Next(context.Context, []byte) ([]byte, topic.Arrival, error) {
	f.waits <- nil
	return <-f.comes, topic.Arrival{}, nil
}

func (f slowFeed) Latest(_ context.Context, buf []byte) ([]byte, topic.Arrival, bool, error) {
	return buf, topic.Arrival{}, false, nil
}

func (f slowFeed) Close() error { return nil }

// A subscription that recycles has the memory of one message, so it refuses a second goroutine.
func TestRecycledTopicsBelongToOneGoroutine(t *testing.T) {
	f := slowFeed{make(chan []byte), make(chan []byte)}
	s, err := kitchen.SubscribeKitchen(t.Context(), f, topic.SubscribeOptions{Recycling: true})
	check(t, err)
	defer s.Close()
	var m, other kitchen.KitchenT
	done := make(chan error)
	go func() {
		_, err := s.Next(t.Context(), &m)
		done <- err
	}()
	<-f.waits
	if _, err := s.Next(t.Context(), &other); ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
		t.Error(err)
	}
	if _, _, err := s.Latest(t.Context(), &other); ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
		t.Error(err)
	}
	for m, err := range s.All(t.Context()) {
		if m != nil || ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
			t.Errorf("%+v, %v", m, err)
		}
	}
	f.comes <- kitchenBuffer(fullKitchen())
	check(t, <-done)
	if m.Name != fullKitchen().Name {
		t.Errorf("%+v", &m)
	}
	if _, ok, err := s.Latest(t.Context(), &other); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
