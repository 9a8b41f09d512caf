package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
)

// A scenario is a module with schemas and the runs of ipcgen that its team makes. The
// history is what the module looked like before, and the runs made then.
type scenario struct {
	name       string
	old, files map[string]string
	oldRuns    []string
	runs       []string // command lines
}

const (
	identified = `namespace base; table Base { x: int; } table Other { y: int; } root_type Base; file_identifier "BASE";`
	included   = `namespace base; struct Point { x: int; } table Q { p: Point; } table R { x: int; } rpc_service S { M(Q): R; }`
)

var scenarios = []scenario{
	{
		name: "two schemas of one base name",
		files: map[string]string{"x/base.fbs": "namespace x; table A { x: int; }",
			"y/base.fbs": "namespace y; table A { x: int; } table B { a: A; }"},
		runs: []string{"-o gen x/base.fbs", "-o gen y/base.fbs"},
	}, {
		name: "two schemas of one namespace",
		files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
			"b.fbs": "namespace n; enum B: byte { X } table C { b: B; }"},
		runs: []string{"-o gen a.fbs", "-o gen b.fbs", "-o gen a.fbs b.fbs"},
	}, {
		name: "a shared include",
		files: map[string]string{
			"base.fbs": included,
			"a.fbs":    `include "base.fbs"; namespace a; table A { p: base.Point; }`,
			"b.fbs":    `include "base.fbs"; namespace b; union U { base.Q, base.R } table B { u: U; }`,
		},
		runs: []string{"-all -o gen a.fbs", "-all -o gen b.fbs", "-o gen base.fbs",
			"-all -o gen a.fbs b.fbs"},
	}, {
		name: "a shared include of the same namespace",
		files: map[string]string{
			"inc/base.fbs": included,
			"a.fbs":        `include "base.fbs"; namespace base; union QU { Q } union RU { R } table QE { u: QU; } table RE { u: RU; } rpc_service S2 { N(Q): R; }`,
			"b.fbs":        `include "inc/base.fbs"; namespace base; table point { x: int; } table B { p: Point; q: point; }`,
		},
		runs: []string{"-all -I inc -o gen a.fbs", "-all -o gen b.fbs", "-o gen inc/base.fbs"},
	}, {
		name: "an include with a root type of its own",
		files: map[string]string{
			"base.fbs": identified,
			"a.fbs":    `include "base.fbs"; namespace a; table A { b: base.Base; } root_type base.Other; file_identifier "AAAA";`,
		},
		runs: []string{"-all -o gen a.fbs", "-o gen base.fbs", "-o gen a.fbs"},
	}, {
		name: "one file for each schema",
		files: map[string]string{
			"base.fbs":     identified,
			"a_test.fbs":   `include "base.fbs"; namespace base; table A { b: Base; }`,
			"sub/it's.fbs": `include "../base.fbs"; namespace base; table C { b: Base; } namespace c; table D { b: base.Base; }`,
		},
		runs: []string{"-one-file -o gen base.fbs", "-one-file -all -o gen a_test.fbs",
			"-one-file -all -o gen sub/it's.fbs"},
	}, {
		name: "a renamed namespace",
		old: map[string]string{"a.fbs": "namespace deep.inside.old; table A { x: int; }",
			"b.fbs": "namespace b; table B { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		files: map[string]string{"a.fbs": "namespace fresh; table A { x: int; }",
			"b.fbs": "namespace b; table B { x: int; }"},
		runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
	}, {
		name: "a switch to one package",
		old: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
			"b.fbs": "namespace m; table B { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		runs:    []string{"-package p -o gen a.fbs", "-package p -o gen b.fbs"},
	}, {
		name: "a switch to one file, for one schema of two",
		old: map[string]string{"a.fbs": "namespace n; table A { x: int; } table A2 { x: int; }",
			"b.fbs": "namespace n; table B { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		runs:    []string{"-one-file -o gen a.fbs", "-o gen b.fbs"},
	}, {
		name: "a switch from one file",
		old: map[string]string{
			"a.fbs": "namespace n; table A { x: int; } table A2 { x: int; }",
		},
		oldRuns: []string{"-one-file -o gen a.fbs"},
		runs:    []string{"-o gen a.fbs"},
	}, {
		name: "a type that moved",
		old: map[string]string{"a.fbs": "namespace n; table A { x: int; } table B { x: int; }",
			"b.fbs": "namespace n; table C { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
			"b.fbs": "namespace n; table B { x: int; } table C { x: int; }"},
		runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
	}, {
		name: "a schema with another name, and a type less",
		old: map[string]string{"a.fbs": "namespace n; table A { x: int; } table B { x: int; }",
			"c.fbs": "namespace n; table C { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen c.fbs"},
		files: map[string]string{"b.fbs": "namespace n; table A { x: int; }",
			"c.fbs": "namespace n; table C { x: int; }"},
		runs: []string{"-o gen b.fbs", "-o gen c.fbs"},
	}, {
		name: "one schema in two folders, one in the other",
		files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
			"x/a.fbs": "namespace n; table X { x: int; }",
			"b.fbs":   "namespace x.y.n; table B { x: int; }"},
		runs: []string{"-o . a.fbs", "-o x a.fbs", "-o x/y x/a.fbs", "-o . b.fbs"},
	}, {
		name: "types of the root namespace beside other code",
		files: map[string]string{
			"main.go": "package main\n\nfunc main() {}\n",
			"tool.go": "//go:build ignore\n\npackage tool\n", "x_test.go": "package main_test\n",
			"a.fbs": "table A { x: int; }", "b.fbs": `include "a.fbs"; table B { a: A; }`,
		},
		runs: []string{"-o . a.fbs", "-o . b.fbs"},
	}, {
		name: "the first form of headers",
		old: map[string]string{
			"a.fbs":        "namespace n; table A { x: int; }",
			"b.fbs":        "namespace n; table B { x: int; }",
			"gen/n/A.go":   "// Code generated by ipcgen from a.fbs. DO NOT EDIT.\n\npackage n\n",
			"gen/n/Old.go": "// Code generated by ipcgen from a.fbs. DO NOT EDIT.\n\npackage n\n",
			"gen/n/B.go":   "// Code generated by ipcgen from a.fbs. DO NOT EDIT.\n\npackage n\n",
		},
		runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
	}, {
		name: "capital letters change",
		old: map[string]string{"a.fbs": "namespace n; table Item { x: int; } table B { x: " +
			"int; }"},
		oldRuns: []string{"-o gen a.fbs"},
		files: map[string]string{"a.fbs": "namespace n; table ITEM { x: int; } table B { x: " +
			"int; }"},
		runs: []string{"-o gen a.fbs"},
	}, {
		name: "a type that moved to another schema's file, with a derived name",
		old: map[string]string{
			"a.fbs": "namespace n; table Foo { x: int; } table A { x: int; }",
			"b.fbs": "namespace n; table B { x: int; }",
		},
		oldRuns: []string{"-one-file -o gen a.fbs", "-one-file -o gen b.fbs"},
		files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
			"b.fbs": "namespace n; table B { x: int; } table Foo { x: int; }"},
		runs: []string{"-one-file -o gen a.fbs", "-one-file -o gen b.fbs"},
	}, {
		name: "an old name that clashes with a new one",
		old: map[string]string{"a.fbs": "namespace n; table Foo { x: int; }",
			"b.fbs": "namespace n; table B { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		files: map[string]string{"a.fbs": "namespace n; table Bar { x: int; }",
			"b.fbs": "namespace n; table FooT { x: int; }"},
		runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
	}, {
		name: "a name of a schema that is gone",
		old: map[string]string{"a.fbs": "namespace n; table Foo { x: int; } table Other { " +
			"x: int; }", "b.fbs": "namespace n; table B { x: int; }"},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		files: map[string]string{"b.fbs": "namespace n; table FooT { x: int; }",
			"c.fbs": "namespace c; table C { x: int; }"},
		runs: []string{"-o gen b.fbs", "-o gen c.fbs"},
	}, {
		name: "an import that turns round",
		old: map[string]string{
			"base.fbs": "namespace n; table N { x: int; } namespace m; table M { x: int; }",
			"a.fbs":    `include "base.fbs"; namespace n; table A { m: m.M; }`,
			"b.fbs":    "namespace m; table B { x: int; }",
		},
		oldRuns: []string{"-o gen a.fbs", "-o gen b.fbs"},
		files: map[string]string{
			"base.fbs": "namespace n; table N { x: int; } namespace m; table M { x: int; }",
			"a.fbs":    "namespace n; table A { x: int; }",
			"b.fbs":    `include "base.fbs"; namespace m; table B { n: n.N; }`,
		},
		runs: []string{"-o gen a.fbs", "-o gen b.fbs", "-o gen base.fbs"},
	}, {
		name: "names that clash with derived ones",
		files: map[string]string{
			"base.fbs": "namespace n; table Foo { x: int; } enum Kind: byte { A }",
			"a.fbs":    `include "base.fbs"; namespace n; table FooT { x: int; } table KindA { x: int; }`,
			"b.fbs":    `include "base.fbs"; namespace n; table FooStart { x: int; } struct ParseKind { x: int; }`,
		},
		runs: []string{"-all -o gen a.fbs", "-o gen base.fbs", "-all -o gen b.fbs"},
	},
}

