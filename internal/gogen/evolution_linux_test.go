package gogen_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// evolving is the schema that the changes below begin with.
const evolving = `
attribute "was"; attribute "read_only"; attribute "stream"; attribute "envelope";
attribute "request_envelope"; attribute "reply_envelope"; attribute "timeout";
namespace t;
enum Color : ubyte { Red, Green, Blue = 5 }
enum Mode : ubyte { Off = 1, On = 2, Both = 3 }
enum Flags : ubyte (bit_flags) { A, B }
struct Point { x: float; y: float; }
table Item { id: uint (key); name: string; }
table Deep { depth: int; }
table Note { text: string; }
union Any { Item, Other: Note }
table Req {
  id: uint;
  name: string (required);
  gain: float = 1;
  left: int;
  right: int;
  color: Color;
  mode: Mode = On;
  flags: Flags;
  at: Point;
  items: [Item];
  any: Any;
  nested: [ubyte] (nested_flatbuffer: "Deep");
  flex: [ubyte] (flexbuffer);
  raw: [ubyte];
  opt: int = null;
  title: string = "none";
  last: bool;
}
table Rep { ok: bool; }
rpc_service S {
  Get(Req): Rep (read_only);
  Put(Req): Rep;
  Set(Req): Rep (idempotent, timeout: "1s");
}
union Asks { Req, Item }
union Answers { Rep }
table Ask (envelope: "none") { seq: ulong; ask: Asks; }
table Answer (envelope: "none") { ref_seq: ulong; answer: Answers; }
table Envelope { seq: ulong; number: ulong; msg: Asks; }
`

