package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/stage"
)

// A product is a file that a run produces, with the function that produces its text. The text is
// produced when it is needed, so that a run holds the texts of a few files at a time.
type product struct {
	path   string // on this machine
	render []rendering
	source string // the name of the schema that declares the contents

	root string // for a binary schema: the name of its root file in it

	// For a Go file:
	name  string // relative to the output folder, with slashes
	pkg   string
	types []string
}

// A rendering is the version of a file that one schema of a run produces. If several schemas
// include the schema to which the file belongs, all of their versions must be equal.
type rendering struct {
	schema string                           // as given
	text   func(buf []byte) ([]byte, error) // may use the memory of buf
}

// data returns the contents of the file. It may use the memory of buf.
func (p *product) data(buf []byte) ([]byte, error) {
	data, err := p.render[0].text(buf)
	if err != nil {
		return nil, err
	}
	for _, r := range p.render[1:] {
		if other, err := r.text(nil); err != nil {
			return nil, err
		} else if !bytes.Equal(data, other) {
			return nil, fmt.Errorf("%s comes out differently for %s and for %s, which both "+
				"include the schema that it belongs to; a name that one of them declares in its "+
				"namespace clashes with one derived from it",
				p.path, p.render[0].schema, r.schema)
		}
	}
	return data, nil
}

// A tree is the output folder of a run, with the files that the run produces and those that it
// finds there.
type tree struct {
	out      *outputFolder
	products []*product
	byName   map[string]*product // in small letters
	// owned has the names of the schemas that the run generates. A file that names one of them and
	// is not a product of the run is removed.
	owned map[string]bool
	// sweep is set for Go files, which name their owners.
	sweep  bool
	change *stage.Change // nil under -check
	loader schema.Options
	opts   gogen.Options
	// schemas is the number of schemas of the run.
	schemas int

	mu       sync.Mutex
	declared map[string]declarations // by name of the schema
	gone     map[string]bool         // schemas that no longer exist, whose files are taken over
	stale    []string                // files to write
	old      []string                // files to remove
	forced   map[*product]bool       // written even if the file seems to be up to date
}

// declarations has the names that a schema declares, or the error of reading it.
type declarations struct {
	names []string
	gone  bool
	err   error
}

// compare finds the differences between the files on disk and those of the run, and adds them to
// the change.
func (t *tree) compare() error {
	t.stale, t.old = nil, nil
	t.declared, t.gone, t.forced = make(map[string]declarations), make(map[string]bool),
		make(map[*product]bool)
	var others []neighbour
	if t.sweep {
		var err error
		if others, err = t.neighbours(); err != nil {
			return err
		}
		if err := t.checkNeighbours(others); err != nil {
			return err
		}
	}
	meets := t.sweep && t.meets(others)
	texts := make([]*goText, len(t.products))
	err := inParallel(len(t.products), func(i int) error {
		p := t.products[i]
		return t.compareOne(p, func(data []byte) {
			if meets {
				texts[i] = readNames(data)
				texts[i].path, texts[i].source = p.path, p.source
			}
		})
	})
	if err != nil {
		return err
	}
	if meets {
		crowded, generated := t.crowd(others)
		if err := t.checkClashes(texts, crowded, generated); err != nil {
			return err
		}
		if err := t.checkCycles(texts, others); err != nil {
			return err
		}
	}
	for _, n := range others {
		if t.abandoned(n) {
			t.old = append(t.old, n.path)
			if t.change != nil {
				if err := t.change.Remove(n.path); err != nil {
					return err
				}
			}
		}
	}
	slices.Sort(t.stale)
	slices.Sort(t.old)
	return nil
}

// compareOne compares one file, and passes its text to found.
func (t *tree) compareOne(p *product, found func(data []byte)) error {
	m, _ := memories.Get().(*memory)
	if m == nil {
		m = new(memory)
	}
	defer memories.Put(m)
	data, err := p.data(m.made)
	if err != nil {
		return err
	}
	m.made = data
	found(data)
	old, err := t.existing(p, m.found)
	if err != nil {
		return err
	}
	if old != nil {
		m.found = old
	}
	if old != nil && bytes.Equal(old, data) && !t.forced[p] {
		return nil
	}
	if old != nil {
		if err := t.mayReplace(p, old); err != nil {
			return err
		}
	}
	t.mu.Lock()
	t.stale = append(t.stale, p.path)
	t.mu.Unlock()
	if t.change == nil {
		return nil
	}
	if err := t.change.Write(p.path, data); err != nil {
		var interrupted *stage.InterruptedError
		if errors.As(err, &interrupted) {
			return err
		}
		return cannotWrite(p.path, err)
	}
	return nil
}