// TestAnyOrderOfRuns makes the runs of each scenario in all orders. Whatever the
// order, the files are those that the runs make where there was nothing before, and
// -check finds nothing to say of any of them.
func TestAnyOrderOfRuns(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			if s.files == nil {
				s.files = s.old
			}
			var want map[string]string
			for _, order := range permutations(len(s.runs)) {
				dir := t.TempDir()
				if want == nil {
					s.prepare(t, dir, s.files, false)
				} else {
					s.prepare(t, dir, s.old, true)
					for name := range s.old {
						if _, ok := s.files[name]; !ok {
							if err := os.Remove(filepath.Join(dir, name)); err != nil {
								t.Fatal(err)
							}
						}
					}
					for name, text := range s.files {
						if filepath.Ext(name) == ".fbs" {
							write(t, filepath.Join(dir, name), text)
						}
					}
				}
				for _, i := range order {
					mustRun(t, s.runs[i])
				}
				for _, run := range s.runs {
					if code, stdout,
						stderr := ipcgen(append([]string{"-check"},
						strings.Fields(run)...)...); code != exitOK || stdout+stderr != "" {
						t.Errorf("order %v: -check %s: status %d, %q, %q", order, run, code,
							stdout, stderr)
					}
				}
				got := readTree(t, dir)
				if want == nil {
					want = got
					continue
				}
				sameTree(t, order, got, want)
			}
			if len(s.runs) == 1 { // the first order was the oracle's
				dir := t.TempDir()
				s.prepare(t, dir, s.old, true)
				for name, text := range s.files {
					write(t, filepath.Join(dir, name), text)
				}
				mustRun(t, s.runs[0])
				got := readTree(t, dir)
				sameTree(t, []int{0}, got, want)
			}
		})
	}
}