// evolutions are changes of a schema: texts and what each becomes, in turn. refused is
// part of the error that a client of either version gets from a server of the other one; if it
// is empty they connect. Changes that matter in one direction alone say so by
// newClient, which then is the error of a client of the new version.
var evolutions = []struct {
	name      string
	edits     []string
	refused   string
	newClient string
}{
	{name: "nothing"},

	// Additions, and removals of the last one, which look like an addition on the other side.
	{name: "a field more", edits: []string{"last: bool;", "last: bool; more: int;"}},
	{name: "the last field removed", edits: []string{"last: bool;", ""}},
	{name: "a field inserted with ids",
		edits: []string{"table Deep { depth: int; }",
			"table Deep { more: int (id: 1); depth: int (id: 0); }"}},
	{name: "a value more", edits: []string{"Green, Blue", "Green, Gray, Blue"}},
	{name: "a value removed", edits: []string{"Green, Blue", "Blue"}},
	{name: "a member more", edits: []string{"Other: Note }", "Other: Note, Deep }"}},
	{name: "the last member removed", edits: []string{", Other: Note }", "}"}},
	{name: "a method more", edits: []string{"Put(Req): Rep;", "Put(Req): Rep; More(Item): Rep;"}},
	{name: "a method removed", edits: []string{"Put(Req): Rep;", ""}},
	{name: "a field deprecated", edits: []string{"left: int;", "left: int (deprecated);"}},
	{name: "a type that nothing uses",
		edits: []string{"table Rep {", "table Lone { a: int; } table Rep {"}},
	{name: "declared in another order",
		edits: []string{"table Deep { depth: int; }\ntable Note { text: string; }",
			"table Note { text: string; }\ntable Deep { depth: int; }"}},

	// Names.
	{name: "two fields' names swapped",
		edits:   []string{"left: int;\n  right: int;", "right: int;\n  left: int;"},
		refused: "field 3 (left int32 0)"},
	{name: "a field renamed", edits: []string{"left: int;", "links: int;"},
		refused: `(was: "left")`},
	{name: "a field renamed, as stated",
		edits: []string{"left: int;", `links: int (was: "left");`}},
	{name: "a field renamed twice, as stated",
		edits: []string{"left: int;", `links: int (was: "port, left");`}},
	{name: "a field renamed, as stated of another",
		edits: []string{"left: int;", `links: int (was: "port");`}, refused: `(was: "left")`},
	{name: "a union renamed, as stated", edits: []string{"any: Any;", `some: Any (was: "any");`}},
	{name: "a union renamed", edits: []string{"any: Any;", `some: Any;`}, refused: "any_type"},
	{name: "a field removed from the middle", edits: []string{"left: int;", ""},
		refused: "field 3"},
	{name: "a field moved to the end",
		edits:   []string{"left: int;", "", "last: bool;", "last: bool; left: int;"},
		refused: "field 3"},
	{name: "a field replaced", edits: []string{"last: bool;", "fresh: bool;"},
		refused: `(was: "last")`},
	{name: "a field's name used again",
		edits: []string{"left: int;", "old: int (deprecated);", "last: bool;",
			"last: bool; left: int;"}, refused: "field 3"},
	{name: "a field's name used again, as stated",
		edits: []string{"left: int;", `old: int (deprecated, was: "left");`, "last: bool;",
			"last: bool; left: int;"}},
	{name: "two values' names swapped", edits: []string{"{ Red, Green,", "{ Green, Red,"},
		refused: "value 0 (Red)"},
	{name: "a value renamed", edits: []string{"Green,", "Lime,"}, refused: `(was: "Green")`},
	{name: "a value renamed, as stated", edits: []string{"Green,", `Lime (was: "Green"),`}},
	{name: "a value inserted", edits: []string{"{ Red,", "{ Gray, Red,"}, refused: "value 0 (Red)"},
	{name: "a value with another number", edits: []string{"Blue = 5", "Blue = 6"}, refused: "Blue"},
	{name: "two members' names swapped",
		edits:   []string{"{ Item, Other: Note }", "{ Other: Item, Item: Note }"},
		refused: "member 1 (Item t.Item)"},
	{name: "a member renamed", edits: []string{"Other: Note", "Another: Note"},
		refused: "cannot be renamed"},
	{name: "a struct's names swapped",
		edits:   []string{"x: float; y: float;", "y: float; x: float;"},
		refused: "field 0 (x float32 0)"},
	{name: "a struct's field renamed, as stated",
		edits: []string{"x: float;", `left: float (was: "x");`}},
	{name: "a type renamed",
		edits:   []string{"table Deep {", "table Deeper {", `"Deep"`, `"Deeper"`},
		refused: "nested:t.Deeper"},
	{name: "a table renamed",
		edits: []string{"table Item {", "table Thing {", "[Item]", "[Thing]", "{ Item, Other",
			"{ Item: Thing, Other", "{ Req, Item }", "{ Req, Item: Thing }"}, refused: "t.Thing"},
	{name: "a type of another namespace",
		edits: []string{"struct Point { x: float; y: float; }",
			"namespace u; struct Point { x: float; y: float; } namespace t;", "at: Point",
			"at: u.Point"}, refused: "u.Point"},
	{name: "a service of another namespace",
		edits: []string{"rpc_service S {", "namespace u; rpc_service S {", "\nunion Asks {",
			"namespace t; union Asks {",
			"(Req): Rep", "(t.Req): t.Rep", "(Req): Rep", "(t.Req): t.Rep", "(Req): Rep",
			"(t.Req): t.Rep"}, refused: "does not serve protocol"},
	{name: "a service renamed", edits: []string{"rpc_service S {", "rpc_service Service {"},
		refused: "does not serve protocol"},

	// Types and defaults.
	{name: "another type of the same size", edits: []string{"left: int;", "left: float;"},
		refused: "field 3"},
	{name: "another sign", edits: []string{"left: int;", "left: uint;"}, refused: "field 3"},
	{name: "a wider type", edits: []string{"left: int;", "left: long;"}, refused: "field 3"},
	{name: "an enum for its number", edits: []string{"color: Color;", "color: ubyte;"},
		refused: "field 5"},
	{name: "another enum", edits: []string{"color: Color;", "color: Flags;"}, refused: "field 5"},
	{name: "another underlying type", edits: []string{"enum Color : ubyte", "enum Color : ushort"},
		refused: "enum t.Color"},
	{name: "flags of an enum",
		edits: []string{"enum Mode : ubyte { Off = 1, On = 2, Both = 3 }",
			"enum Mode : ubyte (bit_flags) { Off = 0, On = 1 }"}, refused: "bit_flags"},
	{name: "an enum of flags",
		edits: []string{"enum Flags : ubyte (bit_flags) { A, B }",
			"enum Flags : ubyte { None, A, B }"}, refused: "bit_flags"},
	{name: "a vector of a scalar", edits: []string{"left: int;", "left: [int];"},
		refused: "field 3"},
	{name: "a vector of another type", edits: []string{"raw: [ubyte];", "raw: [byte];"},
		refused: "[int8]"},
	{name: "bytes for a string", edits: []string{"title: string = \"none\";", "title: [ubyte];"},
		refused: "title"},
	{name: "another default", edits: []string{"gain: float = 1;", "gain: float = 2;"},
		refused: "gain float32 2"},
	{name: "another default of a string", edits: []string{`"none"`, `"some"`}, refused: "title"},
	{name: "a default for none", edits: []string{"opt: int = null;", "opt: int;"},
		refused: "opt int32 null"},
	{name: "another default of an enum", edits: []string{"mode: Mode = On;", "mode: Mode = Both;"},
		refused: "mode t.Mode 3"},
	{name: "no longer required", edits: []string{"name: string (required);", "name: string;"},
		refused: "required"},
	{name: "required from now on",
		edits:   []string{"title: string = \"none\";", "title: string (required);"},
		refused: "title"},
	{name: "a required field more",
		edits:   []string{"last: bool;", "last: bool; more: string (required);"},
		refused: "must not be required"},
	{name: "a struct of other fields",
		edits:   []string{"x: float; y: float;", "x: float; y: float; z: float;"},
		refused: "struct t.Point"},
	{name: "a struct of other types", edits: []string{"x: float; y: float;", "x: float; y: int;"},
		refused: "struct t.Point"},
	{name: "a struct aligned otherwise",
		edits:   []string{"struct Point {", "struct Point (force_align: 8) {"},
		refused: "struct t.Point"},
	{name: "a table of a struct",
		edits: []string{"struct Point { x: float; y: float; }",
			"table Point { x: float; y: float; }"}, refused: "is a table there|is a struct there"},
	{name: "another type in a nested buffer", edits: []string{`"Deep"`, `"Note"`},
		refused: "nested:t.Note"},
	{name: "another field in a nested buffer", edits: []string{"depth: int;", "depth: uint;"},
		refused: "table t.Deep"},
	{name: "a nested buffer of bytes",
		edits:   []string{"raw: [ubyte];", `raw: [ubyte] (nested_flatbuffer: "Deep");`},
		refused: "nested:t.Deep"},
	{name: "bytes of a flexbuffer",
		edits: []string{"flex: [ubyte] (flexbuffer);", "flex: [ubyte];"}, refused: "flexbuffer"},
	{name: "sorted by nothing", edits: []string{"id: uint (key);", "id: uint;"},
		refused: "sorted by"},
	{name: "sorted by another field",
		edits:   []string{"id: uint (key); name: string;", "id: uint; name: string (key);"},
		refused: "required"},
	{name: "sorted by a new field",
		edits: []string{"id: uint (key); name: string;",
			"id: uint; name: string; at: ulong (key);"}, refused: "sorted by"},
	{name: "members exchanged", edits: []string{"{ Item, Other: Note }", "{ Other: Note, Item }"},
		refused: "member 1"},
	{name: "a member of another type", edits: []string{"Other: Note }", "Other: Deep }"},
		refused: "member 2"},
	{name: "a member inserted", edits: []string{"union Any { Item,", "union Any { Deep, Item,"},
		refused: "member 1"},

	// Methods.
	{name: "another request", edits: []string{"Put(Req): Rep;", "Put(Item): Rep;"},
		refused: "method Put"},
	{name: "another reply", edits: []string{"Put(Req): Rep;", "Put(Req): Item;"},
		refused: "method Put"},
	{name: "idempotent from now on",
		edits:     []string{"Put(Req): Rep;", "Put(Req): Rep (idempotent);"},
		newClient: "must not execute twice"},
	{name: "read-only from now on", edits: []string{"Put(Req): Rep;", "Put(Req): Rep (read_only);"},
		newClient: "must not execute twice"},
	{name: "a timeout", edits: []string{"Put(Req): Rep;", `Put(Req): Rep (timeout: "1s");`}},
	{name: "another timeout",
		edits: []string{`Rep (idempotent, timeout: "1s");`, `Rep (idempotent, timeout: "2s");`}},
	{name: "read-only where it was idempotent",
		edits: []string{"Rep (idempotent, timeout", "Rep (read_only, timeout"}},

	// Envelopes.
	{name: "in envelopes",
		edits: []string{`rpc_service S {`,
			`rpc_service S (request_envelope: "Ask", reply_envelope: "Answer") {`,
			`Ask (envelope: "none")`, "Ask", `Answer (envelope: "none")`, "Answer"},
		refused: "travels in"},
	{name: "a message more", edits: []string{"{ Req, Item }", "{ Req, Item, Note }"}},
	{name: "a message renamed", edits: []string{"{ Req, Item }", "{ Req, Thing: Item }"},
		refused: "cannot be renamed"},
	{name: "a message with another number", edits: []string{"{ Req, Item }", "{ Item, Req }"},
		refused: "member 1"},
	{name: "the number of another field",
		edits: []string{"{ seq: ulong; number: ulong;",
			`{ number: ulong (was: "seq"); seq: ulong (was: "number");`},
		refused: "field 0 (seq uint64 0)"},
	{name: "no number any more",
		edits: []string{"{ seq: ulong; number: ulong;",
			`{ old: ulong (was: "seq"); number: ulong;`}, refused: "field 0 (seq uint64 0)"},
}

