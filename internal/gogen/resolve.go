package gogen

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// A schema may use any identifier as any name, and a type keeps its name in Go. So the names that
// belong to generated code alone, of imports, parameters and variables, must avoid them. An emitter
// cannot know which names to avoid, because it does not see the whole file. It therefore puts a
// mark in front of each such name:
//
//	func (ℓrcv *Monster) Init(ℓbuf []byte, ℓi ℙflatbuffers.UOffsetT)
//
// When the file is complete, resolve replaces each marked name by a name that nothing else in the
// file or its package has, and imports the packages that are mentioned. There is no other way to
// import a package, and an unmarked name of a package or variable does not compile, so an emitter
// can forget neither.
//
// The marks are letters in Go, so marked text is valid Go and can be formatted; in the schema
// language they are not letters. Text that comes from a schema and is not an identifier must go
// through [unmarked].
const (
	localMark   = "ℓ" // a parameter or variable
	fieldMark   = "ℱ" // a parameter or variable named for a field of the schema
	packageMark = "ℙ" // a package, before the dot of a qualified identifier
)

// The marks have the same first two bytes and differ in the third.
const (
	markLen   = len(localMark)
	markFirst = '\xe2'
)

// markAt returns the mark at the start of text, or "".
func markAt(text []byte) string {
	if len(text) < markLen || text[0] != markFirst || text[1] != localMark[1] {
		return ""
	}
	switch text[2] {
	case localMark[2]:
		return localMark
	case fieldMark[2]:
		return fieldMark
	case packageMark[2]:
		return packageMark
	}
	return ""
}

// unmarked returns text that resolve converts back to s, even if s contains marks.
func unmarked(s string) string {
	if strings.Contains(s, localMark[:2]) {
		for _, mark := range []string{localMark, fieldMark, packageMark} {
			s = strings.ReplaceAll(s, mark, mark+mark)
		}
	}
	return s
}

// An importSpec is a package that files may import.
type importSpec struct {
	path  string
	name  string // the name in its package clause
	std   bool
	named bool // the import always states the name
	rare  bool // few files import it; these avoid a type with its name
	pkg   *pkg // of the output, or nil
}

// outside has the packages outside the output that generated code uses, by the names that emitters
// use.
var outside = map[string]*importSpec{
	"bytes":       {path: "bytes", name: "bytes", std: true},
	"cmp":         {path: "cmp", name: "cmp", std: true},
	"context":     {path: "context", name: "context", std: true},
	"iter":        {path: "iter", name: "iter", std: true},
	"math":        {path: "math", name: "math", std: true},
	"strconv":     {path: "strconv", name: "strconv", std: true},
	"flatbuffers": {path: flatbuffersPath, name: path.Base(path.Dir(flatbuffersPath)), named: true},
	"fb":          {path: fbPath, name: "fb"},
	"ipc":         {path: runtimePath, name: "ipc", named: true},
	"topic":       {path: runtimePath + "/topic", name: "topic", rare: true},
	"grpc":        {path: grpcPath, name: "grpc", rare: true},
	"codes":       {path: grpcPath + "/codes", name: "codes", rare: true},
	"status":      {path: grpcPath + "/status", name: "status", rare: true},
}

const (
	flatbuffersPath = "github.com/google/flatbuffers/go"
	runtimePath     = "github.com/ipcgen/ipcgen/runtime"
	fbPath          = runtimePath + "/fb"
	grpcPath        = "google.golang.org/grpc"
)

// An imported is a package with the name by which the file refers to it.
type imported struct {
	*importSpec
	alias string
}

// A mention is a marked name in a text. name is an index into the names of a resolver, or -1 for a
// mark that stands for itself.
type mention struct{ start, end, name int32 }

// A resolver gives the marked names of files their final form, one file after the other. A schema
// has thousands of files, and reusing memory saves much of the time.
type resolver struct {
	draft *Draft
	text  []byte

	marked   []string // the names with their marks, in order of appearance
	final    []string // of each
	index    map[string]int32
	recent   [256]int32 // indexes into marked, by a hash; most mentions are found here
	mentions []mention
	imports  []imported
	taken    nameSet // names in final
	// renamed is set if a name differs from the one that the emitter wrote, so that the alignment
	// may be wrong.
	renamed bool
}

// resolve decides which names the marked names of a file's text get.
func (r *resolver) resolve(d *Draft, text []byte) error {
	*r = resolver{
		draft: d, text: text, index: r.index, taken: r.taken,
		marked: r.marked[:0], final: r.final[:0], mentions: r.mentions[:0],
	}
	if r.index == nil {
		r.index, r.taken = make(map[string]int32), make(nameSet)
	}
	clear(r.index)
	clear(r.taken)
	r.find()
	r.final = append(r.final, r.marked...)
	if err := r.namePackages(); err != nil {
		return err
	}
	r.nameLocals(localMark)
	r.nameLocals(fieldMark)
	return nil
}

// appendTo appends the text to out, without marks.
func (r *resolver) appendTo(out []byte) []byte {
	done := int32(0)
	for _, m := range r.mentions {
		out = append(out, r.text[done:m.start]...)
		if m.name < 0 {
			out = append(out, r.text[m.start:][:markLen]...)
		} else {
			out = append(out, r.final[m.name]...)
		}
		done = m.end
	}
	return append(out, r.text[done:]...)
}

