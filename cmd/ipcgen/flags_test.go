package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFlagsThatAreRefused checks that a flag without a meaning is refused as wrong
// usage, with the reason, and that nothing is written.
func TestFlagsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-package", "func", "a.fbs"}, "keyword"},
		{[]string{"-package", "a b", "a.fbs"}, "identifier"},
		{[]string{"-package", "_", "a.fbs"}, "identifier"},
		{[]string{"-package", "", "a.fbs"}, "-package is empty"},
		{[]string{"-package", "documentation", "a.fbs"}, "go command"},
		{[]string{"-import", `a"b`, "a.fbs"}, "invalid char"},
		{[]string{"-import", "./a", "a.fbs"}, "-import"},
		{[]string{"-import", "", "a.fbs"}, "-import is empty"},
		{[]string{"-go-import", "a b", "a.fbs"}, "-go-import"},
		{[]string{"-runtime", "/a", "a.fbs"}, "-runtime"},
		{[]string{"-I", "missing", "a.fbs"}, "-I missing: there is no such folder"},
		{[]string{"-I", "a.fbs", "a.fbs"}, "-I a.fbs: there is no such folder"},
		{[]string{"-o", "gen\nx", "a.fbs"}, "U+000A"},
		{[]string{"-o", "gen\x00x", "a.fbs"}, "U+0000"},
		{[]string{"-o", "", "a.fbs"}, "-o is empty"},
		{[]string{"a\nb.fbs"}, "U+000A"},
		{[]string{"a\x00b.fbs"}, "U+0000"},
		{[]string{"a\xffb.fbs"}, "UTF-8"},
		{[]string{"a\u202eb.fbs"}, "U+202E"},
		{[]string{"-check", "-outputs", "a.fbs"}, "-check and -outputs"},
		{[]string{"-dump", "-deps", "a.fbs"}, "-deps and -dump"},
		{[]string{"-check", "-depfile", "d", "a.fbs"}, "-check writes nothing"},
		{[]string{"-bfbs", "-deps", "a.fbs"}, "-deps is about what is read"},
		{[]string{"-depfile", "a.fbs", "a.fbs"}, "-depfile a.fbs"},
		{[]string{"-depfile", "gen", "a.fbs"}, "not a regular file"},
		{[]string{"-root-type", "", "a.fbs"}, "-root-type is empty"},
	} {
		dir := newModule(t,
			map[string]string{"a.fbs": "namespace n; table A { x: int; }", "gen/x": ""})
		code, stdout, stderr := ipcgen(c.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) ||
			!strings.Contains(stderr, "ipcgen -h") {
			t.Errorf("%q: status %d, %q, %q; want 2 and %q", c.args, code, stdout, stderr, c.want)
		}
		if n := len(readTree(t, dir)); n != 3 {
			t.Errorf("%q: %d files afterwards", c.args, n)
		}
	}
}

// TestNamesOfIncludedFiles checks that an included file's name stays inside the
// comment that holds it.
func TestNamesOfIncludedFiles(t *testing.T) {
	newModule(t, map[string]string{"a.fbs": `include "b\nc.fbs"; namespace n; table A { x: int; }`,
		"b\nc.fbs": "namespace b; table B { x: int; }"})
	if code, _, stderr := ipcgen("-o", "gen", "a.fbs"); code != exitOK {
		t.Errorf("status %d, %s", code, stderr)
	}
	code, _, stderr := ipcgen("-all", "-o", "gen", "a.fbs")
	if code != exitFailed || !strings.Contains(stderr, `b\nc.fbs" has the character U+000A`) {
		t.Errorf("status %d, %s", code, stderr)
	}
}