// TestEvolution changes a schema, one thing at a time, and has processes of both
// versions meet: a client of each at a server of the other.
func TestEvolution(t *testing.T) {
	dir := t.TempDir()
	before := protocolsOf(t, evolving)
	var servers, clients []meeting
	for i, e := range evolutions {
		text := evolving
		for j := 0; j < len(e.edits); j += 2 {
			if !strings.Contains(text, e.edits[j]) {
				t.Fatalf("%s: the schema has no %q", e.name, e.edits[j])
			}
			text = strings.Replace(text, e.edits[j], e.edits[j+1], 1)
		}
		after := protocolsOf(t, text)
		servers = append(servers, meeting{fmt.Sprint("old", i), before},
			meeting{fmt.Sprint("new", i), after})
		clients = append(clients, meeting{fmt.Sprint("new", i), before},
			meeting{fmt.Sprint("old", i), after})
	}
	meet := func(role string, in []meeting) (*exec.Cmd, *bufio.Reader) {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], dir)
		cmd.Env = append(os.Environ(), meetVar+"="+role)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return cmd, bufio.NewReader(out)
	}
	_, ready := meet("servers", servers)
	if line, err := ready.ReadString('\n'); err != nil {
		t.Fatalf("the servers: %q, %v", line, err)
	}
	_, out := meet("clients", clients)
	var errs []string
	if err := json.NewDecoder(out).Decode(&errs); err != nil {
		t.Fatal(err)
	}
	for i, e := range evolutions {
		oldClient, newClient := errs[2*i], errs[2*i+1]
		wantNew := e.refused
		if e.newClient != "" {
			wantNew = e.newClient
		}
		for _, r := range []struct{ client, got, want string }{{"old", oldClient, e.refused},
			{"new", newClient, wantNew}} {
			switch {
			case r.want == "" && r.got != "":
				t.Errorf("%s: the %s client is refused: %s", e.name, r.client, r.got)
			case r.want != "" && r.got == "":
				t.Errorf("%s: the %s client connects", e.name, r.client)
			case !mentions(r.got, r.want):
				t.Errorf("%s: the %s client is told %q, which does not name %q", e.name, r.client,
					r.got, r.want)
			}
		}
	}
}

