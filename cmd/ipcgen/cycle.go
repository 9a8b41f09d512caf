package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// A schema with an import between two packages, and an unrelated schema with the import in the
// other direction, are both correct, but the packages of both together do not compile. So the
// imports of a run's files are followed through the files that other runs have left.

// An edge is the import of one package of the output folder by a file of another.
type edge struct {
	from, to string // folders
	file     *goText
	of       *neighbour // the neighbour with the import; nil for a product
}

// imports has the edges between the folders of the output.
type imports struct {
	tree       *tree
	edges      map[string][]edge // by the folder with the import
	neighbours map[string][]neighbour
}

// meets reports whether files of several schemas meet in the output folder.
func (t *tree) meets(others []neighbour) bool {
	return t.schemas > 1 ||
		slices.ContainsFunc(others, func(n neighbour) bool {
			return n.generated && n.out != "" && !t.abandoned(n)
		})
}

// checkCycles reports packages that import each other because of several schemas.
func (t *tree) checkCycles(made []*goText, others []neighbour) error {
	g := &imports{tree: t, edges: make(map[string][]edge), neighbours: make(map[string][]neighbour)}
	for _, n := range others {
		if n.generated && n.out != "" && !t.abandoned(n) {
			g.neighbours[folderOf(n.name)] = append(g.neighbours[folderOf(n.name)], n)
		}
	}
	var from []string
	for i, text := range made {
		if text != nil {
			dir := folderOf(t.products[i].name)
			if g.add(dir, text, nil); len(g.edges[dir]) > 0 {
				from = append(from, dir)
			}
		}
	}
	slices.Sort(from)
	for _, dir := range slices.Compact(from) {
		for {
			cycle, err := g.wayBack(dir, dir, make(map[string]bool))
			if err != nil {
				return err
			}
			if cycle == nil {
				break
			}
			if stale := slices.IndexFunc(cycle, func(e edge) bool {
				return !t.stillImports(e)
			}); stale >= 0 {
				g.remove(cycle[stale])
				continue
			}
			return t.cycleError(cycle)
		}
	}
	return nil
}

// add adds the imports of a file.
func (g *imports) add(dir string, text *goText, of *neighbour) {
	for _, importPath := range text.paths {
		to := ""
		if importPath != g.tree.opts.ImportPath {
			rest, ok := strings.CutPrefix(importPath, g.tree.opts.ImportPath+"/")
			if !ok {
				continue
			}
			to = rest
		}
		g.edges[dir] = append(g.edges[dir], edge{dir, to, text, of})
	}
}

func (g *imports) remove(e edge) {
	g.edges[e.from] = slices.DeleteFunc(g.edges[e.from], func(other edge) bool {
		return other.file == e.file && other.to == e.to
	})
}

// wayBack returns a chain of at least one import that leads from one folder to another.
func (g *imports) wayBack(from, to string, seen map[string]bool) ([]edge, error) {
	seen[from] = true
	for _, n := range g.neighbours[from] { // read when they are needed, and once
		text, err := n.names()
		if err != nil {
			return nil, err
		}
		g.add(from, text, &n)
	}
	delete(g.neighbours, from)
	for _, e := range g.edges[from] {
		if e.to == to {
			return []edge{e}, nil
		}
		if seen[e.to] {
			continue
		}
		if rest, err := g.wayBack(e.to, to, seen); rest != nil || err != nil {
			return append([]edge{e}, rest...), err
		}
	}
	return nil, nil
}

// stillImports reports whether the schema of a neighbour still produces an import. The files of a
// schema that no longer exists are taken over, and so removed.
func (t *tree) stillImports(e edge) bool {
	if e.of == nil {
		return true
	}
	if t.takesOver(*e.of) {
		return false
	}
	today := t.namesToday(*e.of)
	return today == nil || today.paths[path.Join(t.opts.ImportPath, e.to)]
}

func (t *tree) cycleError(cycle []edge) error {
	var parts []string
	for _, e := range cycle {
		parts = append(parts,
			fmt.Sprintf("%s, from %s, imports %s", e.file.path, t.display(e.file.source),
				path.Join(t.opts.ImportPath, e.to)))
	}
	return fmt.Errorf("packages of Go may not need each other: %s; move one of the types into the "+
		"other's namespace, or generate one package for all namespaces (-package)",
		strings.Join(parts, "; "))
}
