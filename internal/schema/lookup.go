package schema

import (
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
)

// A symbol is a table or a struct that was declared, or only mentioned yet.
type symbol struct {
	object *Object
	// pending is set until the declaration is met. The first one whose
	// unqualified name fits binds it, whatever its namespace.
	pending bool
	use     diag.Span // of the first mention
	// reported is set when an error has said that it is not declared.
	reported bool
	name     string // as mentioned
}

// qualified returns name in the current namespace, as scratch that the next
// call overwrites; a map look-up by string(key) does not allocate.
func (l *linker) qualified(name string) []byte {
	l.key = append(append(l.key[:0], l.prefix...), name...)
	return l.key
}

// declare reports whether name is free for a new type of the current
// namespace, and takes it.
func (l *linker) declare(name fbs.Name) bool {
	full := string(l.qualified(name.Text))
	if at, ok := l.types[full]; ok {
		l.errorf(name.Range, "%s is declared twice", full).Note(at, "the first declaration is here")
		return false
	}
	l.types[full] = l.span(name.Range)
	return true
}

// findEnum looks an enum or union up by a name, from the current namespace
// outwards. Only those declared before are found.
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

// findObject looks a table or struct up by a name: one that was mentioned by
// this very name and is still to be declared; one of the current namespace;
// one of the namespaces around it.
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

// mention looks up a table or struct, and notes that it is wanted when it is
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

// define returns the symbol that the declaration of name fills: one that was
// mentioned before, by its unqualified or by its full name, or a new one.
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

// nearestType returns the full name, of those of types, that a misspelt name most
// likely means, or the name of a built-in type; "" when none is close. The namespace
// may be misspelt, left out, or another one.
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
		return "" // everything is near
	}
	near := diag.Nearest(simple(name), candidates)
	for _, f := range full {
		if near != "" && simple(f) == near {
			return f
		}
	}
	return near
}
