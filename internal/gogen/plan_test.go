package gogen_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/schematest"
)

// plan generates from schemas given as text; "a.fbs" is the root.
func plan(t *testing.T, opts gogen.Options, sources map[string]string) ([]gogen.File, *diag.List) {
	t.Helper()
	load := schema.Options{ReadFile: func(path string) ([]byte, error) {
		if src, ok := sources[path]; ok {
			return []byte(src), nil
		}
		return nil, fs.ErrNotExist
	}}
	schemas, diags := schema.Load(load, "a.fbs")
	if diags.HasErrors() {
		t.Fatal(render(diags))
	}
	return gogen.Generate(schemas[0], opts, diags), diags
}

const envelopes = `attribute "request_envelope"; attribute "reply_envelope"; attribute "stream"; attribute "envelope";
table Q {} table R {} union QU { Q } union RU { R }
table QE { seq:ulong; p:QU; } table RE { p:RU; }
`

// TestDiagnostics checks what cannot be generated: the message, and that each
// position it needs is in it.
func TestDiagnostics(t *testing.T) {
	for _, c := range []struct{ name, src, want, note string }{
		{"long type", "table " + strings.Repeat("T", 253) + " {}",
			strings.Repeat("T", 253) + " becomes a file whose name has 256 characters, and file " +
				"systems allow 255",
			"a.fbs:1:7: error"},
		{"long name of an envelope", "union U { A } table A {} table " +
			strings.Repeat("T", 245) + " { u:U; }",
			strings.Repeat("T", 245) + " becomes a file whose name has 256 characters, and file " +
				"systems allow 255",
			"(-one-file)"},
		{"long namespace", "namespace a." + strings.Repeat("n", 256) + "; table A {}",
			"namespace a." + strings.Repeat("n", 256) + " becomes a folder whose name has 256 " +
				"characters, and file systems allow 255",
			"(-package)"},
		{"client name", envelopes + "table SClient {} rpc_service S { M(Q):R; }",
			"rpc_service S needs the Go name SClient, which is already that of table SClient",
			"a.fbs:4:7: note: table SClient is here"},
		{"service and table", envelopes + "table S {} rpc_service S { M(Q):R; }",
			"rpc_service S needs the Go name S, which is already that of table S",
			"note: table S is here"},
		{"envelope and service", envelopes + "rpc_service QE { M(Q):R; }",
			"rpc_service QE needs the Go name QE, which is already that of table QE",
			"note: table QE is here"},
		{"handler name", envelopes + "table QEHandler {}",
			"envelope QE needs the Go name QEHandler, which is already that of table QEHandler",
			"note: table QEHandler is here"},
		{"method names", envelopes + "rpc_service S { get_it(Q):R; GetIt(Q):R; }",
			"method GetIt needs the Go name GetIt, which is already that of method get_it",
			"note: method get_it is here"},
		{"member names", "table A {} union U { A, a_: A } table E { u:U; }",
			"envelope E needs the Go name A for its member a_, which is already that of member A",
			"note: member A is here"},
		{"ambiguous requests", envelopes + "table QE2 { p:QU; } rpc_service S { M(Q):R; }",
			"the requests of rpc_service S could travel in envelope QE or in QE2",
			`(request_envelope: "QE", reply_envelope: "RE")`},
		{"one envelope named", envelopes + `rpc_service S (request_envelope: "QE") { M(Q):R; }`,
			"rpc_service S names one envelope only",
			"name both request_envelope and reply_envelope"},
		{"no envelope", envelopes +
			`rpc_service S (request_envelope: "Q", reply_envelope: "RE") { M(Q):R; }`,
			`request_envelope "Q" of rpc_service S is no envelope`, "exactly one union field"},
		{"no member", envelopes +
			`table X {} rpc_service S (request_envelope: "QE", reply_envelope: "RE") { M(X):R; }`,
			"X is no member of envelope QE, in which rpc_service S travels",
			"note: the envelope's union is here"},
		{"member twice", envelopes +
			`union U2 { One: Q, Two: Q } table E2 { p:U2; } rpc_service S (request_envelope: "E2", reply_envelope: "RE") { M(Q):R; }`,
			"Q is a member of envelope E2 twice, as One and Two", "note: Two is here"},
		{"streamed table", envelopes + "table T (stream) {}",
			"table T cannot be streamed", "make it a struct"},
		{"topic with a value", `attribute "topic"; table T (topic: "meters") {}`,
			`topic of T has a value, "meters"`, "the channel that it is published on"},
		{"topic of a table with a payload", `attribute "topic"; table T (topic: "payload") {}`,
			"table T cannot have a payload", "add a field to the table: payload: [ubyte]"},
		{"topic of a union", `attribute "topic"; table A {} union U (topic) { A }`,
			"a topic is a struct or a table, not a union",
			"mark the table that has the union: table M (topic) { of: U; }"},
		{"topic of a field", `attribute "topic"; table A { x:int (topic); }`,
			"a topic is a struct or a table, not a field", "mark the type of the messages"},
		{"topic of a service", `attribute "topic"; table A {} rpc_service S (topic) { M(A):A; }`,
			"a topic is a struct or a table, not a service", "a.fbs:1:46"},
		{"topic of a method", `attribute "topic"; table A {} rpc_service S { M(A):A (topic); }`,
			"a topic is a struct or a table, not a method", "a.fbs:1:"},
		{"topic of an enum", `attribute "topic"; enum E:byte (topic) { V }`,
			"a topic is a struct or a table, not an enum", "a.fbs:1:"},
		{"read-only service",
			`attribute "read_only"; table A {} rpc_service S (read_only) { M(A):A; }`,
			"read_only belongs to a method, not to a service",
			"help: state it at each method that changes nothing"},
		{"read-only with a value",
			`attribute "read_only"; table A {} rpc_service S { M(A):A (read_only: "false"); }`,
			`read_only has a value, "false", and takes none`,
			"help: write (read_only), or nothing where it does not hold"},
		{"stream of a method",
			envelopes + "rpc_service S { M(Q):R (stream); }",
			"a stream's blocks begin with a struct, not with a method", `(streaming: "server")`},
		{"stream with a value", envelopes + `struct P (stream: "out") { x:int; }`,
			`stream has a value, "out", and takes none`, "help: write (stream)"},
		{"envelope of a struct", envelopes + `struct P (envelope: "none") { x:int; }`,
			"envelope belongs to a table with a union, not to a struct", `(envelope: "none")`},
		{"envelope with another value", envelopes + `table T (envelope: "off") { u:QU; }`,
			`envelope has the unknown value "off"`, `help: write (envelope: "none")`},
		{"envelopes of a method",
			envelopes + `rpc_service S { M(Q):R (request_envelope: "QE"); }`,
			"request_envelope belongs to a service, not to a method", "help: name both"},
		{"reply envelope of a table", envelopes + `table T (reply_envelope: "QE") { x:int; }`,
			"reply_envelope belongs to a service, not to a table", "help: name both"},
		{"topic and table", `attribute "topic"; table A (topic) {} table APublisher {}`,
			"topic A needs the Go name APublisher, which is already that of table APublisher",
			"note: table APublisher is here"},
		{"field like a method of io", "table A { read_byte:int; }",
			"field A.read_byte becomes a method ReadByte, which go vet and readers take for " +
				"that of io.ByteReader", "help: rename it"},
		{"method like one of gob", envelopes + "rpc_service S { gob_encode(Q):R; }",
			"method S.gob_encode becomes a method GobEncode", "gob.GobEncoder"},
		{"mutator of a list", "table A { x:int; unread_rune:[A]; }",
			"field A.unread_rune becomes a method UnreadRune", "io.RuneScanner"},
		{"internal", "namespace x.internal.y; table A { v:int; }",
			"namespace x.internal.y cannot be a Go package for others: a folder called internal",
			"(-package)"},
		{"vendor", "namespace vendor; enum A:byte { V }",
			"namespace vendor cannot be a Go package: a folder called vendor", "(-package)"},
		{"a device of Windows", "namespace x.Aux; struct A { v:int; }",
			"namespace x.Aux cannot be a Go package: ",
			`disallowed as path element component on Windows`},
		{"namespaces in capitals",
			"namespace x.Y; table A { v:int; } namespace x.y; table A { v:int; }",
			"namespaces x.Y and x.y differ in case only", "(-package)"},
		{"cycle of three",
			"namespace x; table A { b:y.B; } namespace y; table B { a:z.C; } namespace z; table " +
				"C { v:[x.A]; }",
			"namespaces x and y need each other, and Go packages may not: x.A uses y.B",
			"note: z.C uses x.A"},
		{"cycle", "namespace x; table A { b:y.B; } namespace y; table B { a:x.A; }",
			"namespaces x and y need each other, and Go packages may not: x.A uses y.B",
			"note: y.B uses x.A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, diags := plan(t, gogen.Options{ImportPath: "example.com/x"},
				map[string]string{"a.fbs": c.src})
			text := render(diags)
			if !strings.Contains(text, "error: "+c.want) || !strings.Contains(text, c.note) {
				t.Errorf("got %s", text)
			}
			if files != nil {
				t.Error("files were generated all the same")
			}
		})
	}
}

