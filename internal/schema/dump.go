package schema

import (
	"encoding/json"
	"io"
	"math"
	"strconv"
)

// Dump writes the model as indented JSON, for people and for tests. Types and references are
// written in the form of the schema language, with full names. Empty and false values are omitted.
// The form is not a stable interface.
func (s *Schema) Dump(w io.Writer) error {
	d := dumpSchema{
		FileIdentifier: s.FileIdentifier, FileExtension: s.FileExtension,
	}
	if s.Root != nil {
		d.Root = s.Root.FullName()
	}
	for _, f := range s.Files {
		df := dumpFile{Name: f.Name, Root: f.Root}
		for _, g := range f.Includes {
			df.Includes = append(df.Includes, g.Name)
		}
		d.Files = append(d.Files, df)
	}
	for _, o := range s.Objects {
		d.Objects = append(d.Objects, o.dump())
	}
	for _, e := range s.Enums {
		d.Enums = append(d.Enums, e.dump())
	}
	for _, v := range s.Services {
		d.Services = append(d.Services, v.dump())
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

type (
	dumpSchema struct {
		Files          []dumpFile    `json:"files"`
		Root           string        `json:"root,omitempty"`
		FileIdentifier string        `json:"file_identifier,omitempty"`
		FileExtension  string        `json:"file_extension,omitempty"`
		Objects        []dumpObject  `json:"objects,omitempty"`
		Enums          []dumpEnum    `json:"enums,omitempty"`
		Services       []dumpService `json:"services,omitempty"`
	}
	dumpFile struct {
		Name     string   `json:"name"`
		Includes []string `json:"includes,omitempty"`
		Root     bool     `json:"root,omitempty"`
	}
	dumpObject struct {
		Name       string      `json:"name"`
		Kind       string      `json:"kind"`
		File       string      `json:"file,omitempty"`
		Doc        []string    `json:"doc,omitempty"`
		Attributes []string    `json:"attributes,omitempty"`
		Size       int         `json:"size,omitempty"`
		Align      int         `json:"align,omitempty"`
		Key        string      `json:"key,omitempty"`
		Fields     []dumpField `json:"fields,omitempty"`
	}
	dumpField struct {
		Name       string   `json:"name"`
		Type       string   `json:"type"`
		ID         int      `json:"id"`
		Offset     int      `json:"offset"`
		Padding    int      `json:"padding,omitempty"`
		Default    string   `json:"default,omitempty"`
		Flags      []string `json:"flags,omitempty"`
		Nested     string   `json:"nested_flatbuffer,omitempty"`
		Doc        []string `json:"doc,omitempty"`
		Attributes []string `json:"attributes,omitempty"`
	}
	dumpEnum struct {
		Name       string        `json:"name"`
		Kind       string        `json:"kind"`
		File       string        `json:"file,omitempty"`
		Underlying string        `json:"underlying"`
		Doc        []string      `json:"doc,omitempty"`
		Attributes []string      `json:"attributes,omitempty"`
		Values     []dumpEnumVal `json:"values"`
	}
	dumpEnumVal struct {
		Name       string   `json:"name"`
		Value      string   `json:"value"`
		Type       string   `json:"type,omitempty"`
		Doc        []string `json:"doc,omitempty"`
		Attributes []string `json:"attributes,omitempty"`
	}
	dumpService struct {
		Name       string       `json:"name"`
		File       string       `json:"file,omitempty"`
		Doc        []string     `json:"doc,omitempty"`
		Attributes []string     `json:"attributes,omitempty"`
		Methods    []dumpMethod `json:"methods,omitempty"`
	}
	dumpMethod struct {
		Name       string   `json:"name"`
		Request    string   `json:"request"`
		Reply      string   `json:"reply"`
		Streaming  string   `json:"streaming,omitempty"`
		Idempotent bool     `json:"idempotent,omitempty"`
		Doc        []string `json:"doc,omitempty"`
		Attributes []string `json:"attributes,omitempty"`
	}
)

// fileName returns the name of a file, which may be unknown for a binary schema without file names.
func fileName(f *File) string {
	if f == nil {
		return ""
	}
	return f.Name
}

func (a Attributes) dump() (out []string) {
	for _, attr := range a {
		text := attr.Name
		if !attr.Bare {
			text += ": " + strconv.Quote(attr.Value)
		}
		out = append(out, text)
	}
	return out
}

func (o *Object) dump() dumpObject {
	d := dumpObject{
		Name: o.FullName(), Kind: "table", File: fileName(o.File), Doc: o.Doc,
		Attributes: o.Attributes.dump(),
		Size:       o.Size, Align: o.Align,
	}
	if o.IsStruct {
		d.Kind = "struct"
	}
	if o.Key != nil {
		d.Key = o.Key.Name
	}
	for _, f := range o.Fields {
		d.Fields = append(d.Fields, f.dump())
	}
	return d
}

func (f *Field) dump() dumpField {
	d := dumpField{
		Name: f.Name, Type: f.Type.String(), ID: f.ID, Offset: f.Offset, Padding: f.Padding,
		Default: f.DefaultString(), Doc: f.Doc, Attributes: f.Attributes.dump(),
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"optional", f.Optional}, {"required", f.Required}, {"deprecated", f.Deprecated},
		{"tag", f.IsTag},
	} {
		if flag.set {
			d.Flags = append(d.Flags, flag.name)
		}
	}
	if f.NestedFlatbuffer != nil {
		d.Nested = f.NestedFlatbuffer.FullName()
	}
	return d
}

// DefaultString returns the default in the form of the schema language, or "" if it is not set. The
// default of an enum is its number.
func (f *Field) DefaultString() string {
	switch b := f.Type.Base; {
	case f.Optional:
		return "null"
	case !f.Default.Set:
		return ""
	case b == String:
		return strconv.Quote(f.Default.Str)
	case b == Vector:
		return "[]"
	case b.IsFloat():
		return formatFloat(f.Default.Float)
	case b == ULong:
		return strconv.FormatUint(uint64(f.Default.Int), 10)
	}
	return strconv.FormatInt(f.Default.Int, 10)
}

// formatFloat formats a number in a form that the schema language accepts.
func formatFloat(x float64) string {
	switch {
	case math.IsNaN(x):
		return "nan"
	case math.IsInf(x, 1):
		return "inf"
	case math.IsInf(x, -1):
		return "-inf"
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

func (e *Enum) dump() dumpEnum {
	d := dumpEnum{
		Name: e.FullName(), Kind: "enum", File: fileName(e.File), Underlying: e.Underlying.String(),
		Doc: e.Doc, Attributes: e.Attributes.dump(),
	}
	if e.IsUnion {
		d.Kind = "union"
	}
	for _, v := range e.Values {
		dv := dumpEnumVal{Name: v.Name, Value: strconv.FormatInt(v.Value, 10), Doc: v.Doc,
			Attributes: v.Attributes.dump()}
		if e.Underlying == ULong {
			dv.Value = strconv.FormatUint(uint64(v.Value), 10)
		}
		if v.Type.Base != None {
			dv.Type = v.Type.String()
		}
		d.Values = append(d.Values, dv)
	}
	return d
}

func (s *Service) dump() dumpService {
	d := dumpService{Name: s.FullName(), File: fileName(s.File), Doc: s.Doc,
		Attributes: s.Attributes.dump()}
	for _, m := range s.Methods {
		dm := dumpMethod{
			Name: m.Name, Request: m.Request.FullName(), Reply: m.Reply.FullName(),
			Idempotent: m.Idempotent, Doc: m.Doc, Attributes: m.Attributes.dump(),
		}
		if m.Streaming != Unary {
			dm.Streaming = m.Streaming.String()
		}
		d.Methods = append(d.Methods, dm)
	}
	return d
}

// String returns the value of the streaming attribute.
func (s Streaming) String() string {
	switch s {
	case ClientStreaming:
		return "client"
	case ServerStreaming:
		return "server"
	case BidiStreaming:
		return "bidi"
	}
	return "none"
}