// prepare makes a module in dir the current folder, with these files, and with what
// old runs made.
func (s *scenario) prepare(t *testing.T, dir string, files map[string]string, history bool) {
	t.Helper()
	write(t, filepath.Join(dir, "go.mod"), "module example.com/demo\n")
	if len(files) == 0 {
		files = s.files
	}
	for name, text := range files {
		if history || !strings.HasPrefix(name, "gen/") {
			write(t, filepath.Join(dir, name), text)
		}
	}
	t.Chdir(dir)
	if history {
		for _, run := range s.oldRuns {
			mustRun(t, run)
		}
	}
}

// mustRun runs a command line.
func mustRun(t *testing.T, line string) {
	t.Helper()
	if code, stdout, stderr := ipcgen(strings.Fields(line)...); code != exitOK || stdout != "" {
		t.Fatalf("%s: status %d, %q, %s", line, code, stdout, stderr)
	}
}

func sameTree(t *testing.T, order []int, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if text, ok := got[name]; !ok {
			t.Errorf("order %v: %s is missing", order, name)
		} else if text != want[name] {
			t.Errorf("order %v: %s differs:\n%s\nwant:\n%s", order, name, text, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("order %v: %s is left", order, name)
		}
	}
}

// permutations lists all orders of n things.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

// TestEmptyFoldersGo checks that nothing is left of a former namespace, and that
// folders with something else in them stay.
func TestEmptyFoldersGo(t *testing.T) {
	newModule(t, map[string]string{"a.fbs": "namespace a.b.c; table A { x: int; }"})
	mustRun(t, "-o gen a.fbs")
	write(t, "gen/a/note.txt", "mine")
	write(t, "a.fbs", "namespace d; table A { x: int; }")
	code, stdout, _ := ipcgen("-check", "-o", "gen", "a.fbs")
	if want := filepath.FromSlash("gen/d/A.go\ngen/a/b/c/A.go\n"); code != exitFailed ||
		stdout != want {
		t.Errorf("-check: status %d, %q; want %q", code, stdout, want)
	}
	mustRun(t, "-o gen a.fbs")
	if exists("gen/a/b") || !exists("gen/a/note.txt") || !exists("gen/d/A.go") {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(readTree(t, "gen"))))
	}
}

