package golden_test

import (
	"bytes"
	"context"
	"reflect"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A recycler stores what its calls ask for, and looks at each request until it may go on.
type recycler struct {
	kitchen.UnimplementedPantry
	entered chan *kitchen.KitchenT
	leave   chan []byte // gets the request once more, as it is at the end
}

func (r *recycler) Store(_ context.Context, k *kitchen.KitchenT) (*shared.ItemT, error) {
	r.entered <- k
	r.leave <- kitchenBuffer(k)
	return &shared.ItemT{Name: k.Name}, nil
}

// kitchens are messages that differ in each of their vectors: full, absent, empty, and of one
// element.
func kitchens() []*kitchen.KitchenT {
	full := fullKitchen()
	resize := func(n int) *kitchen.KitchenT {
		k := fullKitchen()
		for info, field := range reflect.ValueOf(k).Elem().Fields() {
			if field.Kind() == reflect.Slice && info.Name != "Nested" {
				field.Set(field.Slice(0, min(n, field.Len())))
			}
		}
		return k
	}
	return []*kitchen.KitchenT{full, resize(1), new(kitchen.KitchenT), full, resize(0), resize(2),
		full}
}

// TestRecycledRequestsAreWhatWasSent compares each request that a handler gets in an object that
// was used before with the one that was sent.
func TestRecycledRequestsAreWhatWasSent(t *testing.T) {
	r := &recycler{entered: make(chan *kitchen.KitchenT, 1), leave: make(chan []byte, 1)}
	client := kitchen.NewPantryClient(ipctest.Pipe(t, ipc.WithRecycling(),
		kitchen.NewPantryService(r)))
	used := make(map[*kitchen.KitchenT]int)
	for range 10 {
		for i, k := range kitchens() {
			rep, err := client.Store(t.Context(), k)
			if err != nil || rep.Name != k.Name {
				t.Fatalf("request %d: %+v, %v", i, rep, err)
			}
			used[<-r.entered]++
			// What is sent has no nil and no default that is not read so.
			want := kitchen.GetRootAsKitchen(kitchenBuffer(k), 0).UnPack()
			if got := <-r.leave; !bytes.Equal(got, kitchenBuffer(want)) {
				t.Fatalf("request %d became %+v", i, kitchen.GetRootAsKitchen(got, 0).UnPack())
			}
		}
	}
	if len(used) == 70 { // the garbage collector takes some, and the race detector too
		t.Error("no object was used again")
	}
}

// TestRecycledRequestsAreApart keeps several calls in their handlers at a time. Each has its own
// request until the end.
func TestRecycledRequestsAreApart(t *testing.T) {
	const calls = 4
	r := &recycler{entered: make(chan *kitchen.KitchenT), leave: make(chan []byte)}
	client := kitchen.NewPantryClient(ipctest.Pipe(t, ipc.WithRecycling(),
		kitchen.NewPantryService(r)))
	for round := range 5 {
		var wg sync.WaitGroup
		want := make(map[string]bool)
		for i := range calls {
			k := &kitchen.KitchenT{Name: "x", Bytes: bytes.Repeat([]byte{byte(i)}, 1000*(i+round)),
				F64s: []float64{float64(i), float64(round)}}
			read := kitchen.GetRootAsKitchen(kitchenBuffer(k), 0).UnPack()
			want[string(kitchenBuffer(read))] = true
			wg.Go(func() {
				if _, err := client.Store(t.Context(), k); err != nil {
					t.Error(err)
				}
			})
		}
		for range calls {
			<-r.entered // all are in their handlers
		}
		for range calls {
			got := string(<-r.leave)
			if !want[got] {
				t.Errorf("a request has changed: %+v",
					kitchen.GetRootAsKitchen([]byte(got), 0).UnPack())
			}
			delete(want, got)
		}
		wg.Wait()
	}
}
