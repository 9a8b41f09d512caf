package gogen

import (
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A Table is a table of a schema, by the names that it has in Go.
type Table struct {
	Object         *schema.Object
	Folder         string // of its package, in the output folder
	Package        string
	Type, ObjectOf string // the accessor, and the object
}

// TablesOf returns the tables of a schema that Generate accepts.
func TablesOf(s *schema.Schema, opts Options) (all []Table) {
	p := newPlan(s, opts, new(diag.List))
	for _, o := range s.Objects {
		if o.IsStruct {
			continue
		}
		pkg, names := p.pkgOf(o.Namespace), p.objects[o]
		all = append(all, Table{o, pkg.dir, pkg.name, names.Type, names.Object})
	}
	return all
}
