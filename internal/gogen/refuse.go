package gogen

import (
	"path"
	"strings"

	"golang.org/x/mod/module"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file detects output that the go command treats specially: packages that it does not build,
// and methods that go vet takes for something else.

// checkFolders reports packages whose folders have a special meaning to the go command.
func (p *plan) checkFolders(drafts []*Draft) {
	seen := make(map[*pkg]bool)
	folded := make(map[string]*pkg) // by import path in small letters
	for _, d := range drafts {
		if n := len(path.Base(d.Path)); n > longestFileName {
			p.diags.Errorf(d.span, "%s becomes a file whose name has %d characters, and file "+
				"systems allow %d", d.Types[0], n, longestFileName).
				Helpf("give it a shorter name, or write one file for each schema (-one-file)")
		}
		k := d.pkg
		if seen[k] || k.dir == "" {
			continue
		}
		seen[k] = true
		span := d.span
		for piece := range strings.SplitSeq(k.dir, "/") {
			p.checkFolder(k, piece, span)
		}
		if err := module.CheckImportPath(k.dir); err != nil {
			p.diags.Errorf(span, "namespace %s cannot be a Go package: %v", k.namespace,
				err).Helpf("%s", otherFolder)
		}
		fold := strings.ToLower(k.importPath)
		if other := folded[fold]; other != nil {
			p.diags.Errorf(span,
				"namespaces %s and %s differ in case only, and no Go program may have packages "+
					"that do",
				other.namespace, k.namespace).Helpf("%s", otherFolder)
		}
		folded[fold] = k
	}
}

// longestFileName is the limit of the file systems of Linux, macOS and Windows.
const longestFileName = 255

const otherFolder = "rename the namespace, or generate one package for all namespaces (-package)"

// checkFolder reports a component of a namespace that is the name of a special folder.
func (p *plan) checkFolder(k *pkg, piece string, span diag.Span) {
	switch {
	case len(piece) > longestFileName:
		p.diags.Errorf(span,
			"namespace %s becomes a folder whose name has %d characters, and file systems allow %d",
			k.namespace, len(piece), longestFileName).Helpf("%s", otherFolder)
	case piece == "internal":
		p.diags.Errorf(span,
			"namespace %s cannot be a Go package for others: a folder called internal is closed "+
				"to them",
			k.namespace).Helpf("%s", otherFolder)
	case piece == "vendor":
		p.diags.Errorf(span,
			"namespace %s cannot be a Go package: a folder called vendor holds copies of other "+
				"modules",
			k.namespace).Helpf("%s", otherFolder)
	case piece == "testdata", piece[0] == '_':
		p.diags.Warnf(span,
			"namespace %s becomes a folder that the go command passes over in patterns such as "+
				"./...",
			k.namespace).Helpf("%s", otherFolder)
	}
}

// vetMethods has the methods whose signatures go vet checks, with their meanings. The signature of
// a generated method always differs.
var vetMethods = map[string]string{
	"GobDecode":     "gob.GobDecoder",
	"GobEncode":     "gob.GobEncoder",
	"MarshalJSON":   "json.Marshaler",
	"MarshalXML":    "xml.Marshaler",
	"ReadByte":      "io.ByteReader",
	"ReadRune":      "io.RuneReader",
	"UnmarshalJSON": "json.Unmarshaler",
	"UnmarshalXML":  "xml.Unmarshaler",
	"UnreadByte":    "io.ByteScanner",
	"UnreadRune":    "io.RuneScanner",
	"WriteByte":     "io.ByteWriter",
}

// checkMethods reports fields and methods of services that become methods which go vet refuses.
func (p *plan) checkMethods() {
	report := func(span diag.Span, what, method string) {
		p.diags.Errorf(span, "%s becomes a method %s, which go vet and readers take for that of %s",
			what, method,
			vetMethods[method]).Helpf("rename it; the messages themselves hold no names")
	}
	for _, o := range p.schema.Objects {
		if !p.generated(o.File) {
			continue
		}
		for _, f := range o.Fields {
			n := p.fields[f]
			for _, method := range [...]string{
				n.Get, n.Length, n.Bytes, n.Int8s, n.ByKey, n.Mutate, n.NestedRoot, n.NestedObject,
			} {
				if method != "" && vetMethods[method] != "" {
					report(f.Span, "field "+fullName(o.Namespace, o.Name)+"."+f.Name, method)
				}
			}
		}
	}
	for _, s := range p.services {
		if !p.generated(s.decl.File) {
			continue
		}
		for _, m := range s.methods {
			if vetMethods[m.name] != "" {
				report(m.decl.Span, "method "+fullName(s.decl.Namespace, s.decl.Name)+"."+
					m.decl.Name, m.name)
			}
		}
	}
}

// checkTypes reports types that cannot have the name in the schema.
func (p *plan) checkTypes() {
	warn := func(from *schema.File, span diag.Span, kind, name, inGo, alias string) {
		if !p.generated(from) || goName(name) == name {
			return
		}
		d := p.diags.Warnf(span, "%s %s is called %s in Go, where that name is taken",
			kind, name, inGo)
		if alias != "" {
			d.Helpf("other packages call it %s; begin the names of types with a capital", alias)
		}
	}
	for _, o := range p.schema.Objects {
		warn(o.File, o.Span, kindOf(o), o.Name, p.objects[o].Type, p.objects[o].Alias)
	}
	for _, e := range p.schema.Enums {
		kind := "enum"
		if e.IsUnion {
			kind = "union"
		}
		warn(e.File, e.Span, kind, e.Name, p.enums[e].Type, p.enums[e].Alias)
	}
}
