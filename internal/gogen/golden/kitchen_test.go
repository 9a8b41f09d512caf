package golden_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

func ptr[T any](v T) *T { return &v }

// fullKitchen returns an object with something in every field.
func fullKitchen() *kitchen.KitchenT {
	grid := &kitchen.GridT{
		Id: 7, Cells: [3]int32{1, -2, 3}, Colors: [5]kitchen.Color{1, 2, 4, 3, 7},
		Inners: [2]kitchen.InnerT{{A: -1, B: 2}, {A: 3, B: -4}}, One: &kitchen.InnerT{A: 5, B: 6},
		Ok: true, F: 2.5,
	}
	return &kitchen.KitchenT{
		Scalars: &kitchen.ScalarsT{B: true, I8: -8, U8: 8, I16: -16, U16: 16, I32: -32, U32: 32,
			I64: -64, U64: 64,
			F32: 1.25, F64: -2.5, Nan: 4, Color: kitchen.ColorBlue, Big: kitchen.BigHuge,
			Level: kitchen.LevelLow, Minus: 3},
		Maybe:    &kitchen.MaybeT{B: ptr(false), U64: ptr(uint64(0)), Level: ptr(kitchen.LevelMid)},
		Grid:     grid,
		Name:     "name",
		Greeting: "",
		Thing:    &kitchen.ThingT{Type: kitchen.ThingText, Value: "text"},
		Things: []*kitchen.ThingT{
			{Type: kitchen.ThingLeaf, Value: &kitchen.LeafT{V: 1}},
			{Type: kitchen.ThingL2, Value: &kitchen.LeafT{V: 2}},
			{Type: kitchen.ThingInner, Value: &kitchen.InnerT{A: 1, B: 2}},
			{Type: kitchen.ThingText, Value: "more text"},
			nil,
			{Type: kitchen.Thinggolden_shared_Item,
				Value: &shared.ItemT{Name: "i", At: &shared.PointT{X: 1, Y: 2},
					Unit: shared.UnitFoot}},
		},
		Bytes: []byte{1, 2, 3}, Bools: []bool{true, false}, I8s: []int8{-1}, I16s: []int16{-1, 2},
		U16s: []uint16{1},
		I32s: []int32{-1, 2, 3}, U32s: []uint32{1}, I64s: []int64{-1}, U64s: []uint64{1, 2},
		F32s: []float32{1.5}, F64s: []float64{-2.5},
		Colors: []kitchen.Color{kitchen.ColorRed}, Bigs: []kitchen.Big{kitchen.BigHuge},
		Levels:  []kitchen.Level{kitchen.LevelHigh},
		Strings: []string{"", "a", "bc"},
		Leaves:  []*kitchen.LeafT{{V: 1}, {V: 2}},
		Grids:   []*kitchen.GridT{grid, grid},
		Items:   []*shared.ItemT{{Name: "a"}, {Name: "b"}},
		Points:  []*shared.PointT{{X: 1, Y: 2}, {X: 3, Y: 4}},
		Unit:    shared.UnitMeter,
		Nested:  leafBuffer(9),
		Next:    &kitchen.KitchenT{Name: "next"},
		Strict:  &kitchen.StrictT{Name: "", Data: nil, Leaf: &kitchen.LeafT{}},
	}
}

// TestNegativeZeroDefault stores values in a field whose default is -0: 0 and
// -0 compare equal, and each must come back as itself.
func TestNegativeZeroDefault(t *testing.T) {
	minus := math.Copysign(0, -1)
	for _, v := range []float64{0, minus, 1, -1, math.Inf(-1)} {
		b := flatbuffers.NewBuilder(0)
		kitchen.FinishScalarsBuffer(b, (&kitchen.ScalarsT{Minus: v}).Pack(b))
		packed := kitchen.GetRootAsScalars(b.FinishedBytes(), 0)

		b = flatbuffers.NewBuilder(0)
		kitchen.ScalarsStart(b)
		kitchen.ScalarsAddMinus(b, v)
		kitchen.FinishScalarsBuffer(b, kitchen.ScalarsEnd(b))
		built := kitchen.GetRootAsScalars(b.FinishedBytes(), 0)

		for way, got := range map[string]float64{"packed": packed.Minus(),
			"unpacked": packed.UnPack().Minus, "built": built.Minus()} {
			if math.Float64bits(got) != math.Float64bits(v) {
				t.Errorf("%s: %v comes back as %v", way, v, got)
			}
		}
	}
	b := flatbuffers.NewBuilder(0)
	kitchen.ScalarsStart(b)
	kitchen.FinishScalarsBuffer(b, kitchen.ScalarsEnd(b))
	if got := kitchen.GetRootAsScalars(b.FinishedBytes(), 0).Minus(); got != 0 ||
		!math.Signbit(got) {
		t.Errorf("an absent field is %v, not -0", got)
	}
}

