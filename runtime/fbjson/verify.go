package fbjson

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// Verify checks a buffer whose root is the table, as the verifier of a generated package does,
// within the default limits or the ones given. The buffer of a struct must have its size. The error
// is a [*fb.VerifyError].
func (t *Type) Verify(buf []byte, limits ...fb.Limits) error {
	if t.object.IsStruct {
		if len(buf) != t.object.Size {
			return &fb.VerifyError{Path: t.object.Name, Reason: fmt.Sprintf(
				"the struct has %d bytes, and the buffer %d", t.object.Size, len(buf))}
		}
		return nil
	}
	return fb.VerifyRoot(t.object.Name, t.verifyAt, buf, t.Identifier(), limits)
}

func (t *Type) verifyAt(v *fb.Verifier, pos uint32) bool { return v.Table(pos, t.rules, t.subs...) }

// makeRules makes the rules of a table. Those of a struct are its size and alignment.
func (t *Type) makeRules() {
	if t.object.IsStruct {
		return
	}
	for _, f := range t.object.Fields {
		if f.IsTag {
			continue // it belongs to the rule of the union
		}
		r := fb.Rule{Name: f.Name, Slot: uint16(f.Offset), Required: f.Required}
		sub := t.ruleOf(f, &r)
		if sub != nil {
			r.Sub = uint16(len(t.subs))
			t.subs = append(t.subs, sub)
		}
		t.rules = append(t.rules, r)
	}
}

// ruleOf completes the rule of a field and returns the verifier of what it refers to, if any.
func (t *Type) ruleOf(f *schema.Field, r *fb.Rule) fb.SubVerifier {
	switch typ := f.Type; typ.Base {
	case schema.String:
		r.Kind = fb.IsString
	case schema.Union:
		r.Kind, r.Size = fb.IsUnion, uint32(typ.Enum.Underlying.Size())
		return t.schema.unionAt(typ.Enum)
	case schema.Obj:
		if !typ.IsStruct() {
			r.Kind = fb.IsTable
			return t.schema.types[typ.Object].verifyAt
		}
		r.Kind, r.Size, r.Align = fb.IsStruct, uint32(typ.Object.Size), uint16(typ.Object.Align)
	case schema.Vector:
		elem := typ.Elem()
		switch {
		case f.NestedFlatbuffer != nil:
			r.Kind = fb.IsBuffer
			return t.schema.types[f.NestedFlatbuffer].verifyAt
		case elem.Base == schema.String:
			r.Kind = fb.IsStrings
		case elem.Base == schema.Union:
			r.Kind, r.Size = fb.IsUnions, uint32(elem.Enum.Underlying.Size())
			return t.schema.unionAt(elem.Enum)
		case elem.Base == schema.Obj && !elem.IsStruct():
			r.Kind = fb.IsTables
			return t.schema.types[elem.Object].verifyAt
		default:
			r.Kind, r.Size = fb.IsVector, uint32(elementSize(elem))
		}
	default:
		r.Kind, r.Size = fb.IsScalar, uint32(scalarSize(typ))
	}
	return nil
}

// A memberName is the name of a union's member in the path of an error.
type memberName string

// String returns the name.
func (n memberName) String() string { return string(n) }

// unionAt returns the verifier of a union's members. Those that the schema does not know, of a
// later version, are not checked.
func (s *Schema) unionAt(e *schema.Enum) fb.SubVerifier {
	members := s.members[e]
	return func(v *fb.Verifier, pos uint32) bool {
		m := members[v.Tag()]
		if m == nil {
			return true
		}
		ok := true
		switch {
		case m.Type.Base == schema.String:
			ok = v.String(pos)
		case m.Type.IsStruct():
			ok = v.Struct(pos, uint32(m.Type.Object.Size), uint32(m.Type.Object.Align))
		case m.Type.Base == schema.Obj:
			ok = s.types[m.Type.Object].verifyAt(v, pos)
		}
		return ok || v.InMember(memberName(m.Name))
	}
}

// tagMask covers the bits that a union's tag has.
func tagMask(e *schema.Enum) uint64 { return 1<<(8*e.Underlying.Size()) - 1 }
