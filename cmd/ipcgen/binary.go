package main

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A binary schema has no first line that names its owner. It has the names of the files from which
// it was made, including the root file. The names are relative to the folder of the go.mod or,
// without one, to the output folder, so they are the same on every machine.

// planBinary plans the .bfbs file of each schema.
func (c *command) planBinary(t *tree, schemas []*schema.Schema, diags *diag.List) error {
	for i, s := range schemas {
		base := strings.TrimSuffix(filepath.Base(c.paths[i]), filepath.Ext(c.paths[i])) + ".bfbs"
		root := s.Files[len(s.Files)-1]
		p := &product{path: filepath.Join(c.out, base), name: base, source: t.out.name(root),
			root: t.out.binaryName(root)}
		data := bfbs.Write(s, t.out.binaryName, diags)
		if err := t.add(p, rendering{c.paths[i], func([]byte) ([]byte, error) {
			return data, nil
		}}); err != nil {
			return err
		}
	}
	return nil
}

// binaryName returns the name of a schema's file within a binary schema.
func (o *outputFolder) binaryName(f *schema.File) string {
	if f.Path == "" || strings.HasSuffix(f.Path, ".bfbs") {
		return f.Name
	}
	name := o.name(f)
	if isPath(name) {
		name = path.Clean(name)
		if o.module != nil {
			if rel, err := filepath.Rel(o.module.dir,
				filepath.Join(o.real, filepath.FromSlash(name))); err == nil {
				name = filepath.ToSlash(rel)
			}
		}
	}
	return "//" + name
}

// findBinary returns the path of the file with the given name within a binary schema, or "".
func (o *outputFolder) findBinary(name string) string {
	name = strings.TrimPrefix(name, "//")
	base := o.real
	if o.module != nil {
		base = o.module.dir
	}
	if file := filepath.Join(base, filepath.FromSlash(name)); exists(file) {
		return file
	}
	return o.find(name)
}

// mayReplaceBinary returns an error unless a binary schema may replace a file: the file is not a
// binary schema, or it is that of another schema that still exists.
func (t *tree) mayReplaceBinary(p *product, old []byte) error {
	if len(old) == 0 {
		return nil
	}
	if !bfbs.Marked(old) {
		return fmt.Errorf("cannot write %s: it exists and is not a binary schema; move it away "+
			"or choose another folder with -o", p.path)
	}
	diags := new(diag.List)
	s := bfbs.Read(p.path, old, diags)
	if s == nil || diags.HasErrors() {
		return nil // the old file is damaged
	}
	root := s.Files[len(s.Files)-1].Name
	file := t.out.findBinary(root)
	if root == p.root || file == "" || resolve(file) == resolve(t.out.findBinary(p.root)) {
		return nil
	}
	return fmt.Errorf(
		"cannot write %s for %s: it is made from %s; give one of them another name, or its own -o",
		p.path, t.display(p.source), t.relative(file))
}