func mentions(s, anyOf string) bool {
	for want := range strings.SplitSeq(anyOf, "|") {
		if strings.Contains(s, want) {
			return true
		}
	}
	return false
}

// protocolsOf generates code from a schema and returns the protocols that it declares.
func protocolsOf(t *testing.T, text string) (all []*ipc.Protocol) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "evolving.fbs")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, f := range generate(t, gogen.Options{ImportPath: "x", All: true},
		schema.Options{}, path) {
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Path, f.Content, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if ok && len(spec.Values) == 1 && strings.HasSuffix(spec.Names[0].Name, "Schema") {
				if s := constantString(t, spec.Values[0]); strings.HasPrefix(s, "service ") ||
					strings.HasPrefix(s, "envelope ") {
					all = append(all, protocolOf(s))
				}
			}
			return true
		})
	}
	if len(all) < 2 {
		t.Fatalf("%d protocols in\n%s", len(all), text)
	}
	return all
}

func protocolOf(description string) *ipc.Protocol {
	sum := sha256.Sum256([]byte(description))
	first, _, _ := strings.Cut(description, "\n")
	return &ipc.Protocol{Name: strings.Fields(first)[1],
		Fingerprint: binary.BigEndian.Uint64(sum[:8]), Schema: description}
}

func constantString(t *testing.T, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		return s
	case *ast.BinaryExpr:
		return constantString(t, e.X) + constantString(t, e.Y)
	}
	t.Fatalf("%T is no constant string", e)
	return ""
}

