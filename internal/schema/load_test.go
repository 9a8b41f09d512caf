package schema_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// files is a file system in memory that records which files are read.
type files struct {
	text map[string]string
	read []string
}

func (f *files) readFile(path string) ([]byte, error) {
	path = filepath.ToSlash(path)
	text, ok := f.text[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	f.read = append(f.read, path)
	return []byte(text), nil
}

// options returns options that read from the files.
func (f *files) options(includeDirs ...string) schema.Options {
	return schema.Options{ReadFile: f.readFile, IncludeDirs: includeDirs}
}

// mustLoad loads one schema, which must be accepted.
func mustLoad(t *testing.T, opts schema.Options, path string) *schema.Schema {
	t.Helper()
	schemas, diags := schema.Load(opts, path)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", path, diags.Err())
	}
	return schemas[0]
}

func names(s *schema.Schema) []string {
	var out []string
	for _, o := range s.Objects {
		out = append(out, o.FullName())
	}
	return out
}

func TestIncludesAreFoundBesideTheFileThenInTheDirectories(t *testing.T) {
	f := &files{text: map[string]string{
		"app/main.fbs":       `include "x.fbs"; include "sub/y.fbs"; table Main {}`,
		"app/x.fbs":          `table BesideMain {}`,
		"app/sub/y.fbs":      `include "z.fbs"; table Y {}`,
		"app/sub/z.fbs":      `include "w.fbs"; include "v.fbs"; table BesideY {}`,
		"app/z.fbs":          `table Wrong {}`,
		"first/w.fbs":        `table InFirst {}`,
		"second/w.fbs":       `table Wrong {}`,
		"app/v.fbs":          `table BesideRoot {}`,
		"second/unread.fbs":  `table Wrong {}`,
		"first/sub/x.fbs":    `table Wrong {}`,
		"second/sub/sub.fbs": `table Wrong {}`,
	}}
	s := mustLoad(t, f.options("first", "second"), "app/main.fbs")
	want := []string{"BesideMain", "BesideRoot", "BesideY", "InFirst", "Main", "Y"}
	if got := names(s); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, o := range s.Objects {
		if root := o.Name == "Main"; o.File.Root != root {
			t.Errorf("%s counts as part of the root file: %v", o.Name, o.File.Root)
		}
	}
	wantRead := []string{"app/x.fbs", "first/w.fbs", "app/v.fbs", "app/sub/z.fbs", "app/sub/y.fbs",
		"app/main.fbs"}
	slices.Sort(wantRead)
	got := schema.FilesRead([]*schema.Schema{s})
	for i := range got {
		got[i] = filepath.ToSlash(got[i])
	}
	slices.Sort(got)
	if !slices.Equal(got, wantRead) {
		t.Errorf("FilesRead is %v, want %v", got, wantRead)
	}
}

