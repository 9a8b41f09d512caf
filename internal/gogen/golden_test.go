package gogen_test

import (
	"bytes"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// The goldens are real packages of this module, which other tests compile and
// run. UPDATE_GOLDEN=1 rewrites them; the run that does so fails all the same.
var goldens = []struct {
	name, schema string
	dir          string   // of the output, from here
	packages     []string // folders of the output that hold nothing else
	opts         gogen.Options
}{
	{
		name: "kitchen", schema: "testdata/kitchen.fbs", dir: ".",
		packages: []string{"golden/kitchen", "golden/shared"},
		opts:     gogen.Options{ImportPath: "github.com/ipcgen/ipcgen/internal/gogen", All: true},
	},
	{
		name: "houses", schema: "testdata/houses.fbs", dir: ".",
		packages: []string{"golden/houses"},
		opts:     gogen.Options{ImportPath: "github.com/ipcgen/ipcgen/internal/gogen"},
	},
	{
		name: "audio", schema: "../../schema/audio_protocol.fbs", dir: "../../gen",
		packages: []string{"audio"},
		opts:     gogen.Options{ImportPath: "github.com/ipcgen/ipcgen/gen"},
	},
	{
		name: "introspection", schema: "../../schema/introspection.fbs", dir: "../../runtime",
		opts: gogen.Options{ImportPath: "github.com/ipcgen/ipcgen/runtime", OneFile: true},
	},
}

func TestGoldens(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			g.opts.Source = func(f *schema.File) string {
				rel, err := filepath.Rel(g.dir, f.Path)
				if err != nil {
					t.Fatal(err)
				}
				if rel = filepath.ToSlash(rel); !strings.HasPrefix(rel, "../") {
					rel = "./" + rel
				}
				return rel
			}
			files := generate(t, g.opts, schema.Options{}, g.schema)
			want := make(map[string]bool)
			for _, f := range files {
				path := filepath.Join(g.dir, filepath.FromSlash(f.Path))
				want[path] = true
				old, err := os.ReadFile(path)
				if err == nil && bytes.Equal(old, f.Content) {
					continue
				}
				t.Errorf("%s is not what is generated; UPDATE_GOLDEN=1 rewrites it", path)
				update(t, path, f.Content)
			}
			for _, folder := range g.packages {
				filepath.WalkDir(filepath.Join(g.dir, folder),
					func(path string, d fs.DirEntry, err error) error {
						if err == nil && strings.HasSuffix(path, ".go") &&
							!strings.HasSuffix(path, "_test.go") && !want[path] {
							t.Errorf("%s is not generated any more", path)
						}
						return nil
					})
			}
		})
	}
}

// update writes a golden file when the environment asks for it.
func update(t *testing.T, path string, content []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") == "" {
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// generate loads a schema and returns its code; diagnostics fail the test,
// warnings excepted.
func generate(t *testing.T, opts gogen.Options, load schema.Options, path string) []gogen.File {
	t.Helper()
	schemas, diags := schema.Load(load, path)
	if diags.HasErrors() {
		t.Fatal(render(diags))
	}
	files := gogen.Generate(schemas[0], opts, diags)
	if diags.HasErrors() {
		t.Fatal(render(diags))
	}
	return files
}

func render(diags *diag.List) string {
	var b strings.Builder
	diags.Render(&b)
	return b.String()
}

func TestOutputIsDeterministicAndFormatted(t *testing.T) {
	for _, g := range goldens {
		for _, oneFile := range []bool{false, true} {
			g.opts.OneFile = oneFile
			first := generate(t, g.opts, schema.Options{}, g.schema)
			second := generate(t, g.opts, schema.Options{}, g.schema)
			if len(first) != len(second) {
				t.Fatalf("%s: %d files, then %d", g.name, len(first), len(second))
			}
			for i, f := range first {
				if f.Path != second[i].Path || !bytes.Equal(f.Content, second[i].Content) {
					t.Errorf("%s: %s differs between two runs", g.name, f.Path)
				}
				if want, err := format.Source(f.Content); err != nil ||
					!bytes.Equal(want, f.Content) {
					t.Errorf("%s: %s is not formatted (%v)", g.name, f.Path, err)
				}
			}
		}
	}
}
