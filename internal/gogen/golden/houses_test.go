package golden_test

import (
	"context"
	"reflect"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/houses/choice"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/houses/desk"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/houses/mail"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/houses/parts"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/houses/units"
)

// The schema's enum is called err, so that its values have no names outside of its
// package.
const none, some, lots units.Err = 0, 1, 2

// clerk gives back what it is asked for.
type clerk struct{}

func (clerk) Choose(_ context.Context, req *choice.PickT) (*choice.PickT, error) { return req, nil }

func (clerk) Measure(_ context.Context, req *parts.SizeT) (*parts.NoteT, error) {
	return &parts.NoteT{Text: "measured", Amount: req.Amount}, nil
}

func (clerk) Buf(_ context.Context, req *parts.SizeT) (*parts.SizeT, error) {
	return &parts.SizeT{W: req.H, H: req.W, Amount: req.Amount}, nil
}

// received keeps the messages of an envelope.
type received struct {
	mail.UnimplementedAskHandler
	picks chan *choice.PickT
}

func (r *received) HandlePick(_ context.Context, m *choice.PickT) error {
	r.picks <- m
	return nil
}

// wall returns a struct of a struct of another package.
func wall(height int32, amount units.Err) *parts.WallT {
	w := &parts.WallT{Fill: &units.JT{Amount: amount}}
	w.Layers[1] = amount
	b := flatbuffers.NewBuilder(0)
	// Its member _Height is not exported, as with flatc: only a buffer has room for it here.
	at := parts.CreateWall(b, height, amount, [2]units.Err{0, amount})
	var x parts.Wall
	x.Init(b.Bytes, flatbuffers.UOffsetT(len(b.Bytes))-at)
	return x.UnPack()
}

// TestServicesAcrossNamespaces calls services whose messages, unions, envelopes and
// enums are each in another namespace, and sends one of those messages one way.
func TestServicesAcrossNamespaces(t *testing.T) {
	picks := &received{picks: make(chan *choice.PickT, 1)}
	conn := connect(t, desk.NewClerkService(clerk{}), desk.NewErrService(clerk{}),
		mail.NewAskService(picks))
	var client desk.Clerk = desk.NewClerkClient(conn)
	for _, member := range []*choice.MT{
		{Type: choice.M(1), Value: &parts.NoteT{Text: "n", Amount: lots}},
		{Type: choice.M(2), Value: wall(7, some)},
		{Type: choice.M(3), Value: &parts.SizeT{W: 1, H: 2, Amount: lots}},
		{Type: choice.M(4), Value: "text"},
	} {
		want := &choice.PickT{M: member, Many: []*choice.MT{member, member}}
		got, err := client.Choose(t.Context(), want)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("chose %+v (%v), want %+v", got, err, want)
		}
		if err := mail.NewAskSender(conn).SendPick(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-picks.picks:
			if !reflect.DeepEqual(got, want) {
				t.Errorf("received %+v, want %+v", got, want)
			}
		case <-t.Context().Done():
			t.Fatal("nothing was received")
		}
	}
	if note, err := client.Measure(t.Context(), &parts.SizeT{Amount: lots}); err != nil ||
		note.Amount != lots {
		t.Errorf("measured %v (%v)", note, err)
	}
	if size, err := desk.NewErrClient(conn).Buf(t.Context(),
		&parts.SizeT{W: 3}); err != nil || size.H != 3 {
		t.Errorf("got %v (%v)", size, err)
	}
}

// TestKeysAcrossNamespaces finds tables by a key that is a struct of another
// package, whose fields that package does not export.
func TestKeysAcrossNamespaces(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	note := flatbuffers.NewBuilder(0)
	parts.FinishNoteBuffer(note, (&parts.NoteT{Text: "inside"}).Pack(note))
	walls := []*parts.WallT{wall(3, none), wall(-4, lots), wall(3, lots), wall(3, some)}
	var shelves []flatbuffers.UOffsetT
	for _, w := range walls {
		shelves = append(shelves, (&desk.ShelfT{Wall: w, Box: note.FinishedBytes()}).Pack(b))
	}
	sorted := b.CreateVectorOfSortedTables(shelves, desk.ShelfKeyCompare)
	desk.RoomStart(b)
	desk.RoomAddShelves(b, sorted)
	desk.FinishRoomBuffer(b, desk.RoomEnd(b))
	buf := b.FinishedBytes()
	if err := desk.VerifyRoom(buf); err != nil {
		t.Fatal(err)
	}
	room := desk.GetRootAsRoom(buf, 0)
	var last *desk.ShelfT
	for i, want := range []int{1, 0, 3, 2} {
		var shelf desk.Shelf
		room.Shelves(&shelf, i)
		if last = shelf.UnPack(); !reflect.DeepEqual(last.Wall, walls[want]) {
			t.Errorf("shelf %d has %+v, want %+v", i, last.Wall, walls[want])
		}
	}
	for _, w := range walls {
		k := flatbuffers.NewBuilder(0)
		var key parts.Wall
		at := w.Pack(k)
		key.Init(k.Bytes, flatbuffers.UOffsetT(len(k.Bytes))-at)
		var shelf desk.Shelf
		if !room.ShelvesByKey(&shelf, &key) || !reflect.DeepEqual(shelf.UnPack().Wall, w) {
			t.Errorf("no shelf for %+v", w)
		}
	}
	if got := parts.GetRootAsNote(last.Box, 0).UnPack(); got.Text != "inside" {
		t.Errorf("the box holds %+v", got)
	}
}
