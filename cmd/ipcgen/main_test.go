package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
)

// newModule makes a folder with a go.mod and the given files, and returns it.
func newModule(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module example.com/demo\n")
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	t.Chdir(dir)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// readTree lists the files below dir with their contents.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// ipcgen runs the command and returns its status and what it printed.
func ipcgen(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code, _ = run(args, &o, &e)
	return code, o.String(), e.String()
}

const greeter = `namespace greeter;
table Hello { name: string; }
table Greeting { text: string; }
rpc_service Greeter { Greet(Hello): Greeting; }
`

func TestGenerate(t *testing.T) {
	dir := newModule(t, map[string]string{"greeter.fbs": greeter})
	if code, stdout, stderr := ipcgen("-o", "gen", "greeter.fbs"); code != exitOK || stdout != "" ||
		stderr != "" {
		t.Fatalf("status %d, printed %q and %q; want 0 and nothing", code, stdout, stderr)
	}
	first := readTree(t, filepath.Join(dir, "gen"))
	for _, name := range []string{"greeter/Hello.go", "greeter/Greeting.go", "greeter/Greeter.go"} {
		if !strings.HasPrefix(first[name], gogen.GeneratedMark) {
			t.Errorf("%s does not begin with %q:\n%s", name, gogen.GeneratedMark, first[name])
		}
	}

	// A second run finds everything in place: it could not write, and needs not.
	info := func() os.FileInfo {
		info, err := os.Stat("gen/greeter/Hello.go")
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	before := info()
	if code, _, stderr := ipcgen("-o", "gen", "greeter.fbs"); code != exitOK {
		t.Fatalf("second run: status %d, %s", code, stderr)
	}
	if after := info(); !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("the second run rewrote an unchanged file")
	}
	if code, stdout, stderr := ipcgen("-check", "-o", "gen", "greeter.fbs"); code != exitOK ||
		stdout+stderr != "" {
		t.Errorf("-check: status %d, %q, %q", code, stdout, stderr)
	}
}

func TestCheckListsStaleFiles(t *testing.T) {
	dir := newModule(t, map[string]string{"greeter.fbs": greeter})
	if code, _, stderr := ipcgen("-o", "gen", "greeter.fbs"); code != exitOK {
		t.Fatal(stderr)
	}
	write(t, "gen/greeter/Hello.go", gogen.Header("greeter", "../greeter.fbs")+
		"\n\npackage greeter\n")
	if err := os.Remove("gen/greeter/Greeting.go"); err != nil {
		t.Fatal(err)
	}
	before := readTree(t, dir)
	code, stdout, stderr := ipcgen("-check", "-o", "gen", "greeter.fbs")
	want := filepath.FromSlash("gen/greeter/Greeting.go\ngen/greeter/Hello.go\n")
	if code != exitFailed || stdout != want || !strings.Contains(stderr, "not up to date") {
		t.Errorf("status %d, printed %q and %q; want 1 and %q", code, stdout, stderr, want)
	}
	if after := readTree(t, dir); len(after) != len(before) {
		t.Error("-check wrote files")
	}
}

// TestTypesThatAreGone renames a table, and finds nothing of the old name left;
// what others made in the same folder stays.
func TestTypesThatAreGone(t *testing.T) {
	newModule(t, map[string]string{
		"greeter.fbs":         greeter,
		"other.fbs":           "namespace greeter; table Other { x: int; }",
		"gen/greeter/mine.go": "package greeter\n",
	})
	for _, name := range []string{"greeter.fbs", "other.fbs"} {
		if code, _, stderr := ipcgen("-o", "gen", name); code != exitOK {
			t.Fatal(stderr)
		}
	}
	write(t, "greeter.fbs", strings.ReplaceAll(greeter, "Hello", "Salute"))
	code, stdout, _ := ipcgen("-check", "-o", "gen", "greeter.fbs")
	want := filepath.FromSlash(
		"gen/greeter/Greeter.go\ngen/greeter/Salute.go\ngen/greeter/Hello.go\n")
	if code != exitFailed || stdout != want {
		t.Errorf("-check: status %d, printed %q, want %q", code, stdout, want)
	}
	if code, _, stderr := ipcgen("-o", "gen", "greeter.fbs"); code != exitOK {
		t.Fatal(stderr)
	}
	files := readTree(t, "gen/greeter")
	for name, want := range map[string]bool{"Hello.go": false, "Salute.go": true,
		"Greeter.go": true, "Other.go": true, "mine.go": true} {
		if _, got := files[name]; got != want {
			t.Errorf("%s exists: %v, want %v", name, got, want)
		}
	}
	if code, stdout, stderr := ipcgen("-check", "-o", "gen", "greeter.fbs"); code != exitOK {
		t.Errorf("-check after a run: status %d, %q, %q", code, stdout, stderr)
	}
}

// TestErrorsWriteNothing gives the command what it must refuse: one clear
// message, the right status, and no file touched.
func TestErrorsWriteNothing(t *testing.T) {
	cases := []struct {
		name   string
		files  map[string]string
		args   []string
		code   int
		stderr []string // all of them, in the message
	}{
		{"no arguments", nil, nil, exitUsage, []string{"no schema given", "ipcgen -h"}},
		{"unknown flag", nil, []string{"-x", "a.fbs"}, exitUsage, []string{"-x"}},
		{"flag behind a path", map[string]string{"a.fbs": "table A {}"},
			[]string{"a.fbs", "-o", "gen"}, exitUsage, []string{"-o", "flags first"}},
		{"missing file", nil, []string{"missing.fbs"}, exitFailed,
			[]string{"missing.fbs", "help: its path is taken from the current folder"}},
		{"directory as schema", map[string]string{"a.fbs/x": ""}, []string{"a.fbs"}, exitFailed,
			[]string{"a.fbs"}},
		{"syntax error", map[string]string{"a.fbs": "table A {\n  x int;\n}\n"}, []string{"a.fbs"},
			exitFailed, []string{"a.fbs:2:5: error: ", "  x int;", "    ^~~"}},
		{"unknown type", map[string]string{"a.fbs": "table A {\n  x: Foo;\n}\n"}, []string{"a.fbs"},
			exitFailed, []string{"a.fbs:2:6: error: ", "Foo", "     ^~~"}},
		{"no module", map[string]string{"a.fbs": "table A {}", "go.mod": "// nothing\n"},
			[]string{"a.fbs"}, exitFailed, []string{"names no module", "-import"}},
		{"directory as output file",
			map[string]string{"a.fbs": "namespace n; table A { x: int; } table B { x: int; }",
				"gen/n/B.go/x": ""}, []string{"-o", "gen", "a.fbs"}, exitFailed,
			[]string{"B.go", "is a directory", "-o"}},
		{"file as output folder",
			map[string]string{"a.fbs": "namespace n; table A { x: int; }", "gen": "x"},
			[]string{"-o", "gen", "a.fbs"}, exitFailed, []string{"gen"}},
		{"somebody's own file",
			map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"gen/n/A.go": "package n\n"}, []string{"-o", "gen", "a.fbs"}, exitFailed,
			[]string{"A.go", "not written by ipcgen"}},
		{"two schemas, one type",
			map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace n; table A { y: int; }"},
			[]string{"-o", "gen", "a.fbs", "b.fbs"}, exitFailed,
			[]string{"a.fbs", "b.fbs", "A.go"}},
		{"one good, one bad",
			map[string]string{"a.fbs": "namespace n; table A { x: int; }", "b.fbs": "table"},
			[]string{"-o", "gen", "a.fbs", "b.fbs"}, exitFailed, []string{"b.fbs:1:"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := newModule(t, c.files)
			before := readTree(t, dir)
			code, stdout, stderr := ipcgen(c.args...)
			if code != c.code || stdout != "" {
				t.Errorf("status %d, printed %q; want %d and nothing", code, stdout, c.code)
			}
			for _, want := range c.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("standard error does not say %q:\n%s", want, stderr)
				}
			}
			if strings.Contains(stderr, "goroutine") {
				t.Errorf("a panic:\n%s", stderr)
			}
			after := readTree(t, dir)
			if len(after) != len(before) {
				t.Errorf("files before: %d, after: %d", len(before), len(after))
			}
			for name, text := range before {
				if after[name] != text {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"-h", "-help", "--help"} {
		if code, stdout, stderr := ipcgen(arg); code != exitOK || stdout != usage || stderr != "" {
			t.Errorf("%s: status %d, printed %q and %q", arg, code, stdout, stderr)
		}
	}
}

// brokenWriter takes nothing, as a full disk does.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestOutputCannotBeWritten checks that what the command prints is not lost in silence.
func TestOutputCannotBeWritten(t *testing.T) {
	newModule(t, map[string]string{"a.fbs": "table A { x: int; }"})
	for _, args := range [][]string{{"-h"}, {"-version"}, {"-dump", "a.fbs"}, {"-deps", "a.fbs"},
		{"-outputs", "a.fbs"}} {
		var errOut bytes.Buffer
		code, _ := run(args, brokenWriter{}, &errOut)
		if code != exitFailed || !strings.Contains(errOut.String(), "no space left") {
			t.Errorf("%s: status %d, printed %q", args, code, &errOut)
		}
	}
}

func TestDepsAndDump(t *testing.T) {
	newModule(t, map[string]string{
		"a.fbs":     "include \"b.fbs\"; namespace n; table A { b: B; }",
		"inc/b.fbs": "namespace n; table B { x: int; }",
	})
	if code, stdout, stderr := ipcgen("-deps", "-I", "inc", "a.fbs"); code != exitOK ||
		stdout != filepath.FromSlash("inc/b.fbs\na.fbs\n") || stderr != "" {
		t.Errorf("-deps: status %d, printed %q and %q", code, stdout, stderr)
	}
	if code, stdout, stderr := ipcgen("-dump", "-I", "inc", "a.fbs"); code != exitOK ||
		!strings.Contains(stdout, `"name": "n.B"`) && !strings.Contains(stdout, `"B"`) ||
		stderr != "" {
		t.Errorf("-dump: status %d, printed %q and %q", code, stdout, stderr)
	}
}
