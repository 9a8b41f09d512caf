package gogen_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/stdmethods"

	"github.com/ipcgen/ipcgen/internal/gogen"
)

// A checker type-checks generated packages in memory: thousands a minute.
// Packages from outside of the output are read once. It is not safe for concurrent
// use, but several goroutines may each have one.
type checker struct {
	fset   *token.FileSet
	others types.Importer
}

// exports returns the files with the export data of all that generated code may
// import.
var exports = sync.OnceValues(func() (map[string]string, error) {
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}",
		"github.com/ipcgen/ipcgen/runtime", "github.com/ipcgen/ipcgen/runtime/fb",
		"github.com/ipcgen/ipcgen/runtime/topic",
		"github.com/google/flatbuffers/go", "bytes", "cmp", "context", "iter",
		"math", "strconv").Output()
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if name, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			files[name] = file
		}
	}
	return files, err
})

func newChecker(t *testing.T) *checker {
	t.Helper()
	files, err := exports()
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
	others := importer.ForCompiler(fset, "gc", lookup)
	return &checker{fset, &grpcImporter{fset, others, make(map[string]*types.Package)}}
}

// check type-checks all files below the folder with that import path, and has vet's
// check of methods' signatures look at them. It returns the first error.
func (c *checker) check(importPath string, files []gogen.File) error {
	p := &program{checker: c, folders: make(map[string][]gogen.File),
		done: make(map[string]*types.Package)}
	for _, f := range files {
		folder := path.Join(importPath, path.Dir(f.Path))
		p.folders[folder] = append(p.folders[folder], f)
	}
	for folder := range p.folders {
		if _, err := p.Import(folder); err != nil {
			return err
		}
	}
	return nil
}

// A program is the packages that are checked together.
type program struct {
	*checker
	folders map[string][]gogen.File
	done    map[string]*types.Package // nil while a package is being checked
}

// Import returns the package with that path, generated or not.
func (p *program) Import(importPath string) (*types.Package, error) {
	files, ok := p.folders[importPath]
	if !ok {
		return p.others.Import(importPath)
	}
	if pkg, ok := p.done[importPath]; ok {
		if pkg == nil {
			return nil, fmt.Errorf("%s imports itself", importPath)
		}
		return pkg, nil
	}
	p.done[importPath] = nil
	var parsed []*ast.File
	for _, f := range files {
		file, err := parser.ParseFile(p.fset, f.Path, f.Content, parser.SkipObjectResolution|
			parser.ParseComments)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, file)
	}
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object)}
	pkg, err := (&types.Config{Importer: p}).Check(importPath, p.fset, parsed, info)
	if err == nil {
		err = p.vet(parsed, pkg, info)
	}
	if err != nil {
		return nil, fmt.Errorf("%w\nin %s", err, source(files, err))
	}
	p.done[importPath] = pkg
	return pkg, nil
}

// source returns the file that an error is in.
func source(files []gogen.File, err error) string {
	var typeErr types.Error
	if errors.As(err, &typeErr) {
		name := typeErr.Fset.Position(typeErr.Pos).Filename
		if i := slices.IndexFunc(files, func(f gogen.File) bool { return f.Path == name }); i >= 0 {
			return string(files[i].Content)
		}
	}
	return "no file of its own"
}

// vet runs the check of go vet that looks at methods' names.
func (p *program) vet(files []*ast.File, pkg *types.Package, info *types.Info) (err error) {
	pass := &analysis.Pass{
		Analyzer: stdmethods.Analyzer, Fset: p.fset, Files: files, Pkg: pkg, TypesInfo: info,
		ResultOf: map[*analysis.Analyzer]any{},
		Report: func(d analysis.Diagnostic) {
			err = fmt.Errorf("vet: %s: %s", p.fset.Position(d.Pos), d.Message)
		},
	}
	for _, need := range stdmethods.Analyzer.Requires {
		out, err := need.Run(pass)
		if err != nil {
			return err
		}
		pass.ResultOf[need] = out
	}
	if _, runErr := stdmethods.Analyzer.Run(pass); runErr != nil {
		return runErr
	}
	return err
}
