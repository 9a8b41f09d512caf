//go:build !race

package golden_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// Where a subscriber promises not to keep the messages, neither it nor the publisher allocates for
// those of any shape, by whatever policy. With the race detector, pools lose what they have.
func TestRecycledTopicsAllocateNothing(t *testing.T) {
	ctx := context.Background() // the least that a call can have
	k := fullKitchen()          // with strings, vectors, nested tables, and unions of every kind
	options := topic.Options{Depth: 4, MaxMessage: 1 << 14}
	kitchens := kitchen.NewKitchenPublisher(options)
	defer kitchens.Close()
	frames := kitchen.NewFramePublisher(options)
	defer frames.Close()
	grids := kitchen.NewGridPublisher(options)
	defer grids.Close()
	parcels := kitchen.NewParcelPublisher(options)
	defer parcels.Close()
	from := serveTopics(t, kitchens, frames, grids, parcels)

	same := func(m *kitchen.KitchenT) bool {
		return m.Name == k.Name && m.Thing.Value == "text" && slices.Equal(m.Strings, k.Strings)
	}
	for name, o := range map[string]topic.SubscribeOptions{
		"lossy":    {},
		"lossless": {Policy: topic.Lossless},
		"latest":   {Policy: topic.Latest},
		"history":  {History: 4},
		"in place": {InPlace: true},
	} {
		o.Recycling = true
		t.Run(name, func(t *testing.T) {
			s, err := kitchen.SubscribeKitchen(ctx, from, o)
			check(t, err)
			defer func() { check(t, s.Close()) }()
			var own kitchen.KitchenT
			if n := allocates(t, func(rounds int) {
				check(t, kitchens.Publish(ctx, k))
				n := 0
				for m, err := range s.All(ctx) {
					check(t, err)
					if !same(m) {
						t.Fatalf("%+v", m)
					}
					if n++; n == rounds {
						break
					}
					for range 1 + n%2*7 { // more than fit, if they may be lost
						check(t, kitchens.Publish(ctx, k))
						if o.Policy == topic.Lossless {
							break
						}
					}
				}
			}); n > fewest {
				t.Errorf("%.2f allocations of All", n)
			}
			if n := allocates(t, func(rounds int) {
				for range rounds {
					check(t, kitchens.Publish(ctx, k))
					if _, err := s.Next(ctx, &own); err != nil || !same(&own) {
						t.Fatalf("%+v, %v", &own, err)
					}
				}
			}); n > fewest {
				t.Errorf("%.2f allocations of Next", n)
			}
			if n := allocates(t, func(rounds int) {
				for range rounds {
					if _, ok, err := s.Latest(ctx, &own); err != nil || !ok || !same(&own) {
						t.Fatalf("%+v, %v", &own, err)
					}
				}
			}); n > fewest {
				t.Errorf("%.2f allocations of Latest", n)
			}
		})
	}

	recycling := topic.SubscribeOptions{Recycling: true}
	t.Run("payloads", func(t *testing.T) {
		s, err := kitchen.SubscribeFrame(ctx, from, recycling)
		check(t, err)
		defer s.Close()
		f := topic.Block[kitchen.FrameT]{Header: kitchen.FrameT{Number: 5},
			Payload: bytes.Repeat([]byte("pixels"), 100)}
		var got topic.Block[kitchen.FrameT]
		if n := allocates(t, func(rounds int) {
			for range rounds {
				check(t, frames.Publish(ctx, &f))
				if _, err := s.Next(ctx, &got); err != nil || got.Header != f.Header ||
					!bytes.Equal(got.Payload, f.Payload) {
					t.Fatalf("%+v, %v", got, err)
				}
			}
		}); n > fewest {
			t.Errorf("%.2f allocations", n)
		}
	})
	t.Run("structs in structs", func(t *testing.T) {
		s, err := kitchen.SubscribeGrid(ctx, from, recycling)
		check(t, err)
		defer s.Close()
		var got kitchen.GridT
		if n := allocates(t, func(rounds int) {
			for range rounds {
				check(t, grids.Publish(ctx, k.Grid))
				if _, err := s.Next(ctx, &got); err != nil || got.Id != k.Grid.Id {
					t.Fatalf("%+v, %v", got, err)
				}
			}
		}); n > fewest {
			t.Errorf("%.2f allocations", n)
		}
	})
	t.Run("envelopes", func(t *testing.T) {
		s, err := kitchen.SubscribeParcel(ctx, from, recycling)
		check(t, err)
		defer s.Close()
		h := &countingHandler{leaf: kitchen.LeafT{V: 1}, publish: func(m *kitchen.LeafT) error {
			return parcels.PublishLeaf(ctx, m)
		}}
		if n := allocates(t, func(rounds int) {
			h.left = rounds
			check(t, h.publish(&h.leaf))
			if err := s.Handle(ctx, h); err != errLast {
				t.Fatal(err)
			}
		}); n > fewest {
			t.Errorf("%.2f allocations", n)
		}
	})
}

// A countingHandler publishes a leaf for each that it gets, until none is left.
type countingHandler struct {
	kitchen.UnimplementedParcelHandler
	leaf    kitchen.LeafT
	left    int
	publish func(*kitchen.LeafT) error
}

func (h *countingHandler) HandleLeaf(_ context.Context, m *kitchen.LeafT) error {
	if m.V != h.leaf.V {
		return errors.New("a leaf has changed")
	}
	if h.left--; h.left == 0 {
		return errLast
	}
	return h.publish(&h.leaf)
}
