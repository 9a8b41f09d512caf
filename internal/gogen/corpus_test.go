package gogen_test

import (
	"bytes"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

const corpusModule = "example.com/corpus"

// flatbuffersDir returns the folder of the flatbuffers module, whose tests are
// our corpus.
func flatbuffersDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/google/flatbuffers").Output()
	if err != nil {
		t.Fatalf("find the flatbuffers module: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// newModule makes a module in a temporary folder that uses this one.
func newModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "go.mod" {
			data = bytes.Replace(data, []byte("module github.com/ipcgen/ipcgen"),
				[]byte("module "+corpusModule), 1)
			data = append(data,
				"\nrequire github.com/ipcgen/ipcgen v0.0.0\nreplace github.com/ipcgen/ipcgen => "+
					strconv.Quote(root)+"\n"...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// write puts generated files into folder dir of the module at root.
func write(t *testing.T, root, dir string, files []gogen.File) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(root, dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// goTool runs the go command in dir.
func goTool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestCorpusCompiles generates every schema of flatbuffers' own tests that the
// front end accepts, and compiles and vets the result. All namespaces of a
// schema go into one package, because some of them need each other.
func TestCorpusCompiles(t *testing.T) {
	tests := filepath.Join(flatbuffersDir(t), "tests")
	module := newModule(t)
	includes := []string{tests}
	for _, dir := range []string{"include_test", "include_test/sub", "prototest",
		"namespace_test"} {
		includes = append(includes, filepath.Join(tests, dir))
	}
	n := 0
	filepath.WalkDir(tests, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".fbs" {
			return nil
		}
		schemas, diags := schema.Load(schema.Options{IncludeDirs: includes}, path)
		if diags.HasErrors() {
			return nil // the front end's tests say which ones may be refused
		}
		name := "c" + strconv.Itoa(n)
		n++
		opts := gogen.Options{ImportPath: corpusModule + "/" + name, Package: name, All: true}
		files := gogen.Generate(schemas[0], opts, diags)
		if diags.HasErrors() {
			t.Errorf("%s: %s", path, render(diags))
		}
		for _, f := range files {
			if want, err := format.Source(f.Content); err != nil || !bytes.Equal(want, f.Content) {
				t.Errorf("%s: %s is not formatted (%v)", path, f.Path, err)
			}
		}
		write(t, module, name, files)
		return nil
	})
	if n < 60 {
		t.Errorf("only %d schemas of the corpus were accepted", n)
	}
	goTool(t, module, "vet", "./...")
}

// TestFlatbuffersOwnTests runs the test of flatbuffers' own Go code, which is
// written against flatc's output, against ours.
func TestFlatbuffersOwnTests(t *testing.T) {
	tests := filepath.Join(flatbuffersDir(t), "tests")
	module := newModule(t)
	gen := func(dir, include, path string, opts gogen.Options) {
		opts.ImportPath = corpusModule + "/" + dir
		load := schema.Options{IncludeDirs: []string{filepath.Join(tests, include)}}
		write(t, module, dir, generate(t, opts, load, filepath.Join(tests, path)))
	}
	gen("gen", "include_test", "monster_test.fbs", gogen.Options{})
	gen("gen", "include_test", "optional_scalars.fbs", gogen.Options{})
	gen("gen", "include_test", "required_strings.fbs", gogen.Options{})
	gen("Pizza", "include_test/sub", "include_test/order.fbs", gogen.Options{All: true})

	src, err := os.ReadFile(filepath.Join(tests, "go_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for old, path := range map[string]string{
		"MyGame": "gen/MyGame", "MyGame/Example": "gen/MyGame/Example", "Pizza": "Pizza",
		"order":            "Pizza/order",
		"optional_scalars": "gen/optional_scalars", "required_strings": "gen/required_strings",
	} {
		src = bytes.Replace(src, []byte(` "`+old+`"`), []byte(` "`+corpusModule+"/"+path+`"`), 1)
	}
	if err := os.Mkdir(filepath.Join(module, "t"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(module, "t", "go_test.go"), src, 0o644); err != nil {
		t.Fatal(err)
	}
	goTool(t, module, "test", "./t", "-args",
		"-cpp_data", filepath.Join(tests, "monsterdata_test.mon"),
		"-out_data", filepath.Join(module, "out.mon"),
		"-fuzz=true", "-fuzz_fields=4", "-fuzz_objects=1000")
}
