package forms

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

const everyKind = `namespace f;
attribute "timeout"; attribute "read_only"; attribute "topic";
/// Colours.
enum Colour : ubyte { Red,
  /// Like grass.
  Green }
enum Marks : ulong (bit_flags) { Low, High = 63 }
struct Point { x: float; cells: [short:3]; colour: Colour; }
table Leaf { again: Leaf; name: string = "none"; }
union Any { Leaf, Point, Text: string }
/// Everything.
/// And more.
table All {
  on: bool = true;
  n: long = -5;
  ratio: double;
  maybe: int = null;
  colour: Colour = Green;
  marks: Marks;
  text: string (required);
  where: Point;
  leaf: Leaf;
  leaves: [Leaf];
  any: Any;
  many: [Any];
  raw: [ubyte];
  signed: [byte];
  colours: [Colour];
  nested: [ubyte] (nested_flatbuffer: "Leaf");
  flex: [ubyte] (flexbuffer);
  hashed: uint (hash: "fnv1_32");
  old: int (deprecated);
}
table Told { text: string; }
table Item { id: string (key); }
rpc_service Echo {
  /// Tells.
  Tell(All): Told (idempotent, read_only, timeout: "250ms");
  Flow(Leaf): Told (streaming: "bidi");
}
union Body { Leaf, Point }
table Envelope { seq: ulong; body: Body; }
table News (topic) { items: [Item]; }
`

// TestOf describes a schema with each kind of field.
func TestOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.fbs")
	if err := os.WriteFile(file, []byte(everyKind), 0o600); err != nil {
		t.Fatal(err)
	}
	models, diags := schema.Load(schema.Options{}, file)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	f := Of(gogen.Protocols(models[0], new(diag.List)))
	named := make(map[string]*Decl)
	for _, d := range f.Types {
		if named[d.Name] != nil {
			t.Errorf("%s is there twice", d.Name)
		}
		named[d.Name] = d
	}
	all := named["f.All"]
	if all == nil || all.Doc != "Everything.\nAnd more." {
		t.Fatalf("%+v", all)
	}
	// kind, label, default
	want := map[string]string{
		"on": "bool bool true", "n": "int long -5", "ratio": "float double 0", "maybe": "int int ",
		"colour": "enum Colour Green", "marks": "flags Marks 0", "text": "string string ",
		"where": "struct Point ", "leaf": "table Leaf ", "leaves": "vector [Leaf] ",
		"any": "union Any ", "many": "unions Any ", "raw": "bytes [ubyte] ",
		"signed": "bytes [byte] ", "colours": "vector [Colour] ", "nested": "nested Leaf ",
		"flex": "flex any value ", "hashed": "hash uint, or a string to hash 0",
	}
	for _, field := range all.Fields {
		got := field.Type.Kind + " " + field.Type.Label + " " + field.Default
		if got != want[field.Name] || field.Required != (field.Name == "text") ||
			field.Optional != (field.Name == "maybe") {
			t.Errorf("%s: %q, want %q, %+v", field.Name, got, want[field.Name], field)
		}
		delete(want, field.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	colour, marks, leaf, point := named["f.Colour"], named["f.Marks"], named["f.Leaf"],
		named["f.Point"]
	if colour.Doc != "Colours." || len(colour.Values) != 2 ||
		colour.Values[1].Doc != "Like grass." ||
		marks.Values[1].Value != "9223372036854775808" || leaf.Fields[1].Default != "none" ||
		f.Types[leaf.Fields[0].Type.Type] != leaf || // refers to itself
		point.Fields[1].Type.Kind != "array" || point.Fields[1].Type.Length != 3 ||
		point.Fields[1].Type.Element.Kind != "int" {
		t.Errorf("%+v, %+v, %+v, %+v", colour, marks, leaf, point)
	}
	if u := named["f.Any"]; len(u.Values) != 3 || u.Values[2].Name != "Text" ||
		u.Values[2].Type.Kind != "string" || u.Values[1].Type.Kind != "struct" {
		t.Errorf("%+v", u)
	}
	if item := named["f.Item"]; !item.Fields[0].Key {
		t.Errorf("%+v", item)
	}
	tell, flow := f.Methods[0], f.Methods[1]
	if tell.Name != "f.Echo.Tell" || tell.Doc != "Tells." || !tell.Idempotent || !tell.ReadOnly ||
		tell.TimeoutMS != 250 || tell.Streaming != "unary" || tell.Reply != "f.Told" ||
		flow.Streaming != "bidi" {
		t.Errorf("%+v, %+v", tell, flow)
	}
	var messages, topics []string
	for _, m := range f.Messages {
		messages = append(messages, m.Name+" "+m.Request.Kind)
	}
	for _, m := range f.Topics {
		topics = append(topics, m.Name+" "+m.Request.Kind)
	}
	const want2 = "f.Envelope.Leaf table, f.Envelope.Point struct"
	if got := strings.Join(messages, ", "); got != want2 {
		t.Errorf("messages: %s", got)
	}
	if got := strings.Join(topics, ", "); got != "f.News table" {
		t.Errorf("topics: %s", got)
	}
	// It ends, although types refer to themselves.
	if _, err := json.Marshal(f); err != nil {
		t.Error(err)
	}
	if none, err := json.Marshal(Of(nil)); err != nil ||
		string(none) != `{"methods":[],"messages":[],"topics":[],"types":{}}` {
		t.Errorf("%s, %v", none, err)
	}
}
