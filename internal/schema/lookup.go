package schema

import (
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// A symbol is a table or a struct that was declared, or mentioned before its declaration.
type symbol struct {
	object *Object
	// pending is set until the declaration is read. The first declaration whose unqualified name
	// fits binds the symbol, whatever its namespace.
	pending bool
	use     diag.Span // of the first mention
	// reported is set once an error has said that the symbol is not declared.
	reported bool
	name     string // as mentioned
}

// qualified returns name in the current namespace, in memory that the next call overwrites. A map
// look-up by string(key) does not allocate.
func (l *linker) qualified(name string) []byte {
	l.key = append(append(l.key[:0], l.prefix...), name...)
	return l.key
}

// declare reports whether name is free for a new type of the current namespace, and records it.
func (l *linker) declare(name fbs.Name) bool {
	full := string(l.qualified(name.Text))
	if at, ok := l.types[full]; ok {
		l.errorf(name.Range, "%s is declared twice", full).Note(at, "the first declaration is here")
		return false
	}
	l.types[full] = l.span(name.Range)
	return true
}

// findEnum returns the enum or union with the given name, searched from the current namespace
// outwards. It finds only enums and unions that are declared already.
func (l *linker) findEnum(name string) *Enum {
	if len(l.enums) == 0 {
		return nil
	}
	for n := len(l.prefix); ; n = outer(l.prefix, n) {
		l.key = append(append(l.key[:0], l.prefix[:n]...), name...)
		if e := l.enums[string(l.key)]; e != nil || n == 0 {
			return e
		}
	}
}

// outer returns the length of the namespace that encloses prefix[:n].
func outer(prefix string, n int) int { return strings.LastIndexByte(prefix[:n-1], '.') + 1 }

// findObject returns the table or struct with the given name: one that was mentioned by exactly
// this name and is not declared yet, one of the current namespace, or one of an enclosing
// namespace.
func (l *linker) findObject(name string) *symbol {
	if s := l.objects[name]; s != nil && s.pending {
		return s
	}
	for n := len(l.prefix); ; n = outer(l.prefix, n) {
		l.key = append(append(l.key[:0], l.prefix[:n]...), name...)
		if s := l.objects[string(l.key)]; s != nil || n == 0 {
			return s
		}
	}
}

// mention returns the table or struct with the given name, and records that it is needed if it is
// not declared yet.
func (l *linker) mention(name string, r fbs.Range) *symbol {
	if s := l.findObject(name); s != nil {
		return s
	}
	s := &symbol{object: &Object{Name: name}, pending: true, use: l.span(r), name: name}
	l.objects[name] = s
	l.pending = append(l.pending, s)
	return s
}

// define returns the symbol that the declaration of name binds: one that was mentioned before, by
// its unqualified or by its full name, or a new one.
func (l *linker) define(name string) *Object {
	full := string(l.qualified(name))
	s := l.objects[name]
	if s != nil && s.pending {
		delete(l.objects, name)
	} else if s = l.objects[full]; s == nil || !s.pending {
		s = &symbol{object: &Object{}}
	}
	s.pending = false
	s.object.Name, s.object.Namespace = name, l.namespace
	l.objects[full] = s
	return s.object
}

// undefined reports a type that was mentioned and never declared.
func (l *linker) undefined(s *symbol) {
	d := l.diags.Errorf(s.use, "type %s is not defined", s.name)
	simple := s.name[strings.LastIndexByte(s.name, '.')+1:]
	var names, same []string
	for full := range l.types {
		names = append(names, full)
		if full == simple || strings.HasSuffix(full, "."+simple) {
			same = append(same, full)
		}
	}
	slices.Sort(names)
	slices.Sort(same)
	for _, full := range same {
		if l.enums[full] != nil {
			d.Note(l.types[full],
				"%s is declared here; an enum or a union must be declared before it is used", full)
			return
		}
	}
	switch near := nearestType(s.name, names); {
	case len(same) > 0:
		d.Helpf("did you mean %s?", same[0])
	case near != "":
		d.Helpf("did you mean %s?", near)
	default:
		d.Helpf("declare it, or include the file that does")
	}
}

// nearestType returns the full name, among full, that is closest to a misspelt name, or the name of
// a built-in type. It returns "" if none is close. The namespace may be misspelt, omitted, or
// another one.
func nearestType(name string, full []string) string {
	if near := diag.Nearest(name, full); near != "" {
		return near
	}
	simple := func(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
	candidates := slices.Clone(fbs.Builtins)
	if strings.Contains(name, ".") {
		candidates = nil
	}
	for _, f := range full {
		candidates = append(candidates, simple(f))
	}
	if len(simple(name)) < 3 {
		return "" // every name is close
	}
	near := diag.Nearest(simple(name), candidates)
	for _, f := range full {
		if near != "" && simple(f) == near {
			return f
		}
	}
	return near
}