func TestUsageFitsATerminal(t *testing.T) {
	for line := range strings.SplitSeq(usage, "\n") {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// TestEveryFlagIsDescribed compares the flags with the usage, which has each of them once
// and no other, and with the page of the generator.
func TestEveryFlagIsDescribed(t *testing.T) {
	_, text, _ := ipcgen("-h")
	page, err := os.ReadFile("../../docs/schema.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{"h": true}
	new(command).flags().VisitAll(func(f *flag.Flag) {
		flags[f.Name] = true
		if !regexp.MustCompile("`(ipcgen )?-" + f.Name + "[ `]").Match(page) {
			t.Errorf("-%s is not in docs/schema.md", f.Name)
		}
	})
	described := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^  -([\w-]+) `).FindAllStringSubmatch(text, -1) {
		if described[m[1]] {
			t.Errorf("-%s is in the usage twice", m[1])
		}
		described[m[1]] = true
	}
	if !maps.Equal(flags, described) {
		t.Errorf("flags %v, described %v", slices.Sorted(maps.Keys(flags)),
			slices.Sorted(maps.Keys(described)))
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := ipcgen("-version")
	if name, version, ok := strings.Cut(strings.TrimSuffix(stdout, "\n"), " "); code != exitOK ||
		stderr != "" || !ok || name != "ipcgen" || version == "" {
		t.Errorf("status %d, %q, %q", code, stdout, stderr)
	}
}

// TestOutputsAndDepfile checks the lists for build systems: outputs are those that a
// run makes, and the rule has them and what was read.
func TestOutputsAndDepfile(t *testing.T) {
	dir := newModule(t, map[string]string{
		"my schema$/a.fbs":  `include "b#.fbs"; namespace n; table A { x: int; }`,
		"my schema$/b#.fbs": "namespace m; table B { x: int; }",
	})
	code, stdout, stderr := ipcgen("-outputs", "-all", "-o", "gen", "my schema$/a.fbs")
	if want := filepath.FromSlash("gen/m/B.go\ngen/n/A.go\n"); code != exitOK || stdout != want ||
		stderr != "" {
		t.Errorf("-outputs: status %d, %q, %q; want %q", code, stdout, stderr, want)
	}
	if n := len(readTree(t, dir)); n != 3 {
		t.Errorf("-outputs: %d files afterwards", n)
	}
	run := []string{"-all", "-o", "gen", "-depfile", "build/a.d", "my schema$/a.fbs"}
	if code, _, stderr := ipcgen(run...); code != exitOK {
		t.Fatal(stderr)
	}
	const want = "gen/m/B.go \\\ngen/n/A.go: \\\n  my\\ schema$$/b\\#.fbs \\\n  " +
		"my\\ schema$$/a.fbs\n"
	if got, err := os.ReadFile("build/a.d"); err != nil || string(got) != want {
		t.Errorf("%v, %q; want %q", err, got, want)
	}
	before, err := os.Stat("build/a.d")
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := ipcgen(run...); code != exitOK {
		t.Fatal(stderr)
	}
	if after, err := os.Stat("build/a.d"); err != nil || !os.SameFile(before, after) {
		t.Error("the rule was written again")
	}
	if code, stdout, _ := ipcgen("-outputs", "-bfbs", "-o", "gen",
		"my schema$/a.fbs"); code != exitOK || stdout != filepath.FromSlash("gen/a.bfbs\n") {
		t.Errorf("-outputs -bfbs: status %d, %q", code, stdout)
	}
}

func TestWarningsAsErrors(t *testing.T) {
	dir := newModule(t, map[string]string{"a.fbs": `namespace n; table Q { camelCase: int; } table A { x: string = "x"; }`})
	args := []string{"-bfbs", "-o", "gen", "a.fbs"} // the default is lost
	code, _, stderr := ipcgen(append([]string{"-Werror"}, args...)...)
	if code != exitFailed || !strings.Contains(stderr, "warning: ") ||
		!strings.Contains(stderr, "-Werror") || len(readTree(t, dir)) != 2 {
		t.Errorf("status %d, %s; %d files", code, stderr, len(readTree(t, dir)))
	}
	if code, _, stderr := ipcgen(args...); code != exitOK ||
		!strings.Contains(stderr, "warning: ") {
		t.Errorf("without -Werror: status %d, %s", code, stderr)
	}
}

func TestRootType(t *testing.T) {
	newModule(t, map[string]string{"a.fbs": `namespace n; table Monster { x: int; } table Other { x: int; } struct S { x: int; }
		namespace m; table Other { x: int; } file_identifier "ABCD"; root_type Other;`})
	if code, _, stderr := ipcgen("-o", "gen", "-root-type", "Monster", "a.fbs"); code != exitOK {
		t.Fatal(stderr)
	}
	for name, want := range map[string]bool{"gen/n/Monster.go": true, "gen/m/Other.go": false,
		"gen/n/Other.go": false} {
		text, err := os.ReadFile(name)
		if err != nil || strings.Contains(string(text), `Identifier = "ABCD"`) != want {
			t.Errorf("%s has an identifier: %v, want %v (%v)", name, !want, want, err)
		}
	}
	for name, want := range map[string]string{
		"Other": "may be m.Other or n.Other", "n.S": "not one of the schema's tables",
		"n.Monstre": "did you mean n.Monster?",
	} {
		if code, _, stderr := ipcgen("-o", "gen", "-root-type", name,
			"a.fbs"); code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("-root-type %s: status %d, %s", name, code, stderr)
		}
	}
	if code, _, stderr := ipcgen("-o", "gen", "-root-type", "n.Other", "a.fbs"); code != exitOK {
		t.Error(stderr)
	}
}

// TestForks checks that every import of FlatBuffers and of the runtime follows the
// flags.
func TestForks(t *testing.T) {
	newModule(t, map[string]string{"a.fbs": greeter +
		"attribute \"stream\"; struct Block (stream) { x: int; } table K { k: Block (key); v: " +
		"[K]; }"})
	if code, _, stderr := ipcgen("-o", "gen", "-go-import", "example.com/fork/fbgo", "-runtime",
		"example.com/fork/rt", "a.fbs"); code != exitOK {
		t.Fatal(stderr)
	}
	seen := map[string]bool{}
	for name, text := range readTree(t, "gen") {
		if strings.Contains(text, "google") || strings.Contains(text, "ipcgen/ipcgen") {
			t.Errorf("%s imports what is not the fork", name)
		}
		for _, imp := range []string{`flatbuffers "example.com/fork/fbgo"`,
			`ipc "example.com/fork/rt"`, `fb "example.com/fork/rt/fb"`} {
			seen[imp] = seen[imp] || strings.Contains(text, imp)
		}
	}
	for imp, ok := range seen {
		if !ok {
			t.Errorf("no file imports %s", imp)
		}
	}
}

// TestMisspeltTypes checks that the message names the type that was meant.
func TestMisspeltTypes(t *testing.T) {
	for src, want := range map[string]string{
		"namespace n; table Monster {} table A { x: Monstre; }": "did you mean " +
			"n.Monster?",
		"namespace n; table Monster {} namespace o.p; table A { x: Monstre; }": "did you mean " +
			"n.Monster?",
		"namespace n; table Monster {} namespace o.p; table A { x: m.Monster; }": "did you mean " +
			"n.Monster?",
		"table A { x: unit32; }":     "did you mean uint32?",
		"table A { x: [strng]; }":    "did you mean string?",
		"table A { x: Bool; }":       "did you mean bool?",
		"table A { x: Completely; }": "declare it, or include the file that does",
		"namespace n; table A { x: Colour; } enum Colour: byte { Red }": "must be declared " +
			"before it is used",
	} {
		newModule(t, map[string]string{"a.fbs": src})
		if code, _, stderr := ipcgen("a.fbs"); code != exitFailed ||
			!strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %s", src, code, stderr)
		}
	}
}
