package gogen_test

import (
	"bytes"
	"fmt"
	"go/format"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/schematest"
)

// generateFrom generates from one file of a schema. refused is the text of errors.
func generateFrom(files []schematest.File, root string, opts gogen.Options) (out []gogen.File,
	refused string) {
	schemas, diags := schema.Load(schema.Options{ReadFile: schematest.Reader(files)}, root)
	if !diags.HasErrors() {
		out = gogen.Generate(schemas[0], opts, diags)
	}
	if diags.HasErrors() {
		return nil, render(diags)
	}
	return out, ""
}

// generateAll generates from a schema in one run, or in one run for each file. Two
// runs that make one file must agree on it.
func generateAll(files []schematest.File, each bool, opts gogen.Options) (all []gogen.File,
	refused string, err error) {
	roots := files
	if !each {
		roots, opts.All = files[len(files)-1:], true
	}
	made := make(map[string][]byte)
	for _, root := range roots {
		out, refused := generateFrom(files, root.Name, opts)
		if refused != "" {
			return nil, refused, nil
		}
		for _, f := range out {
			old, ok := made[f.Path]
			if ok && !bytes.Equal(old, f.Content) {
				return nil, "",
					fmt.Errorf("two runs make %s, and differ: %s", f.Path,
						difference(old, f.Content))
			}
			if !ok {
				made[f.Path] = f.Content
				all = append(all, f)
			}
		}
	}
	return all, "", nil
}

// difference returns the first lines in which two texts differ.
func difference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %q and %q", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// TestRunsAgree generates the files of a schema each by a run of its own. The
// packages that several of them have a part in compile, and a run that sees more
// gives what it does not declare the same names.
func TestRunsAgree(t *testing.T) {
	const common = "namespace a; table Q { v:int; } table R { v:int; } union U { Q } union V { " +
		"R } table QE { seq:ulong; u:U; } table RE { ref_seq:ulong; v:V; }"
	for name, files := range map[string][]schematest.File{
		"two services of one namespace": {
			{Name: "common.fbs", Text: "namespace a; table Q { v:int; } table R { v:int; }"},
			{Name: "b.fbs", Text: `include "common.fbs"; namespace a; rpc_service B { M(Q):R; }`},
			{Name: "c.fbs",
				Text: `include "common.fbs"; namespace a; rpc_service C { M(Q):R; N(Q):R; }`},
		},
		"services in the envelopes of another file": {
			{Name: "common.fbs", Text: common},
			{Name: "b.fbs", Text: `include "common.fbs"; namespace a; rpc_service B { M(Q):R; }`},
			{Name: "c.fbs",
				Text: `include "common.fbs"; include "b.fbs"; namespace a; rpc_service C { M(Q):R; }`},
		},
		"a type that is called like an object": {
			{Name: "a.fbs", Text: "namespace a; table Foo { v:int; }"},
			{Name: "b.fbs",
				Text: `include "a.fbs"; namespace a; table FooT { f:Foo; } table FooStart { v:int; }`},
		},
		"a type that is called like a client": {
			{Name: "a.fbs",
				Text: "namespace a; table Foo { v:int; } rpc_service S { M(Foo):Foo; }"},
			{Name: "b.fbs",
				Text: `include "a.fbs"; namespace a; table SClient { f:Foo; } enum s:byte { M }`},
		},
		"a type that is called like a variable": {
			{Name: "a.fbs", Text: "namespace a; table Foo { v:int; b:[Foo]; s:string (key); }"},
			{Name: "b.fbs",
				Text: `include "a.fbs"; namespace a; table j { f:Foo; } struct x { v:int; } enum rcv:byte { A } table t { xs:[x]; }`},
		},
		"a type that is called like an import": {
			{Name: "a.fbs", Text: "namespace a; table Foo { v:[ubyte]; }"},
			{Name: "b.fbs", Text: "namespace a; table bytes { v:int; } table fb { v:int; }"},
		},
		"namespaces whose names run together": {
			{Name: "a.fbs", Text: "namespace x__y; table A { v:int; }"},
			{Name: "b.fbs", Text: `include "a.fbs"; namespace b; table B { a:x__y.A; }`},
			{Name: "c.fbs",
				Text: `include "b.fbs"; namespace x.y; table C { v:int; } namespace c; table D { c:x.y.C; }`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, opts := range everyLayout {
				for _, all := range []bool{false, true} {
					opts.All = all
					out, refused, err := generateAll(files, true, opts)
					if refused != "" {
						t.Fatal(refused)
					}
					if err == nil {
						err = newChecker(t).check(opts.ImportPath, out)
					}
					if err != nil {
						t.Errorf("%+v: %v", opts, err)
					}
				}
			}
		})
	}
}

// formatted reports the first file that gofmt would change.
func formatted(files []gogen.File) error {
	for _, f := range files {
		if want, err := format.Source(f.Content); err != nil || !bytes.Equal(want, f.Content) {
			return fmt.Errorf("%s is not formatted (%v): %s", f.Path, err,
				difference(f.Content, want))
		}
	}
	return nil
}

// documented are the reasons for which a valid schema may be refused.
var documented = []string{
	"need each other, and Go packages may not",
	"needs the Go name",
	"could travel in envelope",
	"is a member of envelope",
	"which go vet and readers take for",
}

// TestRandomSchemas generates random schemas, in one run and in a run for each of
// their files. What is not refused for a documented reason compiles, and passes
// the check of go vet that looks at methods. The text of each protocol follows from
// its definition.
func TestRandomSchemas(t *testing.T) {
	n, _ := strconv.ParseUint(os.Getenv("GOGEN_SCHEMAS"), 10, 64)
	if n == 0 {
		n = 150
		if testing.Short() {
			n = 40
		}
	}
	first, _ := strconv.ParseUint(os.Getenv("GOGEN_SEED"), 10, 64)
	var next, checked, refused, failed atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		c := newChecker(t)
		wg.Go(func() {
			for failed.Load() < 5 {
				i := next.Add(1) - 1
				if i >= n {
					return
				}
				seed := first + i
				opts := everyLayout[seed%uint64(len(everyLayout))]
				files := schematest.Random(seed, schematest.Config{UniqueNames: opts.Package != ""})
				each := seed/4%2 == 0 && len(files) > 1
				opts.All = seed/8%2 == 0
				out, why, err := generateAll(files, each, opts)
				switch {
				case err != nil:
				case why != "":
					refused.Add(1)
					if !slices.ContainsFunc(documented, func(d string) bool {
						return strings.Contains(why, d)
					}) {
						err = fmt.Errorf("refused: %s", why)
					}
				default:
					checked.Add(1)
					if err = c.check(opts.ImportPath, out); err == nil && seed%10 == 0 {
						err = formatted(out)
					}
					if err == nil {
						err = checkDefinitions(out)
					}
				}
				if err != nil {
					failed.Add(1)
					var text strings.Builder
					for _, f := range files {
						fmt.Fprintf(&text, "--- %s\n%s", f.Name, f.Text)
					}
					t.Errorf("GOGEN_SEED=%d GOGEN_SCHEMAS=1 (a run for each file: %v, %+v): %v\n%s",
						seed, each, opts, err, text.String())
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d schemas checked, %d refused", checked.Load(), refused.Load())
	if n > 100 && checked.Load() < n/2 {
		t.Errorf("only %d of %d schemas were accepted", checked.Load(), n)
	}
}
