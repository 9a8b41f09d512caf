package golden_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// pattern returns n bytes that differ from those of another seed.
func pattern(n int, seed byte) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(i*7+i>>8) ^ seed
	}
	return v
}

// largeKitchen returns a message whose vectors of bytes have about n bytes, in a table, in another
// one within it, and beside vectors of numbers, which are as long in all.
func largeKitchen(n int, seed byte) *kitchen.KitchenT {
	k := &kitchen.KitchenT{Name: fmt.Sprint("kitchen ", seed), Strings: []string{"a", "b"}}
	switch seed % 4 {
	case 0: // most of the message is one vector
		k.Bytes = pattern(n, seed)
	case 1: // which lies deeper
		k.Next = &kitchen.KitchenT{Strict: &kitchen.StrictT{Name: "s", Data: pattern(n, seed),
			Leaf: &kitchen.LeafT{V: 7}}}
	case 2: // several
		k.Bytes = pattern(n/3, seed)
		k.Next = &kitchen.KitchenT{Bytes: pattern(n/3, seed+1)}
		k.Strict = &kitchen.StrictT{Name: "s", Data: pattern(n/3+1, seed+2),
			Leaf: &kitchen.LeafT{V: 9}}
	case 3: // numbers
		k.Bytes = pattern(n/4, seed)
		for i := range n / 16 {
			k.F64s = append(k.F64s, float64(i)/3)
			k.U16s = append(k.U16s, uint16(i))
			k.I32s = append(k.I32s, int32(-i))
		}
	}
	return k
}

// overwrite overwrites the vectors of a message.
func overwrite(k *kitchen.KitchenT) {
	for ; k != nil; k = k.Next {
		clear(k.Bytes)
		clear(k.F64s)
		clear(k.U16s)
		clear(k.I32s)
		if k.Strict != nil {
			clear(k.Strict.Data)
		}
	}
}

// A keeper keeps what it gets, and may do with it what it likes.
type keeper struct {
	kitchen.UnimplementedPantry
	mu   sync.Mutex
	kept []*kitchen.KitchenT
}

func (r *keeper) keep(k *kitchen.KitchenT) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, k)
}

func (r *keeper) Store(_ context.Context, k *kitchen.KitchenT) (*shared.ItemT, error) {
	r.keep(k)
	return &shared.ItemT{Name: k.Name}, nil
}

func (r *keeper) Fetch(_ context.Context, item *shared.ItemT) (*kitchen.KitchenT, error) {
	var n int
	var seed byte
	_, err := fmt.Sscan(item.Name, &n, &seed)
	return largeKitchen(n, seed), err
}

// messageKitchen is a kitchen that is sent one way.
var messageKitchen = ipc.NewMessage(&ipc.Protocol{Name: "test.Long"},
	ipc.MessageSpec[kitchen.KitchenT]{Name: "Kitchen", ID: 0x10ca1,
		Encode: encodeKitchen, Decode: decodeKitchen})

func encodeKitchen(b *flatbuffers.Builder, _ uint64, k *kitchen.KitchenT) error {
	kitchen.FinishKitchenBuffer(b, k.Pack(b))
	return nil
}

func decodeKitchen(buf []byte, k *kitchen.KitchenT) (uint64, error) {
	if err := kitchen.VerifyKitchen(buf); err != nil {
		return 0, err
	}
	kitchen.GetRootAsKitchen(buf, 0).UnPackTo(k)
	return 0, nil
}

// same compares a message with what was sent.
func same(t *testing.T, what string, got, sent *kitchen.KitchenT) {
	t.Helper()
	// What is sent has no nil and no default that is not read so.
	want := kitchen.GetRootAsKitchen(kitchenBuffer(sent), 0).UnPack()
	if !bytes.Equal(kitchenBuffer(got), kitchenBuffer(want)) {
		t.Fatalf("%s has changed: %d bytes of %d", what, len(kitchenBuffer(got)),
			len(kitchenBuffer(want)))
	}
}

