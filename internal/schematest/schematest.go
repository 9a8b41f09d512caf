// Package schematest generates random, valid schemas for tests.
//
// [Random] uses every feature of the schema language, over several namespaces and several files.
// The same seed gives the same schema. The front end accepts every schema that Random returns. A
// code generator may refuse one only for a documented reason, such as packages that need each
// other.
package schematest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A File is one schema file.
type File struct {
	Name string // its name in include statements
	Text string
}

// Reader returns a function that reads these files, by their names.
func Reader(files []File) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if i := slices.IndexFunc(files, func(f File) bool { return f.Name == name }); i >= 0 {
			return []byte(files[i].Text), nil
		}
		return nil, fs.ErrNotExist
	}
}

// A Config configures [Random].
type Config struct {
	// UniqueNames gives every type another name, whatever its namespace, so that several runs can
	// generate the types into one package.
	UniqueNames bool
}

// Random returns the files of a schema. Each file includes only files before it, and the last one
// includes all others, directly or indirectly.
func Random(seed uint64, c Config) []File {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), taken: make(map[string]bool),
		named: make(map[string]bool)}
	// of envelopes
	g.fields = map[string]bool{"seq": true, "ref_seq": true, "payload0": true,
		"any0": true, "u0": true}
	// Namespaces refer only to those before them, so that Go packages need not import each other.
	// In a few schemas they refer to any namespace.
	g.tangled = g.chance(12)
	g.unique = c.UniqueNames
	g.namespaces = slices.Clone(namespaces)
	g.Shuffle(len(g.namespaces), func(i, j int) {
		g.namespaces[i], g.namespaces[j] = g.namespaces[j], g.namespaces[i]
	})
	g.namespaces = g.namespaces[:1+g.IntN(5)]
	n := 1 + g.IntN(4)
	g.several = n > 1
	for i := range n {
		g.files = append(g.files, g.file(i, i == n-1))
	}
	return g.files
}

// Names that resemble those of generated code, and ordinary ones.
var (
	namespaces = []string{
		"", "a", "b", "a.b", "a.b.c", "c.d", "Game.Example", "err", "key", "fb", "ipc",
		"flatbuffers", "bytes", "math", "x_y",
		"x__y", "x.y", "context", "type", "main", "n.func.m", "strconv.cmp", "Upper",
	}
	typeNames = []string{
		"Monster", "Weapon", "Vec3", "Color", "Item", "Reply", "Request", "Any", "Stat", "Foo",
		"FooT", "FooBar", "Foo_Bar", "Ab",
		"err", "j", "m", "seq", "offset", "table", "key", "pos", "o1", "vectorLocation", "b", "v",
		"x", "n", "buf", "builder", "rcv", "t",
		"obj", "ctx", "fb", "flatbuffers", "ipc", "bytes", "cmp", "math", "strconv", "context",
		"refSeq", "root", "u", "s", "c", "f", "h",
		"req", "rep", "error", "len", "make", "nil", "any", "new", "func", "range", "init",
		"Verify", "String", "Table", "Builder",
		"snake_case", "_lead", "trail_", "X1", "i0", "types", "values", "limits", "size", "read",
		"build", "header", "payload",
	}
	fieldNames = []string{
		"id", "name", "pos", "hp", "mana", "inventory", "friendly", "items", "value", "kind",
		"data", "flags", "testnested", "any_value",
		"fooBar", "foo_bar", "a_bytes", "aLength", "mutate_a", "len", "type", "func", "nil",
		"string_", "init", "table", "pack", "un_pack", "builder",
		"flatbuffers", "fb", "ipc", "rcv", "key", "obj", "j", "n", "_under", "x1", "HTTPServer",
		"double__under", "trailing_", "err", "t", "v",
	}
	valueNames = []string{"A", "B", "C", "None", "Red", "Green", "Blue", "type", "nil", "rr", "ror",
		"init", "_x", "T", "String", "Names"}
	scalars = []string{"bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong",
		"float", "double", "int8", "uint64", "float32"}
	integers = []string{"byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong"}
)

type kind int

const (
	enumKind kind = iota
	structKind
	tableKind
	unionKind
)

// A decl is a type that was declared.
type decl struct {
	kind      kind
	namespace int // index in generator.namespaces
	file      int
	name      string
	full      string
	values    []string // of an enum
	zero      bool     // the enum has a value 0
	flags     bool     // the enum is of bits
	keyed     bool     // the table or struct has a key
	size      int      // of the struct, at most
}