// meetVar makes the test binary a process of TestEvolution: the servers, or the clients.
const meetVar = "GOGEN_TEST_MEET"

// A meeting is a channel, and the protocols that the process serves there or uses.
type meeting struct {
	Channel   string
	Protocols []*ipc.Protocol
}

func TestMain(m *testing.M) {
	role := os.Getenv(meetVar)
	if role == "" {
		os.Exit(m.Run())
	}
	var in []meeting
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		panic(err)
	}
	domain := ipc.WithDomain(filepath.Join(os.Args[1], "domain"))
	if role == "servers" {
		for _, m := range in {
			l, err := ipc.Listen(m.Channel, domain)
			if err != nil {
				panic(err)
			}
			var opts []ipc.ServerOption
			for _, p := range m.Protocols {
				opts = append(opts, ipc.NewService(p))
			}
			go ipc.NewServer(opts...).Serve(context.Background(), l)
		}
		fmt.Println("ready")
		select {}
	}
	errs := make([]string, len(in))
	for i, m := range in {
		for _, p := range m.Protocols {
			c, err := ipc.Dial(context.Background(), m.Channel, domain, ipc.WithProtocol(p),
				ipc.WithRings(4096, 4096))
			if err != nil {
				errs[i] += err.Error() + "\n"
				continue
			}
			c.Close()
		}
	}
	json.NewEncoder(os.Stdout).Encode(errs)
}

func TestFormerNamesAreChecked(t *testing.T) {
	for _, tt := range []struct{ decl, says string }{
		{`table T { a: int (was: "b c!"); }`, `"c!", which is no name`},
		{`table T { a: int (was: ""); }`, "states no name of a"},
		{`table T { a: int (was: "a"); }`, "states its present name"},
		{`table T { a: int (was: "c"); b: int (was: "c"); }`, "which another one was"},
		{`enum E : byte { A (was: "A") }`, "states its present name"},
		{`table T { a: int; } union U { T (was: "S") }`, "a member of a union cannot be renamed"},
		{`table T (was: "S") { a: int; }`, "a table cannot be renamed"},
		{`enum E : byte (was: "F") { A }`, "an enum cannot be renamed"},
		{`table T { a: int; } rpc_service S { M(T): T (was: "N"); }`, "a method cannot be renamed"},
		{`table T { a: int; } rpc_service S (was: "R") { M(T): T; }`,
			"a service cannot be renamed"},
	} {
		path := filepath.Join(t.TempDir(), "x.fbs")
		if err := os.WriteFile(path, []byte(`attribute "was"; `+tt.decl), 0o666); err != nil {
			t.Fatal(err)
		}
		schemas, diags := schema.Load(schema.Options{}, path)
		if diags.HasErrors() {
			t.Logf("%s: %s", tt.decl, render(diags))
		} else {
			gogen.Generate(schemas[0], gogen.Options{ImportPath: "x", All: true}, diags)
		}
		if got := render(diags); !strings.Contains(got, tt.says) {
			t.Errorf("%s: %q does not say %q", tt.decl, got, tt.says)
		}
	}
}

