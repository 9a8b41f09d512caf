//go:build !race

package golden_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A frugal implementation answers with what lies in the memory of its calls.
type frugal struct {
	kitchen.UnimplementedPantry
	kitchen.UnimplementedParcelHandler
	prepared *kitchen.KitchenT
	handled  chan struct{}
}

func (f *frugal) Fetch(ctx context.Context, req *shared.ItemT) (*kitchen.KitchenT, error) {
	rep := ipc.Scratch[kitchen.KitchenT](ctx)
	k := *f.prepared
	k.Name, k.Strings = req.Name, append(rep.Strings[:0], f.prepared.Strings...)
	*rep = k
	return rep, nil
}

func (f *frugal) Store(ctx context.Context, req *kitchen.KitchenT) (*shared.ItemT, error) {
	rep := ipc.Scratch[shared.ItemT](ctx)
	*rep = shared.ItemT{Name: req.Thing.Value.(string)}
	return rep, nil
}

func (f *frugal) Swap(_ context.Context, in iter.Seq2[*kitchen.KitchenT,
	error]) iter.Seq2[*shared.ItemT, error] {
	return func(yield func(*shared.ItemT, error) bool) {
		var rep shared.ItemT
		for req, err := range in {
			if err != nil {
				yield(nil, err)
				return
			}
			rep = shared.ItemT{Name: req.Name}
			if !yield(&rep, nil) {
				return
			}
		}
	}
}

func (f *frugal) HandleGoldenSharedItem(_ context.Context, item *shared.ItemT) error {
	if item.Name != "salt" {
		return fmt.Errorf("a message has become %+v", item)
	}
	f.handled <- struct{}{}
	return nil
}

// fewest is less than one object for each round, which is what any part of a message would be that
// is not used again, and more than what a server's contexts and waits take, which come by the dozen
// on a quiet machine and by the round on a busy one.
const fewest = 0.9

// allocates returns how many objects both sides allocate for each of many rounds of work, which the
// collector does not disturb: the least of some counts, as the runtime allocates for purposes of
// its own, and a machine that stands still makes the sides wait for each other by slower means.
func allocates(t *testing.T, work func(rounds int)) float64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const rounds = 4096 // the first item of a stream has new parts
	least := float64(rounds)
	for try := 0; try < 50 && least > fewest; try++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		work(rounds)
		runtime.ReadMemStats(&after)
		least = min(least, float64(after.Mallocs-before.Mallocs)/rounds)
	}
	return least
}

// Where handlers and callers promise not to keep what they are given, neither side allocates for
// calls, items and messages of any shape; a server makes its contexts by the dozen. With the race
// detector, pools lose what they have.
func TestRecycledCallsAllocateNothing(t *testing.T) {
	k := fullKitchen() // with strings, vectors, nested tables, and unions of every kind
	f := &frugal{prepared: k, handled: make(chan struct{})}
	domain := ipc.WithDomain(t.TempDir() + "/d")
	ipctest.Serve(t, domain, "pantry", kitchen.NewPantryService(f), kitchen.NewParcelService(f),
		ipc.WithRecycling())
	// A wait that may have to end at a deadline takes a timer.
	conn := ipctest.Dial(t, domain, "pantry",
		ipc.WithMethodTimeout("golden.kitchen.Pantry/Fetch", 0))
	c := kitchen.NewPantryClient(ipc.NewRecycler(conn))
	ctx := context.Background()
	for name, work := range map[string]func(int){
		"replies": func(rounds int) {
			req := &shared.ItemT{Name: "salt"}
			for range rounds {
				rep, err := c.Fetch(ctx, req)
				if err != nil || rep.Name != "salt" || rep.Thing.Value != "text" ||
					!slices.Equal(rep.Strings, k.Strings) {
					t.Fatalf("%+v, %v", rep, err)
				}
			}
		},
		"requests": func(rounds int) {
			for range rounds {
				if rep, err := c.Store(ctx, k); err != nil || rep.Name != "text" {
					t.Fatalf("%+v, %v", rep, err)
				}
			}
		},
		"items": func(rounds int) {
			came := make(chan struct{}, 1)
			n := 0
			for rep, err := range c.Swap(ctx, func(yield func(*kitchen.KitchenT, error) bool) {
				for range rounds {
					if !yield(k, nil) {
						return
					}
					<-came // so that no items wait, whose memory would grow
				}
			}) {
				if err != nil || rep.Name != k.Name {
					t.Fatalf("%+v, %v", rep, err)
				}
				n++
				came <- struct{}{}
			}
			if n != rounds {
				t.Fatalf("%d items came back", n)
			}
		},
		"messages": func(rounds int) {
			s, item := kitchen.NewParcelSender(conn), &shared.ItemT{Name: "salt"}
			for range rounds {
				if err := s.SendGoldenSharedItem(ctx, item); err != nil {
					t.Fatal(err)
				}
				<-f.handled
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if n := allocates(t, work); n > fewest {
				t.Errorf("%.2f allocations", n)
			}
		})
	}
}
