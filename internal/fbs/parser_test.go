package fbs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// outline writes the declarations of a file and their contents, in one line each, so that a test
// sees which of them survive an error.
func outline(f *fbs.File) string {
	var b strings.Builder
	for _, inc := range f.Includes {
		fmt.Fprintf(&b, "include %s\n", inc.Path.Text)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *fbs.Namespace:
			fmt.Fprintf(&b, "namespace %s\n", d.Name.Text)
		case *fbs.AttributeDecl:
			fmt.Fprintf(&b, "attribute %s\n", d.Name.Text)
		case *fbs.RootType:
			fmt.Fprintf(&b, "root_type %s\n", d.Type.Text)
		case *fbs.FileIdentifier:
			fmt.Fprintf(&b, "file_identifier %s\n", d.Value.Text)
		case *fbs.FileExtension:
			fmt.Fprintf(&b, "file_extension %s\n", d.Value.Text)
		case *fbs.Object:
			fmt.Fprintf(&b, "object %s:", d.Name.Text)
			for _, f := range d.Fields {
				fmt.Fprintf(&b, " %s", f.Name.Text)
			}
			b.WriteByte('\n')
		case *fbs.Enum:
			fmt.Fprintf(&b, "enum %s:", d.Name.Text)
			for _, v := range d.Values {
				fmt.Fprintf(&b, " %s", v.Name.Text)
			}
			b.WriteByte('\n')
		case *fbs.Service:
			fmt.Fprintf(&b, "service %s:", d.Name.Text)
			for _, m := range d.Methods {
				fmt.Fprintf(&b, " %s", m.Name.Text)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// TestParserRecovers checks which declarations are understood after an error, and that one mistake
// gives one error.
func TestParserRecovers(t *testing.T) {
	for _, test := range []struct{ name, src, want string }{
		{"a bad field", "table T { a: int; b int; c: int; }", "object T: a c\n"},
		{"a missing semicolon", "table T {\n a: int\n b: int;\n}", "object T: a b\n"},
		{"a missing type", "table T { a: ; b: int; }", "object T: b\n"},
		{"a bad default", "table T { a: int = ; b: int; }", "object T: b\n"},
		{"bad metadata", "table T { a: int (=); b: int; }", "object T: b\n"},
		{"a missing brace", "table T {\n a: int;\n\ntable U { b: int; }",
			"object T: a\nobject U: b\n"},
		{"no name", "table { a: int; }\ntable U { b: int; }", "object U: b\n"},
		{"a bad header", "table T x { a: int; }\ntable U { b: int; }", "object T:\nobject U: b\n"},
		{"a bad statement", "root_type 3;\ntable U { b: int; }", "object U: b\n"},
		{"a bad keyword", "tabel T { a: int; }\ntable U { b: int; }", "object U: b\n"},
		{"a stray brace", "table T { a: int; }}\ntable U { b: int; }",
			"object T: a\nobject U: b\n"},
		{"a stray semicolon", "table T { a: int; };\ntable U { b: int; }",
			"object T: a\nobject U: b\n"},
		{"a bad value", "enum E: byte { A, = 3, C }\ntable U { b: int; }",
			"enum E: A C\nobject U: b\n"},
		{"a missing comma", "enum E: byte { A B, C }", "enum E: A B C\n"},
		{"a bad member", "union U { A, b: , C }", "enum U: A C\n"},
		{"a bad method", "rpc_service S { a(T): T; b(T) T; c(T): T; }", "service S: a c\n"},
		{"a bad include", "include x;\ninclude \"y.fbs\";\ntable T {}",
			"include y.fbs\nobject T:\n"},
		{"an illegal character", "table T { a: int; $ b: int; }", "object T: a b\n"},
		{"an open string", "attribute \"x\ntable T { a: int; }", "attribute x\nobject T: a\n"},
	} {
		var diags diag.List
		f := fbs.Parse("x.fbs", []byte(test.src), &diags)
		if got := outline(f); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}
		if diags.Errors() != 1 {
			var out strings.Builder
			_ = diags.Render(&out)
			t.Errorf("%s gives %d errors:\n%s", test.name, diags.Errors(), out.String())
		}
	}
}

func TestKeywordsAreNames(t *testing.T) {
	const src = `namespace table.enum;
table struct {
  table: int;
  namespace: string;
  include: bool;
  attribute: [byte];
  root_type: enum.union;
}
enum union: byte { enum, union, table }
rpc_service rpc_service { rpc_service(struct): struct; }
`
	var diags diag.List
	f := fbs.Parse("x.fbs", []byte(src), &diags)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	const want = `namespace table.enum
object struct: table namespace include attribute root_type
enum union: enum union table
service rpc_service: rpc_service
`
	if got := outline(f); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestDocumentationBelongsToTheNextToken(t *testing.T) {
	const src = "\uFEFF/// of T\r\n///\r\n// not\r\n/// and more\r\ntable T {\r\n  a: int;\r\n  " +
		"/// of b \xff\ufeff\r\n  b: int;\r\n  /// lost\r\n}\r\n/// lost"
	var diags diag.List
	f := fbs.Parse("x.fbs", []byte(src), &diags)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	o := f.Decls[0].(*fbs.Object)
	if want := []string{" of T", "", " and more"}; !slices.Equal(o.Doc, want) {
		t.Errorf("the table's is %q, want %q", o.Doc, want)
	}
	if o.Fields[0].Doc != nil {
		t.Errorf("the first field's is %q", o.Fields[0].Doc)
	}
	if want := []string{" of b \uFFFD"}; !slices.Equal(o.Fields[1].Doc, want) {
		t.Errorf("the second field's is %q, want %q", o.Fields[1].Doc, want)
	}
}

func TestSpansPointAtTheirText(t *testing.T) {
	const src = "table T {\n  /* wide: ö\n  */ name : [ a . b ] = [ ] (key) ;\n}\n"
	var diags diag.List
	f := fbs.Parse("x.fbs", []byte(src), &diags)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	field := f.Decls[0].(*fbs.Object).Fields[0]
	for want, r := range map[string]fbs.Range{
		"name": field.Name.Range, "[ a . b ]": field.Type.Range, "a . b": field.Type.Name.Range,
		"[ ]": field.Default.Range,
		"key": field.Meta[0].Name.Range,
	} {
		span := f.Span(r)
		if got := src[span.Start:span.End]; got != want {
			t.Errorf("the span of %q is %q", want, got)
		}
		line := src[strings.LastIndexByte(src[:span.Start], '\n')+1:]
		if span.Line != 3 || line[span.Col-1:][:len(want)] != want {
			t.Errorf("%q is at %s", want, span)
		}
	}
	if field.Type.Name.Text != "a.b" {
		t.Errorf("the type's name is %q", field.Type.Name.Text)
	}
}

func TestStringsAreDecoded(t *testing.T) {
	for src, want := range map[string]string{
		`"plain"`: "plain", `'it "is"'`: `it "is"`, `"\n\t\r\b\f\/\\\'\""`: "\n\t\r\b\f/\\'\"",
		`"\x41\xc3\xa9\u00e9\uD83D\uDE00é"`: "Aéé😀é", `""`: "",
	} {
		var diags diag.List
		f := fbs.Parse("x.fbs", []byte("attribute "+src+";"), &diags)
		if diags.HasErrors() {
			t.Errorf("%s: %v", src, diags.Err())
			continue
		}
		if got := f.Decls[0].(*fbs.AttributeDecl).Name.Text; got != want {
			t.Errorf("%s is %q, want %q", src, got, want)
		}
	}
}

func TestWhatIsNoTextIsRefused(t *testing.T) {
	for name, src := range map[string][]byte{"a zero byte": []byte("table T {}\x00"),
		"nothing": nil, "blanks": []byte(" \n\t\n")} {
		var diags diag.List
		if fbs.Parse("x.fbs", src, &diags); diags.Errors() != 1 {
			t.Errorf("%s: %v", name, diags.Err())
		}
	}
}

// FuzzParse parses any bytes. No input may cause a panic, and every span must lie in the file,
// because diagnostics slice the file with it.
func FuzzParse(f *testing.F) {
	for _, src := range []string{
		"namespace a.b;\ntable T { x: [int] = []; y: float = sin(-1.5e3) (key, id: 3); }",
		"enum E: ubyte (bit_flags) { A = 0x1, B }\nunion U { a: T, b.C = 3 }\nrpc_service S { " +
			"f(T): T (streaming: \"bidi\"); }",
		"include 'x.fbs';\nnative_include \"y.h\";\nattribute " +
			"\"\\u00e9\\x41\";\nfile_identifier \"ABCD\";\nroot_type T;",
		"/// doc\n/* comment */ struct S (force_align: 8) { a: [ubyte:16]; }",
		"table T {", "table T { x: [[[", "\"\\ud83d", "+", "0x1.8", "/*", "///", "\uFEFF",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var diags diag.List
		file := fbs.Parse("x.fbs", src, &diags)
		if file == nil {
			t.Fatal("no file")
		}
		outline(file)
		for _, d := range diags.All() {
			if d.Span.Start < 0 || d.Span.End < d.Span.Start || d.Span.End > len(src) {
				t.Fatalf("%v spans %d to %d of %d bytes", d, d.Span.Start, d.Span.End, len(src))
			}
		}
		if err := diags.Render(new(strings.Builder)); err != nil {
			t.Fatal(err)
		}
	})
}
