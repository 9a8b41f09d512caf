package bfbs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// encodeBare writes a schema as flatc does without --bfbs-builtins.
func encodeBare(s *schema.Schema) []byte {
	w := newWriter(s)
	w.dropBuiltins, w.markComplete = true, false
	return w.write()
}

// read reads a binary schema and returns it with the text of all diagnostics.
func read(t testing.TB, name string, data []byte) (*schema.Schema, string) {
	t.Helper()
	var diags diag.List
	s := Read(name, data, &diags)
	if s == nil {
		t.Fatal(diags.Err())
	}
	var out strings.Builder
	if err := diags.Render(&out); err != nil {
		t.Fatal(err)
	}
	return s, out.String()
}

// restorable are the built-in attributes that a schema expresses in another form.
var restorable = []string{"deprecated", "required", "key", "force_align", "bit_flags"}

// forget removes from s the built-in attributes and their effects, except for those that Read
// restores, and returns the names of the changed parts. back is the result of Read, which decides
// about bit_flags.
func forget(s, back *schema.Schema) (lost []string) {
	strip := func(list *schema.Attributes) {
		*list = slices.DeleteFunc(*list, func(a schema.Attribute) bool {
			return schema.IsBuiltin(a.Name) && !slices.Contains(restorable, a.Name)
		})
	}
	for _, o := range s.Objects {
		strip(&o.Attributes)
		if o.OriginalOrder = false; o.IsStruct && o.Align == o.NaturalAlign() {
			o.Attributes = slices.DeleteFunc(o.Attributes, func(a schema.Attribute) bool {
				return a.Name == "force_align"
			})
		}
		for _, f := range o.Fields {
			if f.Shared || f.NestedFlatbuffer != nil || f.FlexBuffer {
				lost = append(lost, o.FullName()+"."+f.Name)
			}
			f.Shared, f.NestedFlatbuffer, f.FlexBuffer, f.Hash = false, nil, false, ""
			if strip(&f.Attributes); !o.IsStruct {
				f.Attributes = slices.DeleteFunc(f.Attributes, func(a schema.Attribute) bool {
					return a.Name == "force_align"
				})
			}
			if f.Key && f.Type.Base == schema.String {
				f.Attributes = slices.DeleteFunc(f.Attributes, func(a schema.Attribute) bool {
					return a.Name == "required"
				})
			}
		}
	}
	for _, e := range s.Enums {
		strip(&e.Attributes)
		if was := e.BitFlags; was != enum(back, e.FullName()).BitFlags {
			e.BitFlags, e.Attributes = enum(back, e.FullName()).BitFlags,
				enum(back, e.FullName()).Attributes
			lost = append(lost, e.FullName())
		}
		for _, v := range e.Values {
			v.Attributes = slices.DeleteFunc(v.Attributes, func(a schema.Attribute) bool {
				return schema.IsBuiltin(a.Name)
			})
		}
	}
	for _, v := range s.Services {
		strip(&v.Attributes)
		for _, m := range v.Methods {
			if m.Streaming != schema.Unary || m.Idempotent {
				lost = append(lost, v.FullName()+"."+m.Name)
			}
			m.Streaming, m.Idempotent = schema.Unary, false
			strip(&m.Attributes)
		}
	}
	return lost
}

// TestWithoutBuiltins writes every schema of the corpus without its built-in attributes. The result
// must load, be the same schema, and produce the same code, except for the names in the warning.
func TestWithoutBuiltins(t *testing.T) {
	schemas := corpus(t, flatbuffersModule(t))
	if schemas[kinds] = loadFile(kinds); schemas[kinds] == nil {
		t.Fatalf("%s does not load", kinds)
	}
	listed := 0
	for name, s := range schemas {
		t.Run(name, func(t *testing.T) {
			forgetStrings(s)
			file := strings.TrimSuffix(filepath.Base(name), ".fbs") + ".bfbs"
			back, said := read(t, file, encodeBare(s))
			for _, what := range forget(s, back) {
				listed++
				if !strings.Contains(said, what) {
					t.Errorf("%s has changed, and this does not tell:\n%s", what, said)
				}
			}
			if d := firstDifference(modelText(t, back), modelText(t, s)); d != "" {
				t.Fatal(d)
			}
			if d := firstDifference(generate(back), generate(s)); d != "" {
				t.Error(d)
			}
			// Restored attributes stay, and cause no further warning.
			again, said := read(t, file, encode(back))
			if strings.Contains(said, "built-in") {
				t.Errorf("read again, it says:\n%s", said)
			}
			if d := firstDifference(modelText(t, again), modelText(t, back)); d != "" {
				t.Error(d)
			}
		})
	}
	if listed < 10 {
		t.Errorf("only %d losses were looked for", listed)
	}
}

