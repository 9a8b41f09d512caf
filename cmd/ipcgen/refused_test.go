package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunsThatDisagree makes runs of which the last cannot be right beside the others. It
// says why, names both sides, and changes nothing; so does -check.
func TestRunsThatDisagree(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		runs  []string
		then  map[string]string // files written before the last run
		want  []string
	}{
		{
			name: "one type in two schemas",
			files: map[string]string{"x/a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace n; table A { y: int; } table B { x: int; }"},
			runs: []string{"-o gen x/a.fbs", "-o gen b.fbs"},
			want: []string{"gen/n/A.go", "x/a.fbs", "b.fbs", "n.A"},
		}, {
			name: "one type in two schemas, the other way round",
			files: map[string]string{"x/a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace n; table A { y: int; } table B { x: int; }"},
			runs: []string{"-o gen b.fbs", "-o gen x/a.fbs"},
			want: []string{"gen/n/A.go", "x/a.fbs", "b.fbs", "n.A"},
		}, {
			name: "one base name and one type",
			files: map[string]string{"x/a.fbs": "namespace n; table A { x: int; }",
				"y/a.fbs": "namespace n; table A { x: int; }"},
			runs: []string{"-o gen x/a.fbs", "-o gen y/a.fbs"},
			want: []string{"gen/n/A.go", "x/a.fbs", "y/a.fbs"},
		}, {
			name: "capital letters alone",
			files: map[string]string{"a.fbs": "namespace n; table Item { x: int; }",
				"b.fbs": "namespace n; table ITEM { x: int; }"},
			runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
			want: []string{"gen/n/ITEM.go", "a.fbs", "b.fbs"},
		}, {
			name: "capital letters alone, in one run",
			files: map[string]string{"a.fbs": "namespace n; table Item { x: int; }",
				"b.fbs": "namespace n; table ITEM { x: int; }"},
			runs: []string{"-o gen a.fbs b.fbs"},
			want: []string{"gen/n/Item.go and gen/n/ITEM.go", "a.fbs", "b.fbs"},
		}, {
			name: "an object and a type of its name",
			files: map[string]string{"a.fbs": "namespace n; table Foo { x: int; }",
				"b.fbs": "namespace n; table FooT { x: int; }"},
			runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
			want: []string{"gen/n/Foo.go, from a.fbs", "gen/n/FooT.go, from b.fbs", "FooT"},
		}, {
			name: "a type and an object of its name, in one run",
			files: map[string]string{"a.fbs": "namespace n; table Foo { x: int; }",
				"b.fbs": "namespace n; table FooT { x: int; }"},
			runs: []string{"-o gen b.fbs a.fbs"},
			want: []string{"gen/n/Foo.go, from a.fbs", "gen/n/FooT.go, from b.fbs", "FooT"},
		}, {
			name: "a value and a type of its name, in one file each",
			files: map[string]string{"a.fbs": "namespace n; enum Kind: byte { A, B }",
				"b.fbs": "namespace n; struct KindB { x: int; }"},
			runs: []string{"-one-file -o gen b.fbs", "-one-file -o gen a.fbs"},
			want: []string{"gen/n/a.go, from a.fbs", "gen/n/b.go, from b.fbs", "KindB"},
		}, {
			name: "a value and a type of its name, with another output folder inside",
			files: map[string]string{"a.fbs": "namespace m.n; enum Kind: byte { A, B }",
				"b.fbs": "namespace n; struct KindB { x: int; }"},
			runs: []string{"-o gen a.fbs", "-o gen/m b.fbs"},
			want: []string{"gen/m/n/Kind.go, from a.fbs", "gen/m/n/KindB.go, from b.fbs", "KindB"},
		}, {
			name: "a function of a field, in one package",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace m; struct AAddX { y: int; }"},
			runs: []string{"-package p -o gen a.fbs", "-package p -o gen b.fbs"},
			want: []string{"gen/A.go, from a.fbs", "gen/AAddX.go, from b.fbs", "AAddX"},
		}, {
			name: "a type that is called like an import of gRPC",
			files: map[string]string{"a.fbs": "namespace n; enum status: byte { A }",
				"b.fbs": "namespace n; table Q { x: int; } rpc_service S { M(Q): Q; }"},
			runs: []string{"-grpc -o gen a.fbs", "-grpc -o gen b.fbs"},
			want: []string{"gen/n/status.go, from a.fbs", "gen/n/S_grpc.go, from b.fbs", "status"},
		}, {
			name: "a type that is called like a namespace",
			files: map[string]string{
				"m.fbs": "namespace m; table M { x: int; }",
				"a.fbs": `include "m.fbs"; namespace n; table A { m: m.M; }`,
				"b.fbs": "namespace n; table m { x: int; }",
			},
			runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
			want: []string{"gen/n/m.go, from b.fbs", "gen/n/A.go, from a.fbs", "declares m "},
		}, {
			name: "a namespace that is called like a type",
			files: map[string]string{
				"m.fbs": "namespace m; table M { x: int; }",
				"a.fbs": `include "m.fbs"; namespace n; table A { m: m.M; }`,
				"b.fbs": "namespace n; table m { x: int; }",
			},
			runs: []string{"-o gen b.fbs", "-o gen a.fbs"},
			want: []string{"gen/n/m.go, from b.fbs", "gen/n/A.go, from a.fbs", "declares m "},
		}, {
			name: "packages that need each other by two schemas",
			files: map[string]string{
				"base.fbs": "namespace n; table N { x: int; } namespace m; table M { x: int; }",
				"a.fbs":    `include "base.fbs"; namespace n; table A { m: m.M; }`,
				"b.fbs":    `include "base.fbs"; namespace m; table B { n: n.N; }`,
			},
			runs: []string{"-o gen base.fbs", "-o gen a.fbs", "-o gen b.fbs"},
			want: []string{"gen/n/A.go, from a.fbs, imports example.com/demo/gen/m",
				"gen/m/B.go, from b.fbs, imports example.com/demo/gen/n", "-package"},
		}, {
			name: "packages that need each other by three schemas, in one run",
			files: map[string]string{
				"base.fbs": "namespace n; table N { x: int; } namespace m; table M { x: int; } " +
					"namespace o.p; table O { x: int; }",
				"a.fbs": `include "base.fbs"; namespace n; table A { m: m.M; }`,
				"b.fbs": `include "base.fbs"; namespace m; table B { o: o.p.O; }`,
				"c.fbs": `include "base.fbs"; namespace o.p; table C { n: n.N; }`,
			},
			runs: []string{"-o gen base.fbs", "-o gen a.fbs b.fbs c.fbs"},
			want: []string{"gen/n/A.go, from a.fbs", "gen/m/B.go, from b.fbs",
				"gen/o/p/C.go, from c.fbs"},
		}, {
			name: "two namespaces in one package",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace m; table A { x: int; }"},
			runs: []string{"-package p -o gen a.fbs", "-package p -o gen b.fbs"},
			want: []string{"gen/A.go", "a.fbs", "b.fbs"},
		}, {
			name: "two packages in one folder",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace m; table B { x: int; }"},
			runs: []string{"-package p -o gen a.fbs", "-package q -o gen b.fbs"},
			want: []string{"gen/B.go, of package q", "gen/A.go, generated from a.fbs",
				"of package p", "-package"},
		}, {
			name: "one file for each of two schemas of one name",
			files: map[string]string{"x/a.fbs": "namespace n; table A { x: int; }",
				"y/a.fbs": "namespace n; table B { x: int; }"},
			runs: []string{"-one-file -o gen x/a.fbs", "-one-file -o gen y/a.fbs"},
			want: []string{"gen/n/a.go", "x/a.fbs", "y/a.fbs"},
		}, {
			name:  "a schema and its binary form",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }"},
			runs:  []string{"-bfbs -o . a.fbs", "-o gen a.bfbs", "-o gen a.fbs"},
			want:  []string{"gen/n/A.go", "a.bfbs", "a.fbs"},
		}, {
			name: "an owner that cannot be read",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"b.fbs": "namespace n; table A { y: int; }"},
			runs: []string{"-o gen a.fbs", "-o gen b.fbs"},
			then: map[string]string{"a.fbs": "namespace n; table"},
			want: []string{"gen/n/A.go", "a.fbs", "b.fbs", "remove the file if it does not"},
		}, {
			name: "an owner that nobody knows the place of",
			files: map[string]string{"b.fbs": "namespace n; table A { y: int; }",
				"gen/n/A.go": "// Code generated by ipcgen -o .. from common/a.fbs. DO NOT " +
					"EDIT.\n\npackage n\n"},
			runs: []string{"-o gen b.fbs"},
			want: []string{"gen/n/A.go", "common/a.fbs", "b.fbs", "not known where it is"},
		}, {
			name: "a file of another output folder",
			files: map[string]string{"a.fbs": "namespace x.n; table A { x: int; }",
				"b.fbs": "namespace n; table A { y: int; }"},
			runs: []string{"-o gen a.fbs", "-o gen/x b.fbs"},
			want: []string{"gen/x/n/A.go", "a.fbs", "b.fbs"},
		}, {
			name: "another package's code in the folder of a namespace",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"gen/n/mine.go": "// Mine.\npackage other\n"},
			runs: []string{"-o gen a.fbs"},
			want: []string{"gen/n/A.go, of package n",
				"gen/n/mine.go is there, of package other", "-o"},
		}, {
			name: "another package's code in the output folder",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"mine.go": "package other\n"},
			runs: []string{"-o . -package p a.fbs"},
			want: []string{"A.go, of package p", "mine.go is there, of package other", "-package"},
		}, {
			name: "types of a program that other packages need",
			files: map[string]string{"a.fbs": "table A { x: int; } namespace n; table B { a: A; }",
				"main.go": "package main\n"},
			runs: []string{"-o . a.fbs"},
			want: []string{"a.fbs:1:", "n.B uses A", "package is main", "-package main"},
		}, {
			name: "two binary schemas of one name",
			files: map[string]string{"x/a.fbs": "namespace n; table A { x: int; }",
				"y/a.fbs": "namespace m; table A { x: int; }"},
			runs: []string{"-bfbs -o gen x/a.fbs y/a.fbs"},
			want: []string{"gen/a.bfbs", "x/a.fbs", "y/a.fbs"},
		}, {
			name: "two binary schemas of one name, by two runs",
			files: map[string]string{"x/a.fbs": "namespace n; table A { x: int; }",
				"y/a.fbs": "namespace m; table A { x: int; }"},
			runs: []string{"-bfbs -o gen x/a.fbs", "-bfbs -o gen y/a.fbs"},
			want: []string{"gen/a.bfbs", "from x/a.fbs", "for y/a.fbs"},
		}, {
			name: "a binary schema of a file with another extension",
			files: map[string]string{"a.schema": "namespace n; table A { x: int; }",
				"y/a.fbs": "namespace m; table A { x: int; }"},
			runs: []string{"-bfbs -o gen a.schema", "-bfbs -o gen y/a.fbs"},
			want: []string{"gen/a.bfbs", "from a.schema", "for y/a.fbs"},
		}, {
			name: "a binary schema in the place of something else",
			files: map[string]string{"a.fbs": "namespace n; table A { x: int; }",
				"gen/a.bfbs": "my notes on FlatBuffers"},
			runs: []string{"-bfbs -o gen a.fbs"},
			want: []string{"gen/a.bfbs", "is not a binary schema", "-o"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newModule(t, c.files)
			last := len(c.runs) - 1
			for _, run := range c.runs[:last] {
				mustRun(t, run)
			}
			for name, text := range c.then {
				write(t, name, text)
			}
			was := readTree(t, dir)
			for _, run := range []string{c.runs[last], "-check " + c.runs[last]} {
				code, stdout, stderr := ipcgen(strings.Fields(run)...)
				if code != exitFailed || stdout != "" {
					t.Errorf("%s: status %d, %q", run, code, stdout)
				}
				for _, want := range c.want {
					if !strings.Contains(filepath.ToSlash(stderr), want) {
						t.Errorf("%s does not say %q: %s", run, want, stderr)
					}
				}
				if !maps.Equal(readTree(t, dir), was) {
					t.Errorf("%s changed files", run)
				}
			}
		})
	}
}