// TestFoldersDoNotMatterInOnePackage generates namespaces that cannot be folders.
func TestFoldersDoNotMatterInOnePackage(t *testing.T) {
	src := "namespace x.internal; table A { b:vendor.B; } namespace vendor; table B { v:con.C; " +
		"} namespace con; struct C { v:int; }"
	opts := gogen.Options{ImportPath: "example.com/x", Package: "one"}
	files, diags := plan(t, opts, map[string]string{"a.fbs": src})
	if diags.HasErrors() || len(files) != 3 {
		t.Error(render(diags))
	}
}

// TestWarnings checks the warnings about types that are not called what the
// schema calls them, and about folders that the go command passes over.
func TestWarnings(t *testing.T) {
	for src, want := range map[string]string{
		"table error { v:int; }": "warning: table error is called error_ in Go, " +
			"where that name is taken",
		"namespace x; enum type:byte { V }": "warning: enum type is called type_ in Go",
		"namespace testdata; table A { v:int; }": "warning: namespace testdata becomes a folder " +
			"that the go command passes over",
		"namespace x._y; table A { v:int; }": "warning: namespace x._y becomes a folder that " +
			"the go command passes over",
	} {
		files, diags := plan(t, gogen.Options{ImportPath: "example.com/x"},
			map[string]string{"a.fbs": src})
		if text := render(diags); diags.HasErrors() || !strings.Contains(text, want) {
			t.Errorf("%s: got %s", src, text)
		}
		if err := newChecker(t).check("example.com/x", files); err != nil {
			t.Errorf("%s: %v", src, err)
		}
	}
	if _, diags := plan(t, gogen.Options{ImportPath: "example.com/x"},
		map[string]string{"a.fbs": "table err { v:int; }"}); render(diags) != "" {
		t.Errorf("a warning about a name that Go does not have: %s", render(diags))
	}
}