func TestEachFileIsReadOnceAndDeclaredOnce(t *testing.T) {
	f := &files{text: map[string]string{
		"a.fbs":      `include "b.fbs"; include "c.fbs"; include "copy/b.fbs"; table A { b: B; c: C; }`,
		"b.fbs":      `include "a.fbs"; include "b.fbs"; table B {}`,
		"c.fbs":      `include "./b.fbs"; include "x/../b.fbs"; table C { b: B; }`,
		"copy/b.fbs": `include "a.fbs"; include "b.fbs"; table B {}`,
		"other.fbs":  `include "c.fbs"; table Other { c: C; }`,
	}}
	schemas, diags := schema.Load(f.options(), "a.fbs", "other.fbs")
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	if got, want := names(schemas[0]), []string{"A", "B", "C"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := names(schemas[1]), []string{"A", "B", "C", "Other"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, path := range []string{"a.fbs", "b.fbs", "c.fbs", "copy/b.fbs", "other.fbs"} {
		if n := len(slices.DeleteFunc(slices.Clone(f.read), func(p string) bool {
			return p != path
		})); n != 1 {
			t.Errorf("%s was read %d times", path, n)
		}
	}
	if got := schemas[0].Objects[0]; got == schemas[1].Objects[0] {
		t.Error("two roots share an object")
	}
}

func TestTheRootFileAloneDecidesRootAndIdentifier(t *testing.T) {
	f := &files{text: map[string]string{
		"main.fbs": `include "lib.fbs"; table Main {}`,
		"lib.fbs":  `namespace lib; table Lib {} root_type Lib; file_identifier "LIB1"; file_extension "lib";`,
	}}
	s := mustLoad(t, f.options(), "main.fbs")
	if s.Root != nil || s.FileIdentifier != "" || s.FileExtension != "" {
		t.Errorf("root %v, identifier %q, extension %q", s.Root, s.FileIdentifier, s.FileExtension)
	}
	if got, want := names(s), []string{"Main", "lib.Lib"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: the namespace leaks out of an included file", got, want)
	}
	lib := mustLoad(t, f.options(), "lib.fbs")
	if lib.Root == nil || lib.Root.FullName() != "lib.Lib" || lib.FileIdentifier != "LIB1" ||
		lib.FileExtension != "lib" {
		t.Errorf("root %v, identifier %q, extension %q", lib.Root, lib.FileIdentifier,
			lib.FileExtension)
	}
}

func TestFilesAreNamedFromTheProjectRoot(t *testing.T) {
	f := &files{text: map[string]string{
		"p/a/main.fbs": `include "lib.fbs"; table Main {}`,
		"p/b/lib.fbs":  `table Lib {}`,
	}}
	opts := f.options("p/b")
	for root, want := range map[string]string{"": "//../b/lib.fbs //main.fbs",
		"p": "//b/lib.fbs //a/main.fbs"} {
		opts.ProjectRoot = root
		s := mustLoad(t, opts, "p/a/main.fbs")
		var got []string
		for _, file := range s.Files {
			got = append(got, file.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("with project root %q the files are %v, want %s", root, got, want)
		}
	}
}

func TestUnreadableFilesAreReported(t *testing.T) {
	f := &files{text: map[string]string{"main.fbs": `include "locked.fbs"; table T {}`}}
	opts := f.options()
	opts.ReadFile = func(path string) ([]byte, error) {
		if path == "locked.fbs" {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		}
		return f.readFile(path)
	}
	for path, want := range map[string]string{
		"main.fbs":    "main.fbs:1:9: error: cannot read locked.fbs: permission denied",
		"missing.fbs": "missing.fbs: error: cannot read the file: file does not exist",
		"x.bfbs":      "x.bfbs: error: cannot read the file: file does not exist",
	} {
		schemas, diags := schema.Load(opts, path)
		if got := fmt.Sprint(diags.Err()); got != want || schemas[0] != nil {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestOneBadSchemaAmongGoodOnes(t *testing.T) {
	f := &files{text: map[string]string{
		"good.fbs":  `table Good {}`,
		"bad.fbs":   `table Bad { x: Missing; }`,
		"broken.fb": `tabel`,
	}}
	schemas, diags := schema.Load(f.options(), "good.fbs", "bad.fbs", "broken.fb")
	if len(schemas) != 3 || schemas[1] != nil || schemas[2] != nil {
		t.Errorf("got %v", schemas)
	}
	if diags.Errors() != 2 {
		t.Errorf("%d errors: %v", diags.Errors(), diags.Err())
	}
}

func TestBinarySchemasGoToTheHook(t *testing.T) {
	f := &files{text: map[string]string{"x.bfbs": "binary"}}
	opts := f.options()
	if _, diags := schema.Load(opts, "x.bfbs"); !diags.HasErrors() {
		t.Error("a binary schema was accepted without a reader")
	}
	want := &schema.Schema{}
	opts.ReadBinary = func(path string, data []byte, _ *diag.List) *schema.Schema {
		if path != "x.bfbs" || string(data) != "binary" {
			t.Errorf("got %s %q", path, data)
		}
		return want
	}
	if got := mustLoad(t, opts, "x.bfbs"); got != want {
		t.Error("the hook's schema was not returned")
	}
}

func TestDiagnosticsAreLimited(t *testing.T) {
	f := &files{text: map[string]string{"x.fbs": strings.Repeat("?\n", 10000),
		"y.fbs": "table T {" + strings.Repeat(" x: Missing (nope);\n", 10000) + "}",
		"z.fbs": "table T (" + strings.Repeat("private, ", 10000) + "id) {}"}}
	for path := range f.text {
		_, diags := schema.Load(f.options(), path)
		if n := diags.Len(); n == 0 || n > diag.MaxErrors {
			t.Errorf("%s gives %d diagnostics", path, n)
		}
	}
}
