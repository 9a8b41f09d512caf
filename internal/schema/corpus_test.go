package schema_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// golden compares got with the file at path. With UPDATE_GOLDEN set it writes the file, and the
// test fails all the same, so that no run passes on a file that it has written itself.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err == nil && bytes.Equal(got, want) {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s was refreshed; look at the difference and run again", path)
		return
	}
	if err != nil {
		t.Fatalf("%v; run with UPDATE_GOLDEN=1 to write it", err)
	}
	t.Errorf("%s differs; run with UPDATE_GOLDEN=1 to refresh it\n--- got\n%s--- want\n%s",
		path, got, want)
}

// schemasIn runs the rest of the test in a folder, so that paths in messages do not depend on the
// working directory, and returns the schemas in it.
func schemasIn(t *testing.T, dir string) []string {
	t.Helper()
	t.Chdir(dir)
	files, err := filepath.Glob("*.fbs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schemas in %s: %v", dir, err)
	}
	return files
}

func TestRefusedSchemasGetTheirDiagnostics(t *testing.T) {
	for _, path := range schemasIn(t, "testdata/refused") {
		schemas, diags := schema.Load(schema.Options{}, path)
		if !diags.HasErrors() || schemas[0] != nil {
			t.Errorf("%s was accepted", path)
			continue
		}
		var out bytes.Buffer
		if err := diags.Render(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, strings.TrimSuffix(path, ".fbs")+".txt", out.Bytes())
	}
}

func TestAcceptedSchemasResolveToTheirModel(t *testing.T) {
	for _, path := range schemasIn(t, "testdata/accepted") {
		schemas, diags := schema.Load(schema.Options{IncludeDirs: []string{"include"}}, path)
		var out bytes.Buffer
		if err := diags.Render(&out); err != nil {
			t.Fatal(err)
		}
		if diags.HasErrors() {
			t.Errorf("%s was refused:\n%s", path, out.Bytes())
			continue
		}
		if err := schemas[0].Dump(&out); err != nil { // after the warnings, if any
			t.Fatal(err)
		}
		golden(t, strings.TrimSuffix(path, ".fbs")+".txt", out.Bytes())
	}
}
