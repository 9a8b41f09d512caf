package schematest_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/schematest"
)

// load loads the last file of a schema.
func load(files []schematest.File) ([]*schema.Schema, *diag.List) {
	return schema.Load(schema.Options{ReadFile: schematest.Reader(files)}, files[len(files)-1].Name)
}

// TestSchemasAreValid checks that the front end accepts every schema, and that together they use
// every feature of the language.
func TestSchemasAreValid(t *testing.T) {
	var all strings.Builder
	refused := 0
	for seed := range uint64(500) {
		files := schematest.Random(seed, schematest.Config{UniqueNames: seed%2 == 0})
		if _, diags := load(files); diags.HasErrors() {
			var text bytes.Buffer
			diags.Render(&text)
			t.Errorf("seed %d: %s", seed, text.String())
			if refused++; refused == 10 {
				t.FailNow()
			}
		}
		for _, f := range files {
			all.WriteString(f.Text)
		}
	}
	for _, part := range []string{
		"namespace a.b;", "include ", "enum ", "(bit_flags)", "struct ", "force_align", "(stream",
		"union ", ": string", "rpc_service ",
		"= null", "= nan", "(key", "required", "deprecated", "id: 2", "shared", "nested_flatbuffer",
		"root_type", "file_identifier",
		"idempotent", "read_only", `timeout: "1.5s"`, ":2]", "///", `envelope: "none"`,
	} {
		if !strings.Contains(all.String(), part) {
			t.Errorf("no schema has %q", part)
		}
	}
}

func TestSameSeedSameSchema(t *testing.T) {
	for seed := range uint64(20) {
		if !slices.Equal(schematest.Random(seed, schematest.Config{UniqueNames: seed%2 == 0}),
			schematest.Random(seed, schematest.Config{UniqueNames: seed%2 == 0})) {
			t.Errorf("seed %d gives two schemas", seed)
		}
	}
}
