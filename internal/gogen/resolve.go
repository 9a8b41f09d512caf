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

// A schema may use any identifier as the name of anything, and a type keeps the
// name it has there. So the names that belong to generated code alone, of
// imports, parameters and variables, give way. An emitter cannot know which
// names it must avoid, because it does not see the whole file. It therefore
// writes each such name behind a mark, and the mark is all it has to know:
//
//	func (ℓrcv *Monster) Init(ℓbuf []byte, ℓi ℙflatbuffers.UOffsetT)
//
// When the file is complete, resolve replaces each marked name by one that
// nothing else in the file or in its package has, and imports the packages that
// are mentioned. There is no other way to import a package, and an unmarked name
// of a package or variable does not compile, so an emitter can forget neither.
//
// The marks are letters to Go, so that marked text is Go too and can be
// formatted, and no letters to the schema language. Text that comes from a
// schema and is no identifier goes through [unmarked].
const (
	localMark   = "ℓ" // a parameter or variable
	fieldMark   = "ℱ" // a parameter or variable named for a field of the schema
	packageMark = "ℙ" // a package, before the dot of a qualified identifier
)

// The marks have their first two bytes in common and differ in the third.
const (
	markLen   = len(localMark)
	markFirst = '\xe2'
)

// markAt returns the mark that text begins with, or "".
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

// unmarked returns text that resolve turns back into s, whatever marks s holds.
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
	name  string // that the package gives itself
	std   bool
	named bool // the import always states the name
	rare  bool // few files import it, which give way to a type of that name
	pkg   *pkg // of the output, or nil
}

// outside are the packages outside of the output that generated code uses, by
// the names that emitters give them.
var outside = map[string]*importSpec{
	"bytes":       {path: "bytes", name: "bytes", std: true},
	"cmp":         {path: "cmp", name: "cmp", std: true},
	"context":     {path: "context", name: "context", std: true},
	"math":        {path: "math", name: "math", std: true},
	"strconv":     {path: "strconv", name: "strconv", std: true},
	"flatbuffers": {path: flatbuffersPath, name: path.Base(path.Dir(flatbuffersPath)), named: true},
	"fb":          {path: fbPath, name: "fb"},
	"ipc":         {path: runtimePath, name: "ipc", named: true},
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

// An imported package has the name by which the file refers to it.
type imported struct {
	*importSpec
	alias string
}

// A mention is a marked name in a text, as an index into the names of a
// resolver, or a mark that stands for itself, as -1.
type mention struct{ start, end, name int32 }

// A resolver gives the marked names of files their final form, of one file after
// the other: a schema has thousands, and memory that is used again saves much of
// the time that they take.
type resolver struct {
	draft *Draft
	text  []byte

	marked   []string // the names with their marks, in order of appearance
	final    []string // of each
	index    map[string]int32
	recent   [256]int32 // places in marked, by a hash; most mentions are found here
	mentions []mention
	imports  []imported
	taken    nameSet // names in final
	// renamed reports that a name is not as the emitter wrote it, so that what
	// was aligned may no longer be.
	renamed bool
}

// resolve decides what the marked names of a file's text stand for.
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

// find lists the marked names of the text.
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

// nameAt returns the place of a marked name in r.marked.
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

// namePackages decides under which name the file imports each package.
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
	// The packages that most files import keep their names, whatever namespaces
	// are called.
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

// free returns name with as many underscores as it takes to make it a name of
// its own in the file, for which clashes does not hold either.
func (r *resolver) free(name string, clashes func(string) bool) string {
	for reserved(name) || r.taken[name] || clashes(name) {
		name += "_"
		r.renamed = true
	}
	r.taken[name] = true
	return name
}

// mentioned reports whether a name stands for something in the package that the
// file may refer to, which a variable of that name would hide. A name at package
// level that the file does not mention can be hidden without harm. So what a run
// knows beyond the schema file that declares the types does not change their code.
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

// forked returns a package that is imported, at the path that the options give it.
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
	// The last element of another path need not be the package's name.
	return &importSpec{path: path, name: spec.name, named: true}
}

// importSpec returns the package that emitters refer to by a name, or nil.
func (p *plan) importSpec(token string) *importSpec {
	if spec := outside[token]; spec != nil {
		return p.opts.forked(spec)
	}
	if k := p.tokens[token]; k != nil {
		return &importSpec{path: k.importPath, name: k.name, named: true, pkg: k}
	}
	return nil
}

// qualifier returns what stands before the names of package k here.
func (f *file) qualifier(k *pkg) string {
	if k == f.pkg {
		return ""
	}
	return packageMark + k.token + "."
}

// fieldLocal returns the parameter or variable that is named for a field.
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