// TestStreamingMethods shows the signatures of every kind of streaming method, without a word about
// them.
func TestStreamingMethods(t *testing.T) {
	files, diags := plan(t, gogen.Options{ImportPath: "example.com/x"}, map[string]string{
		"a.fbs": envelopes + `rpc_service S {
			N(Q):R (streaming: "none"); S(Q):R (streaming: "server"); C(Q):R (streaming: "client");
			B(Q):R (streaming: "bidi");
		}`,
	})
	if text := render(diags); text != "" {
		t.Error(text)
	}
	src := content(t, files, "S.go")
	for _, want := range []string{
		"N(ctx context.Context, req *QT) (*RT, error)\n",
		"S(ctx context.Context, req *QT) iter.Seq2[*RT, error]\n",
		"C(ctx context.Context, in iter.Seq2[*QT, error]) (*RT, error)\n",
		"B(ctx context.Context, in iter.Seq2[*QT, error]) iter.Seq2[*RT, error]\n",
		"method B Q R streaming:bidi\n",
	} {
		if !strings.Contains(src, want) {
			t.Errorf("%q is not in %s", want, src)
		}
	}
	if err := newChecker(t).check("example.com/x", files); err != nil {
		t.Error(err)
	}
}

// content returns a generated file.
func content(t *testing.T, files []gogen.File, path string) string {
	t.Helper()
	for _, f := range files {
		if f.Path == path {
			return string(f.Content)
		}
	}
	t.Fatalf("%s was not generated", path)
	return ""
}