// A memory has the buffers for the comparison of a file. Comparisons reuse it, because a schema has
// thousands of files.
type memory struct{ made, found []byte }

var memories sync.Pool // of *memory

// existing returns the contents of the file in a product's place, or nil if there is no file. It
// may use the memory of buf.
func (t *tree) existing(p *product, buf []byte) ([]byte, error) {
	info, err := os.Stat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(p.path); err == nil {
			return nil, cannotWrite(p.path, errors.New("it is a symbolic link to nothing"))
		}
		return nil, nil
	case err != nil:
		return nil, cannotWrite(p.path, err)
	case info.IsDir():
		return nil, cannotWrite(p.path,
			errors.New("it is a directory; move it away or choose another folder with -o"))
	case !info.Mode().IsRegular():
		return nil, cannotWrite(p.path, errors.New("it is not a regular file"))
	}
	f, err := os.Open(p.path)
	if err != nil {
		return nil, cannotWrite(p.path, err)
	}
	defer f.Close()
	// One more byte shows the end of the file without another read.
	if n := int(info.Size()) + 1; cap(buf) < n {
		buf = make([]byte, 0, n)
	}
	in := bytes.NewBuffer(buf[:0])
	if _, err := in.ReadFrom(f); err != nil {
		return nil, cannotWrite(p.path, err)
	}
	return in.Bytes(), nil
}

func cannotWrite(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // pathErr names a path that the user does not know, or this one
	}
	return fmt.Errorf("cannot write %s: %w", path, err)
}

// The first lines of files that may be replaced, in addition to that of gogen.Header: those of the
// first versions of ipcgen, and flatc's.
const (
	oldMark   = gogen.GeneratedMark + "from "
	flatcMark = "// Code generated by the FlatBuffers compiler"
)

// mayReplace returns an error unless a file may be replaced: it is handwritten, or belongs to a
// schema that also produces it.
func (t *tree) mayReplace(p *product, old []byte) error {
	if p.root != "" {
		return t.mayReplaceBinary(p, old)
	}
	first := firstLine(old)
	if strings.HasPrefix(first, oldMark) || strings.HasPrefix(first, flatcMark) {
		return nil
	}
	out, source, ok := gogen.ParseHeader(folderOf(p.name), first)
	if !ok {
		return fmt.Errorf("cannot write %s: it exists and was not written by ipcgen; move it "+
			"away or choose another folder with -o", p.path)
	}
	if out == "." && (source == p.source || t.owned[source]) {
		return nil
	}
	return t.mayTakeOver(p, out, source)
}

// mayTakeOver returns an error if the schema to which a file belongs produces it, so that it cannot
// become the file of a product. A schema that does not produce it is a former owner.
func (t *tree) mayTakeOver(p *product, out, source string) error {
	d := t.declarationsOf(source)
	if d.gone {
		t.mu.Lock()
		t.gone[source] = true
		t.mu.Unlock()
		return nil
	}
	if d.err == nil && !t.makes(d.names, source, out, p.name) {
		return nil
	}
	owner := t.display(source)
	because := "and both declare " + p.types[0]
	if d.err != nil {
		because = fmt.Sprintf("and it cannot be told whether it still does (%v); remove the "+
			"file if it does not", d.err)
	}
	return fmt.Errorf("cannot write %s for %s: it is generated from %s, %s; give one of them "+
		"another name or namespace, or its own -o",
		p.path, t.display(p.source), owner, because)
}

// display returns the name of a schema for users: its path relative to the current folder, if it
// has one.
func (t *tree) display(source string) string {
	if file := t.out.find(source); file != "" {
		return t.relative(file)
	}
	return source
}