type generator struct {
	*rand.Rand
	tangled, unique, several bool
	namespaces               []string
	files                    []File
	sees                     []map[int]bool // by file: the files that it includes
	decls                    []*decl
	taken                    map[string]bool // full names; bare ones where unique
	named                    map[string]bool // names that types have
	fields                   map[string]bool // names that fields have
	at                       int             // index of the current namespace
	current                  int             // index of the current file
	out                      strings.Builder
}

func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

func (g *generator) p(format string, args ...any) { fmt.Fprintf(&g.out, format+"\n", args...) }

// file writes the file with the given number.
func (g *generator) file(number int, last bool) File {
	g.current = number
	g.out.Reset()
	sees := map[int]bool{number: true}
	for i := range number {
		if g.chance(2) {
			g.p("include %q;", g.files[i].Name)
			for j := range g.sees[i] {
				sees[j] = true
			}
		}
	}
	for i := range number {
		if last && !sees[i] {
			g.p("include %q;", g.files[i].Name)
			sees[i] = true
		}
	}
	g.sees = append(g.sees, sees)
	g.p(`attribute "stream"; attribute "envelope"; attribute "read_only"; attribute "timeout"; attribute "topic"; attribute "mine";`)
	var roots []*decl
	services := 0
	for range 1 + g.IntN(3) {
		g.at = g.IntN(len(g.namespaces))
		g.p("namespace %s;", g.namespaces[g.at])
		for range 1 + g.IntN(6) {
			switch g.IntN(10) {
			case 0, 1:
				g.enum()
			case 2, 3:
				g.structure()
			case 4:
				g.union()
			case 5:
				services++
				g.service(services)
			default:
				if t := g.table(); t != nil {
					roots = append(roots, t)
				}
			}
		}
	}
	if len(roots) > 0 && g.chance(2) {
		g.p("root_type %s;", pick(g, roots).full)
		if g.chance(2) {
			g.p("file_identifier %q;", pick(g, []string{"ABCD", "a$1 ", "MONS"}))
		}
	}
	return File{fmt.Sprintf("f%d.fbs", number), g.out.String()}
}

// doc writes a comment, or none.
func (g *generator) doc(indent string) {
	if g.chance(6) {
		for range 1 + g.IntN(2) {
			g.p("%s/// %s", indent, pick(g, []string{
				"What it is.", "costs $5, ℓx ℙfb.F ℱn", "a `quote`, ``two''", "*/ /*", "  indented",
				"- a list", "#heading", "日本 — \u2028", "go:noinline", "",
			}))
		}
	}
}

// newType returns a type with a name of its own in the current namespace, or nil.
func (g *generator) newType(k kind) *decl {
	for range 20 {
		name := pick(g, typeNames)
		if g.chance(3) {
			name += strconv.Itoa(g.IntN(9))
		}
		d := &decl{kind: k, namespace: g.at, file: g.current, name: name, full: name}
		if ns := g.namespaces[g.at]; ns != "" {
			d.full = ns + "." + name
		}
		key := d.full
		if d.full == name && g.named[name] || g.taken[name] && !g.unique {
			continue // one would hide the other in the inner namespace
		}
		if g.unique {
			key = strings.ToLower(name)
		}
		// A field may not have the name of a type.
		if !g.taken[key] && !g.fields[name] && !g.isNamespace(d.full) && !g.unseen(name) {
			g.taken[key], g.named[name] = true, true
			return d
		}
	}
	return nil
}

// unseen reports whether a file that this one does not include has a type whose name, or a name
// derived from it, could be the same.
func (g *generator) unseen(name string) bool {
	stem := func(name string) string { return strings.ToLower(name[:min(len(name), 3)]) }
	if g.several && slices.Contains(g.namespaces, strings.TrimRight(name, "_")) {
		return true // the import of the namespace
	}
	return slices.ContainsFunc(g.decls, func(d *decl) bool {
		return !g.sees[g.current][d.file] && stem(d.name) == stem(name)
	})
}

func (g *generator) isNamespace(full string) bool {
	return slices.ContainsFunc(g.namespaces, func(ns string) bool {
		return ns == full || strings.HasPrefix(ns, full+".")
	})
}

// types returns the declared types of one kind that may be used here.
func (g *generator) types(k kind) []*decl {
	var found []*decl
	for _, d := range g.decls {
		if d.kind == k && g.sees[g.current][d.file] && (g.tangled || d.namespace <= g.at) {
			found = append(found, d)
		}
	}
	return found
}

// fieldName returns a name for a field that is not in among.
func (g *generator) fieldName(among map[string]bool) string {
	for {
		name := pick(g, fieldNames)
		if g.chance(2) {
			name += strconv.Itoa(g.IntN(30))
		}
		if !among[name] && !g.named[name] {
			among[name], g.fields[name] = true, true
			return name
		}
	}
}