// TestHowServicesTravel checks when the rule of the envelopes applies.
func TestHowServicesTravel(t *testing.T) {
	for _, c := range []struct {
		name, src string
		envelopes string // as the protocol's description has them
	}{
		{"both envelopes", envelopes + "rpc_service S { M(Q):R; }", "envelopes QE RE"},
		{"no envelope for replies", envelopes + "table X {} rpc_service S { M(Q):X; }", ""},
		{"one for both directions",
			"table A {} union U { A } table E { u:U; } rpc_service S { M(A):A; }", ""},
		{"one for both directions, asked for", envelopes + `union U { Q, R } table E { u:U; }
			rpc_service S (request_envelope: "E", reply_envelope: "E") { M(Q):R; }`, "envelopes E E"},
		{"turned off", envelopes +
			`table QE2 (envelope: "none") { p:QU; } rpc_service S { M(Q):R; }`, "envelopes QE RE"},
		{"cannot be filled", envelopes +
			`table QE2 { p:QU; name:string (required); } rpc_service S { M(Q):R; }`,
			"envelopes QE RE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, diags := plan(t, gogen.Options{ImportPath: "example.com/x"},
				map[string]string{"a.fbs": c.src})
			if files == nil {
				t.Fatal(render(diags))
			}
			src := content(t, files, "S.go")
			if c.envelopes == "" && strings.Contains(src, "\nenvelopes ") ||
				!strings.Contains(src, c.envelopes) {
				t.Error(src)
			}
		})
	}
}

func TestIncludedFilesAreGeneratedOnRequest(t *testing.T) {
	sources := map[string]string{
		"a.fbs": `include "b.fbs"; namespace a; table A { b:other.B; }`,
		"b.fbs": "namespace other; table B {}",
	}
	opts := gogen.Options{ImportPath: "example.com/x"}
	files, _ := plan(t, opts, sources)
	if src := content(t, files, "a/A.go"); len(files) != 1 ||
		!strings.Contains(src, `other "example.com/x/other"`) {
		t.Errorf("%d files: %s", len(files), src)
	}
	opts.All = true
	files, _ = plan(t, opts, sources)
	content(t, files, "other/B.go")
	opts.Package = "flat"
	files, _ = plan(t, opts, sources)
	if src := content(t, files, "B.go"); !strings.Contains(src, "package flat") {
		t.Error(src)
	}
}

// File names that mean something to the go command, or that are one name to
// some file systems, are changed.
func TestFileNames(t *testing.T) {
	files, _ := plan(t, gogen.Options{ImportPath: "example.com/x"}, map[string]string{
		"a.fbs": "table A_test {} table B_windows {} table _C {} table foo {} table FOO {}",
	})
	var got []string
	for _, f := range files {
		got = append(got, f.Path)
	}
	if want := "A_test_.go B_windows_.go FOO.go X_C.go foo_.go"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
}