// TestOthersFilesStay runs ipcgen above files that look like its own and are not
// those of this run.
func TestOthersFilesStay(t *testing.T) {
	ours := gogen.Header("n", "../a.fbs") + "\n\npackage n\n"
	stay := map[string]string{
		"other/go.mod":         "module example.com/other\n", // another module
		"other/n/Old.go":       ours,
		"gen/vendor/n/Old.go":  ours,
		"gen/.hidden/n/Old.go": ours,
		"gen/not-go/n/Old.go":  ours,
		"gen/copy/n/Old.go":    ours, // which names gen/copy as the output folder
		"gen/n/Old_test.go":    ours,
		"gen/n/mine.go":        "package n\n",
		"gen/n/flatc.go": "// Code generated by the FlatBuffers compiler. DO NOT " +
			"EDIT.\n\npackage n\n",
		"gen/n/notes.txt":    ours,
		"elsewhere/n/Old.go": gogen.Header("n", "../../a.fbs") + "\n\npackage n\n",
	}
	dir := newModule(t, stay)
	write(t, "a.fbs", "namespace n; table A { x: int; }")
	write(t, "gen/n/Old.go", ours)
	write(t, "gen/m/Old.go", ours)
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), "gen/linked"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "-o gen a.fbs")
	for name, text := range stay {
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
	for _, name := range []string{"gen/n/Old.go", "gen/m/Old.go", "gen/m"} {
		if exists(name) {
			t.Errorf("%s is left", name)
		}
	}
}

