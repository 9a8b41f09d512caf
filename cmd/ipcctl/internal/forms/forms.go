// Package forms describes what a server serves for a program that lets people fill in forms: each
// method, message and topic with the fields of what it takes, their types, defaults and comments.
// The description is JSON; what is filled in is the JSON of package fbjson.
package forms

import (
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/fbstext"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Forms are those of a server.
type Forms struct {
	Methods  []Method `json:"methods"`
	Messages []Method `json:"messages"` // one-way: they have a request alone
	Topics   []Method `json:"topics"`   // the request is a message of the topic
	// Types has the tables, structs, enums and unions, by the keys that a Type refers to. Names
	// would not do: two schemas of one server may give one name to different types.
	Types map[string]*Decl `json:"types"`
}

// A Method is what can be called, sent or published.
type Method struct {
	Name       string `json:"name"` // with service and namespace
	Doc        string `json:"doc,omitempty"`
	Request    Type   `json:"request"`
	Reply      string `json:"reply,omitempty"`     // the name of the table
	Streaming  string `json:"streaming,omitempty"` // of a method: unary, client, server or bidi
	Idempotent bool   `json:"idempotent,omitempty"`
	ReadOnly   bool   `json:"read_only,omitempty"`
	Payload    bool   `json:"payload,omitempty"`    // of a topic: raw bytes follow the struct
	TimeoutMS  int64  `json:"timeout_ms,omitempty"` // by the schema
}

// A Type is the type of a field or an element.
type Type struct {
	// Kind is bool, int, float, string, bytes, enum, flags, table, struct, union, unions (a vector
	// of a union), vector, array, nested (a table in a buffer of its own), flex (any JSON), hash (a
	// number, or a string to hash), or payload (a struct with raw bytes behind it).
	Kind    string `json:"kind"`
	Label   string `json:"label"`             // as the schema writes it
	Type    string `json:"type,omitempty"`    // a key of Types
	Element *Type  `json:"element,omitempty"` // of a vector or an array
	Length  int    `json:"length,omitempty"`  // of an array
	Signed  bool   `json:"signed,omitempty"`  // of bytes: they are from -128 to 127
}

// A Decl is a table or struct, with fields, or an enum or union, with values.
type Decl struct {
	Name   string  `json:"name"`
	Doc    string  `json:"doc,omitempty"`
	Fields []Field `json:"fields,omitempty"`
	Values []Value `json:"values,omitempty"`
}

// A Field is one of a table or a struct.
type Field struct {
	Name     string `json:"name"`
	Doc      string `json:"doc,omitempty"`
	Type     Type   `json:"type"`
	Default  string `json:"default,omitempty"` // of a scalar or a string
	Required bool   `json:"required,omitempty"`
	Optional bool   `json:"optional,omitempty"` // a scalar without a default
	Key      bool   `json:"key,omitempty"`
}

// A Value is one of an enum, or a member of a union.
type Value struct {
	Name  string `json:"name"`
	Doc   string `json:"doc,omitempty"`
	Value string `json:"value"`
	Type  *Type  `json:"type,omitempty"` // of a member
}

// Of returns the forms of protocols.
func Of(protocols []gogen.Protocol) *Forms {
	w := &writer{forms: &Forms{Methods: []Method{}, Messages: []Method{}, Topics: []Method{},
		Types: make(map[string]*Decl)}, keys: make(map[any]string)}
	for _, p := range protocols {
		for _, m := range p.Methods {
			w.forms.Methods = append(w.forms.Methods, Method{Name: p.Name + "." + m.Decl.Name,
				Doc: text(m.Decl.Doc), Request: w.object(m.Decl.Request),
				Reply: m.Decl.Reply.FullName(), Streaming: streamings[m.Streaming],
				Idempotent: m.Decl.Idempotent, ReadOnly: m.ReadOnly,
				TimeoutMS: m.Timeout.Milliseconds()})
		}
		for _, m := range p.Messages {
			doc := m.Decl.Doc
			if o := m.Decl.Type.Object; len(doc) == 0 && o != nil {
				doc = o.Doc
			}
			w.forms.Messages = append(w.forms.Messages, Method{Name: p.Name + "." + m.Decl.Name,
				Doc: text(doc), Request: w.typ(m.Decl.Type)})
		}
		if o := p.Topic; o != nil {
			t := Method{Name: p.Name, Doc: text(o.Doc), Request: w.object(o), Payload: p.Payload}
			if p.Payload {
				t.Request.Kind = "payload"
			}
			w.forms.Topics = append(w.forms.Topics, t)
		}
	}
	return w.forms
}

var streamings = map[schema.Streaming]string{schema.Unary: "unary",
	schema.ClientStreaming: "client", schema.ServerStreaming: "server",
	schema.BidiStreaming: "bidi"}

type writer struct {
	forms *Forms
	keys  map[any]string // of objects and enums
}

// text returns a comment without the space that precedes each line.
func text(doc []string) string {
	lines := make([]string, len(doc))
	for i, line := range doc {
		lines[i] = strings.TrimPrefix(line, " ")
	}
	return strings.Join(lines, "\n")
}

// declare returns the key of a declaration, and the declaration if it is a new one.
func (w *writer) declare(of any, name string, doc []string) (key string, d *Decl) {
	if key, known := w.keys[of]; known {
		return key, nil
	}
	key = strconv.Itoa(len(w.keys))
	d = &Decl{Name: name, Doc: text(doc)}
	w.keys[of], w.forms.Types[key] = key, d
	return key, d
}

func (w *writer) object(o *schema.Object) Type {
	t := Type{Kind: "table", Label: o.Name}
	if o.IsStruct {
		t.Kind = "struct"
	}
	key, d := w.declare(o, o.FullName(), o.Doc)
	t.Type = key
	if d == nil {
		return t
	}
	d.Fields = []Field{}
	for _, f := range o.Fields {
		if !f.IsTag && !f.Deprecated {
			d.Fields = append(d.Fields, w.field(f))
		}
	}
	return t
}

func (w *writer) field(f *schema.Field) Field {
	one := Field{Name: f.Name, Doc: text(f.Doc), Type: w.typ(f.Type), Required: f.Required,
		Optional: f.Optional, Key: f.Key}
	switch {
	case f.NestedFlatbuffer != nil:
		one.Type = w.object(f.NestedFlatbuffer)
		one.Type.Kind = "nested"
	case f.FlexBuffer:
		one.Type = Type{Kind: "flex", Label: "any value"}
	case f.Hash != "":
		one.Type.Kind = "hash"
		one.Type.Label += ", or a string to hash"
	}
	if f.Type.Base.IsScalar() || f.Type.Base == schema.String {
		one.Default = initial(f)
	}
	return one
}

// initial returns the default of a scalar or a string.
func initial(f *schema.Field) string {
	switch {
	case f.Optional:
		return ""
	case f.Type.Base == schema.String:
		return f.Default.Str
	case f.Default.Set:
		return fbstext.Default(f)
	case f.Type.Base == schema.Bool:
		return "false"
	}
	if e := f.Type.Enum; e != nil && e.Value(0) != nil {
		return e.Value(0).Name
	}
	return "0"
}

func (w *writer) enum(e *schema.Enum) Type {
	t := Type{Kind: "enum", Label: e.Name}
	switch {
	case e.IsUnion:
		t.Kind = "union"
	case e.BitFlags:
		t.Kind = "flags"
	}
	key, d := w.declare(e, e.FullName(), e.Doc)
	t.Type = key
	if d == nil {
		return t
	}
	d.Values = []Value{}
	for _, v := range e.Values {
		one := Value{Name: v.Name, Doc: text(v.Doc), Value: strconv.FormatInt(v.Value, 10)}
		if e.Underlying == schema.ULong {
			one.Value = strconv.FormatUint(uint64(v.Value), 10)
		}
		if e.IsUnion {
			if v.Type.Base == schema.None {
				continue
			}
			member := w.typ(v.Type)
			one.Type = &member
		}
		d.Values = append(d.Values, one)
	}
	return t
}

func (w *writer) typ(t schema.Type) Type {
	switch {
	case t.Base == schema.Vector || t.Base == schema.Array:
		return w.list(t)
	case t.Object != nil:
		return w.object(t.Object)
	case t.Enum != nil:
		return w.enum(t.Enum)
	case t.Base == schema.Bool:
		return Type{Kind: "bool", Label: "bool"}
	case t.Base == schema.String:
		return Type{Kind: "string", Label: "string"}
	case t.Base.IsFloat():
		return Type{Kind: "float", Label: t.Base.String()}
	}
	return Type{Kind: "int", Label: t.Base.String()}
}

func (w *writer) list(t schema.Type) Type {
	element := w.typ(t.Elem())
	v := Type{Kind: "vector", Label: "[" + element.Label + "]", Element: &element}
	switch {
	case t.Base == schema.Array:
		v.Kind, v.Length = "array", t.FixedLength
		v.Label = "[" + element.Label + ":" + strconv.Itoa(t.FixedLength) + "]"
	case element.Kind == "union":
		return Type{Kind: "unions", Label: element.Label, Type: element.Type}
	case t.Enum == nil && (t.Element == schema.UByte || t.Element == schema.Byte):
		return Type{Kind: "bytes", Label: v.Label, Signed: t.Element == schema.Byte}
	}
	return v
}