func (g *generator) enum() {
	d := g.newType(enumKind)
	if d == nil {
		return
	}
	d.flags = g.chance(5)
	base := pick(g, integers)
	if d.flags {
		base = pick(g, []string{"ubyte", "ushort", "uint", "ulong"})
	}
	g.doc("")
	meta := ""
	if d.flags {
		meta = " (bit_flags)"
	}
	g.p("enum %s:%s%s {", d.name, base, meta)
	values := slices.Clone(valueNames)
	g.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	d.values = values[:1+g.IntN(5)]
	next := g.IntN(3)
	for i, v := range d.values {
		g.doc("  ")
		d.zero = d.zero || next == 0 && !d.flags
		if i == 0 || g.chance(3) {
			g.p("  %s = %d,", v, next)
			next += 1
			continue
		}
		g.p("  %s,", v)
		next++
	}
	g.p("}")
	g.decls = append(g.decls, d)
}

// scalar returns a type, other than a struct, for a field of a struct.
func (g *generator) scalar() string {
	if enums := g.types(enumKind); len(enums) > 0 && g.chance(3) {
		if e := pick(g, enums); e.zero {
			return e.full
		}
	}
	return pick(g, scalars)
}

func (g *generator) structure() {
	d := g.newType(structKind)
	if d == nil {
		return
	}
	g.doc("")
	var meta []string
	if g.chance(4) {
		meta = append(meta, "stream")
	}
	if g.chance(6) {
		meta = append(meta, "topic")
	} else if g.chance(6) {
		meta = append(meta, `topic: "payload"`)
	}
	if g.chance(6) {
		meta = append(meta, "force_align: 16")
	}
	g.p("struct %s%s {", d.name, attributes(meta))
	among := make(map[string]bool)
	for range 1 + g.IntN(4) {
		typ, size := g.scalar(), 8
		if structs := g.types(structKind); len(structs) > 0 && g.chance(3) {
			if s := pick(g, structs); s.size < 2000 {
				typ, size = s.full, s.size
			}
		}
		if g.chance(5) {
			n := 1 + g.IntN(3)
			typ, size = fmt.Sprintf("[%s:%d]", typ, n), size*n
		}
		d.size += size + 16
		g.doc("  ")
		key := ""
		if !d.keyed && g.chance(5) {
			d.keyed, key = true, " (key)"
		}
		g.p("  %s:%s%s;", g.fieldName(among), typ, key)
	}
	g.p("}")
	g.decls = append(g.decls, d)
}