// A description is a literal of several lines, unless it holds what would end one.
func TestDescriptionsWithBackquotes(t *testing.T) {
	files, diags := plan(t, gogen.Options{ImportPath: "example.com/x"}, map[string]string{
		"a.fbs": "table A { s:string = \"a`b\"; } union U { A } table E { u:U; }",
	})
	if files == nil {
		t.Fatal(render(diags))
	}
	if src := content(t, files, "E_channel.go"); !strings.Contains(src, `\"a`+"`"+`b\"\n`) {
		t.Error(src)
	}
}

// TestOnlyChannelsImportThePackageOfConnections checks that what reads and writes
// buffers stands on package fb alone, and that each package refers to the version
// of each package of the runtime that it imports.
func TestOnlyChannelsImportThePackageOfConnections(t *testing.T) {
	files, diags := plan(t, gogen.Options{ImportPath: "example.com/x"}, map[string]string{
		"a.fbs": envelopes +
			`enum A:byte { X } struct P (stream) { x:int; } table K { k:P (key); v:[A]; w:[Q]; n:[ubyte] (nested_flatbuffer: "Q"); }
			rpc_service S { M(Q):R; }`,
	})
	if diags.HasErrors() {
		t.Fatal(render(diags))
	}
	guards := make(map[string]int)
	for _, f := range files {
		src := string(f.Content)
		channels := strings.HasSuffix(f.Path, "_channel.go") ||
			strings.HasSuffix(f.Path, "_stream.go") || f.Path == "S.go"
		if strings.Contains(src, `"github.com/ipcgen/ipcgen/runtime"`) != channels {
			t.Errorf("%s imports the package of connections: %v", f.Path, !channels)
		}
		for _, name := range []string{"ipc", "fb"} {
			guards[name] += strings.Count(src, "const _ = "+name+".RuntimeAtLeastV1\n")
		}
	}
	if guards["ipc"] != 1 || guards["fb"] != 1 {
		t.Errorf("references to versions: %v, want one of each", guards)
	}
}

// TestCyclesAcrossSchemas generates two schemas, each by a run of its own, whose
// packages need each other. Each run sees both, and refuses.
func TestCyclesAcrossSchemas(t *testing.T) {
	sources := func(b string) map[string]string {
		return map[string]string{
			"a.fbs": `include "b.fbs"; namespace x; table A { b:y.B; }`,
			"b.fbs": b,
			"c.fbs": "namespace x; table C { v:int; }",
		}
	}
	for _, c := range []struct {
		name, b string
		cycle   bool
	}{
		{"by a field", `include "c.fbs"; namespace y; table B { c:x.C; }`, true},
		{"by a nested buffer",
			`include "c.fbs"; namespace y; table B { c:[ubyte] (nested_flatbuffer: "x.C"); }`,
			true},
		{"by a service",
			`include "c.fbs"; namespace y; table B { v:int; } rpc_service S { M(x.C):B; }`, true},
		{"by an enum in a struct of a struct",
			`include "e.fbs"; namespace y; struct B { s:z.S; }`, true},
		{"by a deprecated field",
			`include "c.fbs"; namespace y; table B { c:x.C (deprecated); }`, false},
		{"not at all", `include "c.fbs"; namespace y; table B { v:int; }`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := sources(c.b)
			files["e.fbs"] = "namespace x; enum E:byte { V } namespace z; struct S { e:x.E; }"
			_, diags := plan(t, gogen.Options{ImportPath: "example.com/x"}, files)
			text := render(diags)
			if strings.Contains(text, "need each other, and Go packages may not") != c.cycle ||
				diags.HasErrors() != c.cycle {
				t.Errorf("a cycle is there: %v; got %s", c.cycle, text)
			}
		})
	}
	t.Run("that the schema's packages do not import", func(t *testing.T) {
		_, diags := plan(t, gogen.Options{ImportPath: "example.com/x"}, map[string]string{
			"a.fbs": `include "b.fbs"; namespace q; table Q { v:int; }`,
			"b.fbs": "namespace x; table A { b:y.B; } namespace y; table B { a:x.A; }",
		})
		if diags.HasErrors() {
			t.Error(render(diags))
		}
	})
}

