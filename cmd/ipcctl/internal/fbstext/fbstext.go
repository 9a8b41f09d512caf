// Package fbstext writes models of schemas as the text of one .fbs file, with their comments.
package fbstext

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// Write returns the text of models, with each declaration once. What is used comes before its uses,
// where that is possible, and services come last. The text has the meaning of the models, except
// that all is declared in one file, and that some names cannot be read back: a table and a later
// field of one name, for example. Models are those that package schema has checked.
func Write(models ...*schema.Schema) string {
	w := &writer{seen: make(map[string]bool), begun: make(map[string]bool),
		fields: make(map[string]bool)}
	for _, m := range models {
		for _, o := range m.Objects {
			for _, f := range o.Fields {
				w.fields[f.Name] = true
			}
		}
	}
	w.attributes(models)
	for _, m := range models {
		for _, e := range m.Enums {
			w.enum(e)
		}
		for _, o := range m.Objects {
			w.object(o)
		}
	}
	for _, m := range models {
		for _, s := range m.Services {
			if w.begin(s.FullName(), s.Namespace) {
				w.service(s)
			}
		}
	}
	for _, m := range models {
		if m.Root != nil && w.root == "" {
			w.root = m.Root.FullName()
			w.printf("\nroot_type %s;\n", w.root)
			if m.FileIdentifier != "" {
				w.printf("file_identifier %s;\n", quote(m.FileIdentifier))
			}
		}
	}
	return strings.TrimLeft(w.b.String(), "\n")
}

type writer struct {
	b         strings.Builder
	seen      map[string]bool // by full name
	begun     map[string]bool // likewise, of types
	fields    map[string]bool // by name
	namespace string
	root      string
}

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.b, format, args...) }