// relative returns the path of a file relative to the current folder, for users.
func (t *tree) relative(file string) string {
	if rel, ok := below(t.out.cwd, file); ok {
		return filepath.FromSlash(rel)
	}
	return file
}

// declarationsOf returns the names that the schema with the given name declares today.
func (t *tree) declarationsOf(source string) declarations {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.declared[source]
	if ok {
		return d
	}
	if file := t.out.find(source); file == "" {
		d.err = errors.New("it is not known where it is")
	} else if d.names, d.err = schema.Declared(t.loader, file); errors.Is(d.err, fs.ErrNotExist) {
		d = declarations{gone: true}
	}
	t.declared[source] = d
	return d
}

// makes reports whether a schema that declares the given names produces the file with the given
// name, for any options with the output folder out.
func (t *tree) makes(names []string, source, out, name string) bool {
	base, folder := strings.TrimSuffix(path.Base(name), ".go"), folderOf(name)
	inside := func(p string) string { return filepath.Join(t.out.real, filepath.FromSlash(p)) }
	if rel, err := filepath.Rel(inside(out), inside(folder)); err == nil {
		folder = filepath.ToSlash(rel)
	}
	file := t.out.find(source)
	schemaFile := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	for _, full := range names {
		ns, typ := "", full
		if i := strings.LastIndexByte(full, '.'); i >= 0 {
			ns, typ = strings.ReplaceAll(full[:i], ".", "/"), full[i+1:]
		}
		if folder != "." && folder != ns {
			continue
		}
		if sameFileName(base, typ) || sameFileName(base, schemaFile) {
			return true
		}
	}
	return false
}

// sameFileName reports whether the name of a file can be that of the file of a type.
func sameFileName(base, typ string) bool {
	plain := func(s string) string { return strings.Trim(strings.ToLower(s), "_") }
	base, typ = plain(base), plain(typ)
	if base == typ || base == "x_"+typ {
		return true
	}
	rest, ok := strings.CutPrefix(base, typ+"_")
	return ok && !strings.Contains(rest, "_")
}

// folderOf returns the folder of a slash-separated path, or "" for a path without a folder.
func folderOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

// A neighbour is a Go file in or below the output folder that the run does not produce.
type neighbour struct {
	path, name  string
	pkg         string // empty if it does not matter
	generated   bool   // by this version of ipcgen
	out, source string // from its header
}

// neighbours returns the Go files that may affect the run: all files in the folders to which it
// writes, and generated files in all others.
func (t *tree) neighbours() (found []neighbour, err error) {
	made := map[string]bool{}
	for _, p := range t.products {
		made[folderOf(p.name)] = true
	}
	seen := map[string]bool{}
	var visit func(dir string) error
	visit = func(dir string) error {
		if seen[dir] {
			return nil
		}
		seen[dir] = true
		entries, err := os.ReadDir(filepath.Join(t.out.dir, filepath.FromSlash(dir)))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
			err != nil && !made[dir] {
			return nil // ipcgen cannot have written a file that it cannot read
		}
		if err != nil {
			return err
		}
		if dir != "" && !made[dir] &&
			slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "go.mod" }) {
			return nil // another module
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir():
				if made[name] || mayBeNamespace(e.Name()) {
					if err := visit(name); err != nil {
						return err
					}
				}
			case path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") ||
				!e.Type().IsRegular():
			default:
				if p := t.byName[strings.ToLower(name)]; p != nil && p.name == name {
					continue
				}
				n := neighbour{path: filepath.Join(t.out.dir, filepath.FromSlash(name)), name: name}
				if err := n.read(made[dir]); err != nil {
					return err
				}
				if n.generated || made[dir] {
					found = append(found, n)
				}
			}
		}
		return nil
	}
	if err := visit(""); err != nil {
		return nil, err
	}
	for dir := range made {
		if err := visit(dir); err != nil { // behind a link
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b neighbour) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

// mayBeNamespace reports whether a folder can be that of a namespace of a run with this output
// folder. Hidden folders, and those to which the go command gives a special meaning, cannot.
func mayBeNamespace(name string) bool {
	return name != "vendor" && name != "node_modules" &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		})
}