func leafBuffer(v int32) []byte {
	b := flatbuffers.NewBuilder(0)
	kitchen.FinishLeafBuffer(b, (&kitchen.LeafT{V: v}).Pack(b))
	return b.FinishedBytes()
}

func kitchenBuffer(k *kitchen.KitchenT) []byte {
	b := flatbuffers.NewBuilder(0)
	kitchen.FinishKitchenBuffer(b, k.Pack(b))
	return b.FinishedBytes()
}

func TestObjectsSurviveTheBuffer(t *testing.T) {
	buf := kitchenBuffer(fullKitchen())
	if err := kitchen.VerifyKitchen(buf); err != nil {
		t.Fatal(err)
	}
	got := kitchen.GetRootAsKitchen(buf, 0).UnPack()
	want := fullKitchen()
	want.Strict.Data = []byte{}
	// What was nil comes back empty, as in flatc's code.
	want.Next = got.Next
	if a, b := text(t, got), text(t, want); a != b {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("objects differ")
	}
	again := kitchenBuffer(got)
	if third := kitchenBuffer(kitchen.GetRootAsKitchen(again,
		0).UnPack()); !bytes.Equal(third, again) {
		t.Errorf("packed again, %d bytes became %d", len(again), len(third))
	}
	if n := read(reflect.ValueOf(kitchen.GetRootAsKitchen(buf, 0))); n < 200 {
		t.Errorf("only %d accessors were called", n)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestObjectsDoNotAliasTheBuffer(t *testing.T) {
	buf := kitchenBuffer(fullKitchen())
	got := kitchen.GetRootAsKitchen(buf, 0).UnPack()
	before := text(t, got)
	clear(buf)
	if text(t, got) != before {
		t.Error("an unpacked object changed with its buffer")
	}
}

func TestDefaults(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	kitchen.ScalarsStart(b)
	b.Finish(kitchen.ScalarsEnd(b))
	s := kitchen.GetRootAsScalars(b.FinishedBytes(), 0)
	if !s.B() || s.I8() != -3 || s.U8() != 200 || s.I64() != math.MinInt64 ||
		s.U64() != math.MaxUint64 || s.F32() != 1.5 ||
		!math.IsInf(s.F64(), -1) || !math.IsNaN(float64(s.Nan())) ||
		s.Color() != kitchen.ColorGreen || s.Level() != kitchen.LevelHigh {
		t.Errorf("defaults: %+v", s.UnPack())
	}
	k := kitchen.GetRootAsKitchen(kitchenBuffer(&kitchen.KitchenT{Greeting: "hello"}), 0)
	if string(k.Greeting()) != "hello" || k.Maybe(nil) != nil {
		t.Error("defaults of the kitchen")
	}
}

// Nil parts of objects are zeros, empty tables, or absent: never a panic, and
// never a buffer that does not verify.
func TestPackToleratesNil(t *testing.T) {
	buf := kitchenBuffer(&kitchen.KitchenT{
		Grid:   &kitchen.GridT{Id: 1},
		Thing:  &kitchen.ThingT{Type: kitchen.ThingLeaf},
		Things: []*kitchen.ThingT{nil, {}, {Type: kitchen.ThingText}},
		Leaves: []*kitchen.LeafT{nil, {V: 3}, nil},
		Grids:  []*kitchen.GridT{nil, {Id: 4}, nil},
		Items:  []*shared.ItemT{nil},
		Points: []*shared.PointT{nil, {X: 1, Y: 2}},
	})
	if err := kitchen.VerifyKitchen(buf); err != nil {
		t.Fatal(err)
	}
	k := kitchen.GetRootAsKitchen(buf, 0).UnPack()
	if k.Thing != nil || len(k.Things) != 3 || k.Things[2] != nil || k.Leaves[1].V != 3 ||
		k.Grids[1].Id != 4 || k.Grids[2].Id != 0 ||
		k.Points[1].Y != 2 || *k.Grid.One != (kitchen.InnerT{}) {
		t.Errorf("got %s", text(t, k))
	}
}

func TestUnPackToReplacesEverything(t *testing.T) {
	got := fullKitchen()
	kitchen.GetRootAsKitchen(kitchenBuffer(&kitchen.KitchenT{}), 0).UnPackTo(got)
	fresh := kitchen.GetRootAsKitchen(kitchenBuffer(&kitchen.KitchenT{}), 0).UnPack()
	if !reflect.DeepEqual(got, fresh) {
		t.Errorf("left over: %s", text(t, got))
	}
}

func TestMutatorsAndArrays(t *testing.T) {
	buf := kitchenBuffer(fullKitchen())
	k := kitchen.GetRootAsKitchen(buf, 0)
	g := k.Grid(nil)
	if !g.MutateCells(2, 33) || !g.MutateColors(4, kitchen.ColorRed) ||
		!g.Inners(nil, 1).MutateB(99) || !k.MutateI32s(0, 5) ||
		!k.Scalars(nil).MutateLevel(kitchen.LevelHigh) || !k.MutateColors(0, kitchen.ColorBlue) {
		t.Fatal("a mutator refused")
	}
	got := kitchen.GetRootAsKitchen(buf, 0).UnPack()
	if got.Grid.Cells[2] != 33 || got.Grid.Colors[4] != kitchen.ColorRed ||
		got.Grid.Inners[1].B != 99 || got.I32s[0] != 5 ||
		got.Scalars.Level != kitchen.LevelHigh || got.Colors[0] != kitchen.ColorBlue {
		t.Errorf("got %s", text(t, got))
	}
	if err := kitchen.VerifyKitchen(buf); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("an index beyond a fixed array was accepted")
		}
	}()
	g.Cells(3)
}