// TestOfFlatcWithoutBuiltins reads a binary schema that flatc has written without options, and
// compares it with the result of encodeBare.
func TestOfFlatcWithoutBuiltins(t *testing.T) {
	theirs, err := os.ReadFile("testdata/flatc/kinds.bfbs")
	if err != nil {
		t.Fatal(err)
	}
	s, said := read(t, "kinds.bfbs", theirs)
	const want = `kinds.bfbs: warning: flatc stores 0 for a default of 2^63 or more; these are taken for the only value that is: kinds.inner.Leaf.high = High
help: generate from the .fbs file, which has the defaults themselves
kinds.bfbs: warning: the binary schema lacks the built-in attributes, and what it does not state in another form is lost
note: taken for bit_flags, because of values and defaults: kinds.inner.Flags
note: any streaming or idempotent is lost; taken for unary calls that are not idempotent: kinds.inner.A.only, kinds.inner.Z.second, kinds.inner.Z.first
note: any nested_flatbuffer or flexbuffer is lost; taken for plain bytes, which are not verified: kinds.inner.Leaf.buffer, kinds.inner.Leaf.flex
note: any shared is lost; equal strings are written each: kinds.inner.Leaf.name, kinds.inner.Leaf.once
help: make the binary schema with flatc -b --schema --bfbs-builtins or ipcgen -bfbs, or generate from the .fbs file
`
	if said != want {
		t.Errorf("it says:\n%s", said)
	}
	if f := field(s, leaf, "high"); uint64(f.Default.Int) != 1<<63 || !f.Default.Set {
		t.Errorf("the default of high is %v", f.Default)
	}
	if !enum(s, "kinds.inner.Flags").BitFlags || !field(s, leaf, "name").Attributes.Has("key") ||
		!field(s, leaf, "old").Attributes.Has("deprecated") ||
		!field(s, tree, "texts").Attributes.Has("required") {
		t.Error("an attribute was not restored")
	}
	if align, _ := object(s, sample).Attributes.Lookup("force_align"); align != "16" {
		t.Errorf("force_align is %q", align)
	}

	ours := encodeBare(loadKinds(t))
	if d := firstDifference(knownToFlatc(meaning(ours)), knownToFlatc(meaning(theirs))); d != "" {
		t.Error(d)
	}
}

// knownToFlatc removes from the meaning of kinds.fbs the lines in which flatc without options
// differs: it omits documentation, and writes three defaults, of 2^63 or more and of -0, as 0.
func knownToFlatc(meaning string) string {
	lines := strings.Split(meaning, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		field, _, _ := strings.Cut(line, " = ")
		return strings.HasSuffix(field, ".documentation") ||
			strings.HasSuffix(field, "[all].default_integer") ||
			strings.HasSuffix(field, "[high].default_integer") ||
			strings.HasSuffix(field, "[minus].default_real")
	}), "\n")
}

// load returns the schema of that text.
func load(t testing.TB, text string) *schema.Schema {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.fbs")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := loadFile(path)
	if s == nil {
		t.Fatalf("does not load:\n%s", text)
	}
	return s
}