// attributes declares the attributes that the language does not define.
func (w *writer) attributes(models []*schema.Schema) {
	names := make(map[string]bool)
	note := func(list schema.Attributes) {
		for _, a := range list {
			if !schema.IsBuiltin(a.Name) {
				names[a.Name] = true
			}
		}
	}
	for _, m := range models {
		for _, o := range m.Objects {
			note(o.Attributes)
			for _, f := range o.Fields {
				note(f.Attributes)
			}
		}
		for _, e := range m.Enums {
			note(e.Attributes)
			for _, v := range e.Values {
				note(v.Attributes)
			}
		}
		for _, s := range m.Services {
			note(s.Attributes)
			for _, c := range s.Methods {
				note(c.Attributes)
			}
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		w.printf("attribute %s;\n", quote(name))
	}
}

// begin begins a declaration, unless there is one of that name.
func (w *writer) begin(name string, ns schema.Namespace) bool {
	if w.seen[name] {
		return false
	}
	first := len(w.seen) == 0
	w.seen[name] = true
	if n := strings.Join(ns, "."); n != w.namespace || first && n != "" {
		w.namespace = n
		w.printf("\nnamespace %s;\n", n)
	}
	w.printf("\n")
	return true
}

func (w *writer) doc(indent string, lines []string) {
	for _, line := range lines {
		w.printf("%s///%s\n", indent, line)
	}
}

func metadata(list schema.Attributes) string {
	if len(list) == 0 {
		return ""
	}
	parts := make([]string, len(list))
	for i, a := range list {
		parts[i] = a.Name
		if _, err := strconv.ParseInt(a.Value, 10, 64); err == nil && !a.Bare {
			parts[i] += ": " + a.Value
		} else if !a.Bare {
			parts[i] += ": " + quote(a.Value)
		}
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func (w *writer) service(s *schema.Service) {
	w.doc("", s.Doc)
	w.printf("rpc_service %s%s {\n", s.Name, metadata(s.Attributes))
	for _, m := range s.Methods {
		w.doc("  ", m.Doc)
		w.printf("  %s(%s): %s%s;\n", m.Name, w.reference(m.Request), w.reference(m.Reply),
			metadata(m.Attributes))
	}
	w.printf("}\n")
}

// object writes a table or a struct, unless it is written, behind the types that it refers to.
func (w *writer) object(o *schema.Object) {
	if w.begun[o.FullName()] {
		return
	}
	w.begun[o.FullName()] = true
	for _, f := range o.Fields {
		w.reach(f.Type)
	}
	w.begin(o.FullName(), o.Namespace)
	w.doc("", o.Doc)
	kind := "table"
	if o.IsStruct {
		kind = "struct"
	}
	if o.File != nil && o.File.RootType == o && !o.File.Root && o.File.Identifier != "" {
		w.printf("// Its buffers have the file identifier %s.\n", quote(o.File.Identifier))
	}
	w.printf("%s %s%s {\n", kind, o.Name, metadata(o.Attributes))
	for _, f := range o.Fields {
		if f.IsTag {
			continue
		}
		w.doc("  ", f.Doc)
		w.printf("  %s:%s%s%s;\n", f.Name, w.typ(f.Type), initial(f), metadata(f.Attributes))
	}
	w.printf("}\n")
}

// initial returns the default of a field, if it is not the usual one.
func initial(f *schema.Field) string {
	switch {
	case f.Optional:
		return " = null"
	case !f.Default.Set:
		return ""
	}
	return " = " + Default(f)
}

// Default returns the default of a field that has another one than the usual.
func Default(f *schema.Field) string {
	switch t, d := f.Type, f.Default; {
	case t.Base == schema.String:
		return quote(d.Str)
	case t.Base == schema.Vector:
		return "[]"
	case t.Base.IsFloat():
		return number(d.Float)
	case t.Base == schema.Bool:
		return strconv.FormatBool(d.Int != 0)
	case t.Enum != nil && t.Enum.Value(d.Int) != nil:
		return t.Enum.Value(d.Int).Name
	case t.Base == schema.ULong:
		return strconv.FormatUint(uint64(d.Int), 10)
	default:
		return strconv.FormatInt(d.Int, 10)
	}
}

func number(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// quote returns a string as the language writes it.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// reach writes the type that a field or a member refers to.
func (w *writer) reach(t schema.Type) {
	if t.Object != nil {
		w.object(t.Object)
	}
	if t.Enum != nil {
		w.enum(t.Enum)
	}
}

// enum is object for enums and unions.
func (w *writer) enum(e *schema.Enum) {
	if w.begun[e.FullName()] {
		return
	}
	w.begun[e.FullName()] = true
	for _, v := range e.Values {
		w.reach(v.Type)
	}
	w.begin(e.FullName(), e.Namespace)
	w.doc("", e.Doc)
	switch {
	case e.IsUnion && e.Underlying == schema.UType:
		w.printf("union %s%s {\n", e.Name, metadata(e.Attributes))
	case e.IsUnion:
		w.printf("union %s:%s%s {\n", e.Name, e.Underlying, metadata(e.Attributes))
	default:
		w.printf("enum %s:%s%s {\n", e.Name, e.Underlying, metadata(e.Attributes))
	}
	next := int64(0)
	for _, v := range e.Values {
		if e.IsUnion && v.Type.Base == schema.None {
			next = v.Value + 1
			continue
		}
		w.doc("  ", v.Doc)
		w.printf("  %s", v.Name)
		if e.IsUnion {
			w.printf(":%s", w.typ(v.Type))
		}
		value, text := v.Value, strconv.FormatInt(v.Value, 10)
		switch {
		case e.BitFlags: // what counts is the number of the bit
			value = 0
			for bit := uint64(v.Value); bit > 1; bit >>= 1 {
				value++
			}
			text = strconv.FormatInt(value, 10)
		case e.Underlying == schema.ULong:
			text = strconv.FormatUint(uint64(v.Value), 10)
		}
		if value != next {
			w.printf(" = %s", text)
		}
		next = value + 1
		w.printf("%s,\n", metadata(v.Attributes))
	}
	w.printf("}\n")
}

func (w *writer) reference(o *schema.Object) string { return w.name(o.FullName()) }

// name returns the name of a type, without the namespace that is in force. A field cannot have the
// unqualified name of a table that was used before.
func (w *writer) name(full string) string {
	if short, ok := strings.CutPrefix(full, w.namespace+"."); ok &&
		!strings.Contains(short, ".") && !w.fields[short] {
		return short
	}
	return full
}

func (w *writer) typ(t schema.Type) string {
	elem := t
	elem.Base = t.Element
	switch {
	case t.Base == schema.Vector:
		return "[" + w.typ(elem) + "]"
	case t.Base == schema.Array:
		return "[" + w.typ(elem) + ":" + strconv.Itoa(t.FixedLength) + "]"
	case t.Object != nil:
		return w.name(t.Object.FullName())
	case t.Enum != nil:
		return w.name(t.Enum.FullName())
	}
	return t.Base.String()
}