// TestPackageOfTheOutputFolder checks which package types without a namespace are in.
func TestPackageOfTheOutputFolder(t *testing.T) {
	for _, c := range []struct {
		name, gopackage string
		files           map[string]string
		run, file, want string
	}{
		{"the folder's name", "", nil, "-o out a.fbs", "out/A.go", "out"},
		{"the module's name", "", nil, "-o . a.fbs", "A.go", "demo"},
		{"other code", "", map[string]string{"main.go": "package main\n"}, "-o . a.fbs",
			"A.go", "main"},
		{"other code elsewhere", "", map[string]string{"out/x.go": "package other\n"},
			"-o out a.fbs", "out/A.go", "other"},
		{"tests and tools do not count", "",
			map[string]string{"x_test.go": "package x_test\n",
				"tool.go": "//go:build ignore\n\npackage main\n"}, "-o . a.fbs", "A.go", "demo"},
		{"go generate", "server", nil, "-o . a.fbs", "A.go", "server"},
		{"go generate, from a test", "server_test", nil, "-o . a.fbs", "A.go", "server"},
		{"go generate, for another folder", "server", nil, "-o out a.fbs", "out/A.go", "out"},
		{"other code before go generate", "main", map[string]string{"x.go": "package x\n"},
			"-o . a.fbs", "A.go", "x"},
		{"-package", "server", nil, "-o . -package p a.fbs", "A.go", "p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOPACKAGE", c.gopackage)
			newModule(t, c.files)
			write(t, "a.fbs", "table A { x: int; }")
			mustRun(t, c.run)
			text := readTree(t, ".")[c.file]
			if !strings.Contains(text, "\npackage "+c.want+"\n") {
				t.Errorf("%s: want package %s:\n%.300s", c.file, c.want, text)
			}
			mustRun(t, "-check "+c.run)
		})
	}
}

