package ipcgen

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

const modulePath = "github.com/ipcgen/ipcgen"

// mayImport names, for every package of this module, the packages of this
// module it may import. It is the layout of docs/architecture.md as a check: a
// package that is not here, or an import that is not, fails the test, so that a
// new arrow is drawn on purpose.
var mayImport = map[string][]string{
	".": nil,

	// The generator: one line from text to files. It never sees the runtime.
	"cmd/ipcgen": {"internal/gogen", "internal/bfbs", "internal/schema", "internal/diag",
		"internal/stage"},
	"internal/gogen":  {"internal/bfbs", "internal/schema", "internal/diag"},
	"internal/bfbs":   {"internal/schema", "internal/fbs", "internal/diag"},
	"internal/schema": {"internal/fbs", "internal/diag"},
	"internal/fbs":    {"internal/diag"},
	"internal/diag":   nil,

	// Schemas for the generator's tests.
	"internal/schematest": nil,
	"internal/stage":      {"internal/sys"},

	// The runtime. It never sees the generator, but for the model of a schema.
	"runtime/group": {"runtime", "runtime/group/orders", "runtime/registry", "internal/domain",
		"internal/sys", "internal/userlog"},
	"runtime/ipctest": {"runtime", "runtime/shm", "internal/record"},
	"runtime": {"runtime/shm", "runtime/introspect", "internal/domain", "internal/record",
		"internal/sys", "internal/interleave", "internal/longvec", "internal/prebuilt",
		"internal/userlog"},
	"internal/userlog":  nil,
	"internal/record":   nil,
	"internal/longvec":  nil,
	"internal/prebuilt": nil,
	"runtime/topic":     {"runtime", "runtime/introspect", "runtime/shm"},
	// What ipcgen wrote for schema/introspection.fbs.
	"runtime/introspect": {"runtime/fb"},
	// What ipcgen wrote for schema/supervisor.fbs.
	"runtime/group/orders": {"runtime", "runtime/fb"},
	"runtime/fb":           {"internal/longvec"},
	// JSON by a schema that is known at run time only: the generator's own reader of binary
	// schemas checks it.
	"runtime/fbjson":   {"runtime/fb", "internal/bfbs", "internal/schema", "internal/diag"},
	"runtime/registry": {"internal/domain", "internal/sys"},
	"runtime/shm":      {"internal/sys", "internal/interleave"},
	"internal/domain":  {"internal/sys"},
	"internal/sys":     nil,
	// Nothing is left of it in an ordinary build.
	"internal/interleave": nil,
	// For tests alone.
	"internal/sys/systest":        nil,
	"internal/echo":               {"runtime", "internal/sys/systest", "internal/longvec"},
	"internal/liar":               {"runtime", "runtime/shm"},
	"internal/history":            {"runtime"},
	"runtime/ipctest/conformance": {"runtime", "runtime/ipctest", "runtime/shm", "internal/echo"},

	// The demo is a user of all of the above.
	"internal/command": nil,
	"cmd/audio_host": {"gen/audio", "internal/audiomirror", "internal/audioservice",
		"internal/command", "internal/dsp", "internal/sys", "internal/wave", "runtime/group"},
	"cmd/audio_service": {"internal/audioservice"},
	"internal/audioservice": {"gen/audio", "internal/audioblock", "internal/dsp", "internal/sys",
		"runtime", "runtime/group", "runtime/registry", "runtime/topic"},
	"internal/audiomirror": {"gen/audio", "internal/audioblock", "internal/dsp", "runtime"},
	"internal/audioblock":  {"gen/audio", "internal/dsp"},
	"internal/dsp":         nil,
	"internal/wave":        nil,

	// Peers in other languages, and their tests.
	"interop": nil,

	// The examples are users, too, each in a folder of its own.
	"examples/greeter":           nil,
	"examples/greeter/client":    {"examples/greeter/gen/greeter", "runtime"},
	"examples/greeter/server":    {"examples/greeter/gen/greeter", "runtime"},
	"examples/jobs":              nil,
	"examples/jobs/queue":        {"examples/jobs/gen/jobs", "runtime"},
	"examples/jobs/submit":       {"examples/jobs/gen/jobs", "runtime"},
	"examples/jobs/worker":       {"examples/jobs/gen/jobs", "runtime"},
	"examples/pluginhost":        nil,
	"examples/pluginhost/host":   {"examples/pluginhost/gen/plugin", "runtime/group"},
	"examples/pluginhost/reverb": {"examples/pluginhost/gen/plugin", "runtime/group"},
	"examples/robot":             nil,
	"examples/robot/controller":  {"examples/robot/gen/robot", "runtime", "runtime/group"},
	"examples/robot/logger":      {"examples/robot/gen/robot", "runtime"},
	"examples/robot/robotctl":    {"examples/robot/gen/robot", "runtime", "runtime/group"},
	"examples/robot/sensor":      {"examples/robot/gen/robot", "runtime"},
}

// generated lists the folders that hold nothing but what ipcgen wrote. Their
// packages see the runtime, its package fb, FlatBuffers and each other.
var generated = []string{
	"gen/", "internal/gogen/golden/",
	"examples/greeter/gen/", "examples/jobs/gen/", "examples/pluginhost/gen/",
	"examples/robot/gen/",
}

// treeOf returns the folder of generated that holds a package, or "".
func treeOf(pkg string) string {
	for _, tree := range generated {
		if strings.HasPrefix(pkg, tree) {
			return tree
		}
	}
	return ""
}