// TestNamesOfSchemas checks how schemas are named in the first line: the same
// way from everywhere, and never by a path of this machine.
func TestNamesOfSchemas(t *testing.T) {
	outside := t.TempDir()
	cache := t.TempDir()
	t.Setenv("GOMODCACHE", cache)
	files := map[string]string{
		filepath.Join(outside,
			"fbs/common/base.fbs"): "namespace base; table Base { x: int; }",
		filepath.Join(outside, "lib/go.mod"): "module example.com/lib\n",
		filepath.Join(outside,
			"lib/schema/lib.fbs"): "namespace lib; table Lib { x: int; }",
		filepath.Join(cache,
			"example.com/!up@v1.2.3/schema/up.fbs"): "namespace up; table Up { x: int; }",
		filepath.Join(cache,
			"example.com/!up@v1.2.3/schema/other.fbs"): "namespace up; table Other { x: int; }",
	}
	dir := newModule(t, map[string]string{
		"schema/a.fbs": `include "common/base.fbs"; include "up.fbs"; include "schema/lib.fbs"; namespace a; table A { x: int; }`,
	})
	for name, text := range files {
		write(t, name, text)
	}
	flags := []string{"-all", "-I", filepath.Join(outside, "fbs"), "-I",
		filepath.Join(cache, "example.com/!up@v1.2.3/schema"), "-I",
		filepath.Join(outside, "lib"), "-o", "gen"}
	for _, c := range []struct{ dir, path string }{
		{dir, "schema/a.fbs"}, {dir, filepath.Join(dir, "schema/a.fbs")},
		{filepath.Join(dir, "schema"), "a.fbs"},
	} {
		t.Chdir(c.dir)
		flags[len(flags)-1] = filepath.Join(dir, "gen")
		if c.path == "schema/a.fbs" {
			flags[len(flags)-1] = "gen"
		}
		if code, _, stderr := ipcgen(append(flags, c.path)...); code != exitOK {
			t.Fatal(stderr)
		}
		for name, want := range map[string]string{
			"a/A.go":       "../../schema/a.fbs",
			"base/Base.go": "common/base.fbs",
			"lib/Lib.go":   "example.com/lib/schema/lib.fbs",
			"up/Up.go":     "example.com/Up/schema/up.fbs",
		} {
			text, err := os.ReadFile(filepath.Join(dir, "gen", name))
			if want := "// Code generated by ipcgen -o .. from " + want +
				". DO NOT EDIT."; err != nil || firstLine(text) != want {
				t.Errorf("%s from %s: %v, %q; want %q", name, c.dir, err, firstLine(text), want)
			}
		}
	}
}

// TestThroughLinks runs ipcgen from a folder that was reached through a symbolic link, and
// for schemas behind one. The way up is that of the system, and the files are the same.
func TestThroughLinks(t *testing.T) {
	dir := newModule(t, map[string]string{
		"deep/schema/a.fbs": `include "../common/c.fbs"; namespace a; table A { c: c.C; }`,
		"deep/common/c.fbs": "namespace c; table C { x: int; }",
	})
	for link, to := range map[string]string{"link": "deep/schema", "deep/here": "../deep/schema"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "-all -o deep/gen deep/schema/a.fbs")
	mustRun(t, "-all -check -o deep/gen link/a.fbs")
	mustRun(t, "-all -check -o deep/gen deep/here/a.fbs")
	t.Chdir(filepath.Join(dir, "link"))
	t.Setenv("PWD", filepath.Join(dir, "link")) // as a shell does
	mustRun(t, "-all -check -o ../gen a.fbs")
	mustRun(t, "-all -check -o ../gen ../schema/a.fbs")
	mustRun(t, "-all -check -I ../schema -o "+filepath.Join(dir, "deep/gen")+" a.fbs")
}

// TestOneFileByTwoPaths gives a schema, and what it includes, by paths that differ. They
// are one file.
func TestOneFileByTwoPaths(t *testing.T) {
	dir := newModule(t, map[string]string{
		"a.fbs":     `include "c.fbs"; namespace a; table A { c: c.C; }`,
		"sub/b.fbs": `include "../c.fbs"; namespace b; table B { c: c.C; }`,
		"c.fbs":     "namespace c; table C { x: int; }",
	})
	if err := os.Symlink(".", "here"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "-o gen a.fbs sub/b.fbs c.fbs")
	want := readTree(t, "gen")
	for _, run := range []string{
		"-all -o gen a.fbs " + filepath.Join(dir, "sub/b.fbs"),
		"-all -o gen " + filepath.Join(dir, "a.fbs") + " sub/b.fbs",
		"-o gen a.fbs sub/b.fbs c.fbs " + filepath.Join(dir, "c.fbs"),
		"-o gen a.fbs here/a.fbs ./sub/../a.fbs here/sub/b.fbs here/here/c.fbs",
	} {
		mustRun(t, run)
		if got := readTree(t, "gen"); !maps.Equal(got, want) {
			t.Errorf("%s made other files", run)
		}
	}
}