// TestBinarySchemasAreReplaced checks that a binary schema follows its schema through
// changes and to another folder, and is the same from everywhere.
func TestBinarySchemasAreReplaced(t *testing.T) {
	dir := newModule(t, map[string]string{
		"x/a.fbs": `include "b.fbs"; namespace n; table A { b: B; }`,
		"x/b.fbs": "namespace n; table B { x: int; }",
		"y/a.fbs": "namespace m; table A { x: int; }",
	})
	mustRun(t, "-bfbs -o gen x/a.fbs")
	first := readTree(t, "gen")
	t.Chdir("x")
	mustRun(t, "-bfbs -check -o ../gen a.fbs")
	mustRun(t, "-bfbs -check -o ../gen "+filepath.Join(dir, "x/a.fbs"))
	t.Chdir(dir)
	if !strings.Contains(first["a.bfbs"], "//x/a.fbs") ||
		!strings.Contains(first["a.bfbs"], "//x/b.fbs") {
		t.Errorf("files are not named from the module: %q", first["a.bfbs"])
	}
	write(t, "x/b.fbs", "namespace n; table B { y: int; }")
	mustRun(t, "-bfbs -o gen x/a.fbs")
	if maps.Equal(readTree(t, "gen"), first) {
		t.Error("the binary schema is not written again")
	}
	for _, path := range []string{"x/a.fbs", "x/b.fbs"} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "-bfbs -o gen y/a.fbs") // it takes over
	write(t, "gen/a.bfbs", readTree(t, "gen")["a.bfbs"][:40])
	mustRun(t, "-bfbs -o gen y/a.fbs")
	mustRun(t, "-bfbs -check -o gen y/a.fbs")
	mustRun(t, "-o go gen/a.bfbs")
}
