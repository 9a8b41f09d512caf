package schema

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ipcgen/ipcgen/internal/fbs"
)

// setDefault evaluates the default of a field, and checks that the field may have that value. A
// default that is not given is 0.
func (ol *objectLinker) setDefault(f *Field, v *fbs.Value, s *symbol) {
	if v != nil {
		var null bool
		var err error
		switch {
		case s != nil && s.pending && f.Type.Base == Obj:
			s.reported = true
			err = fmt.Errorf("the field has a default, so %s must be an enum, and an enum must "+
				"be declared before it is used", s.name)
		default:
			f.Default, null, err = ol.evaluate(f.Type, v)
		}
		if err != nil {
			ol.errorf(v.Range, "%v", err)
			return
		}
		if ol.obj.IsStruct && (null || f.Default.Int != 0 || f.Type.Base.IsFloat() && !isZero(v)) {
			ol.errorf(v.Range, "a field of a struct has no default").
				Helpf("remove it; a table's fields may have one")
			return
		}
		if f.Type.Base.IsScalar() {
			f.Default.Set = f.Default.Int != 0 || math.Float64bits(f.Default.Float) != 0
		}
		f.Optional = null
	}
	ol.checkEnumDefault(f, v)
}

// isZero reports whether a default is the plain number 0, which flatc permits even in a struct.
func isZero(v *fbs.Value) bool { return v.Text == "0" && v.Kind != fbs.CallValue }

// checkEnumDefault checks that the default of an enum field, given or 0, is a value of the enum.
func (ol *objectLinker) checkEnumDefault(f *Field, v *fbs.Value) {
	e := f.Type.Enum
	scalar := f.Type.Base.IsScalar()
	if e == nil || e.IsUnion || !scalar && f.Type.Base != Array {
		return
	}
	if f.Optional {
		if val := ol.values[e]["null"]; val != nil {
			ol.errorf(v.Range,
				"null is a value of enum %s, so the field cannot be made optional by it", e.Name).
				Note(val.Span, "the value is declared here")
		}
		return
	}
	if e.BitFlags || e.Value(f.Default.Int) != nil {
		return
	}
	at := f.Span
	if v != nil {
		at = ol.span(v.Range)
	}
	d := ol.diags.Errorf(at, "the default of field %s is %d, which is not a value of enum %s",
		f.Name, f.Default.Int, e.Name).
		Note(e.Span, "enum %s is declared here", e.Name)
	switch {
	case ol.obj.IsStruct:
		d.Helpf("a field of a struct starts as 0; give the enum a value 0")
	case len(e.Values) > 0:
		d.Helpf("write a default: %s: %s = %s", f.Name, e.Name, e.Values[0].Name)
	}
}

// Value returns the value or member of e with the number n, or nil.
func (e *Enum) Value(n int64) *EnumVal {
	lo, hi := 0, len(e.Values)
	for lo < hi {
		mid := (lo + hi) / 2
		switch v := e.Values[mid].Value; {
		case v == n:
			return e.Values[mid]
		case e.Underlying == ULong && uint64(v) < uint64(n), e.Underlying != ULong && v < n:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return nil
}

// evaluate returns the default that v expresses for a field of type t. null is true if v makes the
// field optional.
func (l *linker) evaluate(t Type, v *fbs.Value) (d Default, null bool, err error) {
	d.Set = true
	switch {
	case t.Base == String:
		if v.Kind != fbs.StringValue {
			return d, false, errors.New("the default of a string must be a string")
		}
		d.Str = v.Text
		return d, false, nil
	case t.Base == Vector:
		if v.Kind != fbs.EmptyVector {
			return d, false, errors.New("the only default of a vector is []")
		}
		return d, false, nil
	case !t.Base.IsScalar():
		return d, false, fmt.Errorf("%s has no default", describe(t))
	}

	text := v.Text
	word := v.Kind == fbs.IdentValue || v.Kind == fbs.StringValue
	switch {
	case v.Kind == fbs.StringValue && v.Escaped:
		return d, false, errors.New("a number in quotes must be plain ASCII")
	case t.Base == Bool && word && (text == "true" || text == "false"):
		if text == "true" {
			d.Int = 1
		}
		return d, false, nil
	case word && text == "null":
		return Default{}, true, nil
	case word && t.Base.IsInteger() && t.Base != Bool && startsName(text):
		d.Int, err = l.enumWords(t, text)
		return d, false, err
	}
	if t.Base.IsFloat() {
		d.Float, err = evaluateFloat(v)
		return d, false, err
	}
	switch v.Kind {
	case fbs.FloatValue, fbs.CallValue:
		return d, false, fmt.Errorf("the default of %s must be an integer", t.Base)
	case fbs.EmptyVector:
		return d, false, errors.New("only a vector may have the default []")
	case fbs.StringValue:
		text = strings.TrimRight(text, " ")
	}
	d.Int, err = parseInteger(text, t.Base)
	return d, false, err
}

func startsName(s string) bool {
	return s != "" && (s[0] == '_' || 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z')
}

// evaluateFloat returns the value of a number, a name such as nan, or a call.
func evaluateFloat(v *fbs.Value) (float64, error) {
	text := v.Text
	switch v.Kind {
	case fbs.CallValue:
		x, err := evaluateFloat(v.Arg)
		if err != nil {
			return 0, err
		}
		return call(v.Text, x), nil
	case fbs.EmptyVector:
		return 0, errors.New("only a vector may have the default []")
	case fbs.StringValue:
		if v.Escaped {
			return 0, errors.New("a number in quotes must be plain ASCII")
		}
		text = strings.TrimRight(text, " ")
	}
	if v.Kind != fbs.FloatValue && lacksExponent(text) {
		return 0, fmt.Errorf("%s is no float: a hexadecimal float needs an exponent, as in 0x1p3",
			text)
	}
	return parseFloat(text)
}

// enumWords returns the bitwise or of the values of enum members, which are separated by single
// spaces. A field of an enum's type names the members only; a field of an integer type names them
// with their enum, and in quotes.
func (l *linker) enumWords(t Type, text string) (int64, error) {
	var n int64
	for word := range strings.SplitSeq(text, " ") {
		e, member := t.Enum, word
		if e == nil {
			var name string
			var qualified bool
			if name, member, qualified = strings.Cut(word, "."); !qualified {
				return 0,
					fmt.Errorf("%q is not a number; a value of an enum must be written with its "+
						"enum and in quotes, as in %q", word, "Color.Red")
			}
			if e = l.findEnum(name); e == nil {
				return 0, fmt.Errorf("enum %s is not defined before this", name)
			}
		}
		v := l.values[e][member]
		if v == nil {
			return 0, fmt.Errorf("enum %s has no value %q", e.Name, member)
		}
		n |= v.Value
	}
	if !t.Base.Holds(n) {
		return 0, fmt.Errorf("%s is %d, which does not fit into %s", text, n, t.Base)
	}
	return n, nil
}
