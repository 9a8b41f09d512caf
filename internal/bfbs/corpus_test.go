package bfbs

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// flatbuffersModule returns the folder of the FlatBuffers module, whose schemas
// are the corpus.
func flatbuffersModule(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/google/flatbuffers").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// kinds is an additional schema beside those of the corpus.
const kinds = "testdata/kinds.fbs"

// corpus returns the schemas of the module that load, by their path in it.
func corpus(t testing.TB, module string) map[string]*schema.Schema {
	t.Helper()
	schemas := make(map[string]*schema.Schema)
	err := filepath.WalkDir(module, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".fbs") {
			return err
		}
		if s := loadFile(path, includeDirs(module)...); s != nil {
			rel, err := filepath.Rel(module, path)
			if err != nil {
				return err
			}
			schemas[filepath.ToSlash(rel)] = s
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(schemas) < 60 {
		t.Fatalf("only %d schemas of the corpus load", len(schemas))
	}
	return schemas
}

func includeDirs(module string) []string {
	return []string{filepath.Join(module, "tests", "include_test"), filepath.Join(module, "tests"),
		filepath.Join(module, "include")}
}

// loadFile returns the schema at path, or nil.
func loadFile(path string, include ...string) *schema.Schema {
	schemas, diags := schema.Load(schema.Options{IncludeDirs: include, ReadBinary: Read}, path)
	if diags.HasErrors() {
		return nil
	}
	return schemas[0]
}

// modelText returns the model as text.
func modelText(t testing.TB, s *schema.Schema) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Dump(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// firstDifference returns the first line in which two texts differ.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			return "missing: " + w[i]
		case i >= len(w):
			return "too much: " + g[i]
		case g[i] != w[i]:
			return "got:  " + g[i] + "\nwant: " + w[i]
		}
	}
	return ""
}

// encode is Write without its warnings.
func encode(s *schema.Schema) []byte { return Write(s, nil, new(diag.List)) }

// write encodes a schema and checks that the verifier takes it.
func write(t testing.TB, s *schema.Schema) []byte {
	t.Helper()
	data := encode(s)
	if _, err := verify(data); err != nil {
		t.Fatalf("what was written does not verify: %v", err)
	}
	return data
}