// TestBuiltinsThatMayBeLost reads schemas that never had an attribute, and schemas that had one.
// Only their writer knows the difference.
func TestBuiltinsThatMayBeLost(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		says []string // nothing if empty
	}{
		"numbers": {"table T { a: int; }", nil},
		"a method": {"table T {} rpc_service S { m(T): T; }",
			[]string{"if the .fbs file has any", "unary", "S.m"}},
		"a string": {"table T { s: string; }",
			[]string{"if the .fbs file has any", "shared", "T.s"}},
		"bytes": {"table T { b: [ubyte]; }",
			[]string{"if the .fbs file has any", "nested_flatbuffer", "T.b"}},
		"single bits": {"enum E: ubyte { A = 1, B = 2, C = 4 }",
			[]string{"any bit_flags", "E"}},
		"two single bits": {"enum E: ubyte { A = 1, B = 2 } table T { k: int (key); }",
			[]string{"lacks", "any bit_flags", "E"}},
		"probable flags": {"enum E: ubyte { A = 1, B = 2, C = 8 } table T { k: int (key); }",
			[]string{"taken for bit_flags", "E"}},
		"signed single bits": {"enum E: int { A = 1, B = 2, C = 8 } table T { k: int (key); }",
			[]string{"any bit_flags", "E"}},
		"signed flags": {"enum E: int (bit_flags) { A, B } table T { e: E; }",
			[]string{"lacks", "taken for bit_flags", "E"}},
		"flags in a struct": {"enum E: ubyte (bit_flags) { A, B } struct S { e: E; }",
			[]string{"lacks", "taken for bit_flags", "E"}},
		"flags in an array": {"enum E: ubyte (bit_flags) { A, B } struct S { e: [E: 3]; }",
			[]string{"lacks", "taken for bit_flags", "E"}},
		"flags of 64 bits": {"enum E: ulong (bit_flags) { A, B = 63 } table T { e: E; }",
			[]string{"lacks", "taken for bit_flags", "E"}},
		"a declared built-in": {`attribute "shared"; table T { s: string (shared); k: int (key); }`,
			[]string{"T.s"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, test.text)
			_, said := read(t, "text.bfbs", encodeBare(s))
			for _, want := range test.says {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in:\n%s", want, said)
				}
			}
			if len(test.says) == 0 && said != "" {
				t.Errorf("it says:\n%s", said)
			}
			// A complete schema gives no warning, with attributes or without.
			back, said := read(t, "text.bfbs", encode(s))
			if said != "" {
				t.Errorf("complete, it says:\n%s", said)
			}
			if d := firstDifference(modelText(t, back), modelText(t, s)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestDefaultsThatFlatcCannotStore reads a schema with all of its attributes, whose default flatc
// has stored as 0.
func TestDefaultsThatFlatcCannotStore(t *testing.T) {
	s := load(t, "enum E: ulong { A = 1, B = 0x8000000000000000 } table T { e: E = B; k: int "+
		"(key); }")
	f := field(s, "T", "e")
	f.Default = schema.Default{}
	back, said := read(t, "text.bfbs", encode(s))
	if got := field(back, "T", "e").Default; uint64(got.Int) != 1<<63 || enum(back, "E").BitFlags {
		t.Errorf("the default is %v", got)
	}
	if !strings.Contains(said, "T.e = B") {
		t.Errorf("it says:\n%s", said)
	}
	// With two such values, the default cannot be inferred.
	s = load(t, "enum E: ulong { A = 3, B = 0x8000000000000000, C } table T { e: E = B; k: int "+
		"(key); }")
	field(s, "T", "e").Default = schema.Default{}
	mustRefuse(t, encode(s), "its default 0 is not a value of E")
}

// TestStringDefaults writes and reads defaults of strings, which are lost.
func TestStringDefaults(t *testing.T) {
	s := load(t, `table T { a: string = "x"; b: string = ""; c: string; d: string = "y"; }`)
	var diags diag.List
	data := Write(s, nil, &diags)
	if all := diags.All(); len(all) != 1 || diags.HasErrors() ||
		!strings.Contains(all[0].Message, "T.a, T.d") || all[0].Span.Line != 1 {
		t.Errorf("writing: %v", all)
	}
	_, said := read(t, "text.bfbs", data)
	if strings.Count(said, "warning") != 1 || !strings.Contains(said, "T.a, T.b, T.d") {
		t.Errorf("reading says:\n%s", said)
	}
}

// TestFloatDefaults sends every special number through a binary schema.
func TestFloatDefaults(t *testing.T) {
	s := load(t, `table T { a: float = -0.0; b: double = -0.0; c: float = nan; d: double = inf; e: float = -inf;
		f: float = 1e-50; g: float = -1e-50; h: double = -0; i: float = "-0.0"; j: float = 0.0; k: double = -nan; l: float = 1e39; }`)
	back, said := read(t, "text.bfbs", encode(s))
	if said != "" {
		t.Error(said)
	}
	if d := firstDifference(modelText(t, back), modelText(t, s)); d != "" {
		t.Error(d)
	}
	code := generate(s)
	if d := firstDifference(generate(back), code); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"a", "b", "h", "i"} {
		if got := field(back, "T", name).DefaultString(); got != "-0" {
			t.Errorf("the default of %s is %s", name, got)
		}
	}
	// an accessor and an UnPackTo of a, b, g, h, i
	if n := strings.Count(code, "math.Copysign(0, -1)"); n != 10 {
		t.Errorf("%d times -0 in the code", n)
	}
}