func attributes(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func (g *generator) union() {
	members := append(g.types(tableKind), g.types(structKind)...)
	if len(members) == 0 {
		return
	}
	d := g.newType(unionKind)
	if d == nil {
		return
	}
	g.doc("")
	base := ""
	if g.chance(6) {
		base = ":" + pick(g, []string{"ubyte", "int", "ushort"})
	}
	g.p("union %s%s {", d.name, base)
	names := make(map[string]bool)
	for i := range 1 + g.IntN(4) {
		m := pick(g, members)
		name, typ := m.name, m.full
		switch {
		case g.chance(5):
			name, typ = fmt.Sprintf("Text%d", i), "string"
		case g.chance(3):
			name = fmt.Sprintf("%s%d", pick(g, []string{"Alias", "m_", "e"}), i)
		}
		if names[strings.ToLower(name)] || name == "NONE" {
			continue
		}
		names[strings.ToLower(name)] = true
		g.doc("  ")
		g.p("  %s: %s,", name, typ)
	}
	g.p("}")
	g.decls = append(g.decls, d)
}

// A field is a field of a table, before its attributes are written.
type field struct {
	name, typ, value string
	meta             []string
	scalar           bool
	vector           bool
	slots            int
}

func (g *generator) table() *decl {
	d := g.newType(tableKind)
	if d == nil {
		return nil
	}
	among := make(map[string]bool)
	var fields []*field
	for range g.IntN(8) {
		fields = append(fields, g.field(d, among))
	}
	if unions := g.types(unionKind); len(unions) > 0 && g.chance(3) { // an envelope
		fields = nil
		if g.chance(2) {
			fields = append(fields, &field{name: "seq", typ: "ulong", slots: 1})
		}
		if g.chance(2) {
			fields = append(fields, &field{name: "ref_seq", typ: "ulong", slots: 1})
		}
		fields = append(fields,
			&field{name: pick(g, []string{"payload", "any", "u"}) + "0",
				typ: pick(g, unions).full, slots: 2})
	}
	if g.chance(4) { // explicit ids, in any order
		order := g.Perm(len(fields))
		next := 0
		for _, i := range order {
			next += fields[i].slots
			fields[i].meta = append(fields[i].meta, fmt.Sprintf("id: %d", next-1))
		}
	}
	g.doc("")
	var meta []string
	if g.chance(12) {
		meta = append(meta, `envelope: "none"`)
	}
	if g.chance(8) {
		meta = append(meta, "topic")
	}
	g.p("table %s%s {", d.name, attributes(meta))
	for _, f := range fields {
		g.doc("  ")
		g.p("  %s:%s%s%s;", f.name, f.typ, f.value, attributes(f.meta))
	}
	g.p("}")
	g.decls = append(g.decls, d)
	return d
}

// field returns a field of table d.
func (g *generator) field(d *decl, among map[string]bool) *field {
	f := &field{slots: 1}
	tables, structs, unions, enums := g.types(tableKind), g.types(structKind), g.types(unionKind),
		g.types(enumKind)
	switch n := g.IntN(16); {
	case n < 3 && len(enums) > 0:
		e := pick(g, enums)
		f.typ, f.scalar = e.full, true
		switch {
		case g.chance(4):
			f.value = " = null"
		case !e.zero && !e.flags:
			f.value = " = " + pick(g, e.values)
		case g.chance(2) && !e.flags:
			f.value = " = " + pick(g, e.values)
		}
	case n < 6:
		f.typ, f.scalar = pick(g, scalars), true
		if strings.HasPrefix(f.typ, "float") || f.typ == "double" {
			f.value = pick(g,
				[]string{"", " = 1.5", " = nan", " = -inf", " = -0.0", " = null", " = 1e30"})
		} else {
			f.value = pick(g, []string{"", "", " = 1", " = null"})
		}
	case n < 7:
		f.typ = "string"
		if g.chance(4) {
			f.value = pick(g, []string{` = "x"`, ` = "a ℓb \" $"`})
		}
	case n < 8 && len(structs) > 0:
		f.typ = pick(g, structs).full
	case n < 9 && len(unions) > 0:
		f.typ, f.slots = pick(g, unions).full, 2
	case n < 10 && len(unions) > 0:
		f.typ, f.slots, f.vector = "["+pick(g, unions).full+"]", 2, true
	case n < 11 && len(tables) > 0:
		f.typ = "[ubyte]"
		f.vector = true
		f.meta = append(f.meta, fmt.Sprintf("nested_flatbuffer: %q", pick(g, tables).full))
	case n < 13:
		var all []string
		for _, t := range slices.Concat(tables, structs, enums) {
			all = append(all, t.full)
		}
		all = append(all, "string", d.name, "ubyte", "byte", pick(g, scalars))
		f.typ, f.vector = "["+pick(g, all)+"]", true
	case len(tables) > 0 && g.chance(2):
		f.typ = pick(g, tables).full
	default:
		f.typ = d.name
	}
	f.name = g.fieldName(among)
	optional := f.value == " = null"
	isString := f.typ == "string"
	isStruct := slices.ContainsFunc(structs, func(s *decl) bool { return s.full == f.typ })
	switch {
	case !d.keyed && !optional &&
		(f.scalar || isString && f.value == "" || isStruct) && g.chance(4):
		d.keyed = true
		f.meta = append(f.meta, "key")
	case !f.scalar && f.value == "" && g.chance(6):
		f.meta = append(f.meta, "required")
	case g.chance(10):
		f.meta = append(f.meta, "deprecated")
	case isString && g.chance(6):
		f.meta = append(f.meta, "shared")
	case g.chance(12):
		f.meta = append(f.meta, "mine")
	}
	return f
}

func (g *generator) service(number int) {
	tables := g.types(tableKind)
	if len(tables) == 0 {
		return
	}
	// Members of the same union can travel in envelopes.
	name := fmt.Sprintf("%s%d%d", pick(g, []string{"Store", "control", "Svc", "err", "my_service"}),
		g.current, number)
	g.doc("")
	g.p("rpc_service %s {", name)
	methods := []string{"Get", "set_it", "Store", "List", "err", "Func", "Close",
		"String", "m", "Call"}
	g.Shuffle(len(methods), func(i, j int) { methods[i], methods[j] = methods[j], methods[i] })
	for _, m := range methods[:1+g.IntN(4)] {
		g.doc("  ")
		meta := pick(g, [][]string{nil, nil, {"idempotent"}, {"read_only"},
			{"idempotent", "read_only"}, {`streaming: "none"`}, {`timeout: "1.5s"`},
			{`timeout: "1m"`, "read_only"}})
		g.p("  %s(%s):%s%s;", m, pick(g, tables).full, pick(g, tables).full, attributes(meta))
	}
	g.p("}")
}
