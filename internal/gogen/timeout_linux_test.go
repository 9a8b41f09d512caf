package gogen_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// diagnose generates code for a schema and returns what is reported: of the text, and of the binary
// schema of the same, for which only the message must be the same.
func diagnose(t *testing.T, text string) (fromText, fromBinary string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.fbs")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	schemas, diags := schema.Load(schema.Options{}, path)
	if diags.HasErrors() {
		t.Fatal(render(diags))
	}
	data := bfbs.Write(schemas[0], func(*schema.File) string { return "//x.fbs" }, diags)
	opts := gogen.Options{ImportPath: "x", All: true}
	gogen.Generate(schemas[0], opts, diags)
	again := &diag.List{}
	gogen.Generate(bfbs.Read("x.bfbs", data, again), opts, again)
	return strings.ReplaceAll(render(diags), filepath.Dir(path)+"/", ""), render(again)
}

func TestTimeoutsAreChecked(t *testing.T) {
	const s = `table T { a: int; } rpc_service S { `
	for _, tt := range []struct{ decl, says string }{
		{s + `M(T): T (timeout: "soon"); }`, `timeout of method M: "soon" is no duration`},
		{s + `M(T): T (timeout: "250"); }`, `"250" is no duration`},
		{s + `M(T): T (timeout: 250); }`, `"250" is no duration`},
		{s + `M(T): T (timeout); }`, `"" is no duration`},
		{s + `M(T): T (timeout: ""); }`, `"" is no duration`},
		{s + `M(T): T (timeout: "9999999h"); }`, `"9999999h" is no duration`},
		{s + `M(T): T (timeout: "0s"); }`, `"0s" is not positive`},
		{s + `M(T): T (timeout: "-1s"); }`, `"-1s" is not positive`},
		{s + `M(T): T (timeout: "1s", streaming: "server"); }`, "not to a method that streams"},
		{`table T { a: int; } rpc_service S (timeout: "1s") { M(T): T; }`, "not to a service"},
		{`table T (timeout: "1s") { a: int; }`, "not to a table"},
		{`table T { a: int (timeout: "1s"); }`, "not to a field"},
		{`struct P (timeout: "1s", stream) { a: int; }`, "not to a struct"},
		{`struct P { a: int (timeout: "1s"); }`, "not to a field"},
		{`enum E : byte (timeout: "1s") { A }`, "not to an enum"},
		{`enum E : byte { A (timeout: "1s") }`, "not to a value of an enum"},
		{`table T { a: int; } union U (timeout: "1s") { T }`, "not to a union"},
		{`table T { a: int; } union U { T (timeout: "1s") }`, "not to a member of a union"},
	} {
		text, binary := diagnose(t, `attribute "timeout"; attribute "stream"; `+tt.decl)
		if strings.Count(text, "error: ") != 1 || !strings.Contains(text, tt.says) ||
			!strings.Contains(text, "(timeout: \"250ms\")") {
			t.Errorf("%s: %q does not say %q alone, with help", tt.decl, text, tt.says)
		}
		if strings.Count(binary, "error: ") != 1 || !strings.Contains(binary, tt.says) {
			t.Errorf("%s, binary: %q does not say %q alone", tt.decl, binary, tt.says)
		}
	}
	text, _ := diagnose(t, "attribute \"timeout\";\n"+s+`M(T): T (idempotent, timeout: "0s"); }`)
	const want = `x.fbs:2:58: error: timeout of method M: "0s" is not positive
  table T { a: int; } rpc_service S { M(T): T (idempotent, timeout: "0s"); }
                                                           ^~~~~~~
help: write a number and its unit: (timeout: "250ms")
`
	if !strings.HasPrefix(text, want) {
		t.Errorf("%s\nwant %s", text, want)
	}
}

// A binary schema keeps timeouts.
func TestTimeoutsInBinarySchemas(t *testing.T) {
	schemas, diags := schema.Load(schema.Options{}, "testdata/kitchen.fbs")
	data := bfbs.Write(schemas[0], func(f *schema.File) string { return f.Name }, diags)
	read := bfbs.Read("kitchen.bfbs", data, diags)
	var all strings.Builder
	opts := gogen.Options{ImportPath: "x", All: true}
	for _, f := range gogen.Generate(read, opts, diags) {
		all.Write(f.Content)
	}
	if diags.HasErrors() {
		t.Fatal(render(diags))
	}
	code := strings.Join(strings.Fields(all.String()), " ") // columns of any width
	for _, field := range []string{"Timeout: 250000000,", "Timeout: 90000000000,"} {
		if !strings.Contains(code, field) {
			t.Errorf("the code lacks %q", field)
		}
	}
}

// A timeout is a policy of clients, so it must not keep two sides apart: see TestEvolution, too.
func TestTimeoutsAreNoPartOfTheProtocol(t *testing.T) {
	without := protocolsOf(t, strings.Replace(evolving, `, timeout: "1s"`, "", 1))
	with := protocolsOf(t, evolving)
	if !reflect.DeepEqual(without, with) {
		t.Error("a timeout changes the description or the fingerprint of a protocol")
	}
}
