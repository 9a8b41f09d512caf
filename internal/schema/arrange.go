package schema

import (
	"slices"
	"strings"
)

// Arrange puts what the schema lists into the order that the model promises,
// and drops files that the last one does not include. It is for those who make
// a model.
func (s *Schema) Arrange() {
	sortBy(s.Objects, (*Object).FullName)
	sortBy(s.Enums, (*Enum).FullName)
	sortBy(s.Services, (*Service).FullName)
	for _, f := range s.Files {
		sortBy(f.Includes, func(f *File) string { return f.Name })
	}
	if n := len(s.Files); n > 0 {
		s.Files = withIncludes(s.Files[n-1])
	}
}

// sortBy sorts a list by names that are costly to make, and makes each once.
func sortBy[T comparable](list []T, name func(T) string) {
	names := make(map[T]string, len(list))
	for _, v := range list {
		names[v] = name(v)
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(names[a], names[b]) })
}

// withIncludes lists a file and all it includes, each behind those it includes.
func withIncludes(root *File) (files []*File) {
	seen := make(map[*File]bool)
	var add func(f *File)
	add = func(f *File) {
		if seen[f] {
			return
		}
		seen[f] = true
		for _, g := range f.Includes {
			add(g)
		}
		files = append(files, f)
	}
	add(root)
	return files
}
