package bfbs

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// A binary schema has the built-in attributes, such as key and bit_flags, only if flatc has written
// it with --bfbs-builtins. Some of the attributes are visible elsewhere in the schema, some can be
// inferred, and the others are lost. The reader restores the first two kinds and lists the others
// in one warning.

// restoreBuiltins completes a schema whose built-in attributes are missing. It is called after the
// objects, enums and services were read, and before anything is checked.
func (r *reader) restoreBuiltins() {
	// Write leaves an empty list of attributes in a schema without built-in attributes. flatc never
	// does.
	complete := r.complete || hasBuiltins(r.schema)
	dropped := r.restoreEvident()
	complete = complete && !dropped
	flags := r.certainFlags(complete)
	dropped = dropped || len(flags) > 0
	if dropped {
		flags = append(flags, r.probableFlags()...)
	}
	r.inferDefaults()
	if dropped || !complete {
		r.warnBuiltins(dropped, flags)
	}
}

// restoreEvident adds the attributes that the schema expresses in another form, and reports whether
// one was missing.
func (r *reader) restoreEvident() (missing bool) {
	add := func(to *schema.Attributes, name, value string) {
		if !to.Has(name) {
			missing = true
			addAttribute(to, schema.Attribute{Name: name, Value: value, Bare: value == ""})
		}
	}
	for _, o := range r.objectList {
		if o.IsStruct && o.Align > o.NaturalAlign() {
			add(&o.Attributes, "force_align", strconv.Itoa(o.Align))
		}
		for _, f := range o.Fields {
			if f.IsTag {
				continue
			}
			if f.Deprecated {
				add(&f.Attributes, "deprecated", "")
			}
			if f.Key {
				add(&f.Attributes, "key", "")
			}
			// A string that is a key is required implicitly.
			if f.Required && !(f.Key && f.Type.Base == schema.String) {
				add(&f.Attributes, "required", "")
			}
		}
	}
	return missing
}

// addAttribute inserts an attribute unless list has it.
func addAttribute(list *schema.Attributes, a schema.Attribute) {
	i, _ := slices.BinarySearchFunc(*list, a.Name, func(b schema.Attribute, name string) int {
		return cmp.Compare(b.Name, name)
	})
	*list = slices.Insert(*list, i, a)
}

// certainFlags returns the enums that only bit_flags explains: the default of a field, or the 0
// with which a field of a struct starts, is not a value of the enum. In a complete schema, a
// default that flatc cannot store is another explanation.
func (r *reader) certainFlags(complete bool) (flags []*schema.Enum) {
	for _, o := range r.objectList {
		for _, f := range o.Fields {
			e := f.Type.Enum
			if e == nil || e.BitFlags || f.Optional || f.Type.Base == schema.Vector ||
				e.Value(f.Default.Int) != nil || !singleBits(e) || complete &&
				unstorable(o, f) != nil {
				continue
			}
			setFlags(e)
			flags = append(flags, e)
		}
	}
	return flags
}

// probableFlags returns the other enums of an unsigned type with three or more values, each a
// single bit.
func (r *reader) probableFlags() (flags []*schema.Enum) {
	for _, e := range r.enumList {
		if !e.BitFlags && e.Underlying.IsUnsigned() && len(e.Values) >= 3 && singleBits(e) {
			setFlags(e)
			flags = append(flags, e)
		}
	}
	return flags
}

// setFlags makes e an enum with bit_flags.
func setFlags(e *schema.Enum) {
	e.BitFlags = true
	addAttribute(&e.Attributes, schema.Attribute{Name: "bit_flags", Bare: true})
}

// singleBits reports whether e is an enum whose values have one bit each, as bit_flags makes them,
// and not the sign bit.
func singleBits(e *schema.Enum) bool {
	return !e.IsUnion && !slices.ContainsFunc(e.Values, func(v *schema.EnumVal) bool {
		return bits.OnesCount64(uint64(v.Value)) != 1 || v.Value < 0 && e.Underlying != schema.ULong
	})
}

// unstorable returns the value that flatc has stored as 0, which it does for a default of 2^63 or
// more. It returns nil if 0 is a value of the enum, or unless there is exactly one such value.
func unstorable(o *schema.Object, f *schema.Field) *schema.EnumVal {
	e := f.Type.Enum
	if o.IsStruct || f.Type.Base != schema.ULong || f.Optional || f.Default.Int != 0 ||
		e.Value(0) != nil {
		return nil
	}
	n := len(e.Values) // ordered as unsigned numbers
	if e.Values[n-1].Value >= 0 || n > 1 && e.Values[n-2].Value < 0 {
		return nil
	}
	return e.Values[n-1]
}