// TestSeveralNamespaces type-checks schemas whose declarations mention what other
// namespaces declare, as each kind of declaration can.
func TestSeveralNamespaces(t *testing.T) {
	for name, src := range map[string]string{
		"message with a union": "namespace a; table M { x:int; } union U { M } table T { u:U; } " +
			"namespace b; rpc_service S { C(a.T):a.T; }",
		"envelope, union, member and enum in four": `namespace d; enum S:uint8 { N, O } namespace a; table R { x:d.S; }
			namespace e; union U { a.R } namespace f; table Root { m:e.U; } namespace g; rpc_service V { C(a.R):a.R; }`,
		"struct of a struct with an enum": "namespace a; enum E:ubyte { A } namespace b; struct " +
			"S { e:[a.E:1]; f:a.E; } namespace c; struct T { s:b.S; v:[b.S:2]; }",
		"key": `namespace a; enum E:ubyte { A } namespace b; struct S { e:a.E; } namespace c; struct K { s:[b.S:2]; }
			namespace d; table T { k:c.K (key); } namespace e; table V { ts:[d.T]; u:c.K; }`,
		"nested buffer": `namespace a; table T { x:int; } namespace b; table N { n:[ubyte] (nested_flatbuffer: "a.T"); }`,
		"names that Go does not export": `namespace a; enum e:byte { v } table t { _x:e; } struct s { _y:e; } union u { t, s, x:string }
			namespace b; table c { e:a.e; t:a.t; s:a.s; u:a.u; vs:[a.s]; us:[a.u]; } rpc_service svc { m(a.t):a.t; }`,
		"a namespace like a package of the runtime": "namespace fb; table T { x:int; } " +
			"namespace flatbuffers; table T { x:fb.T; } namespace bytes; table B { s:[ubyte]; " +
			"t:flatbuffers.T; }",
		"namespaces with one alias": "namespace a.b; table T { x:int; } namespace a__b; table T " +
			"{ x:int; } namespace c; table C { x:a.b.T; y:a__b.T; }",
	} {
		t.Run(name, func(t *testing.T) {
			for _, opts := range everyLayout {
				files, diags := plan(t, opts, map[string]string{"a.fbs": src})
				if diags.HasErrors() {
					t.Fatal(render(diags))
				}
				if err := newChecker(t).check(opts.ImportPath, files); err != nil {
					t.Errorf("%+v: %v", opts, err)
				}
			}
		})
	}
}

// everyLayout are the options that decide which code is in which package and file.
var everyLayout = []gogen.Options{
	{ImportPath: "example.com/x"},
	{ImportPath: "example.com/x", OneFile: true},
	{ImportPath: "example.com/x", Package: "one"},
	{ImportPath: "example.com/x", Package: "one", OneFile: true},
	{ImportPath: "example.com/x", GRPC: true},
	{ImportPath: "example.com/x", Package: "one", OneFile: true, GRPC: true},
}

// TestNameOfField checks that a name that is taken by a function of a field is said to be
// that of the field.
func TestNameOfField(t *testing.T) {
	files := []schematest.File{{Name: "a.fbs",
		Text: `namespace n; table Q { a: int; client: int; v: [int]; } table T { x: int; }
rpc_service QAdd { M(Q): T; }`}}
	_, refused := generateFrom(files, "a.fbs", gogen.Options{ImportPath: "example.com/demo"})
	if want := "needs the Go name QAddClient, which is already that of a function of field " +
		"n.Q.client"; !strings.Contains(refused, want) || !strings.Contains(refused, "a.fbs:1:") {
		t.Errorf("refused: %s; want %q and its place", refused, want)
	}
}