func TestCreateEqualsPack(t *testing.T) {
	o := fullKitchen().Grid
	pack := flatbuffers.NewBuilder(0)
	o.Pack(pack)
	create := flatbuffers.NewBuilder(0)
	kitchen.CreateGrid(create, o.Id, o.Cells, o.Colors, [2]int8{o.Inners[0].A, o.Inners[1].A},
		[2]int16{o.Inners[0].B, o.Inners[1].B},
		o.One.A, o.One.B, o.Ok, o.F)
	if a, b := pack.Bytes[pack.Head():], create.Bytes[create.Head():]; !bytes.Equal(a, b) {
		t.Errorf("Pack   %x\nCreate %x", a, b)
	}
}

func TestKeys(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	var offsets []flatbuffers.UOffsetT
	for _, name := range []string{"pear", "apple", "fig", "", "plum"} {
		offsets = append(offsets,
			(&shared.ItemT{Name: name, At: &shared.PointT{X: int32(len(name))}}).Pack(b))
	}
	items := b.CreateVectorOfSortedTables(offsets, shared.ItemKeyCompare)
	kitchen.KitchenStart(b)
	kitchen.KitchenAddItems(b, items)
	kitchen.FinishKitchenBuffer(b, kitchen.KitchenEnd(b))
	k := kitchen.GetRootAsKitchen(b.FinishedBytes(), 0)
	var item shared.Item
	for _, name := range []string{"pear", "apple", "fig", "", "plum"} {
		if !k.ItemsByKey(&item, name) || string(item.Name()) != name ||
			item.At(nil).X() != int32(len(name)) {
			t.Errorf("%q was not found", name)
		}
	}
	if k.ItemsByKey(&item, "grape") || k.ItemsByKey(&item, "z") {
		t.Error("found what is not there")
	}
}