// inferDefaults sets the defaults that flatc has stored as 0 and that only one value of their enum
// can be.
func (r *reader) inferDefaults() {
	var inferred []string
	for _, o := range r.objectList {
		for _, f := range o.Fields {
			if e := f.Type.Enum; e == nil || e.IsUnion || e.BitFlags {
				continue
			}
			if v := unstorable(o, f); v != nil {
				f.Default = schema.Default{Set: true, Int: v.Value}
				inferred = append(inferred, fmt.Sprintf("%s.%s = %s", o.FullName(), f.Name, v.Name))
			}
		}
	}
	if len(inferred) > 0 {
		r.diags.Warnf(r.at,
			"flatc stores 0 for a default of 2^63 or more; these are taken for the only value "+
				"that is: %s", list(inferred)).
			Helpf("generate from the .fbs file, which has the defaults themselves")
	}
}

// hasBuiltins reports whether s has a built-in attribute.
func hasBuiltins(s *schema.Schema) bool {
	return anyAttributes(s, func(list schema.Attributes) bool {
		return slices.ContainsFunc(list, func(a schema.Attribute) bool {
			return schema.IsBuiltin(a.Name)
		})
	})
}

// anyAttributes reports whether is holds for a list of attributes of s.
func anyAttributes(s *schema.Schema, is func(schema.Attributes) bool) bool {
	for _, o := range s.Objects {
		if is(o.Attributes) ||
			slices.ContainsFunc(o.Fields, func(f *schema.Field) bool { return is(f.Attributes) }) {
			return true
		}
	}
	for _, e := range s.Enums {
		if is(e.Attributes) ||
			slices.ContainsFunc(e.Values, func(v *schema.EnumVal) bool {
				return is(v.Attributes)
			}) {
			return true
		}
	}
	for _, v := range s.Services {
		if is(v.Attributes) ||
			slices.ContainsFunc(v.Methods, func(m *schema.Method) bool {
				return is(m.Attributes)
			}) {
			return true
		}
	}
	return false
}

// warnBuiltins lists the parts of the schema that missing attributes may affect. dropped is set if
// some are known to be missing; otherwise the schema may never have had any.
func (r *reader) warnBuiltins(dropped bool, flags []*schema.Enum) {
	var taken, possible, methods, vectors, texts []string
	for _, e := range flags {
		taken = append(taken, e.FullName())
	}
	for _, e := range r.enumList {
		if !e.BitFlags && singleBits(e) {
			possible = append(possible, e.FullName())
		}
	}
	for _, s := range r.schema.Services {
		for _, m := range s.Methods {
			methods = append(methods, s.FullName()+"."+m.Name)
		}
	}
	for _, o := range r.objectList {
		for _, f := range o.Fields {
			switch t := f.Type; {
			case t.Base == schema.String:
				texts = append(texts, o.FullName()+"."+f.Name)
			case t.Base == schema.Vector && t.Element == schema.UByte && t.Enum == nil:
				vectors = append(vectors, o.FullName()+"."+f.Name)
			}
		}
	}
	if !dropped && len(possible)+len(methods)+len(vectors)+len(texts) == 0 {
		return
	}
	message := "the binary schema has no built-in attributes: if the .fbs file has any, they " +
		"are lost"
	if dropped {
		message = "the binary schema lacks the built-in attributes, and what it does not state " +
			"in another form is lost"
	}
	d := r.diags.Warnf(r.at, "%s", message)
	note := func(names []string, format string) {
		if len(names) > 0 {
			d.Note(r.at, format, list(names))
		}
	}
	note(taken, "taken for bit_flags, because of values and defaults: %s")
	note(possible, "any bit_flags is lost; taken for plain enums: %s")
	note(methods, "any streaming or idempotent is lost; taken for unary calls that are not "+
		"idempotent: %s")
	note(vectors, "any nested_flatbuffer or flexbuffer is lost; taken for plain bytes, which "+
		"are not verified: %s")
	note(texts, "any shared is lost; equal strings are written each: %s")
	d.Helpf("make the binary schema with flatc -b --schema --bfbs-builtins or ipcgen -bfbs, or " +
		"generate from the .fbs file")
}

// maxListed is the number of names in a list of a diagnostic.
const maxListed = 100

// list joins names for a diagnostic.
func list(names []string) string {
	if n := len(names) - maxListed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), n)
	}
	return strings.Join(names, ", ")
}
