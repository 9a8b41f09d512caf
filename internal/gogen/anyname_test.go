package gogen_test

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// everything is a schema in which all kinds of names occur, each once as @kind@.
const everything = `
attribute "stream";
namespace @namespace@;
enum @enum@:short { A, @value@ = 4 }
struct Inner { a:@enum@; }
struct @struct@ { @structfield@:int; b:[@enum@:2]; c:Inner; d:[Inner:2]; }
struct @stream@ (stream) { a:int; }
union @union@ { @table@, @struct@, @member@:string }
table @table@ {
  @field@:@fieldtype@; b:string; c:string (key); d:[int]; e:[ubyte]; f:@enum@ = A; g:@enum@ = null; h:@struct@;
  i:[@struct@]; j:float = nan; k:[string]; l:[@table@]; m:@union@; n:[@union@]; o:[ubyte] (nested_flatbuffer: "@table@");
}
table KeyStruct { k:@struct@ (key); l:[KeyStruct]; }
table KeyBool { k:bool (key); }
table KeyEnum { k:@enum@ (key); l:@table@ (required); }
table @envelope@ { seq:ulong; payload:@union@; }
table Rq { a:int; b:@enum@; }
table Rp { ref_seq:ulong; a:int; }
union Requests { Rq }
union Replies { Rp }
table Request { seq:ulong; p:Requests; }
table Reply { seq:ulong; ref_seq:ulong; p:Replies; }
rpc_service @service@ { @method@(Rq):Rp; }
rpc_service Plain { @plainmethod@(@table@):@table@; }
root_type @table@;
file_identifier "ABCD";
`

// kinds are the kinds of names in everything, with the names that they have
// usually.
var kinds = map[string]string{
	"namespace": "Nn", "enum": "Ee", "value": "Va", "struct": "Ss", "structfield": "sf",
	"stream": "St", "table": "Tt",
	"field": "ff", "union": "Uu", "member": "Me", "envelope": "En", "service": "Se", "method": "Mm",
	"plainmethod": "Pm",
}

// named returns everything with a name of one kind.
func named(kind, name, fieldType string) string {
	src := strings.ReplaceAll(everything, "@fieldtype@", fieldType)
	for k, usual := range kinds {
		if k == kind {
			usual = name
		}
		src = strings.ReplaceAll(src, "@"+k+"@", usual)
	}
	return src
}

// identifiersOfGoldens lists the identifiers that occur in generated code.
func identifiersOfGoldens(t *testing.T) []string {
	t.Helper()
	found := make(map[string]bool)
	for _, root := range []string{"golden", "../../gen"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var s scanner.Scanner
			fset := token.NewFileSet()
			s.Init(fset.AddFile(path, -1, len(src)), src, nil, 0)
			for {
				_, tok, lit := s.Scan()
				switch {
				case tok == token.EOF:
					return nil
				case tok == token.IDENT:
					found[lit] = true
				case tok.IsKeyword():
					found[tok.String()] = true
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// What Go gives a meaning, and what vet does.
	for _, name := range strings.Fields(
		`any append bool byte cap clear close comparable complex complex64 complex128 copy delete
		error false float32 float64 imag int int8 int16 int32 int64 iota len make max min new nil panic print println real recover rune string
		true uint uint8 uint16 uint32 uint64 uintptr init main _ __ _1 x_ C unsafe go
		goto fallthrough select chan defer read_byte write_byte gob_encode gob_decode unread_byte read_rune ReadByte WriteTo
		MarshalJSON UnmarshalJSON Format Scan Seek seek Is As Unwrap is Error internal vendor testdata con aux`) {
		found[name] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// TestAnyName gives each kind of thing each name that occurs in generated code. A
// schema that is accepted becomes Go that compiles.
func TestAnyName(t *testing.T) {
	names := identifiersOfGoldens(t)
	share := uint32(300) // one of so many pairs; GOGEN_NAMES=1 has them all
	if testing.Short() {
		share = 1000
	}
	if n, err := strconv.Atoi(os.Getenv("GOGEN_NAMES")); err == nil && n > 0 {
		share = uint32(n)
	}
	if len(names) < 500 {
		t.Fatalf("only %d names", len(names))
	}
	c := newChecker(t)
	checked, refused, failed := 0, make(map[string]int), 0
	for _, name := range names {
		if !identifierOfSchemas(name) {
			continue
		}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			hash := fnv.New32a()
			fmt.Fprint(hash, name, kind)
			n := hash.Sum32()
			if n%share != 0 {
				continue
			}
			fieldType := []string{"int", "string", "[ubyte]", "Inner", "[Rq]", "bool"}[n/share%6]
			opts := everyLayout[n/share%uint32(len(everyLayout))]
			load := schema.Options{ReadFile: func(string) ([]byte, error) {
				return []byte(named(kind, name, fieldType)), nil
			}}
			schemas, diags := schema.Load(load, "a.fbs")
			var files []gogen.File
			if !diags.HasErrors() {
				files = gogen.Generate(schemas[0], opts, diags)
			}
			if diags.HasErrors() {
				first, _, _ := bytes.Cut([]byte(render(diags)), []byte("\n"))
				if bytes.Contains(first, []byte("mistake")) {
					t.Errorf("%s called %s: %s", kind, name, first)
				}
				refused[kind]++
				if testing.Verbose() {
					t.Logf("%s called %s: %s", kind, name, first)
				}
				continue
			}
			checked++
			if err := c.check(opts.ImportPath, files); err != nil {
				t.Errorf("%s called %s (a field of type %s, %+v): %.2000v", kind, name,
					fieldType, opts, err)
				if failed++; failed == 10 {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("%d schemas checked, refused: %v", checked, refused)
	if checked < 20 {
		t.Errorf("only %d schemas were checked", checked)
	}
}

// identifierOfSchemas reports whether the schema language takes a name for an
// identifier.
func identifierOfSchemas(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}
