package gogen

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file describes protocols for comparison at run time, by canonical texts whose grammar is in
// docs/protocol.md.

// wireID returns the number of a method or message on the wire.
func wireID(protocol, name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(protocol + "/" + name))
	return h.Sum32()
}

// fingerprint returns the number that identifies equal descriptions.
func fingerprint(description string) uint64 {
	sum := sha256.Sum256([]byte(description))
	return binary.BigEndian.Uint64(sum[:8])
}

// A description collects the types that a protocol reaches.
type description struct {
	head  strings.Builder
	types map[string]string // full name to text
	// header is the struct that raw bytes are behind, in the messages of a topic; nil for none.
	header *schema.Object
}

// describeService returns the canonical text of a service.
func describeService(s *service) string {
	d := description{types: make(map[string]string)}
	d.line("service", fullName(s.decl.Namespace, s.decl.Name))
	for _, m := range s.methods {
		req, rep := m.decl.Request, m.decl.Reply
		line := []string{"method", m.decl.Name, fullName(req.Namespace, req.Name),
			fullName(rep.Namespace, rep.Name)}
		if m.decl.Idempotent {
			line = append(line, "idempotent")
		}
		if m.decl.Attributes.Has(schema.AttrReadOnly) {
			line = append(line, schema.AttrReadOnly)
		}
		if m.decl.Streaming != schema.Unary {
			line = append(line, "streaming:"+m.decl.Streaming.String())
		}
		d.line(line...)
		d.object(req)
		d.object(rep)
	}
	if s.request != nil {
		req, rep := s.request.table, s.reply.table
		d.line("envelopes", fullName(req.Namespace, req.Name), fullName(rep.Namespace, rep.Name))
		d.object(req)
		d.object(rep)
	}
	return d.text()
}

// describeEnvelope returns the canonical text of an envelope.
func describeEnvelope(e *envelope) string {
	d := description{types: make(map[string]string)}
	d.line("envelope", fullName(e.table.Namespace, e.table.Name))
	d.object(e.table)
	return d.text()
}

func (d *description) line(fields ...string) {
	d.head.WriteString(strings.Join(fields, " "))
	d.head.WriteByte('\n')
}

func (d *description) text() string {
	names := make([]string, 0, len(d.types))
	for name := range d.types {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		d.head.WriteString(d.types[name])
	}
	return d.head.String()
}

// begin reserves the place of a type, and reports whether the type must still be described.
func (d *description) begin(name string) bool {
	if _, seen := d.types[name]; seen {
		return false
	}
	d.types[name] = ""
	return true
}

func (d *description) object(o *schema.Object) {
	name := fullName(o.Namespace, o.Name)
	if !d.begin(name) {
		return
	}
	var b strings.Builder
	if o.IsStruct {
		b.WriteString("struct " + name + " " + itoa(o.Size) + " " + itoa(o.Align))
		if o == d.header {
			b.WriteString(" payload")
		}
		b.WriteByte('\n')
	} else {
		b.WriteString("table " + name + "\n")
	}
	for i, f := range o.Fields {
		if o.IsStruct {
			b.WriteString("field " + itoa(i) + " " + f.Name + " " + typeName(f.Type) + " " +
				itoa(f.Offset))
		} else {
			b.WriteString("field " + itoa(f.ID) + " " + f.Name + " " + typeName(f.Type) + " " +
				defaultText(f))
			if f.Required {
				b.WriteString(" required")
			}
			if f.Deprecated {
				b.WriteString(" deprecated")
			}
		}
		if f.Key {
			b.WriteString(" key")
		}
		if f.NestedFlatbuffer != nil {
			b.WriteString(" nested:" +
				fullName(f.NestedFlatbuffer.Namespace, f.NestedFlatbuffer.Name))
			d.object(f.NestedFlatbuffer)
		}
		if f.FlexBuffer {
			b.WriteString(" flexbuffer")
		}
		b.WriteString(formerText(o, i) + "\n")
		d.reach(f.Type)
	}
	d.types[name] = b.String()
}

// reach describes the type to which a field or member refers.
func (d *description) reach(t schema.Type) {
	if t.Object != nil {
		d.object(t.Object)
	}
	if t.Enum != nil {
		d.enum(t.Enum)
	}
}

func (d *description) enum(e *schema.Enum) {
	name := fullName(e.Namespace, e.Name)
	if !d.begin(name) {
		return
	}
	kind, item := "enum", "value"
	if e.IsUnion {
		kind, item = "union", "member"
	}
	var b strings.Builder
	b.WriteString(kind + " " + name + " " + baseNames[tagType(e)])
	if e.BitFlags {
		b.WriteString(" bit_flags")
	}
	b.WriteByte('\n')
	for _, val := range e.Values {
		if e.IsUnion && val.Type.Base == schema.None {
			continue
		}
		b.WriteString(item + " " + enumValue(e, val) + " " + val.Name)
		if e.IsUnion {
			b.WriteString(" " + typeName(val.Type))
			d.reach(val.Type)
		}
		b.WriteString(formerWords(val.Attributes, "") + "\n")
	}
	d.types[name] = b.String()
}

// baseNames are the names of scalar types in descriptions.
var baseNames = [...]string{
	schema.UType: "uint8", schema.Bool: "bool",
	schema.Byte: "int8", schema.UByte: "uint8",
	schema.Short: "int16", schema.UShort: "uint16",
	schema.Int: "int32", schema.UInt: "uint32",
	schema.Long: "int64", schema.ULong: "uint64",
	schema.Float: "float32", schema.Double: "float64",
	schema.String: "string",
}

// typeName returns the notation of a type.
func typeName(t schema.Type) string {
	switch {
	case t.Base == schema.Vector:
		return "[" + typeName(elem(t)) + "]"
	case t.Base == schema.Array:
		return "[" + typeName(elem(t)) + ":" + itoa(t.FixedLength) + "]"
	case t.Object != nil:
		return fullName(t.Object.Namespace, t.Object.Name)
	case t.Base == schema.UType && t.Enum != nil:
		return "tag:" + fullName(t.Enum.Namespace, t.Enum.Name)
	case t.Enum != nil:
		return fullName(t.Enum.Namespace, t.Enum.Name)
	default:
		return baseNames[t.Base]
	}
}

// defaultText returns the notation of a table field's default.
func defaultText(f *schema.Field) string {
	switch base := wire(f.Type); {
	case f.Optional:
		return "null"
	case base == schema.String && f.Default.Set:
		// Quoted, without blanks, which separate the fields of a line.
		return strings.ReplaceAll(strconv.QuoteToASCII(f.Default.Str), " ", `\x20`)
	case !isScalar(base):
		return "-"
	case base == schema.Bool:
		return strconv.FormatBool(f.Default.Int != 0)
	case base == schema.ULong:
		return strconv.FormatUint(uint64(f.Default.Int), 10)
	case base == schema.Float:
		return floatText(float64(float32(f.Default.Float)), 32)
	case base == schema.Double:
		return floatText(f.Default.Float, 64)
	default:
		return strconv.FormatInt(f.Default.Int, 10)
	}
}

func floatText(x float64, bits int) string {
	if math.IsNaN(x) {
		return "nan"
	}
	return strconv.FormatFloat(x, 'g', -1, bits)
}
