package schema

import (
	"slices"
	"strings"
)

// Arrange puts the lists of the schema into the order that the model guarantees, and removes files
// that the last file does not include. It is for packages that construct a model.
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

// sortBy sorts a list by names that are costly to derive, and derives each name once.
func sortBy[T comparable](list []T, name func(T) string) {
	names := make(map[T]string, len(list))
	for _, v := range list {
		names[v] = name(v)
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(names[a], names[b]) })
}

// withIncludes returns a file and all files that it includes, each after the files that it
// includes.
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