// Structs are ordered by their first field that differs.
func TestKeysThatAreStructs(t *testing.T) {
	spot := func(board byte, b int16, last int16, lit bool) *kitchen.SpotT {
		return &kitchen.SpotT{Board: board, At: &kitchen.InnerT{B: b},
			Path: [2]int16{0, last}, Lit: lit}
	}
	pieces := []*kitchen.PieceT{
		{Name: "a", At: spot(1, 0, 0, false)},
		{Name: "b", At: spot(0, 9, 9, true)},
		{Name: "c", At: spot(1, -3, 5, false)},
		{Name: "d", At: spot(1, 0, 0, true)},
		{Name: "e", At: spot(1, 0, -7, true)},
		{Name: "f"},
	}
	b := flatbuffers.NewBuilder(0)
	var offsets []flatbuffers.UOffsetT
	for _, p := range pieces {
		offsets = append(offsets, p.Pack(b))
	}
	vector := b.CreateVectorOfSortedTables(offsets, kitchen.PieceKeyCompare)
	buf := b.Bytes[b.Head():]
	at := flatbuffers.UOffsetT(len(buf)) - vector + flatbuffers.SizeUOffsetT // of the first element
	sorted := make([]string, len(pieces))
	for i := range sorted {
		var p kitchen.Piece
		p.Init(buf, flatbuffers.GetIndirectOffset(buf, at+flatbuffers.UOffsetT(i)*4))
		sorted[i] = string(p.Name())
	}
	if want := []string{"f", "b", "c", "e", "a", "d"}; !slices.Equal(sorted, want) {
		t.Errorf("sorted as %q instead of %q", sorted, want)
	}
	find := func(key *kitchen.SpotT) string {
		var found kitchen.Piece
		var s kitchen.Spot
		b := flatbuffers.NewBuilder(0)
		key.Pack(b)
		s.Init(b.Bytes, b.Head())
		if !found.LookupByKey(&s, at, buf) {
			return "nothing"
		}
		return string(found.Name())
	}
	for _, p := range pieces[:5] {
		if got := find(p.At); got != p.Name {
			t.Errorf("found %s instead of %s", got, p.Name)
		}
	}
	if got := find(spot(1, 0, 1, true)); got != "nothing" {
		t.Errorf("found %s where nothing is", got)
	}
}

