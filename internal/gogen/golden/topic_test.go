package golden_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// serveTopics makes publishers options of one server, and returns where their topics are found.
func serveTopics(t *testing.T, publishers ...ipc.ServerOption) topic.Source {
	network := ipctest.NewNetwork()
	ipctest.Serve(t, network, "topics", publishers...)
	return topic.Channel("topics", network)
}

// check fails the test if a step has failed.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestTopicOfStructs publishes structs as objects and in place, and reads them in every way.
func TestTopicOfStructs(t *testing.T) {
	ctx := minute(t)
	p := kitchen.NewGridPublisher(topic.Options{})
	defer p.Close()
	from := serveTopics(t, p)
	s, err := kitchen.SubscribeGrid(ctx, from, topic.SubscribeOptions{InPlace: true})
	check(t, err)
	defer s.Close()
	if ipc.CodeOf(p.Publish(ctx, nil)) != ipc.CodeInvalidArgument {
		t.Error("nil was published")
	}
	grid := fullKitchen().Grid
	check(t, p.Publish(ctx, grid))
	stop := errors.New("stop")
	if err := p.Write(ctx, func(*kitchen.Grid) error { return stop }); err != stop {
		t.Error(err)
	}
	check(t, p.Write(ctx, func(m *kitchen.Grid) error {
		m.MutateId(8)
		m.MutateF(1.5)
		return nil
	}))

	var got kitchen.GridT
	if a, err := s.Next(ctx, &got); err != nil || !reflect.DeepEqual(&got, grid) || a.Number != 0 {
		t.Errorf("%+v, %+v, %v", got, a, err)
	}
	check(t, s.Read(ctx, func(m *kitchen.Grid, a topic.Arrival) error {
		if m.Id() != 8 || m.F() != 1.5 || a.Number != 1 || a.Lost != 0 {
			t.Errorf("%d, %v, %+v", m.Id(), m.F(), a)
		}
		return nil
	}))
	if _, ok, err := s.Latest(ctx, &got); err != nil || !ok || got.Id != 8 {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	check(t, p.Close())
	done, cancel := context.WithCancel(ctx)
	cancel()
	for m, err := range s.All(done) {
		if m != nil || ipc.CodeOf(err) != ipc.CodeCanceled {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if ipc.CodeOf(p.Publish(ctx, grid)) != ipc.CodeUnavailable {
		t.Error("published after Close")
	}
}

// TestTopicOfStructsWithPayload publishes structs with raw bytes behind them, as objects and in
// place, and reads them in every way.
func TestTopicOfStructsWithPayload(t *testing.T) {
	ctx := minute(t)
	p := kitchen.NewFramePublisher(topic.Options{})
	defer p.Close()
	from := serveTopics(t, p)
	s, err := kitchen.SubscribeFrame(ctx, from, topic.SubscribeOptions{InPlace: true})
	check(t, err)
	defer s.Close()
	type frame = topic.Block[kitchen.FrameT]
	if ipc.CodeOf(p.Publish(ctx, nil)) != ipc.CodeInvalidArgument {
		t.Error("nil was published")
	}
	first := &frame{Header: kitchen.FrameT{Number: 1, Width: 2, Level: kitchen.LevelHigh},
		Payload: []byte("pixels")}
	check(t, p.Publish(ctx, first))
	check(t, p.Publish(ctx, &frame{Header: kitchen.FrameT{Number: 2}}))
	fill := func(header *kitchen.Frame, payload []byte) error {
		header.MutateNumber(3)
		header.MutateWidth(9)
		header.MutateLevel(kitchen.LevelLow)
		copy(payload, "12345")
		return nil
	}
	check(t, p.Write(ctx, 5, fill))
	for n, want := range map[int]ipc.Code{-1: ipc.CodeInvalidArgument,
		math.MinInt: ipc.CodeInvalidArgument, 4<<10 + 1: ipc.CodeTooLarge,
		math.MaxInt: ipc.CodeTooLarge} {
		if err := p.Write(ctx, n, fill); ipc.CodeOf(err) != want {
			t.Errorf("a payload of %d bytes: %v", n, err)
		}
	}

	got := frame{Payload: make([]byte, 100)}
	if _, err := s.Next(ctx, &got); err != nil || !reflect.DeepEqual(&got, first) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Next(ctx, &got); err != nil || got.Header.Number != 2 || len(got.Payload) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	check(t, s.Read(ctx, func(header *kitchen.Frame, payload []byte, a topic.Arrival) error {
		if header.Number() != 3 || header.Width() != 9 || header.Level() != kitchen.LevelLow ||
			string(payload) != "12345" || a.Number != 2 || a.Lost != 0 {
			t.Errorf("%d, %q, %+v", header.Number(), payload, a)
		}
		return nil
	}))
	if _, ok, err := s.Latest(ctx, &got); err != nil || !ok || string(got.Payload) != "12345" {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	check(t, p.Write(ctx, 4<<10, fill)) // the default has room for it
	for m, err := range s.All(ctx) {
		if err != nil || m.Header.Number != 3 || len(m.Payload) != 4<<10 {
			t.Errorf("%+v, %v", m, err)
		}
		break
	}

	// A message without the whole struct ends the subscription.
	check(t, p.Bytes().Publish(ctx, make([]byte, 15)))
	if _, err := s.Next(ctx, &got); ipc.CodeOf(err) != ipc.CodeCorrupt {
		t.Errorf("half of a struct: %v", err)
	}
	// A struct without a payload is another topic.
	bare := &topic.Info{Protocol: &ipc.Protocol{Name: "golden.kitchen.Frame",
		Schema: strings.Replace(kitchen.FrameTopic.Protocol.Schema, " payload", "", 1)}}
	if s, err := topic.Subscribe(ctx, from, bare, topic.SubscribeOptions{}); ipc.CodeOf(err) !=
		ipc.CodeIncompatible || !strings.Contains(err.Error(), `"16 8" here and "16 8 payload"`) {
		t.Errorf("%v, %v", s, err)
	}
}

// TestTopicOfTables publishes tables as objects and built by hand.
func TestTopicOfTables(t *testing.T) {
	ctx := minute(t)
	p := kitchen.NewKitchenPublisher(topic.Options{})
	defer p.Close()
	from := serveTopics(t, p)
	s, err := kitchen.SubscribeKitchen(ctx, from, topic.SubscribeOptions{})
	check(t, err)
	defer s.Close()
	full := fullKitchen()
	check(t, p.Publish(ctx, full))
	check(t, p.Build(ctx, func(b *flatbuffers.Builder) error {
		name := b.CreateString("built")
		kitchen.KitchenStart(b)
		kitchen.KitchenAddName(b, name)
		kitchen.FinishKitchenBuffer(b, kitchen.KitchenEnd(b))
		return nil
	}))
	// A message that no subscriber could read is refused before it is published.
	bad := fullKitchen()
	bad.Thing = &kitchen.ThingT{Type: kitchen.ThingLeaf, Value: 5}
	if err := p.Publish(ctx, bad); err == nil {
		t.Error("a union of a wrong type was published")
	}
	if err := p.Publish(ctx, &kitchen.KitchenT{Bytes: make([]byte, 1<<20)}); ipc.CodeOf(err) !=
		ipc.CodeTooLarge {
		t.Errorf("a long message: %v", err)
	}

	want, n := []string{full.Name, "built"}, 0
	for m, err := range s.All(ctx) {
		check(t, err)
		if m.Name != want[n] || s.Arrival().Number != uint64(n) {
			t.Errorf("%q, %+v", m.Name, s.Arrival())
		}
		if n++; n == len(want) {
			break
		}
	}
	check(t, p.Publish(ctx, full))
	check(t, s.Read(ctx, func(m *kitchen.Kitchen, a topic.Arrival) error {
		if string(m.Name()) != full.Name || a.Number != 2 {
			t.Errorf("%s, %+v", m.Name(), a)
		}
		return nil
	}))
	// A malformed message ends the subscription.
	check(t, p.Bytes().Publish(ctx, []byte("not a FlatBuffer")))
	if _, err := s.Next(ctx, new(kitchen.KitchenT)); ipc.CodeOf(err) != ipc.CodeCorrupt {
		t.Errorf("a malformed message: %v", err)
	}
}

// TestTopicOfEnvelopes publishes the members of a union, and has a handler get them.
func TestTopicOfEnvelopes(t *testing.T) {
	ctx := minute(t)
	p := kitchen.NewParcelPublisher(topic.Options{})
	defer p.Close()
	s, err := kitchen.SubscribeParcel(ctx, serveTopics(t, p), topic.SubscribeOptions{})
	check(t, err)
	defer s.Close()
	check(t, p.PublishLeaf(ctx, &kitchen.LeafT{V: 7}))
	check(t, p.Publish(ctx, &kitchen.ParcelT{Note: "no member"}))
	check(t, p.PublishInner(ctx, &kitchen.InnerT{B: 5}))
	check(t, p.PublishText(ctx, "text"))
	check(t, p.PublishGoldenSharedItem(ctx, &shared.ItemT{Name: "item"}))
	check(t, p.PublishL2(ctx, &kitchen.LeafT{}))
	if ipc.CodeOf(p.PublishLeaf(ctx, nil)) != ipc.CodeInvalidArgument {
		t.Error("nil was published")
	}
	h := lastItem{make(parcels, 10)}
	if err := s.Handle(ctx, h); err != errLast {
		t.Error(err)
	}
	close(h.parcels)
	var got []string
	for what := range h.parcels {
		got = append(got, what)
	}
	if want := []string{"leaf 7", "inner 5", "text text", "item item"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	var none kitchen.UnimplementedParcelHandler
	if err := s.Handle(ctx, none); ipc.CodeOf(err) != ipc.CodeUnimplemented {
		t.Errorf("a member without a handler: %v", err)
	}
}

// A lastItem records parcels until an item has come.
type lastItem struct{ parcels }

var errLast = errors.New("the last parcel")

func (p lastItem) HandleGoldenSharedItem(ctx context.Context, m *shared.ItemT) error {
	if err := p.parcels.HandleGoldenSharedItem(ctx, m); err != nil {
		return err
	}
	return errLast
}
