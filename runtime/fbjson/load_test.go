package fbjson_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// flatbuffersModule returns the folder of the FlatBuffers module, whose test data is the oracle.
func flatbuffersModule(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/google/flatbuffers").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// loadFile loads the schema in a file, through its binary form.
func loadFile(t testing.TB, path string) *fbjson.Schema {
	t.Helper()
	module := flatbuffersModule(t)
	models, diags := schema.Load(schema.Options{IncludeDirs: []string{
		filepath.Join(module, "tests", "include_test"), filepath.Join(module, "tests")}}, path)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	var warnings diag.List
	s, err := fbjson.Load(bfbs.Write(models[0], nil, &warnings))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// load loads the text of a schema.
func load(t testing.TB, text string) *fbjson.Schema {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.fbs")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return loadFile(t, path)
}

// mustRead returns the buffer that a text stands for, which has been verified.
func mustRead(t testing.TB, typ *fbjson.Type, text string, o *fbjson.ReadOptions) []byte {
	t.Helper()
	buf, err := typ.AppendBuffer(nil, []byte(text), o)
	if err != nil {
		t.Fatalf("%v in\n%.1000s", err, text)
	}
	if err := typ.Verify(buf); err != nil {
		t.Fatalf("%v: the buffer of\n%.1000s", err, text)
	}
	return buf
}

// mustWrite returns the text of a buffer.
func mustWrite(t testing.TB, typ *fbjson.Type, buf []byte, o *fbjson.WriteOptions) string {
	t.Helper()
	text, err := typ.AppendJSON(nil, buf, o)
	if err != nil {
		t.Fatalf("%v: buffer of %d bytes", err, len(buf))
	}
	return string(text)
}
