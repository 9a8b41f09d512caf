package golden_test

import (
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
)

func BenchmarkVerify(b *testing.B) {
	b.Run("SetParam", func(b *testing.B) {
		buf := controlMsg(0.5)
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if err := audio.VerifyControlMsg(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Kitchen", func(b *testing.B) {
		buf := kitchenBuffer(fullKitchen())
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if err := kitchen.VerifyKitchen(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// seq reads a field in the form of flatc's code, for comparison.
func seq(t *flatbuffers.Table) uint64 {
	o := flatbuffers.UOffsetT(t.Offset(4))
	if o != 0 {
		return t.GetUint64(o + t.Pos)
	}
	return 0
}

func BenchmarkAccessors(b *testing.B) {
	msg := audio.GetRootAsControlMsg(controlMsg(0.5), 0)
	k := kitchen.GetRootAsKitchen(kitchenBuffer(fullKitchen()), 0)
	b.Run("scalar", func(b *testing.B) {
		for b.Loop() {
			msg.Seq()
		}
	})
	b.Run("scalar in flatc's form", func(b *testing.B) {
		tab := msg.Table()
		for b.Loop() {
			seq(&tab)
		}
	})
	b.Run("table", func(b *testing.B) {
		var s kitchen.Scalars
		for b.Loop() {
			k.Scalars(&s)
		}
	})
	b.Run("element", func(b *testing.B) {
		for b.Loop() {
			k.I32s(1)
		}
	})
	b.Run("element in flatc's form", func(b *testing.B) {
		tab := k.Table()
		for b.Loop() {
			element(&tab, 1)
		}
	})
	b.Run("table in flatc's form", func(b *testing.B) {
		tab := k.Table()
		var s kitchen.Scalars
		for b.Loop() {
			scalars(&tab, &s)
		}
	})
}

func element(t *flatbuffers.Table, j int) int32 {
	o := flatbuffers.UOffsetT(t.Offset(34))
	if o != 0 {
		a := t.Vector(o)
		return t.GetInt32(a + flatbuffers.UOffsetT(j*4))
	}
	return 0
}

func scalars(t *flatbuffers.Table, obj *kitchen.Scalars) *kitchen.Scalars {
	o := flatbuffers.UOffsetT(t.Offset(4))
	if o != 0 {
		x := t.Indirect(o + t.Pos)
		if obj == nil {
			obj = new(kitchen.Scalars)
		}
		obj.Init(t.Bytes, x)
		return obj
	}
	return nil
}
