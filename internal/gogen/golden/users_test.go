package golden_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fb"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// sorted returns an accessor of what the object holds.
func sorted(t *testing.T, o *kitchen.SortedT) *kitchen.Sorted {
	t.Helper()
	b := flatbuffers.NewBuilder(0)
	kitchen.FinishSortedBuffer(b, o.Pack(b))
	if err := kitchen.VerifySorted(b.FinishedBytes()); err != nil {
		t.Fatal(err)
	}
	return kitchen.GetRootAsSorted(b.FinishedBytes(), 0)
}

// TestStructsAreFoundByKey looks structs up in vectors of every length, those
// that are there and those that are not.
func TestStructsAreFoundByKey(t *testing.T) {
	inner := func(n int) *kitchen.InnerT { return &kitchen.InnerT{A: int8(n / 8), B: int16(n % 8)} }
	for n := range 20 {
		var o kitchen.SortedT
		for i := range n {
			even := 2*i + 2
			o.Numbered = append(o.Numbered, &kitchen.NumberedT{Id: uint32(even), A: int16(i)})
			o.Placed = append(o.Placed, &kitchen.PlacedT{At: inner(even), A: int8(i)})
			o.Coded = append(o.Coded,
				&kitchen.CodedT{Code: [3]byte{0, byte(even / 8), byte(even % 8)}, A: int64(i)})
			o.Walked = append(o.Walked,
				&kitchen.WalkedT{Way: [2]kitchen.InnerT{{A: 1}, *inner(even)}})
		}
		s := sorted(t, &o)
		for key := range 2*n + 4 {
			want := key > 0 && key <= 2*n && key%2 == 0
			i := key/2 - 1
			var number kitchen.Numbered
			if got := s.NumberedByKey(&number, uint32(key)); got != want || got &&
				int(number.A()) != i {
				t.Fatalf("%d of %d by number: %t", key, n, got)
			}
			if !want && number.Table().Bytes != nil {
				t.Fatalf("%d of %d: what was not found is pointed at", key, n)
			}
			where := func() *kitchen.Inner {
				b := flatbuffers.NewBuilder(0)
				at := inner(key).Pack(b)
				x := new(kitchen.Inner)
				x.Init(b.Bytes, flatbuffers.UOffsetT(len(b.Bytes))-at)
				return x
			}()
			var placed kitchen.Placed
			if got := s.PlacedByKey(&placed, where); got != want || got && int(placed.A()) != i {
				t.Fatalf("%d of %d by struct: %t", key, n, got)
			}
			var coded kitchen.Coded
			if got := s.CodedByKey(&coded, [3]byte{0, byte(key / 8), byte(key % 8)}); got != want ||
				got && int(coded.A()) != i {
				t.Fatalf("%d of %d by array: %t", key, n, got)
			}
			var first kitchen.Inner
			first.Init([]byte{1, 0, 0, 0}, 0)
			var walked kitchen.Walked
			if got := s.WalkedByKey(&walked, [2]*kitchen.Inner{&first, where}); got != want ||
				got && int(walked.Way(nil, 1).A())*8+int(walked.Way(nil, 1).B()) != key {
				t.Fatalf("%d of %d by array of structs: %t", key, n, got)
			}
		}
	}
	s := sorted(t, &kitchen.SortedT{Lit: []*kitchen.LitT{{On: false, A: 1}, {On: true, A: 2}}})
	var lit kitchen.Lit
	if !s.LitByKey(&lit, true) || lit.A() != 2 || !s.LitByKey(&lit, false) || lit.A() != 1 {
		t.Error("by bool")
	}
	if sorted(t, &kitchen.SortedT{}).NumberedByKey(new(kitchen.Numbered), 2) {
		t.Error("found in a vector that is absent")
	}
}

// TestNestedBuffers reads buffers within a buffer, one of another package, and
// absent ones.
func TestNestedBuffers(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	shared.FinishItemBuffer(b, (&shared.ItemT{Name: "inner"}).Pack(b))
	s := sorted(t, &kitchen.SortedT{Leaf: leafBuffer(9), Item: b.FinishedBytes(), LeafAsLeaf: 5})
	if got := s.LeafAsLeaf(); got != 5 {
		t.Errorf("a field of that name gave way: %d", got)
	}
	if got := s.LeafAsLeaf_(); got == nil || got.V() != 9 {
		t.Errorf("the root is %v", got)
	}
	if got := s.LeafAsLeafT(); got == nil || got.V != 9 {
		t.Errorf("the object is %v", got)
	}
	if got := s.ItemAsItem(); got == nil || string(got.Name()) != "inner" ||
		s.ItemAsItemT().Name != "inner" {
		t.Errorf("the root of another package is %v", got)
	}
	s = sorted(t, &kitchen.SortedT{})
	if s.LeafAsLeaf_() != nil || s.LeafAsLeafT() != nil || s.ItemAsItem() != nil ||
		s.ItemAsItemT() != nil {
		t.Error("an absent buffer has a root")
	}

	// A nested buffer is verified with the one around it.
	damaged := leafBuffer(9)
	damaged[0] = 200
	b = flatbuffers.NewBuilder(0)
	kitchen.FinishSortedBuffer(b, (&kitchen.SortedT{Leaf: damaged}).Pack(b))
	var verr *fb.VerifyError
	if err := kitchen.VerifySorted(b.FinishedBytes()); !errors.As(err, &verr) ||
		!strings.Contains(verr.Path, "leaf") {
		t.Errorf("a damaged nested buffer: %v", err)
	}
}

