package main

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// A goModule is a Go module on this machine.
type goModule struct {
	dir  string // absolute, with symbolic links resolved if possible
	path string
}

// moduleOf returns the module to which a folder belongs: that of the nearest go.mod in the folder
// or above it. The folder need not exist. The result is nil if there is no go.mod.
func moduleOf(folder string) (*goModule, error) {
	for dir := folder; ; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, "go.mod")
		text, err := os.ReadFile(name)
		if err == nil {
			return &goModule{dir, modfile.ModulePath(text)}, nil
		}
		// A component of the path that is a file, or is missing, has no go.mod.
		if info, statErr := os.Stat(name); statErr == nil && !info.IsDir() {
			return nil, err
		}
		if dir == filepath.Dir(dir) {
			return nil, nil
		}
	}
}

// An outputFolder is the folder of -o, with the rule for the names of schemas.
//
// The name of a schema is in the first line of every file that is generated from it, and determines
// the owner of the file. It must therefore be the same on every machine and for every way of giving
// the schema:
//
//   - A file of the output folder's module has its path relative to the output folder:
//     "../schema/a.fbs".
//   - A file of another module, in the module cache or beside this one, has its path with the
//     module path in front: "example.com/other/schema/a.fbs".
//   - Any other file in a folder of -I has the name by which it is included.
//   - Any remaining file has its path relative to the output folder, unless that path leads through
//     the root of the file system. Then it has its path relative to the current folder or, if that
//     is not possible either, its base name.
//
// Only names that start with "./" or "../" are paths.
type outputFolder struct {
	dir      string // as given
	real     string // absolute, resolved
	module   *goModule
	includes []string          // of -I, absolute and resolved
	cache    string            // of modules
	cwd      string            // resolved
	known    map[string]string // of files of other modules: names to absolute paths
}

// openOutput examines the folder of -o, which need not exist.
func openOutput(dir string, includes []string) (*outputFolder, error) {
	abs, err := absolute(dir)
	if err != nil {
		return nil, err
	}
	o := &outputFolder{dir: dir, real: resolve(abs), known: make(map[string]string)}
	if o.module, err = moduleOf(o.real); err != nil {
		return nil, err
	}
	if o.module == nil && o.real != abs {
		// A link leads out of the module.
		if o.module, err = moduleOf(abs); err != nil {
			return nil, err
		}
		if o.module != nil {
			o.real = abs
		}
	}
	for _, inc := range includes {
		if abs, err = absolute(inc); err != nil {
			return nil, err
		}
		o.includes = append(o.includes, resolve(abs))
	}
	if o.cwd, err = filepath.Abs("."); err != nil {
		return nil, err
	}
	o.cwd = resolve(o.cwd)
	if o.cache = os.Getenv("GOMODCACHE"); o.cache == "" {
		if paths := filepath.SplitList(build.Default.GOPATH); len(paths) > 0 {
			o.cache = filepath.Join(paths[0], "pkg", "mod")
		}
	}
	o.cache = resolve(o.cache)
	return o, nil
}

// absolute returns the absolute form of a path. If the current folder is known by a name that
// contains links, as after cd to a link, ".." means the parent that the system uses to open files,
// not the one in the name.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil || filepath.IsAbs(path) || !strings.HasPrefix(filepath.Clean(path), "..") {
		return abs, err
	}
	cwd, err := filepath.Abs(".")
	if err != nil {
		return "", err
	}
	return filepath.Join(resolve(cwd), path), nil
}

// resolve resolves the symbolic links of the existing part of an absolute path.
func resolve(abs string) string {
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	if parent := filepath.Dir(abs); parent != abs {
		return filepath.Join(resolve(parent), filepath.Base(abs))
	}
	return abs
}

// realPath returns the one absolute path of a file, however it is given.
func realPath(file string) (string, error) {
	abs, err := absolute(file)
	if err != nil {
		return "", err
	}
	return resolve(abs), nil
}