// read determines what the file is. It reads only the start of the file, unless the file is in a
// folder of the run and not generated.
func (n *neighbour) read(inside bool) error {
	f, err := os.Open(n.path)
	if err != nil {
		if inside && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1024)
	head, _ := r.Peek(1024)
	if n.out, n.source, n.generated = gogen.ParseHeader(folderOf(n.name),
		firstLine(head)); n.generated {
		_, rest, _ := bytes.Cut(head, []byte("\npackage "))
		n.pkg = firstLine(rest)
		return nil
	}
	if n.source, n.generated = strings.CutPrefix(firstLine(head), oldMark); n.generated {
		n.source, n.generated = strings.CutSuffix(n.source, ". DO NOT EDIT.")
		n.out = ""
		return nil
	}
	if !inside {
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), n.path, nil, parser.PackageClauseOnly|
		parser.ParseComments)
	if err != nil {
		return nil // reported by the go command
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if x, err := constraint.Parse(c.Text); err == nil && c.Pos() < file.Package &&
				!x.Eval(func(tag string) bool { return tag != "ignore" }) &&
				x.Eval(func(string) bool { return true }) {
				return nil // it is never built together with the others
			}
		}
	}
	n.pkg = file.Name.Name
	return nil
}

// checkNeighbours reports neighbours with which the files of the run cannot coexist.
func (t *tree) checkNeighbours(others []neighbour) error {
	folders := make(map[string]*product)
	for _, p := range t.products {
		folders[folderOf(p.name)] = p
	}
	for _, n := range others {
		if p := t.byName[strings.ToLower(n.name)]; p != nil && n.generated && n.out != "" {
			// The same name except for capital letters.
			if n.out == "." && t.owned[n.source] {
				t.forced[p] = true
			} else if err := t.mayTakeOver(p, n.out, n.source); err != nil {
				return err
			}
		}
	}
	for _, n := range others {
		p := folders[folderOf(n.name)]
		if p == nil || n.pkg == "" || n.pkg == p.pkg || t.abandoned(n) {
			continue
		}
		if n.generated && t.declarationsOf(n.source).gone {
			continue
		}
		whose := n.path + " is there"
		if n.generated {
			whose = n.path + ", generated from " + t.display(n.source) + ", is there"
		}
		help := "choose another folder with -o"
		if folderOf(n.name) == "" {
			help = "give the package's name with -package, or " + help
		}
		return fmt.Errorf("cannot write %s, of package %s: %s, of package %s; %s", p.path, p.pkg,
			whose, n.pkg, help)
	}
	return nil
}

// abandoned reports whether a file was produced by a run for one of the same schemas and the same
// folder, or for a schema that the schemas of this run have replaced, and is not produced any more.
func (t *tree) abandoned(n neighbour) bool {
	if !n.generated {
		return false
	}
	if n.out == "" { // the old form, which named only the schema
		for _, p := range t.products {
			if folderOf(p.name) == folderOf(n.name) && path.Base(p.source) == n.source {
				return true
			}
		}
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.out == "." && (t.owned[n.source] || t.gone[n.source])
}

// packageOf returns the name of the package in the output folder, for types without a namespace. It
// is that of the handwritten Go files in the folder, or the one that go generate passes; empty if
// neither is known.
func (o *outputFolder) packageOf() (string, error) {
	entries, err := os.ReadDir(o.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return "", err
	}
	name := ""
	for _, e := range entries {
		if path.Ext(e.Name()) != ".go" || strings.HasSuffix(e.Name(), "_test.go") ||
			!e.Type().IsRegular() {
			continue
		}
		n := neighbour{path: filepath.Join(o.dir, e.Name()), name: e.Name()}
		if err := n.read(true); err != nil {
			return "", err
		}
		if !n.generated && n.pkg != "" {
			name = n.pkg
			break
		}
	}
	if name == "" && o.real == o.cwd {
		name = strings.TrimSuffix(os.Getenv("GOPACKAGE"), "_test")
	}
	return name, nil
}

func firstLine(text []byte) string {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(first), "\r")
}

// inParallel calls f for 0 to n-1 in parallel, and returns the error for the lowest i that had one.
// A schema of thousands of tables has thousands of files.
func inParallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if errs[i] = f(i); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