// TestLongMessagesBelongToTheirOwners sends messages with long vectors, as requests, as one-way
// messages and in replies, through rings of several sizes, to handlers that keep their objects.
// What the sender does with its object afterwards changes no other object, nor does what a receiver
// does with its own.
func TestLongMessagesBelongToTheirOwners(t *testing.T) {
	for name, opts := range map[string][]ipc.ServerOption{
		"rings of 4 KiB":   {ipc.WithRings(4<<10, 4<<10)},
		"default":          nil,
		"rings of 256 KiB": {ipc.WithRings(256<<10, 256<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := new(keeper)
			handled := make(chan struct{}, 1)
			c := ipctest.Pipe(t, append(opts, kitchen.NewPantryService(r),
				ipc.NewService(&ipc.Protocol{Name: "test.Long"},
					ipc.Receive(messageKitchen, func(_ context.Context,
						k *kitchen.KitchenT) error {
						r.keep(k)
						handled <- struct{}{}
						return nil
					})))...)
			client := kitchen.NewPantryClient(c)
			var sent, replies []*kitchen.KitchenT
			for round := range 2 { // with new buffers, and with used ones
				for i, n := range []int{100, 5 << 10, 9 << 10, 17 << 10, 40 << 10, 70 << 10,
					300 << 10} {
					for kind := range byte(4) {
						seed := byte(round)<<6 + byte(i)<<2 + kind
						k := largeKitchen(n, seed)
						sent = append(sent, largeKitchen(n, seed))
						if err := ipc.Send(t.Context(), c, messageKitchen, k); err != nil {
							t.Fatal(err)
						}
						overwrite(k)
						<-handled
						k = largeKitchen(n, seed)
						sent = append(sent, largeKitchen(n, seed))
						rep, err := client.Store(t.Context(), k)
						overwrite(k)
						if err != nil || rep.Name != fmt.Sprint("kitchen ", seed) {
							t.Fatalf("%+v, %v", rep, err)
						}
						back, err := client.Fetch(t.Context(),
							&shared.ItemT{Name: fmt.Sprintln(n, seed)})
						if err != nil {
							t.Fatal(err)
						}
						replies = append(replies, back)
					}
				}
			}
			for i := range sent {
				same(t, fmt.Sprint("message ", i), r.kept[i], sent[i])
				same(t, fmt.Sprint("reply ", i/2), replies[i/2], sent[i])
				overwrite(r.kept[i])
				if i%2 == 1 {
					overwrite(replies[i/2])
				}
			}
		})
	}
}

// swap streams kitchens both ways.
var swap = ipc.NewMethod(&ipc.Protocol{Name: "test.Swap"},
	ipc.MethodSpec[kitchen.KitchenT, kitchen.KitchenT]{Name: "Swap", ID: 0x10ca2,
		Streaming:     ipc.BidiStreaming,
		EncodeRequest: encodeKitchen,
		DecodeRequest: decodeKitchen,
		EncodeReply: func(b *flatbuffers.Builder, seq, _ uint64, k *kitchen.KitchenT) error {
			return encodeKitchen(b, seq, k)
		},
		DecodeReply: decodeKitchen})

