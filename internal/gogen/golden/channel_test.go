package golden_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// connect returns a connection to a server with the given services.
func connect(t *testing.T, opts ...ipc.ServerOption) *ipc.Conn {
	t.Helper()
	domain := ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
	l, err := ipc.Listen("kitchen", domain)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(opts...)
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(context.Background(), l) })
	c, err := ipc.Dial(t.Context(), "kitchen", domain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		srv.Close()
		wg.Wait()
	})
	return c
}

// oracle implements a service that travels in envelopes.
type oracle struct {
	kitchen.UnimplementedOracle
	kept *kitchen.MaybeT
}

func (o *oracle) Weigh(_ context.Context, req *kitchen.LeafT) (*kitchen.MaybeT, error) {
	o.kept = &kitchen.MaybeT{U64: ptr(uint64(req.V))}
	return o.kept, nil
}

func TestServiceInEnvelopes(t *testing.T) {
	var client kitchen.Oracle = kitchen.NewOracleClient(connect(t,
		kitchen.NewOracleService(new(oracle))))
	for v := range int32(3) {
		rep, err := client.Weigh(t.Context(), &kitchen.LeafT{V: v})
		if err != nil || *rep.U64 != uint64(v) {
			t.Fatalf("weighed %v (%v)", rep, err)
		}
	}
	if _, err := client.Measure(t.Context(),
		&kitchen.ScalarsT{}); ipc.CodeOf(err) != ipc.CodeUnimplemented {
		t.Errorf("an unimplemented method: %v", err)
	}
	if _, err := client.Weigh(t.Context(), nil); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("a nil request: %v", err)
	}
}

// stopper answers with one object that it keeps.
type stopper struct {
	audio.UnimplementedAudioControl
	ack audio.AckT
}

func (s *stopper) StopStream(context.Context, *audio.StopStreamT) (*audio.AckT, error) {
	return &s.ack, nil
}

// The reply says which request it answers, and the handler's object does not
// change for it.
func TestRepliesReferToTheirRequest(t *testing.T) {
	h := &stopper{ack: audio.AckT{RefSeq: 1000, Status: audio.StatusNotRunning}}
	client := audio.NewAudioControlClient(connect(t, audio.NewAudioControlService(h)))
	for want := uint64(1); want <= 3; want++ {
		ack, err := client.StopStream(t.Context(), &audio.StopStreamT{})
		if err != nil || ack.RefSeq != want || ack.Status != audio.StatusNotRunning {
			t.Errorf("call %d: %+v (%v)", want, ack, err)
		}
	}
	if h.ack.RefSeq != 1000 {
		t.Errorf("the handler's object was changed: %+v", h.ack)
	}
}

// pantry implements a service that travels in the runtime's frame.
type pantry struct{}

func (pantry) Fetch(_ context.Context, item *shared.ItemT) (*kitchen.KitchenT, error) {
	return &kitchen.KitchenT{Name: item.Name, Greeting: "hi",
		Strict: &kitchen.StrictT{Leaf: &kitchen.LeafT{V: 3}}}, nil
}

func (pantry) Store(_ context.Context, k *kitchen.KitchenT) (*shared.ItemT, error) {
	return &shared.ItemT{Name: k.Name, Unit: shared.UnitFoot}, nil
}

func TestServiceInFrame(t *testing.T) {
	client := kitchen.NewPantryClient(connect(t, kitchen.NewPantryService(pantry{})))
	k, err := client.Fetch(t.Context(), &shared.ItemT{Name: "n"})
	if err != nil || k.Name != "n" || k.Strict.Leaf.V != 3 {
		t.Fatalf("fetched %v (%v)", k, err)
	}
	item, err := client.Store(t.Context(), fullKitchen())
	if err != nil || item.Name != "name" || item.Unit != shared.UnitFoot {
		t.Fatalf("stored %v (%v)", item, err)
	}
}

// parcels records what arrives, of every kind of member.
type parcels chan string

func (p parcels) HandleLeaf(_ context.Context, m *kitchen.LeafT) error {
	return p.got("leaf", m.V)
}
func (p parcels) HandleL2(_ context.Context, m *kitchen.LeafT) error { return p.got("l2", m.V) }
func (p parcels) HandleInner(_ context.Context, m *kitchen.InnerT) error {
	return p.got("inner", m.B)
}
func (p parcels) HandleText(_ context.Context, m string) error { return p.got("text", m) }
func (p parcels) HandleGoldenSharedItem(_ context.Context, m *shared.ItemT) error {
	return p.got("item", m.Name)
}

func (p parcels) got(what string, v any) error {
	p <- fmt.Sprint(what, " ", v)
	return nil
}

func TestEnvelopeMembers(t *testing.T) {
	p := make(parcels, 10)
	s := kitchen.NewParcelSender(connect(t, kitchen.NewParcelService(p)))
	ctx := t.Context()
	for i, err := range []error{
		s.SendLeaf(ctx, &kitchen.LeafT{V: 1}),
		s.SendL2(ctx, &kitchen.LeafT{V: 2}),
		s.SendInner(ctx, &kitchen.InnerT{B: 3}),
		s.SendText(ctx, "four"),
		s.SendGoldenSharedItem(ctx, &shared.ItemT{Name: "five"}),
	} {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	got := make(map[string]bool)
	for range 5 {
		got[<-p] = true
	}
	want := map[string]bool{"leaf 1": true, "l2 2": true, "inner 3": true, "text four": true,
		"item five": true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestStreamOfStructs(t *testing.T) {
	done := make(chan error, 1)
	domain := ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
	l, err := ipc.Listen("grids", domain)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(kitchen.HandleGridReader(func(ctx context.Context,
		r *kitchen.GridReader) error {
		for n := uint64(0); n < 100; n++ {
			err := r.Read(ctx, func(h *kitchen.Grid, payload []byte, lost uint64) error {
				if h.Id() != n || h.Cells(1) != int32(n) || len(payload) != int(n) || lost != 0 {
					return fmt.Errorf("block %d has header %d and %d bytes", n,
						h.Id(), len(payload))
				}
				return nil
			})
			if err != nil {
				done <- err
				return err
			}
		}
		done <- nil
		return nil
	}))
	defer srv.Close()
	go srv.Serve(context.Background(), l)
	w, err := kitchen.OpenGridWriter(t.Context(), "grids", ipc.StreamOptions{Payload: 128}, domain)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for n := range uint64(100) {
		err := w.Write(t.Context(), int(n), func(h *kitchen.Grid, payload []byte) error {
			h.MutateId(n)
			h.MutateCells(1, int32(n))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