// TestInt8Vectors reads a vector of int8 as a slice, and writes it.
func TestInt8Vectors(t *testing.T) {
	want := []int8{math.MinInt8, -1, 0, 1, math.MaxInt8}
	s := sorted(t, &kitchen.SortedT{Bytes: want})
	got := s.BytesInt8s()
	if !slices.Equal(got, want) || !slices.Equal(s.UnPack().Bytes, want) ||
		s.BytesLength() != len(want) {
		t.Errorf("%v", got)
	}
	for j, v := range want {
		if s.Bytes(j) != v {
			t.Errorf("element %d is %d", j, s.Bytes(j))
		}
	}
	got[0] = 77
	if s.Bytes(0) != 77 || cap(got) < len(got) {
		t.Error("the slice is a copy")
	}
	if x := sorted(t, &kitchen.SortedT{}); x.BytesInt8s() != nil || x.UnPack().Bytes == nil {
		t.Error("an absent vector")
	}
	if x := sorted(t, &kitchen.SortedT{Bytes: []int8{}}); len(x.BytesInt8s()) != 0 {
		t.Error("an empty vector")
	}
	// The same bytes as element by element.
	a, b := flatbuffers.NewBuilder(0), flatbuffers.NewBuilder(0)
	fb.PackInt8s(a, want)
	b.StartVector(1, len(want), 1)
	for _, v := range slices.Backward(want) {
		b.PlaceInt8(v)
	}
	b.EndVector(len(want))
	if !bytes.Equal(a.Bytes[a.Head():], b.Bytes[b.Head():]) {
		t.Errorf("%x, not %x", a.Bytes[a.Head():], b.Bytes[b.Head():])
	}
}

// wrongUnions are objects with a union that cannot be written, and what the error
// must say.
var wrongUnions = map[string]struct {
	object *kitchen.KitchenT
	says   string
	packs  bool // Pack leaves the union out
}{
	"no type": {&kitchen.KitchenT{Thing: &kitchen.ThingT{Value: &kitchen.LeafT{}}},
		"field thing: union golden.kitchen.Thing: Type is NONE, and Value is a *kitchen.LeafT",
		false},
	"no value": {&kitchen.KitchenT{Thing: &kitchen.ThingT{Type: kitchen.ThingLeaf}},
		"field thing: union golden.kitchen.Thing: Type is Leaf, and Value is nil", true},
	"a nil value": {&kitchen.KitchenT{Thing: &kitchen.ThingT{Type: kitchen.ThingLeaf,
		Value: (*kitchen.LeafT)(nil)}}, "Value is a nil *kitchen.LeafT", true},
	"another type": {&kitchen.KitchenT{Thing: &kitchen.ThingT{Type: kitchen.ThingInner,
		Value: &kitchen.LeafT{}}}, "Type is Inner, and Value is a *kitchen.LeafT", false},
	"a value": {&kitchen.KitchenT{Thing: &kitchen.ThingT{Type: kitchen.ThingLeaf,
		Value: kitchen.LeafT{}}}, "Value is a kitchen.LeafT", false},
	"an unknown type": {&kitchen.KitchenT{Thing: &kitchen.ThingT{Type: 77, Value: "x"}},
		"Type is Thing(77)", false},
	"in a vector": {&kitchen.KitchenT{Things: []*kitchen.ThingT{nil, {},
		{Type: kitchen.ThingText, Value: 5}}}, "field things[2]: union", false},
	"further down": {&kitchen.KitchenT{Next: &kitchen.KitchenT{
		Next: &kitchen.KitchenT{Thing: &kitchen.ThingT{Value: 1}}}},
		"field next.next.thing: union", false},
}

