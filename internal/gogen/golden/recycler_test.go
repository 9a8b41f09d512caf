package golden_test

import (
	"bytes"
	"context"
	"iter"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A provider answers with kitchens, in the order in which it has them.
type provider struct {
	kitchen.UnimplementedPantry
	next, all []*kitchen.KitchenT
}

func (p *provider) take() *kitchen.KitchenT {
	if len(p.next) == 0 {
		p.next = p.all
	}
	k := p.next[0]
	p.next = p.next[1:]
	return k
}

func (p *provider) Fetch(context.Context, *shared.ItemT) (*kitchen.KitchenT, error) {
	return p.take(), nil
}

func (p *provider) List(context.Context, *shared.ItemT) iter.Seq2[*kitchen.KitchenT, error] {
	return func(yield func(*kitchen.KitchenT, error) bool) {
		for _, k := range p.all {
			if !yield(k, nil) {
				return
			}
		}
	}
}

// Fill answers with a kitchen when the items have ended.
func (p *provider) Fill(_ context.Context, in iter.Seq2[*shared.ItemT,
	error]) (*kitchen.KitchenT, error) {
	for _, err := range in {
		if err != nil {
			return nil, err
		}
	}
	return p.take(), nil
}

// Swap tells in the name of each answer what it was asked with.
func (p *provider) Swap(_ context.Context, in iter.Seq2[*kitchen.KitchenT,
	error]) iter.Seq2[*shared.ItemT, error] {
	return func(yield func(*shared.ItemT, error) bool) {
		for k, err := range in {
			if !yield(&shared.ItemT{Name: string(kitchenBuffer(k))}, err) {
				return
			}
		}
	}
}

// asRead returns what a kitchen is for those who read it: nothing is nil, and no default is absent.
func asRead(k *kitchen.KitchenT) []byte {
	return kitchenBuffer(kitchen.GetRootAsKitchen(kitchenBuffer(k), 0).UnPack())
}

// pantries are what calls providers, whose requests are recycled: a connection, and a carrier.
func pantries(t *testing.T, all []*kitchen.KitchenT) map[string]ipc.Caller {
	h, err := ipc.NewHandler(kitchen.NewPantryService(&provider{all: all}), ipc.WithRecycling())
	if err != nil {
		t.Fatal(err)
	}
	carried, err := ipc.NewCarrierClient(h)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]ipc.Caller{
		"connection": ipctest.Pipe(t, ipc.WithRecycling(),
			kitchen.NewPantryService(&provider{all: all})),
		"carrier": carried,
	}
}

// Each reply and each item that a Recycler decodes into the object of the one before is what was
// sent.
func TestRecycledRepliesAreWhatWasSent(t *testing.T) {
	all := kitchens()
	for name, caller := range pantries(t, all) {
		t.Run(name, func(t *testing.T) {
			c := kitchen.NewPantryClient(ipc.NewRecycler(caller))
			used := make(map[*kitchen.KitchenT]bool)
			for round := range 3 * len(all) {
				rep, err := c.Fetch(t.Context(), &shared.ItemT{})
				if err != nil {
					t.Fatal(err)
				}
				used[rep] = true
				if !bytes.Equal(kitchenBuffer(rep), asRead(all[round%len(all)])) {
					t.Fatalf("reply %d has become %+v", round, rep)
				}
			}
			if len(used) != 1 {
				t.Errorf("%d objects for replies", len(used))
			}
			clear(used)
			i := 0
			for item, err := range c.List(t.Context(), &shared.ItemT{}) {
				if err != nil {
					t.Fatal(err)
				}
				used[item] = true
				if !bytes.Equal(kitchenBuffer(item), asRead(all[i])) {
					t.Fatalf("item %d has become %+v", i, item)
				}
				i++
			}
			if i != len(all) || name == "connection" && len(used) != 1 {
				t.Errorf("%d items in %d objects", i, len(used))
			}
			rep, err := c.Fill(t.Context(), func(yield func(*shared.ItemT, error) bool) {
				_ = yield(&shared.ItemT{Name: "a"}, nil) && yield(&shared.ItemT{Name: "b"}, nil)
			})
			if err != nil || !bytes.Equal(kitchenBuffer(rep), asRead(all[0])) {
				t.Errorf("the reply to a sequence: %+v, %v", rep, err)
			}
		})
	}
}

// Each item that a handler gets in the object of the one before is what was sent, also when the
// handler leaves its loop and goes on in another one.
func TestRecycledItemsAreWhatWasSent(t *testing.T) {
	all := kitchens()
	for name, caller := range pantries(t, all) {
		t.Run(name, func(t *testing.T) {
			c := kitchen.NewPantryClient(caller)
			i := 0
			for item, err := range c.Swap(t.Context(), func(yield func(*kitchen.KitchenT,
				error) bool) {
				for _, k := range all {
					if !yield(k, nil) {
						return
					}
				}
			}) {
				if err != nil {
					t.Fatal(err)
				}
				if item.Name != string(asRead(all[i])) {
					t.Fatalf("item %d has become %+v", i,
						kitchen.GetRootAsKitchen([]byte(item.Name), 0).UnPack())
				}
				i++
			}
			if i != len(all) {
				t.Errorf("%d items", i)
			}
		})
	}
}
