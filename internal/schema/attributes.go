package schema

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// builtinAttributes need no declaration.
var builtinAttributes = [...]string{
	"deprecated", "required", "key", "shared", "hash", "id", "force_align", "bit_flags",
	"original_order", "nested_flatbuffer", "csharp_partial", "streaming", "idempotent",
	"cpp_type", "cpp_ptr_type", "cpp_ptr_type_get", "cpp_str_type", "cpp_str_flex_ctor",
	"native_inline", "native_custom_alloc", "native_type", "native_type_pack_name",
	"native_default", "flexbuffer", "private", "offset64", "vector64",
}

// Attributes beyond the language, which emitters read. A schema declares them, so that flatc
// accepts it too.
const (
	AttrEnvelope        = "envelope"         // of a table: "none" makes it no envelope
	AttrReadOnly        = "read_only"        // of a method: it changes no state of the service
	AttrReplyEnvelope   = "reply_envelope"   // of a service: the envelope of its replies
	AttrRequestEnvelope = "request_envelope" // of a service: the envelope of its requests
	AttrStream          = "stream"           // of a struct: it is the header of streamed blocks
	AttrTopic           = "topic"            // of a struct or table: it is the message of a topic
	AttrTimeout         = "timeout"          // of a method: how long its calls may take
	AttrWas             = "was"              // of a field or enum value: its former names
)

// extensions lists the attributes beyond the language.
var extensions = [...]string{AttrEnvelope, AttrReadOnly, AttrReplyEnvelope, AttrRequestEnvelope,
	AttrStream, AttrTimeout, AttrTopic, AttrWas}

// flags lists the attributes of the language that hold by being there: (required: false) is not a
// way to say that a field is not required, neither here nor for flatc.
var flags = [...]string{"bit_flags", "deprecated", "flexbuffer", "idempotent", "key",
	"original_order", "private", "required", "shared"}

// IsBuiltin reports whether the language itself defines an attribute of that name.
func IsBuiltin(name string) bool { return slices.Contains(builtinAttributes[:], name) }

func (l *linker) declareAttribute(name fbs.Name) {
	l.attributes[name.Text] = true
}

// metadata resolves a metadata list. Of an attribute that is given twice, the first one counts.
func (l *linker) metadata(meta []fbs.Attribute) Attributes {
	if len(meta) == 0 {
		return nil
	}
	list := make(Attributes, 0, len(meta))
	for _, m := range meta {
		if !l.attributes[m.Name.Text] {
			l.unknownAttribute(m.Name)
			continue
		}
		a := Attribute{Name: m.Name.Text, Span: l.span(m.Name.Range), Bare: m.Value == nil}
		if !a.Bare && slices.Contains(flags[:], a.Name) {
			l.diags.Warnf(a.Span, "attribute %s holds whatever its value is", a.Name).
				Helpf("leave the value out, or the whole attribute where it shall not hold")
		}
		if m.Value != nil {
			var ok bool
			if a.Value, ok = l.attributeValue(m.Value); !ok {
				continue
			}
		}
		list = append(list, a)
	}
	list.sort()
	return slices.CompactFunc(list, func(a, first Attribute) bool {
		if first.Name != a.Name {
			return false
		}
		l.diags.Warnf(a.Span, "attribute %s is given twice; the first one counts", a.Name).
			Note(first.Span, "the first one is here")
		return true
	})
}

func (a Attributes) sort() {
	slices.SortStableFunc(a, func(x, y Attribute) int { return strings.Compare(x.Name, y.Name) })
}

// attributeValue returns the value of an attribute. An integer is converted to decimal.
func (l *linker) attributeValue(v *fbs.Value) (string, bool) {
	if v.Kind == fbs.StringValue {
		return v.Text, true
	}
	n, err := parseInteger(v.Text, Int)
	if err != nil {
		l.errorf(v.Range, "%v", err)
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}

func (l *linker) unknownAttribute(name fbs.Name) {
	if l.diags.Full() {
		return
	}
	d := l.errorf(name.Range, "attribute %s is not declared", name.Text)
	known := slices.Clone(extensions[:])
	for a := range l.attributes {
		if !slices.Contains(extensions[:], a) {
			known = append(known, a)
		}
	}
	slices.Sort(known)
	switch near := diag.Nearest(name.Text, known); {
	case near != "" && l.attributes[near]:
		d.Helpf("did you mean %s?", near)
	case near != "":
		d.Helpf("did you mean %s? declare it before use: attribute %q;", near, near)
	default:
		d.Helpf("declare your own attributes before use: attribute %q;", name.Text)
	}
}

// span returns the position of the named attribute, which must be present.
func (a Attributes) span(name string) diag.Span {
	for i := range a {
		if a[i].Name == name {
			return a[i].Span
		}
	}
	return diag.Span{}
}
