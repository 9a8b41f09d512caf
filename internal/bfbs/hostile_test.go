package bfbs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/diag"
)

// A forger writes binary schemas that no compiler would write.
type forger struct{ *flatbuffers.Builder }

func (b forger) table(slots int, offsets map[int]flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartObject(slots)
	for slot := range slots {
		if at := offsets[slot]; at != 0 {
			b.PrependUOffsetTSlot(slot, at, 0)
		}
	}
	return b.EndObject()
}

func (b forger) vector(elems ...flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(4, len(elems), 4)
	for _, at := range slices.Backward(elems) {
		b.PrependUOffsetT(at)
	}
	return b.EndVector(len(elems))
}

func (b forger) finish(objects []flatbuffers.UOffsetT) []byte {
	objectsAt, enumsAt := b.vector(objects...), b.vector()
	b.FinishWithFileIdentifier(b.table(schemaSlots, map[int]flatbuffers.UOffsetT{
		schemaObjects: objectsAt, schemaEnums: enumsAt,
	}), []byte(identifier))
	return b.FinishedBytes()
}

// intType writes the type int.
func (b forger) intType() flatbuffers.UOffsetT {
	b.StartObject(typeSlots)
	b.PrependByteSlot(typeBase, 7, 0)
	return b.EndObject()
}

// TestSharingIsBounded reads a small buffer that unpacks to a huge schema: every object refers to
// the same fields, and each of those to the same attributes.
func TestSharingIsBounded(t *testing.T) {
	const n, few = 700, 20 // n*few*n attributes without a limit
	b := forger{flatbuffers.NewBuilder(0)}
	var attributes, fields, objects []flatbuffers.UOffsetT
	for i := range n {
		key := b.CreateString(fmt.Sprint("a", i))
		attributes = append(attributes,
			b.table(keyValueSlots, map[int]flatbuffers.UOffsetT{keyValueKey: key}))
	}
	shared, typ := b.vector(attributes...), b.intType()
	for i := range few {
		name := b.CreateString(fmt.Sprint("f", i))
		b.StartObject(fieldSlots)
		b.PrependUOffsetTSlot(fieldName, name, 0)
		b.PrependUOffsetTSlot(fieldType, typ, 0)
		b.PrependUOffsetTSlot(fieldAttributes, shared, 0)
		b.PrependUint16Slot(fieldID, uint16(i), 0)
		b.PrependUint16Slot(fieldOffset, uint16(4+2*i), 0)
		fields = append(fields, b.EndObject())
	}
	sharedFields := b.vector(fields...)
	for i := range n {
		name := b.CreateString(fmt.Sprint("T", i))
		objects = append(objects,
			b.table(objectSlots,
				map[int]flatbuffers.UOffsetT{objectName: name, objectFields: sharedFields}))
	}
	mustRefuse(t, b.finish(objects), "too often")
}

// mustRefuse reads a binary schema that must be refused for the given reason.
func mustRefuse(t *testing.T, data []byte, reason string) {
	t.Helper()
	var diags diag.List
	if s := Read("kinds.bfbs", data, &diags); s != nil {
		t.Fatalf("%d bytes were read", len(data))
	}
	if err := diags.Err(); err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("refused because %v, not %q", err, reason)
	}
}

// TestDeepNamespace reads a namespace of very many parts, in each of which the root of a nested
// buffer would be looked up.
func TestDeepNamespace(t *testing.T) {
	b := forger{flatbuffers.NewBuilder(0)}
	key, value := b.CreateString("nested_flatbuffer"), b.CreateString("T")
	attributes := b.vector(b.table(keyValueSlots,
		map[int]flatbuffers.UOffsetT{keyValueKey: key, keyValueValue: value}))
	var fields []flatbuffers.UOffsetT
	for i := range 100 {
		name, typ := b.CreateString(fmt.Sprint("f", i)), b.intType()
		b.StartObject(fieldSlots)
		b.PrependUOffsetTSlot(fieldName, name, 0)
		b.PrependUOffsetTSlot(fieldType, typ, 0)
		b.PrependUOffsetTSlot(fieldAttributes, attributes, 0)
		fields = append(fields, b.EndObject())
	}
	name, fieldsAt := b.CreateString(strings.Repeat("n.", 5000)+"T"), b.vector(fields...)
	object := b.table(objectSlots,
		map[int]flatbuffers.UOffsetT{objectName: name, objectFields: fieldsAt})
	mustRefuse(t, b.finish([]flatbuffers.UOffsetT{object}), "namespace")
}