// outside lists imports from other modules that only some packages may have.
var outside = map[string]func(pkg string) bool{
	"golang.org/x/sys/unix": func(pkg string) bool {
		return pkg == "internal/sys" || pkg == "internal/sys/systest"
	},
	"golang.org/x/sys/windows": func(pkg string) bool { return pkg == "internal/sys" },
	"github.com/google/flatbuffers/go": func(pkg string) bool {
		return treeOf(pkg) != "" || strings.HasPrefix(pkg, "runtime") ||
			pkg == "internal/bfbs" || pkg == "internal/echo" || pkg == "internal/audioblock" ||
			pkg == "internal/longvec" || pkg == "internal/prebuilt"
	},
	"github.com/dave/jennifer/jen": func(pkg string) bool { return pkg == "internal/gogen" },
}

// TestHouseRules checks the direction of imports, that generated code imports
// the runtime and FlatBuffers alone, that only internal/sys makes system calls,
// and that unsafe stays in files named for it. It reads every file, whatever
// platform the file is for.
func TestHouseRules(t *testing.T) {
	seen := map[string]map[string]bool{} // packages, and what they import of this module
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != "." {
				return filepath.SkipDir // a module of its own, such as bench
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		slash := filepath.ToSlash(name)
		pkg, isTest := path.Dir(slash), strings.HasSuffix(slash, "_test.go")
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		tree := treeOf(pkg)
		allowed, known := mayImport[pkg]
		if !known && tree == "" && !isTest {
			t.Errorf("%s: package %s is not in the layout", slash, pkg)
		}
		if seen[pkg] == nil {
			seen[pkg] = map[string]bool{}
		}
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if imp == "unsafe" && !strings.HasSuffix(slash, "_unsafe.go") &&
				!strings.HasSuffix(slash, "_unsafe_test.go") {
				t.Errorf("%s imports unsafe, which only files named *_unsafe.go may", slash)
			}
			if isTest {
				continue // a test may reach across the house
			}
			if imp == "syscall" && pkg != "internal/sys" {
				for _, name := range systemCalls(file) {
					t.Errorf("%s uses syscall.%s, which belongs into internal/sys", slash, name)
				}
			}
			if ok := outside[imp]; ok != nil && !ok(pkg) {
				t.Errorf("%s imports %s, which package %s may not", slash, imp, pkg)
			}
			local, isLocal := strings.CutPrefix(imp, modulePath+"/")
			if isLocal {
				seen[pkg][local] = true
			}
			switch {
			case tree != "" && isLocal && local != "runtime" && local != "runtime/fb" &&
				local != "runtime/topic" && treeOf(local) != tree,
				tree != "" && !isLocal && strings.Contains(imp, ".") &&
					imp != "github.com/google/flatbuffers/go":
				t.Errorf("%s imports %s; generated code imports the runtime and FlatBuffers alone",
					slash, imp)
			case tree == "" && isLocal && !slices.Contains(allowed, local):
				t.Errorf("%s imports %s, against the direction of the layout", slash, local)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, allowed := range mayImport {
		if seen[pkg] == nil {
			t.Errorf("the layout names %s, which does not exist", pkg)
			continue
		}
		for _, local := range allowed {
			if !seen[pkg][local] {
				t.Errorf("the layout lets %s import %s, which it does not", pkg, local)
			}
		}
	}
}

// doors names, for types by which goroutines wait for each other, the one file that may use their
// fields: the methods there are what the tests of every order run.
var doors = map[string]string{"readerRole": "client_role.go", "writerRole": "writer_role.go"}

// TestHouseDoors checks that only the file of a type uses the fields of the types in doors.
func TestHouseDoors(t *testing.T) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax}, "./runtime")
	if err != nil || len(pkgs) != 1 || len(pkgs[0].Errors) > 0 {
		t.Fatalf("%v, %v", pkgs, err)
	}
	p := pkgs[0]
	owner := map[types.Object]string{}
	for name := range doors {
		obj := p.Types.Scope().Lookup(name)
		if obj == nil {
			t.Fatalf("package ipc has no %s", name)
		}
		fields := obj.Type().Underlying().(*types.Struct)
		for i := range fields.NumFields() {
			owner[fields.Field(i)] = name
		}
	}
	for id, obj := range p.TypesInfo.Uses {
		name, ok := owner[obj]
		if !ok {
			continue
		}
		if at := p.Fset.Position(id.Pos()); filepath.Base(at.Filename) != doors[name] {
			t.Errorf("%s uses %s of %s, which only %s may", at, id.Name, name, doors[name])
		}
	}
}

// constants matches what every package may use of package syscall: names of errors and
// signals.
var constants = regexp.MustCompile(`^(E[A-Z0-9]+|SIG[A-Z0-9]+)$`)

// systemCalls returns what else a file uses of package syscall.
func systemCalls(file *ast.File) (names []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "syscall" &&
				!constants.MatchString(s.Sel.Name) {
				names = append(names, s.Sel.Name)
			}
		}
		return true
	})
	return names
}

// TestBuffersNeedNoProcesses checks that a program which only reads and writes
// buffers links no package for networks, processes or logs.
func TestBuffersNeedNoProcesses(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./runtime/fb").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		switch root, _, _ := strings.Cut(pkg, "/"); {
		case root == "net", root == "log", pkg == "os/exec", pkg == "os/signal", pkg == "context":
			t.Errorf("runtime/fb depends on %s", pkg)
		}
	}
}
