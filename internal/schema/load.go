package schema

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// Options configures [Load]. The zero value reads from the file system and finds included files
// beside the files that include them.
type Options struct {
	// IncludeDirs are searched, in order, for files that are not in the directory of the file that
	// includes them. The directory of the root file comes last.
	IncludeDirs []string
	// ReadFile reads a file; nil means that of the operating system, up to a limit. For a missing
	// file the error must wrap fs.ErrNotExist.
	ReadFile func(path string) ([]byte, error)
	// ReadBinary decodes the contents of a file whose name ends in .bfbs, and reports errors to
	// diags. It is a hook because package bfbs, which decodes binary schemas, imports this package.
	// Without it, binary schemas are refused.
	ReadBinary func(path string, data []byte, diags *diag.List) *Schema
	// ProjectRoot is the directory to which File.Name is relative. Empty means the directory of
	// each root file.
	ProjectRoot string
	// RootType, if not empty, is the root type of each schema and overrides root_type. It is a full
	// name, or a name without its namespace if no other table has that name.
	RootType string
}

// Load reads the schema files at paths and all files that they include, and resolves each. The
// result has one schema for each path, in order. If diags has an error, no schema may be used, and
// the schemas of the paths with errors are nil.
//
// Every path is resolved independently of the others. A file that several of them include is read
// and parsed once.
func Load(opts Options, paths ...string) (schemas []*Schema, diags *diag.List) {
	if opts.ReadFile == nil {
		opts.ReadFile = readFile
	}
	l := &loader{opts: opts, diags: &diag.List{}, sources: make(map[string]*source)}
	for _, path := range paths {
		if strings.HasSuffix(path, ".bfbs") {
			schemas = append(schemas, l.loadBinary(path))
		} else {
			schemas = append(schemas, l.loadText(path))
		}
		if s := schemas[len(schemas)-1]; s != nil && opts.RootType != "" {
			l.overrideRoot(s, path)
		}
	}
	return schemas, l.diags
}

// maxFile is the length in bytes of the longest file that is read: a device, or a disk image that
// was named by mistake, is refused and does not fill the memory.
const maxFile = 64 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = &fs.PathError{Op: "read", Path: path,
			Err: fmt.Errorf("a schema has at most %d MiB", maxFile>>20)}
	}
	return data, err
}

// Declared returns the full names of the types and services that the schema file at path itself
// declares. Included files are not read, and need not exist.
func Declared(opts Options, path string) (names []string, err error) {
	if opts.ReadFile == nil {
		opts.ReadFile = readFile
	}
	data, err := opts.ReadFile(path)
	if err != nil {
		return nil, err
	}
	diags := &diag.List{}
	if strings.HasSuffix(path, ".bfbs") {
		if opts.ReadBinary == nil {
			return nil, errors.ErrUnsupported
		}
		s := opts.ReadBinary(path, data, diags)
		if err := diags.Err(); err != nil {
			return nil, err
		}
		for _, o := range s.Objects {
			if o.File == nil || o.File.Root {
				names = append(names, o.FullName())
			}
		}
		for _, e := range s.Enums {
			if e.File == nil || e.File.Root {
				names = append(names, e.FullName())
			}
		}
		for _, svc := range s.Services {
			if svc.File == nil || svc.File.Root {
				names = append(names, svc.FullName())
			}
		}
		return names, nil
	}
	parsed := fbs.Parse(path, data, diags)
	if err := diags.Err(); err != nil {
		return nil, err
	}
	prefix := ""
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *fbs.Namespace:
			if prefix = d.Name.Text; prefix != "" {
				prefix += "."
			}
		case *fbs.Object:
			names = append(names, prefix+d.Name.Text)
		case *fbs.Enum:
			names = append(names, prefix+d.Name.Text)
		case *fbs.Service:
			names = append(names, prefix+d.Name.Text)
		}
	}
	return names, nil
}

// FilesRead returns the paths of all files from which the schemas were read, each once, in the
// order in which they were needed. These are the files that a build system must watch.
func FilesRead(schemas []*Schema) []string {
	var paths []string
	seen := make(map[string]bool)
	for _, s := range schemas {
		if s == nil {
			continue
		}
		for _, f := range s.Files {
			if f.Path != "" && !seen[f.Path] {
				seen[f.Path] = true
				paths = append(paths, f.Path)
			}
		}
	}
	return paths
}

// overrideRoot makes Options.RootType the root type of the schema at path.
func (l *loader) overrideRoot(s *Schema, path string) {
	name := l.opts.RootType
	var root *Object
	var namesakes []*Object
	var names []string
	for _, o := range s.Objects {
		full := o.FullName()
		switch {
		case o.IsStruct:
			continue
		case full == name:
			root = o
		case o.Name == name:
			namesakes = append(namesakes, o)
		}
		names = append(names, full)
	}
	at := diag.Span{File: path}
	switch {
	case root == nil && len(namesakes) == 1:
		root = namesakes[0]
	case root == nil && len(namesakes) > 1:
		l.diags.Errorf(at, "the root type %s may be %s or %s", name, namesakes[0].FullName(),
			namesakes[1].FullName()).
			Helpf("give its full name")
	case root == nil:
		d := l.diags.Errorf(at, "the root type %s is not one of the schema's tables", name)
		if near := diag.Nearest(name, names); near != "" {
			d.Helpf("did you mean %s?", near)
		}
	}
	s.Root = root
	s.Files[len(s.Files)-1].RootType = root
}

// A loader reads and parses each file once.
type loader struct {
	opts    Options
	diags   *diag.List
	sources map[string]*source // by path; nil for a file that does not exist
}

// A source is a parsed file.
type source struct {
	path   string
	text   string
	parsed *fbs.File
	failed bool // it has errors of its own
}