// evolvedMain is one program over the code that was generated from one version of a
// schema: a server of it, or a client that prints what the server has read.
const evolvedMain = `package main

import (
	"context"
	"fmt"
	"os"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"example.com/corpus/VERSION/t"
)

type service struct{}

func (service) Set(_ context.Context, req *t.ReqT) (*t.RepT, error) {
	return &t.RepT{Text: fmt.Sprint(READ, " ", req.Color)}, nil
}

func main() {
	ctx := context.Background()
	domain := ipc.WithDomain(os.Args[2])
	if os.Args[1] == "serve" {
		l, err := ipc.Listen("VERSION", domain)
		if err != nil {
			panic(err)
		}
		fmt.Println("ready")
		panic(ipc.NewServer(t.NewSService(service{})).Serve(ctx, l))
		return
	}
	c, err := ipc.Dial(ctx, os.Args[3], domain)
	if err != nil {
		panic(err)
	}
	rep, err := t.NewSClient(c).Set(ctx, &t.ReqT{WRITE, Color: t.ColorBlue})
	if err != nil {
		fmt.Print(ipc.CodeOf(err))
		return
	}
	fmt.Print(rep.Text)
}
`

// TestEvolvedProgramsMeet builds programs of several versions of a schema and has each
// call each: they understand each other, or the call is refused.
func TestEvolvedProgramsMeet(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	module, domain := newModule(t), filepath.Join(t.TempDir(), "domain")
	versions := []struct{ name, fields, colors, read, write string }{
		{"first", "left: int; right: int;", "Red, Blue", "req.Left, req.Right",
			"Left: 1, Right: 2"},
		{"more", "left: int; right: int; more: int = 7;", "Red, Blue, Green",
			"req.Left, req.Right, req.More", "Left: 1, Right: 2, More: 3"},
		{"renamed", `port: int (was: "left"); right: int;`, `Red, Azure (was: "Blue")`,
			"req.Port, req.Right", "Port: 1, Right: 2"},
		{"swapped", "right: int; left: int;", "Red, Blue", "req.Left, req.Right",
			"Left: 1, Right: 2"},
		{"recolored", "left: int; right: int;", "Blue, Red", "req.Left, req.Right",
			"Left: 1, Right: 2"},
	}
	want := map[[2]string]string{} // what a server of a version answers to a client of another
	for _, server := range versions {
		for _, client := range versions {
			want[[2]string{server.name, client.name}] = ipc.CodeIncompatible.String()
		}
		want[[2]string{server.name, server.name}] = "1 2 Blue"
	}
	for _, pair := range [][3]string{
		{"more", "more", "1 2 3 Blue"}, {"renamed", "renamed", "1 2 Azure"},
		{"recolored", "recolored", "1 2 Blue"},
		{"first", "more", "1 2 Blue"}, {"first", "renamed", "1 2 Blue"},
		{"more", "first", "1 2 7 Blue"}, {"more", "renamed", "1 2 7 Blue"},
		{"renamed", "first", "1 2 Azure"}, {"renamed", "more", "1 2 Azure"},
	} {
		want[[2]string{pair[0], pair[1]}] = pair[2]
	}
	for _, v := range versions {
		text := `attribute "was"; namespace t; enum Color : ubyte { ` + v.colors +
			` } table Req { color: Color; ` + v.fields + ` }
			table Rep { text: string; } rpc_service S { Set(Req): Rep; }`
		path := filepath.Join(t.TempDir(), v.name+".fbs")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		write(t, module, v.name,
			generate(t, gogen.Options{ImportPath: corpusModule + "/" + v.name, All: true},
				schema.Options{}, path))
		main := strings.NewReplacer("VERSION", v.name, "READ", v.read, "WRITE",
			v.write).Replace(evolvedMain)
		if v.name == "renamed" {
			main = strings.ReplaceAll(main, "ColorBlue", "ColorAzure")
		}
		write(t, module, v.name, []gogen.File{{Path: "main.go", Content: []byte(main)}})
	}
	if err := os.Mkdir(filepath.Join(module, "bin"), 0o777); err != nil {
		t.Fatal(err)
	}
	goTool(t, module, "build", "-o", "bin/", "./...")
	for _, server := range versions {
		cmd := exec.CommandContext(t.Context(), module+"/bin/"+server.name, "serve", domain)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("server %s: %q, %v", server.name, line, err)
		}
		for _, client := range versions {
			got, err := exec.CommandContext(t.Context(), module+"/bin/"+client.name, "call", domain,
				server.name).CombinedOutput()
			if want := want[[2]string{server.name, client.name}]; err != nil ||
				string(got) != want {
				t.Errorf("a client %s of a server %s: %q, want %q (%v)", client.name, server.name,
					got, want, err)
			}
		}
	}
}
