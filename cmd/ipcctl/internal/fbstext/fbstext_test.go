package fbstext_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/fbstext"
	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// load reads a schema from a text, and returns its protocols.
func load(t *testing.T, text string) (*schema.Schema, []gogen.Protocol) {
	t.Helper()
	models, diags := schema.Load(schema.Options{ReadFile: func(string) ([]byte, error) {
		return []byte(text), nil
	}}, "text.fbs")
	if diags.HasErrors() {
		var b strings.Builder
		diags.Render(&b)
		t.Fatalf("%s\n%s", b.String(), text)
	}
	return models[0], gogen.Protocols(models[0], new(diag.List))
}

// same checks that a text has the meaning of a model: the protocols that are compared, and all else
// that a binary schema shows.
func same(t *testing.T, name string, model *schema.Schema) {
	t.Helper()
	text := fbstext.Write(model)
	back, got := load(t, text)
	want := gogen.Protocols(model, new(diag.List))
	if len(got) != len(want) {
		t.Fatalf("%s: %d protocols, want %d:\n%s", name, len(got), len(want), text)
	}
	for _, list := range [][]gogen.Protocol{got, want} {
		slices.SortFunc(list, func(a, b gogen.Protocol) int {
			return strings.Compare(a.Description, b.Description)
		})
	}
	for i := range want {
		if got[i].Description != want[i].Description {
			t.Errorf("%s: %s is\n%s, want\n%s", name, want[i].Name, got[i].Description,
				want[i].Description)
		}
	}
	first, second := lines(text), lines(fbstext.Write(back))
	for i := range min(len(first), len(second)) {
		if first[i] != second[i] {
			t.Fatalf("%s: the text of the text differs in line %d: %s, then %s\n%s", name, i,
				first[i], second[i], text)
		}
	}
	if len(first) != len(second) {
		t.Errorf("%s: %d lines, then %d", name, len(first), len(second))
	}
	for i, o := range model.Objects {
		if strings.Join(o.Doc, "\n") != strings.Join(back.Objects[i].Doc, "\n") {
			t.Errorf("%s: %s has the comment %q", name, o.FullName(), back.Objects[i].Doc)
		}
	}
	oneFile := func(*schema.File) string { return "//text.fbs" }
	a, b := bfbs.WriteExact(flat(model), oneFile), bfbs.WriteExact(flat(back), oneFile)
	if len(a) != len(b) {
		t.Errorf("%s: a binary schema of %d bytes, then %d", name, len(a), len(b))
	}
}

// lines returns the lines of a text but those about file identifiers of included files.
func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "// ")
	})
}

// flat returns a model without the differences of its files.
func flat(s *schema.Schema) *schema.Schema {
	root := *s
	root.Files = s.Files[len(s.Files)-1:]
	for _, o := range root.Objects {
		if o.File.RootType == o && !o.File.Root {
			o.File.Identifier = ""
		}
	}
	return &root
}

// TestWrite writes schemas of the repository and reads them back.
func TestWrite(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	for _, name := range []string{"schema/audio_protocol.fbs", "schema/introspection.fbs",
		"internal/gogen/testdata/kitchen.fbs", "internal/gogen/testdata/houses.fbs",
		"internal/bfbs/testdata/kinds.fbs", "internal/bfbs/testdata/exact.fbs",
		"examples/robot/robot.fbs"} {
		models, diags := schema.Load(schema.Options{}, filepath.Join(root, name))
		if diags.HasErrors() {
			t.Fatal(diags.Err())
		}
		same(t, name, models[0])
	}
}
