package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Within a schema and the files that it includes, a plan gives no name twice. But two schemas that
// do not see each other can produce files of one package: table Foo of one has the object FooT, and
// the other declares FooT. Each run is correct, and the package does not compile. So the files of a
// run are compared with those that other runs have left in the folder.

// A goText has the names at package level of a Go file.
type goText struct {
	path, source string
	declares     []string
	imports      []string // the names of packages in the file
	paths        []string // their import paths
}

// crowd returns the folders that have files of several schemas, and those files among the
// neighbours.
func (t *tree) crowd(others []neighbour) (folders map[string]bool,
	generated map[string][]neighbour) {
	folders, generated = make(map[string]bool), make(map[string][]neighbour)
	first := make(map[string]string)
	for _, p := range t.products {
		dir := folderOf(p.name)
		if source, ok := first[dir]; ok && source != p.source && t.schemas > 1 {
			folders[dir] = true
		} else if !ok {
			first[dir] = p.source
		}
	}
	for _, n := range others {
		if dir := folderOf(n.name); first[dir] != "" && n.generated && n.out != "" &&
			!t.abandoned(n) {
			folders[dir] = true
			generated[dir] = append(generated[dir], n)
		}
	}
	return folders, generated
}

// checkClashes reports a name that files of two schemas give to different things. made has the
// products, crowded the neighbours in each of the crowded folders.
func (t *tree) checkClashes(made []*goText, crowded map[string]bool,
	others map[string][]neighbour) error {
	byFolder := make(map[string]*names)
	for i, text := range made {
		dir := folderOf(t.products[i].name)
		if !crowded[dir] {
			continue
		}
		if byFolder[dir] == nil {
			byFolder[dir] = newNames()
		}
		for c := range byFolder[dir].clashes(text) {
			return t.clashError(c, t.products[i].pkg)
		}
		byFolder[dir].add(text)
	}
	checked := make(map[string]bool)
	for _, p := range t.products {
		dir := folderOf(p.name)
		if !crowded[dir] || checked[dir] {
			continue
		}
		checked[dir] = true
		for _, n := range others[dir] {
			if err := t.checkClash(n, byFolder[dir], p.pkg); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkClash compares a neighbour with the names of the run's files in its folder. The file on disk
// may be older than its schema, and another run will update it; then the names that the schema
// produces today count. The files of a schema that no longer exists are taken over, and so removed.
func (t *tree) checkClash(n neighbour, ours *names, pkg string) error {
	text, err := n.names()
	if err != nil {
		return err
	}
	var today *names
	for c := range ours.clashes(text) {
		if t.takesOver(n) {
			return nil
		}
		if today == nil {
			if today = t.namesToday(n); today == nil {
				return t.clashError(c, pkg)
			}
		}
		if c.isImport && c.b == text && today.imported[c.name] != nil ||
			(!c.isImport || c.a == text) && today.declared[c.name] != nil {
			return t.clashError(c, pkg)
		}
	}
	return nil
}

// names reads the names of the file. A file that another run has removed has none.
func (n neighbour) names() (*goText, error) {
	data, err := os.ReadFile(n.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	text := readNames(data)
	text.path, text.source = n.path, n.source
	return text, nil
}

// takesOver reports whether the schema of a neighbour no longer exists, so that this change removes
// its files.
func (t *tree) takesOver(n neighbour) bool {
	if n.out != "." || !t.declarationsOf(n.source).gone {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone[n.source] = true
	return true
}

// namesToday returns the names that the schema of a neighbour has in its folder if it is generated
// like the schemas of this run, or nil if that is unknown.
func (t *tree) namesToday(n neighbour) *names {
	file := t.out.find(n.source)
	if file == "" || n.out != "." {
		return nil
	}
	schemas, diags := schema.Load(t.loader, file)
	if diags.HasErrors() {
		return nil
	}
	opts := t.opts
	opts.All = false
	opts.Source = func(*schema.File) string { return n.source }
	drafts := gogen.Plan(schemas[0], opts, diags)
	if diags.HasErrors() {
		return nil
	}
	all := newNames()
	for _, d := range drafts {
		if path.Dir(d.Path) != path.Dir(n.name) {
			continue
		}
		data, err := d.Render(nil)
		if err != nil {
			return nil
		}
		all.add(readNames(data))
	}
	return all
}

// A clash is a name that two files of a package have for different things.
type clash struct {
	name     string
	a, b     *goText
	isImport bool // the name is that of a package in b
}

// names has the names of the files of a package.
type names struct {
	declared map[string]*goText
	imported map[string]*goText // by one of the files
	paths    map[string]bool    // import paths
}

func newNames() *names {
	return &names{make(map[string]*goText), make(map[string]*goText), make(map[string]bool)}
}

// clashes yields the names of a file that another file has for something else.
func (n *names) clashes(text *goText) iter.Seq[*clash] {
	return func(yield func(*clash) bool) {
		for _, name := range text.declares {
			if other := n.declared[name]; other != nil && !yield(&clash{name, other, text, false}) {
				return
			}
			if other := n.imported[name]; other != nil && !yield(&clash{name, text, other, true}) {
				return
			}
		}
		for _, name := range text.imports {
			if other := n.declared[name]; other != nil && !yield(&clash{name, other, text, true}) {
				return
			}
		}
	}
}

// add adds the names of a file.
func (n *names) add(text *goText) {
	for _, name := range text.declares {
		n.declared[name] = text
	}
	for _, name := range text.imports {
		n.imported[name] = text
	}
	for _, importPath := range text.paths {
		n.paths[importPath] = true
	}
}

func (t *tree) clashError(c *clash, pkg string) error {
	a, b := c.a.path+", from "+t.display(c.a.source), c.b.path+", from "+t.display(c.b.source)
	if c.isImport {
		return fmt.Errorf("%s, declares %s in package %s, and %s, imports a package by that "+
			"name, which Go refuses; give the type another name or namespace", a, c.name, pkg, b)
	}
	return fmt.Errorf("%s, and %s, both declare %s in package %s; give one of the types another "+
		"name or namespace, or include one schema in the other, so that it sees the name and "+
		"avoids it",
		a, b, c.name, pkg)
}

// readNames reads the names from a file that ipcgen wrote. Such a file is formatted by gofmt's
// rules, so declarations of the package start in the first column.
func readNames(data []byte) *goText {
	text := new(goText)
	group := ""
	for line := range bytes.Lines(data) {
		if len(line) == 0 || line[0] == '\n' || line[0] == '/' {
			continue
		}
		if line[0] == '\t' {
			if group == "import" {
				text.addImport(string(line))
			} else if group != "" {
				text.declare(line[1:])
			}
			continue
		}
		group = ""
		keyword, rest, _ := bytes.Cut(line, []byte(" "))
		switch kind := string(keyword); kind {
		case "import", "const", "var", "type":
			if bytes.HasPrefix(rest, []byte("(")) {
				group = kind
			} else if kind == "import" {
				text.addImport(string(rest))
			} else {
				text.declare(rest)
			}
		case "func":
			text.declare(rest) // methods start with a parenthesis
		}
	}
	slices.Sort(text.declares)
	return text
}

// declare adds the identifier at the start of a line.
func (x *goText) declare(line []byte) {
	end := 0
	for end < len(line) &&
		(line[end] == '_' || line[end]|0x20 >= 'a' && line[end]|0x20 <= 'z' || line[end] >= '0' &&
			line[end] <= '9') {
		end++
	}
	if name := string(line[:end]); name != "" && name != "_" {
		x.declares = append(x.declares, name)
	}
}

// addImport adds the name of a package from its import line.
func (x *goText) addImport(line string) {
	name, importPath, _ := strings.Cut(strings.TrimSpace(line), `"`)
	if name = strings.TrimSpace(name); name == "" {
		name = path.Base(strings.TrimSuffix(importPath, `"`))
	}
	if name != "." && importPath != "" {
		x.imports = append(x.imports, name)
		x.paths = append(x.paths, strings.TrimSuffix(importPath, `"`))
	}
}