// find finds the marked names in the text.
func (r *resolver) find() {
	text := r.text
	for at := 0; ; {
		next := bytes.IndexByte(text[at:], markFirst)
		if next < 0 {
			return
		}
		at += next
		mark := markAt(text[at:])
		if mark == "" {
			at++
			continue
		}
		end := at + markLen
		if markAt(text[end:]) == mark {
			r.mentions = append(r.mentions, mention{int32(at), int32(end + markLen), -1})
			at = end + markLen
			continue
		}
		for end < len(text) && word[text[end]] {
			end++
		}
		r.mentions = append(r.mentions, mention{int32(at), int32(end), r.nameAt(text[at:end])})
		at = end
	}
}

// nameAt returns the index of a marked name in r.marked.
func (r *resolver) nameAt(name []byte) int32 {
	n := len(name)
	hash := name[markLen-1] ^ name[n-1]<<3 ^ name[min(markLen, n-1)] ^ byte(n)<<5
	if i := r.recent[hash]; int(i) < len(r.marked) && r.marked[i] == string(name) {
		return i
	}
	i, ok := r.index[string(name)]
	if !ok {
		i = int32(len(r.marked))
		r.marked = append(r.marked, string(name))
		r.index[r.marked[i]] = i
	}
	r.recent[hash] = i
	return i
}

// namePackages decides the name by which the file imports each package.
func (r *resolver) namePackages() error {
	type token struct {
		name string
		i    int
	}
	var tokens []token
	for i, name := range r.marked {
		if name[:markLen] == packageMark {
			tokens = append(tokens, token{name[markLen:], i})
		}
	}
	// The packages that most files import keep their names, whatever the names of namespaces.
	slices.SortFunc(tokens, func(a, b token) int {
		if outA, outB := outside[a.name] != nil, outside[b.name] != nil; outA != outB {
			if outA {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.name, b.name)
	})
	for _, t := range tokens {
		spec := r.draft.plan.importSpec(t.name)
		if spec == nil {
			return fmt.Errorf("no package is called %q", t.name)
		}
		r.final[t.i] = r.free(t.name, r.draft.pkg.scope.has)
		r.imports = append(r.imports, imported{spec, r.final[t.i]})
	}
	return nil
}

// nameLocals names the parameters and variables that have a mark.
func (r *resolver) nameLocals(mark string) {
	for i, name := range r.marked {
		if name[:markLen] == mark {
			r.final[i] = r.free(name[markLen:], r.mentioned)
		}
	}
}

// free returns name with as many underscores appended as necessary to be unique in the file, and so
// that clashes does not hold.
func (r *resolver) free(name string, clashes func(string) bool) string {
	for reserved(name) || r.taken[name] || clashes(name) {
		name += "_"
		r.renamed = true
	}
	r.taken[name] = true
	return name
}

// mentioned reports whether name stands for something in the package that the file may mention,
// which a variable with that name would hide. A name at package level that the file does not
// mention can be hidden without harm. So the code of types depends only on the schema file that
// declares them, not on other knowledge of a run.
func (r *resolver) mentioned(name string) bool {
	by, taken := r.draft.pkg.scope[name]
	if !taken || by != nil && !r.draft.sees[by.file] {
		return false
	}
	for at := 0; ; {
		next := bytes.Index(r.text[at:], []byte(name))
		if next < 0 {
			return false
		}
		at += next
		end := at + len(name)
		before := at > 0 && (word[r.text[at-1]] || r.text[at-1] == '.')
		marked := at >= markLen && markAt(r.text[at-markLen:]) != ""
		line := bytes.TrimLeft(r.text[bytes.LastIndexByte(r.text[:at], '\n')+1:at], "\t")
		comment := bytes.HasPrefix(line, []byte("//"))
		if !before && !marked && !comment && (end == len(r.text) || !word[r.text[end]]) {
			return true
		}
		at = end
	}
}

// forked returns an imported package, with the path that the options give it.
func (o Options) forked(spec *importSpec) *importSpec {
	path := spec.path
	if rest, ok := strings.CutPrefix(path, runtimePath); ok && o.Runtime != "" {
		path = o.Runtime + rest
	}
	if path == flatbuffersPath && o.Flatbuffers != "" {
		path = o.Flatbuffers
	}
	if path == spec.path {
		return spec
	}
	// The last element of another path may differ from the name of the package.
	return &importSpec{path: path, name: spec.name, named: true}
}

// importSpec returns the package for which emitters use the given name, or nil.
func (p *plan) importSpec(token string) *importSpec {
	if spec := outside[token]; spec != nil {
		return p.opts.forked(spec)
	}
	if k := p.tokens[token]; k != nil {
		return &importSpec{path: k.importPath, name: k.name, named: true, pkg: k}
	}
	return nil
}

// qualifier returns the qualifier for names of package k in this file.
func (f *file) qualifier(k *pkg) string {
	if k == f.pkg {
		return ""
	}
	return packageMark + k.token + "."
}

// fieldLocal returns the name of a parameter or variable that is named for a field.
func fieldLocal(name string) string { return fieldMark + name }

// paramName returns the name of the parameter that holds the value of a field.
func paramName(field *schema.Field) string { return fieldLocal(lowerCamel(field.Name)) }

// word has the characters of the schema language's identifiers.
var word = func() (set [256]bool) {
	for c := range set {
		set[c] = c == '_' || isDigit(byte(c)) || isLetter(byte(c))
	}
	return set
}()
