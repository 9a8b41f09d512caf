//go:build !race

package golden_test

import (
	"bytes"
	"fmt"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// Recycling takes a message of any shape apart without an allocation, in the object that an equal
// one was in, and Pack puts it together without one, but for a string as the member of a union,
// which must be boxed. With the race detector, pools lose what they have.
func TestRecyclingAllocatesNothing(t *testing.T) {
	k := fullKitchen()
	k.Thing = &kitchen.ThingT{Type: kitchen.ThingLeaf, Value: &kitchen.LeafT{V: 1}}
	k.Things = []*kitchen.ThingT{k.Thing, nil, {Type: kitchen.ThingInner,
		Value: &kitchen.InnerT{A: 1}}}
	for i := range 100 { // more than fits on a stack
		k.Strings = append(k.Strings, fmt.Sprint(i))
		k.Leaves = append(k.Leaves, &kitchen.LeafT{V: int32(i)})
		k.Things = append(k.Things, k.Thing)
	}
	buf := kitchenBuffer(k)
	used := new(kitchen.KitchenT)
	if n := testing.AllocsPerRun(100, func() {
		var root kitchen.Kitchen
		root.Init(buf, flatbuffers.GetUOffsetT(buf))
		root.UnPackInto(used, fb.Borrowed)
	}); n != 0 {
		t.Errorf("%v allocations unpack a message", n)
	}
	want := kitchen.GetRootAsKitchen(buf, 0).UnPack()
	if !bytes.Equal(kitchenBuffer(used), kitchenBuffer(want)) {
		t.Error("the message has changed")
	}
	b := flatbuffers.NewBuilder(1 << 16)
	if n := testing.AllocsPerRun(100, func() {
		b.Reset()
		used.Pack(b)
	}); n != 0 {
		t.Errorf("%v allocations pack a message", n)
	}
}