// TestLongItemsBelongToTheirOwners is TestLongMessagesBelongToTheirOwners for the items of a
// streaming call.
func TestLongItemsBelongToTheirOwners(t *testing.T) {
	var lengths []int
	for range 2 { // with new buffers, and with used ones
		lengths = append(lengths, 100, 5<<10, 9<<10, 17<<10, 40<<10, 70<<10, 100<<10, 20<<10, 50)
	}
	all := func(yield func(*kitchen.KitchenT, error) bool) {
		for i, n := range lengths {
			for kind := range byte(4) {
				k := largeKitchen(n, byte(i)<<2+kind)
				more := yield(k, nil)
				overwrite(k)
				if !more {
					return
				}
			}
		}
	}
	over := func(opts ...ipc.ServerOption) func(*testing.T, *ipc.Service) ipc.Caller {
		return func(t *testing.T, svc *ipc.Service) ipc.Caller {
			return ipctest.Pipe(t, append(opts, svc)...)
		}
	}
	for name, open := range map[string]func(*testing.T, *ipc.Service) ipc.Caller{
		"rings of 4 KiB":   over(ipc.WithRings(4<<10, 4<<10)),
		"default":          over(),
		"rings of 256 KiB": over(ipc.WithRings(256<<10, 256<<10)),
		"another carrier": func(t *testing.T, svc *ipc.Service) ipc.Caller {
			h, err := ipc.NewHandler(svc)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ipc.NewCarrierClient(h)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var taken []*kitchen.KitchenT
			handle := func(_ context.Context,
				in iter.Seq2[*kitchen.KitchenT, error]) iter.Seq2[*kitchen.KitchenT, error] {
				return func(yield func(*kitchen.KitchenT, error) bool) {
					for k, err := range in {
						if err != nil {
							t.Error(err)
							return
						}
						taken = append(taken, k)
					}
					all(yield)
				}
			}
			c := open(t, ipc.NewService(swap.Info().Protocol, ipc.HandleBidiStream(swap, handle)))
			sent, stop := iter.Pull2(all)
			defer stop()
			var kept []*kitchen.KitchenT
			for k, err := range ipc.InvokeBidiStream(t.Context(), c, swap, all) {
				if err != nil {
					t.Fatal(err)
				}
				kept = append(kept, k)
			}
			if len(kept) != 4*len(lengths) || len(taken) != len(kept) {
				t.Fatalf("%d items came, and %d went", len(kept), len(taken))
			}
			for i := range kept {
				want, _, _ := sent()
				same(t, fmt.Sprint("item ", i), kept[i], want)
				same(t, fmt.Sprint("item of the client ", i), taken[i], want)
				overwrite(kept[i])
				overwrite(taken[i])
			}
		})
	}
}

// A changer changes what it gets.
type changer struct{ kitchen.UnimplementedPantry }

func (changer) Store(_ context.Context, k *kitchen.KitchenT) (*shared.ItemT, error) {
	overwrite(k)
	return &shared.ItemT{Name: k.Name}, nil
}

// TestInterceptorsSeeWhatWasSent makes calls with long requests, which their handler changes. An
// interceptor reads the encoded request when the handler has returned.
func TestInterceptorsSeeWhatWasSent(t *testing.T) {
	client := kitchen.NewPantryClient(ipctest.Pipe(t, kitchen.NewPantryService(changer{}),
		ipc.WithServerInterceptor(func(ctx context.Context, call *ipc.ServerCall,
			next func(context.Context) error) error {
			body := bytes.Clone(call.Body)
			err := next(ctx)
			if !bytes.Equal(body, call.Body) {
				t.Errorf("the handler of %s has changed the message", call.Name)
			}
			return err
		})))
	for _, n := range []int{9 << 10, 100 << 10} {
		if _, err := client.Store(t.Context(), largeKitchen(n, 0)); err != nil {
			t.Error(err)
		}
	}
}

// TestOneVectorInTwoFields sends a message in which two fields refer to the same bytes, as an
// encoder may, and a peer that means harm. The object has them twice.
func TestOneVectorInTwoFields(t *testing.T) {
	r := new(keeper)
	c := ipctest.Pipe(t, kitchen.NewPantryService(r))
	data := pattern(100<<10, 3)
	err := kitchen.NewPantryInPlaceClient(c).Store(t.Context(), 2*len(data),
		func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
			at, name := b.CreateByteVector(data), b.CreateString("twice")
			kitchen.LeafStart(b)
			leaf := kitchen.LeafEnd(b)
			kitchen.StrictStart(b)
			kitchen.StrictAddName(b, name)
			kitchen.StrictAddData(b, at)
			kitchen.StrictAddLeaf(b, leaf)
			strict := kitchen.StrictEnd(b)
			kitchen.KitchenStart(b)
			kitchen.KitchenAddBytes(b, at)
			kitchen.KitchenAddStrict(b, strict)
			return kitchen.KitchenEnd(b)
		}, func(shared.Item) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	k := r.kept[0]
	clear(k.Bytes)
	if !bytes.Equal(k.Strict.Data, data) {
		t.Error("two fields have the same memory")
	}
}