// below returns the slash-separated path from dir down to path.
func below(dir, path string) (rel string, ok bool) {
	rel, err := filepath.Rel(dir, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// name returns the name of a schema's file.
func (o *outputFolder) name(f *schema.File) string {
	if f.Path == "" {
		// A binary schema only mentions the file, with a path relative to its own folder.
		name := strings.TrimPrefix(f.Name, "//")
		for strings.HasPrefix(name, "../") || strings.HasPrefix(name, "./") ||
			strings.HasPrefix(name, "/") {
			name = name[strings.Index(name, "/")+1:]
		}
		return name
	}
	abs, err := absolute(f.Path)
	if err != nil {
		return path.Base(filepath.ToSlash(f.Path))
	}
	real := resolve(abs)
	if o.module != nil {
		if _, ok := below(o.module.dir, real); ok {
			return o.relative(real)
		}
		// A link in the module to a file outside of it.
		if linked := filepath.Join(resolve(filepath.Dir(abs)), filepath.Base(abs)); linked != real {
			if _, ok := below(o.module.dir, linked); ok {
				return o.relative(linked)
			}
		}
		if _, ok := below(o.module.dir, abs); ok {
			return o.relative(abs)
		}
	}
	if name, ok := o.inCache(real); ok {
		o.known[name] = real
		return name
	}
	if m, err := moduleOf(filepath.Dir(real)); err == nil && m != nil && m.path != "" {
		if rel, ok := below(m.dir, real); ok {
			o.known[m.path+"/"+rel] = real
			return m.path + "/" + rel
		}
	}
	name := ""
	for _, inc := range o.includes {
		if rel, ok := below(inc, real); ok && (name == "" || len(rel) < len(name)) {
			name = rel
		}
	}
	if name != "" {
		return name
	}
	if sharedFolder(o.real, real) {
		return o.relative(real)
	}
	if rel, ok := below(o.cwd, real); ok {
		return rel
	}
	return filepath.Base(real)
}

// relative returns a file's name that is its path.
func (o *outputFolder) relative(abs string) string {
	rel, err := filepath.Rel(o.real, abs)
	if err != nil {
		return filepath.Base(abs)
	}
	if rel = filepath.ToSlash(rel); !strings.HasPrefix(rel, "../") {
		rel = "./" + rel
	}
	return rel
}

// sharedFolder reports whether two absolute paths have a common folder below the root.
func sharedFolder(a, b string) bool {
	vol := filepath.VolumeName(a)
	if filepath.VolumeName(b) != vol {
		return false
	}
	first := func(p string) string {
		p, _, _ = strings.Cut(strings.TrimPrefix(filepath.ToSlash(p[len(vol):]), "/"), "/")
		return p
	}
	return first(a) == first(b)
}

// inCache returns the name of a file in the module cache: its path in the module, with the module
// path in front, without the version.
func (o *outputFolder) inCache(real string) (string, bool) {
	rel, ok := below(o.cache, real)
	if !ok || o.cache == "" {
		return "", false
	}
	before, after, ok := strings.Cut(rel, "@")
	if !ok {
		return "", false
	}
	_, rest, ok := strings.Cut(after, "/")
	modulePath, err := module.UnescapePath(before)
	if !ok || err != nil {
		return "", false
	}
	return modulePath + "/" + rest, true
}

// find returns the path of the file with the given name, or "" if the name does not determine it.
func (o *outputFolder) find(name string) string {
	local := filepath.FromSlash(name)
	if isPath(name) {
		return filepath.Join(o.real, local)
	}
	if file := o.known[name]; file != "" {
		return file
	}
	for _, dir := range append(o.includes, o.cwd) {
		if file := filepath.Join(dir, local); exists(file) {
			return file
		}
	}
	return ""
}

// isPath reports whether the name of a schema is a path.
func isPath(name string) bool {
	return strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")
}

// importPath returns the import path of the output folder.
func (o *outputFolder) importPath() (string, error) {
	switch {
	case o.module == nil:
		return "", fmt.Errorf("no go.mod in %s or above; run go mod init, or give the import "+
			"path of the output folder with -import", o.real)
	case o.module.path == "":
		return "", fmt.Errorf("%s names no module; give the import path of the output folder "+
			"with -import", filepath.Join(o.module.dir, "go.mod"))
	}
	rel, ok := below(o.module.dir, o.real)
	if !ok {
		return "", errors.New(
			"the output folder is not in its module; give its import path with -import")
	}
	imp := path.Join(o.module.path, rel)
	if err := module.CheckImportPath(imp); err != nil {
		return "", fmt.Errorf("the output folder %s cannot be imported: %v; choose another "+
			"folder with -o", o.dir, err)
	}
	return imp, nil
}

// exists reports whether a file exists.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// checkName returns an error if the name of a file cannot be part of a comment in Go code.
func checkName(name string) error {
	if !utf8.ValidString(name) {
		return fmt.Errorf("the name %q is not UTF-8, which Go code has to be", name)
	}
	for _, r := range name {
		if unicode.IsControl(r) || r == '\ufeff' || r == '\u2028' || r == '\u2029' ||
			unicode.Is(unicode.Bidi_Control, r) {
			return fmt.Errorf("the name %q has the character %U, which cannot stand in a "+
				"comment of Go code", name, r)
		}
	}
	return nil
}