// TestExactRoundTrip writes every schema of the corpus without a loss and reads it back. The model
// must be the same but for includes, with the defaults of strings, and nothing is warned of.
func TestExactRoundTrip(t *testing.T) {
	schemas := corpus(t, flatbuffersModule(t))
	for _, more := range []string{kinds, "testdata/exact.fbs"} {
		if schemas[more] = loadFile(more); schemas[more] == nil {
			t.Fatalf("%s does not load", more)
		}
	}
	for name, s := range schemas {
		root := s.Files[len(s.Files)-1]
		root.Includes = slices.Clone(s.Files[:len(s.Files)-1])
		for _, f := range root.Includes {
			f.Includes = nil
		}
		s.Arrange()
		data := WriteExact(s, func(f *schema.File) string { return f.Name })
		var diags diag.List
		back := Read(root.Path, data, &diags)
		if diags.Err() != nil || back == nil || len(diags.All()) > 0 {
			t.Errorf("%s: %v, %v", name, diags.Err(), diags.All())
			continue
		}
		if d := firstDifference(modelText(t, back), modelText(t, s)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		for i, f := range s.Files {
			g := back.Files[i]
			if g.Identifier != f.Identifier || f.Identifier != "" && (g.RootType == nil ||
				g.RootType.FullName() != f.RootType.FullName()) {
				t.Errorf("%s: the file identifier of %s is %q", name, f.Name, g.Identifier)
			}
		}
	}
}

// TestRoundTrip writes every schema of the corpus and reads it back. The model must be the same,
// and so must the generated code.
func TestRoundTrip(t *testing.T) {
	schemas := corpus(t, flatbuffersModule(t))
	if schemas[kinds] = loadFile(kinds); schemas[kinds] == nil {
		t.Fatalf("%s does not load", kinds)
	}
	for name, s := range schemas {
		t.Run(name, func(t *testing.T) {
			forgetStrings(s)
			path := filepath.Join(t.TempDir(),
				strings.TrimSuffix(filepath.Base(name), ".fbs")+".bfbs")
			if err := os.WriteFile(path, write(t, s), 0o600); err != nil {
				t.Fatal(err)
			}
			back := loadFile(path)
			if back == nil {
				t.Fatal("it does not load")
			}
			if d := firstDifference(modelText(t, back), modelText(t, s)); d != "" {
				t.Fatal(d)
			}
			if d := firstDifference(generate(back), generate(s)); d != "" {
				t.Error(d)
			}
		})
	}
}

// forgetStrings empties the defaults of strings, which a binary schema cannot hold.
func forgetStrings(s *schema.Schema) {
	for _, o := range s.Objects {
		for _, f := range o.Fields {
			f.Default.Str = ""
		}
	}
}

// Generate returns the generated code of a schema; package bfbs_test sets it, because the generator
// imports this package.
var Generate func(*schema.Schema) string

func generate(s *schema.Schema) string { return Generate(s) }

// TestShippedBinaries compares with the binary schemas that the module contains beside their text,
// made by flatc.
func TestShippedBinaries(t *testing.T) {
	module := flatbuffersModule(t)
	for _, name := range []string{"tests/arrays_test", "tests/monster_test"} {
		t.Run(name, func(t *testing.T) {
			theirs, err := os.ReadFile(filepath.Join(module, name+".bfbs"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verify(theirs); err != nil {
				t.Fatal(err)
			}
			text, binary := loadFile(filepath.Join(module, name+".fbs"), includeDirs(module)...),
				loadFile(filepath.Join(module, name+".bfbs"))
			if text == nil || binary == nil {
				t.Fatal("one of them does not load")
			}
			if d := firstDifference(meaning(write(t, text)), meaning(theirs)); d != "" {
				t.Errorf("written:\n%s", d)
			}
			if d := firstDifference(modelText(t, binary), modelText(t, text)); d != "" {
				t.Errorf("read:\n%s", d)
			}
		})
	}
}

// TestAgreesWithFlatc compares the meaning of the results of Write and of flatc for the whole
// corpus, with built-in attributes and without. It needs flatc 25.12, named by IPCGEN_FLATC.
func TestAgreesWithFlatc(t *testing.T) {
	flatc := os.Getenv("IPCGEN_FLATC")
	if flatc == "" {
		t.Skip("IPCGEN_FLATC names no flatc")
	}
	module := flatbuffersModule(t)
	for name, s := range corpus(t, module) {
		t.Run(name, func(t *testing.T) {
			theirs := flatcBinary(t, flatc, module, name, "--bfbs-builtins")
			if d := firstDifference(meaning(write(t, s)), meaning(theirs)); d != "" {
				t.Error(d)
			}
			theirs = flatcBinary(t, flatc, module, name)
			if d := firstDifference(meaning(encodeBare(s)), meaning(theirs)); d != "" {
				t.Errorf("without built-in attributes:\n%s", d)
			}
		})
	}
}

// flatcBinary returns the binary schema that flatc makes from a schema of the module, with
// documentation.
func flatcBinary(t *testing.T, flatc, module, name string, flags ...string) []byte {
	t.Helper()
	out := t.TempDir()
	args := append([]string{"-b", "--schema", "--bfbs-comments", "-o", out}, flags...)
	for _, dir := range includeDirs(module) {
		args = append(args, "-I", dir)
	}
	if msg, err := exec.Command(flatc,
		append(args, filepath.Join(module, name))...).CombinedOutput(); err != nil {
		t.Fatalf("flatc: %v\n%s", err, msg)
	}
	made, err := filepath.Glob(filepath.Join(out, "*.bfbs"))
	if err != nil || len(made) != 1 {
		t.Fatalf("flatc made %v, %v", made, err)
	}
	theirs, err := os.ReadFile(made[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(theirs); err != nil {
		t.Fatalf("flatc's does not verify: %v", err)
	}
	return theirs
}