// A unit is a source at its position among the files of one root.
type unit struct {
	*source
	file *File
}

func (l *loader) loadBinary(path string) *Schema {
	data, err := l.opts.ReadFile(path)
	if err != nil {
		l.unreadable(diag.Span{File: path}, path, err)
		return nil
	}
	if l.opts.ReadBinary == nil {
		l.diags.Errorf(diag.Span{File: path}, "binary schemas are not supported here")
		return nil
	}
	return l.opts.ReadBinary(path, data, l.diags)
}

func (l *loader) loadText(path string) *Schema {
	src := l.open(diag.Span{File: path}, path)
	if src == nil {
		return nil
	}
	c := &collector{loader: l, root: path, seen: make(map[identity]*File),
		added: make(map[*source]*File)}
	c.add(src).Root = true
	if c.failed {
		return nil // errors that follow from a syntax error do not help
	}
	return link(c.units, l.diags)
}

// open returns the file at path, which the statement at span requires. If the file cannot be read,
// open reports that and returns nil.
func (l *loader) open(span diag.Span, path string) *source {
	src, err := l.read(path)
	if err != nil {
		l.unreadable(span, path, err)
	}
	return src
}

// read reads and parses a file, once.
func (l *loader) read(path string) (*source, error) {
	if src, ok := l.sources[path]; ok {
		if src == nil {
			return nil, fs.ErrNotExist
		}
		return src, nil
	}
	data, err := l.opts.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			l.sources[path] = nil
		}
		return nil, err
	}
	before := l.diags.Errors()
	src := &source{path: path, text: string(data)}
	l.sources[path] = src
	src.parsed = fbs.Parse(path, data, l.diags)
	src.failed = l.diags.Errors() > before
	return src, nil
}

// unreadable reports that a file cannot be read, with its name once.
func (l *loader) unreadable(span diag.Span, path string, err error) {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if span.IsValid() {
		l.diags.Errorf(span, "cannot read %s: %v", path, err)
		return
	}
	d := l.diags.Errorf(span, "cannot read the file: %v", err)
	if errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(path) {
		d.Helpf("its path is taken from the current folder; directories given with -I are " +
			"searched for included files only")
	}
}

// An identity decides whether two files are the same one. As in flatc it is the last element of the
// path and the contents, so that a file that is found by two paths is read once.
type identity struct{ base, text string }

// A collector lists the files of one root, each after the files that it includes.
type collector struct {
	*loader
	root   string
	seen   map[identity]*File
	added  map[*source]*File // the same, by source
	units  []unit
	failed bool
}

// add lists a source and all files that it includes, unless they are listed. A cycle ends at the
// file that is being added, whose declarations come later.
func (c *collector) add(src *source) *File {
	if f, ok := c.added[src]; ok {
		return f
	}
	id := identity{filepath.Base(src.path), src.text}
	if f, ok := c.seen[id]; ok {
		c.added[src] = f
		return f
	}
	f := &File{Path: src.path, Name: c.projectName(src.path)}
	c.seen[id], c.added[src] = f, f
	c.failed = c.failed || src.failed
	for _, inc := range src.parsed.Includes {
		if included := c.include(src, inc); included != nil {
			if g := c.add(included); !slices.Contains(f.Includes, g) {
				f.Includes = append(f.Includes, g)
			}
		} else {
			c.failed = true
		}
	}
	c.units = append(c.units, unit{src, f})
	return f
}

// include returns the file that an include statement names. It searches beside the file that
// includes it, in the include directories, and beside the root file.
func (c *collector) include(from *source, inc fbs.Include) *source {
	span := from.parsed.Span(inc.Path.Range)
	name := filepath.FromSlash(strings.ReplaceAll(inc.Path.Text, `\`, "/"))
	dirs := slices.Concat([]string{filepath.Dir(from.path)}, c.opts.IncludeDirs,
		[]string{filepath.Dir(c.root)})
	for _, dir := range throughLinks(dirs, name) {
		path := filepath.Join(dir, name)
		src, err := c.read(path)
		switch {
		case err == nil:
			return src
		case !errors.Is(err, fs.ErrNotExist):
			c.unreadable(span, path, err)
			return nil
		}
	}
	d := c.diags.Errorf(span, "cannot find the included file %s", inc.Path.Text)
	if len(c.opts.IncludeDirs) == 0 {
		d.Helpf("it is looked for beside %s; name other directories with -I", from.path)
	} else {
		d.Helpf("it is looked for beside %s and in %s", from.path,
			strings.Join(c.opts.IncludeDirs, ", "))
	}
	return nil
}

// throughLinks returns the folders in which an include is searched. The parent of a folder behind a
// symbolic link is the one that the system uses, as in flatc, and, if nothing is found there, the
// folder that contains the link.
func throughLinks(dirs []string, include string) []string {
	if !strings.HasPrefix(filepath.Clean(include), "..") {
		return dirs
	}
	var all []string
	for _, dir := range dirs {
		if real, err := filepath.EvalSymlinks(dir); err == nil && real != dir {
			all = append(all, real)
		}
		all = append(all, dir)
	}
	return all
}

// projectName returns the name of a file relative to the project root, in flatc's form for binary
// schemas: "//dir/file.fbs".
func (c *collector) projectName(path string) string {
	root := c.opts.ProjectRoot
	if root == "" {
		root = filepath.Dir(c.root)
	}
	absRoot, err1 := filepath.Abs(root)
	absPath, err2 := filepath.Abs(path)
	if err1 == nil && err2 == nil {
		if rel, err := filepath.Rel(absRoot, absPath); err == nil {
			return "//" + filepath.ToSlash(rel)
		}
	}
	return "//" + filepath.Base(path)
}
