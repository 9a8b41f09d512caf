package golden_test

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func (o *oracle) Watch(_ context.Context, leaf *kitchen.LeafT) iter.Seq2[*kitchen.MaybeT, error] {
	return func(yield func(*kitchen.MaybeT, error) bool) {
		for n := range leaf.V {
			if !yield(&kitchen.MaybeT{U64: ptr(uint64(n))}, nil) {
				return
			}
		}
		if leaf.V == 3 {
			yield(nil, ipc.Errorf(ipc.CodeNotFound, "no more than three"))
		}
	}
}

func (o *oracle) Pour(_ context.Context, in iter.Seq2[*kitchen.LeafT, error]) (*kitchen.MaybeT,
	error) {
	var sum uint64
	for leaf, err := range in {
		if err != nil {
			return nil, err
		}
		sum += uint64(leaf.V)
	}
	return &kitchen.MaybeT{U64: &sum}, nil
}

func (o *oracle) Talk(_ context.Context,
	in iter.Seq2[*kitchen.ScalarsT, error]) iter.Seq2[*kitchen.MaybeT, error] {
	return func(yield func(*kitchen.MaybeT, error) bool) {
		for s, err := range in {
			if !yield(&kitchen.MaybeT{U64: &s.U64}, err) {
				return
			}
		}
	}
}

func (pantry) List(_ context.Context, item *shared.ItemT) iter.Seq2[*kitchen.KitchenT, error] {
	return func(yield func(*kitchen.KitchenT, error) bool) {
		for n := range 3 {
			if !yield(&kitchen.KitchenT{Name: fmt.Sprint(item.Name, n)}, nil) {
				return
			}
		}
	}
}

func (pantry) Fill(_ context.Context, in iter.Seq2[*shared.ItemT, error]) (*kitchen.KitchenT,
	error) {
	var k kitchen.KitchenT
	for item, err := range in {
		if err != nil {
			return nil, err
		}
		k.Items = append(k.Items, item)
	}
	return &k, nil
}

func (pantry) Swap(_ context.Context,
	in iter.Seq2[*kitchen.KitchenT, error]) iter.Seq2[*shared.ItemT, error] {
	return func(yield func(*shared.ItemT, error) bool) {
		for k, err := range in {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&shared.ItemT{Name: k.Name}, nil) {
				return
			}
		}
	}
}

// each yields f of the numbers below n.
func each[T any](n int, f func(int) *T) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for i := range n {
			if !yield(f(i), nil) {
				return
			}
		}
	}
}

// collect takes all items, and the error behind them.
func collect[T any](items iter.Seq2[*T, error]) (all []*T, err error) {
	for item, err := range items {
		if err != nil {
			return all, err
		}
		all = append(all, item)
	}
	return all, nil
}

// TestStreamingMethodsInEnvelopes uses every kind of streaming method of a service that travels in
// envelopes, through a connection and directly: one interface serves both.
func TestStreamingMethodsInEnvelopes(t *testing.T) {
	for name, o := range map[string]kitchen.Oracle{
		"client": kitchen.NewOracleClient(connect(t, kitchen.NewOracleService(new(oracle)))),
		"in place": kitchen.NewOracleClient(connect(t, kitchen.NewOracleInPlaceService(new(oracle),
			kitchen.OracleInPlaceHandlers{}))),
		"itself": new(oracle),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			got, err := collect(o.Watch(ctx, &kitchen.LeafT{V: 1000}))
			if err != nil || len(got) != 1000 || *got[999].U64 != 999 {
				t.Errorf("watched %d, %v", len(got), err)
			}
			got, err = collect(o.Watch(ctx, &kitchen.LeafT{V: 3}))
			if ipc.CodeOf(err) != ipc.CodeNotFound || len(got) != 3 {
				t.Errorf("watched %d, %v", len(got), err)
			}
			sum, err := o.Pour(ctx, each(100, func(i int) *kitchen.LeafT {
				return &kitchen.LeafT{V: int32(i)}
			}))
			if err != nil || *sum.U64 != 4950 {
				t.Errorf("poured: %v, %v", sum, err)
			}
			got, err = collect(o.Talk(ctx, each(100, func(i int) *kitchen.ScalarsT {
				return &kitchen.ScalarsT{U64: uint64(i)}
			})))
			if err != nil || len(got) != 100 || *got[99].U64 != 99 {
				t.Errorf("talked: %d, %v", len(got), err)
			}
		})
	}
	c := kitchen.NewOracleClient(connect(t, kitchen.NewOracleService(
		struct{ kitchen.UnimplementedOracle }{})))
	_, err := collect(c.Watch(t.Context(), &kitchen.LeafT{}))
	_, err2 := c.Pour(t.Context(), nil)
	for _, err := range []error{err, err2} {
		if ipc.CodeOf(err) != ipc.CodeUnimplemented || ipc.OutcomeOf(err) != ipc.NotExecuted {
			t.Errorf("an unimplemented method: %v", err)
		}
	}
}

// TestStreamingMethodsInFrames does so for a service in the runtime's frame, with types of another
// package.
func TestStreamingMethodsInFrames(t *testing.T) {
	for name, p := range map[string]kitchen.Pantry{
		"client": kitchen.NewPantryClient(connect(t, kitchen.NewPantryService(pantry{}))),
		"itself": pantry{},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			list, err := collect(p.List(ctx, &shared.ItemT{Name: "egg"}))
			if err != nil || len(list) != 3 || list[2].Name != "egg2" {
				t.Errorf("listed %v, %v", list, err)
			}
			k, err := p.Fill(ctx, each(3, func(i int) *shared.ItemT {
				return &shared.ItemT{Name: fmt.Sprint(i)}
			}))
			if err != nil || len(k.Items) != 3 || k.Items[2].Name != "2" {
				t.Errorf("filled: %v, %v", k, err)
			}
			items, err := collect(p.Swap(ctx, each(3, func(i int) *kitchen.KitchenT {
				return &kitchen.KitchenT{Name: fmt.Sprint(i)}
			})))
			if err != nil || len(items) != 3 || items[2].Name != "2" {
				t.Errorf("swapped: %v, %v", items, err)
			}
		})
	}
}