// TestWrongUnions checks and packs objects that no buffer can hold.
func TestWrongUnions(t *testing.T) {
	for name, test := range wrongUnions {
		t.Run(name, func(t *testing.T) {
			var uerr *fb.UnionError
			if err := test.object.Check(); !errors.As(err, &uerr) ||
				!strings.Contains(err.Error(), test.says) {
				t.Errorf("Check: %v", err)
			}
			defer func() {
				err, _ := recover().(error)
				if test.packs != (err == nil) || err != nil && !errors.As(err, &uerr) {
					t.Errorf("Pack: %v", err)
				}
			}()
			test.object.Pack(flatbuffers.NewBuilder(0))
		})
	}
	if err := fullKitchen().Check(); err != nil {
		t.Errorf("a sound object: %v", err)
	}
	if err := (*kitchen.KitchenT)(nil).Check(); err != nil {
		t.Errorf("nil: %v", err)
	}
}

// larder counts what arrives, and replies with a kitchen.
type larder struct {
	kitchen.UnimplementedPantry
	stored int
	reply  *kitchen.KitchenT
}

func (p *larder) Store(context.Context, *kitchen.KitchenT) (*shared.ItemT, error) {
	p.stored++
	return &shared.ItemT{}, nil
}

func (p *larder) Fetch(context.Context, *shared.ItemT) (*kitchen.KitchenT, error) {
	return p.reply, nil
}

// TestWrongUnionsAreNotSent sends them: the call fails, names the field, and says
// that nothing was sent. As a reply, one fails the call that it answers.
func TestWrongUnionsAreNotSent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for name, test := range wrongUnions {
		t.Run(name, func(t *testing.T) {
			p := &larder{reply: test.object}
			c := kitchen.NewPantryClient(ipctest.Pipe(t, kitchen.NewPantryService(p)))
			_, err := c.Store(ctx, test.object)
			var uerr *fb.UnionError
			if ipc.CodeOf(err) != ipc.CodeInvalidArgument || ipc.OutcomeOf(err) != ipc.NotSent ||
				!errors.As(err, &uerr) ||
				!strings.Contains(err.Error(), test.says) {
				t.Errorf("request: %v", err)
			}
			if p.stored != 0 {
				t.Error("it was sent")
			}
			if _, err = c.Fetch(ctx, &shared.ItemT{}); err == nil ||
				!strings.Contains(err.Error(), test.says) {
				t.Errorf("reply: %v", err)
			}
			if _, err := c.Store(ctx, fullKitchen()); err != nil || p.stored != 1 {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

// TestUnionsFromJSON decodes JSON into objects with unions: an error, rather than
// something that cannot be packed.
func TestUnionsFromJSON(t *testing.T) {
	data, err := json.Marshal(fullKitchen())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"what json.Marshal wrote": string(data),
		"a union":                 `{"thing": {"Type": 1, "Value": {"v": 1}}}`,
		"a string":                `{"thing": "Leaf"}`,
		"a vector":                `{"things": [null, {"Type": 4, "Value": "text"}]}`,
		"further down":            `{"next": {"thing": {}}}`,
	} {
		var k kitchen.KitchenT
		if err := json.Unmarshal([]byte(text), &k); err == nil ||
			!strings.Contains(err.Error(), "union golden.kitchen.Thing cannot be decoded") {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := kitchen.KitchenT{Name: "n", Things: []*kitchen.ThingT{nil}}
	if data, err = json.Marshal(&k); err != nil {
		t.Fatal(err)
	}
	var back kitchen.KitchenT
	if err := json.Unmarshal(data, &back); err != nil || back.Name != "n" ||
		len(back.Things) != 1 || back.Thing != nil {
		t.Errorf("without a union: %v", err)
	}
	kitchenBuffer(&back)
}

// TestFlagsPrintAsNames writes and parses values of an enum with bit_flags. Those
// that flatc's String names are as there.
func TestFlagsPrintAsNames(t *testing.T) {
	for v, want := range map[kitchen.Color]string{
		0: "Color(0)", kitchen.ColorRed: "Red", kitchen.ColorRed | kitchen.ColorBlue: "Red|Blue",
		kitchen.ColorGreen | 64: "Green|Color(64)", 96: "Color(96)",
	} {
		if got := v.String(); got != want {
			t.Errorf("%d is %s, not %s", v, got, want)
		}
		if got, err := kitchen.ParseColor(want); err != nil || got != v {
			t.Errorf("%s is %d, %v", want, got, err)
		}
	}
}

// TestNilStreamHandlers gives generated options no handler. Serve reports it, with the
// name of the struct.
func TestNilStreamHandlers(t *testing.T) {
	for name, option := range map[string]ipc.ServerOption{
		"reader": kitchen.HandleGridReader(nil), "writer": kitchen.HandleGridWriter(nil),
	} {
		l, err := ipc.Listen("grids", ipctest.NewNetwork())
		if err != nil {
			t.Fatal(err)
		}
		err = ipc.NewServer(option).Serve(t.Context(), l)
		if ipc.CodeOf(err) != ipc.CodeInvalidArgument ||
			!strings.Contains(err.Error(), "nil handler for streams of golden.kitchen.Grid") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