func TestEnumsRoundTripAsText(t *testing.T) {
	for _, v := range []kitchen.Level{kitchen.LevelLow, kitchen.LevelMid,
		kitchen.LevelHigh, 77, -77} {
		if got, err := kitchen.ParseLevel(v.String()); err != nil || got != v {
			t.Errorf("%v became %v (%v)", v, got, err)
		}
	}
	if got, err := kitchen.ParseBig(kitchen.Big(math.MaxUint64 - 1).String()); err != nil ||
		got != math.MaxUint64-1 {
		t.Errorf("a large value became %v (%v)", got, err)
	}
	for _, s := range []string{"", "low", "Level(", "Level(x)", "Level(99999999999)", "Big(1)"} {
		if _, err := kitchen.ParseLevel(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

// A scalars-only object packs and unpacks without allocating, and verifying
// costs nothing either.
func TestNoAllocations(t *testing.T) {
	b := flatbuffers.NewBuilder(256)
	in, out := &audio.SetParamT{ParamId: audio.ParamTypePan, Value: 0.5}, new(audio.SetParamT)
	if n := testing.AllocsPerRun(100, func() {
		b.Reset()
		audio.FinishSetParamBuffer(b, in.Pack(b))
		buf := b.FinishedBytes()
		if err := audio.VerifySetParam(buf); err != nil {
			t.Fatal(err)
		}
		var x audio.SetParam
		x.Init(buf, flatbuffers.GetUOffsetT(buf))
		x.UnPackTo(out)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	buf := kitchenBuffer(fullKitchen())
	if n := testing.AllocsPerRun(100, func() {
		if err := kitchen.VerifyKitchen(buf, fb.Limits{Depth: 32}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to verify", n)
	}
}

func controlMsg(value float32) []byte {
	b := flatbuffers.NewBuilder(0)
	audio.FinishControlMsgBuffer(b, (&audio.ControlMsgT{Seq: 1, Payload: &audio.ControlPayloadT{
		Type:  audio.ControlPayloadSetParam,
		Value: &audio.SetParamT{ParamId: audio.ParamTypePan, Value: value},
	}}).Pack(b))
	return b.FinishedBytes()
}

func TestVerifierSaysWhere(t *testing.T) {
	good := controlMsg(0.5)
	if err := audio.VerifyControlMsg(good); err != nil {
		t.Fatal(err)
	}
	// The entry of value in SetParam's vtable leads out of the buffer.
	bad := bytes.Clone(good)
	var u flatbuffers.Table
	audio.GetRootAsControlMsg(bad, 0).Payload(&u)
	vtable := flatbuffers.UOffsetT(flatbuffers.SOffsetT(u.Pos) - u.GetSOffsetT(u.Pos))
	flatbuffers.WriteVOffsetT(bad[vtable+6:], 0x100)
	err := audio.VerifyControlMsg(bad)
	var verr *fb.VerifyError
	if !errors.As(err, &verr) || verr.Path != "ControlMsg.payload(SetParam).value" ||
		verr.Offset != int(u.Pos)+0x100 ||
		!strings.Contains(err.Error(), "outside buffer of") {
		t.Errorf("got %v", err)
	}

	deep := fullKitchen()
	for range 70 {
		deep = &kitchen.KitchenT{Next: deep}
	}
	for _, c := range []struct {
		what string
		err  error
		want string
	}{
		{"empty", audio.VerifyControlMsg(nil), "ControlMsg: buffer of 0 bytes is shorter"},
		{"identifier", kitchen.VerifyKitchen(leafBuffer(1)), `Kitchen: file identifier`},
		{"size prefix", audio.VerifySizePrefixedControlMsg(append([]byte{255, 0, 0, 0}, good...)),
			"size prefix of 255 bytes"},
		{"depth", kitchen.VerifyKitchen(kitchenBuffer(deep)), "tables nest too deep"},
		{"tables", kitchen.VerifyKitchen(kitchenBuffer(fullKitchen()), fb.Limits{Tables: 3}),
			"too many tables"},
		{"bytes", kitchen.VerifyKitchen(kitchenBuffer(fullKitchen()), fb.Limits{Bytes: 20}),
			"too long in total"},
		{"required",
			kitchen.VerifyKitchen(kitchenBuffer(&kitchen.KitchenT{Strict: &kitchen.StrictT{}})),
			"Kitchen.strict.leaf: required field is missing"},
		{"nested", kitchen.VerifyKitchen(kitchenBuffer(&kitchen.KitchenT{Nested: make([]byte,
			12)})), "Kitchen.nested: offset"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: got %v", c.what, c.err)
		}
	}
}

func TestVerifierNamesElements(t *testing.T) {
	buf := kitchenBuffer(fullKitchen())
	var leaf kitchen.Leaf
	k := kitchen.GetRootAsKitchen(buf, 0)
	k.Leaves(&leaf, 1)
	flatbuffers.WriteSOffsetT(buf[leaf.Table().Pos:], 1<<20)
	if err := kitchen.VerifyKitchen(buf); err == nil ||
		!strings.HasPrefix(err.Error(), "Kitchen.leaves[1]: vtable") {
		t.Errorf("got %v", err)
	}
	buf = kitchenBuffer(fullKitchen())
	var u flatbuffers.Table
	kitchen.GetRootAsKitchen(buf, 0).Things(&u, 3)
	flatbuffers.WriteUint32(buf[u.Pos:], 1<<20)
	if err := kitchen.VerifyKitchen(buf); err == nil ||
		!strings.HasPrefix(err.Error(), "Kitchen.things[3](Text): vector") {
		t.Errorf("got %v", err)
	}
}

func TestVerifierWantsStringsTerminated(t *testing.T) {
	buf := kitchenBuffer(fullKitchen())
	at := bytes.Index(buf, []byte("more text\x00"))
	buf[at+len("more text")] = 'x'
	if err := kitchen.VerifyKitchen(buf); err == nil ||
		!strings.HasPrefix(err.Error(), "Kitchen.things[3](Text): string") ||
		!strings.HasSuffix(err.Error(), "is not zero-terminated") {
		t.Errorf("got %v", err)
	}
}

// One long string that is referred to often must not unpack to more than the
// limits allow.
func TestVerifierBoundsAmplification(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	s := b.CreateString(strings.Repeat("x", 100_000))
	kitchen.KitchenStartStringsVector(b, 10_000)
	for range 10_000 {
		b.PrependUOffsetT(s)
	}
	v := b.EndVector(10_000)
	kitchen.KitchenStart(b)
	kitchen.KitchenAddStrings(b, v)
	kitchen.FinishKitchenBuffer(b, kitchen.KitchenEnd(b))
	err := kitchen.VerifyKitchen(b.FinishedBytes())
	if err == nil || !strings.Contains(err.Error(), "Kitchen.strings[") ||
		!strings.Contains(err.Error(), "too long in total") {
		t.Errorf("got %v", err)
	}
}
