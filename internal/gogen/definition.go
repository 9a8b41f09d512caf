package gogen

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file makes the definitions of protocols: what a tool without the schema needs to read, write
// and show messages. Descriptions decide whether two versions fit, so they leave out all else.

// A definition is the binary schema that the protocols of one schema file in one package share. It
// has their services and envelopes, and the types that these reach.
type definition struct {
	name     string // the constant
	first    any    // the protocol in whose file it stands
	pkg      *pkg
	declarer *schema.File
}

// A definitionKey identifies a definition. Each schema file has its own one in each package, as it
// has its own codecs.
type definitionKey struct {
	pkg      *pkg
	declarer *schema.File
}

// define gives a protocol its definition. protocol is an *envelope, a *service, a *stream or a
// *topic, and prefix is what its unexported names begin with.
func (p *plan) define(protocol any, ns schema.Namespace, declarer *schema.File, prefix string) {
	key := definitionKey{p.pkgOf(ns), declarer}
	if declarer != nil && p.definitions[key] == nil {
		p.definitions[key] = &definition{first: protocol, pkg: key.pkg, declarer: declarer,
			name: key.pkg.nameDefinition(prefix, declarer)}
	}
}

// planDefinitions names the definitions of a part, after everything that existing code may name.
func (p *plan) planDefinitions(part *part) {
	for _, e := range p.envelopes {
		if e.table.File == part.file {
			p.define(e, e.table.Namespace, part.file, unexported(p.objects[e.table].Type))
		}
	}
	for _, s := range p.services {
		if s.decl.File == part.file {
			p.define(s, s.decl.Namespace, part.file, unexported(exported(s.decl.Name)))
		}
	}
	for _, s := range p.streams {
		if s.header.File == part.file {
			p.define(s, s.header.Namespace, part.file, unexported(p.objects[s.header].Type))
		}
	}
	for _, t := range p.topics {
		if t.message.File == part.file {
			p.define(t, t.message.Namespace, part.file, unexported(p.objects[t.message].Type))
		}
	}
}

// definitionOf returns the definition of a protocol.
func (p *plan) definitionOf(ns schema.Namespace, declarer *schema.File) *definition {
	return p.definitions[definitionKey{p.pkgOf(ns), declarer}]
}

// binary returns the binary schema of a definition.
func (p *plan) binary(d *definition) []byte {
	k := collector{kept: make(map[any]bool)}
	of := func(ns schema.Namespace, declarer *schema.File) bool {
		return declarer == d.declarer && p.pkgOf(ns) == d.pkg
	}
	for _, e := range p.envelopes {
		if of(e.table.Namespace, e.table.File) {
			k.object(e.table)
		}
	}
	for _, s := range p.streams {
		if of(s.header.Namespace, s.header.File) {
			k.object(s.header)
		}
	}
	for _, t := range p.topics {
		if of(t.message.Namespace, t.message.File) {
			k.object(t.message)
		}
	}
	for _, s := range p.services {
		if !of(s.decl.Namespace, s.decl.File) {
			continue
		}
		k.kept[s.decl] = true
		for _, m := range s.decl.Methods { // also those that are left out
			k.object(m.Request)
			k.object(m.Reply)
		}
		if s.request != nil {
			k.object(s.request.table)
			k.object(s.reply.table)
		}
	}
	return k.schema(p.schema, d.declarer)
}

// A collector finds the parts of a schema that others refer to.
type collector struct{ kept map[any]bool }

func (k *collector) object(o *schema.Object) {
	if o == nil || k.kept[o] {
		return
	}
	k.kept[o] = true
	for _, f := range o.Fields {
		k.typ(f.Type)
		k.object(f.NestedFlatbuffer)
	}
}

func (k *collector) typ(t schema.Type) {
	k.object(t.Object)
	if t.Enum == nil || k.kept[t.Enum] {
		return
	}
	k.kept[t.Enum] = true
	for _, v := range t.Enum.Values {
		k.typ(v.Type)
	}
}

// schema returns the binary schema of what was kept. It depends on root and on the files that root
// includes, whatever the schema has beside them.
func (k *collector) schema(all *schema.Schema, root *schema.File) []byte {
	some := &schema.Schema{}
	declared := make(map[*schema.File]bool)
	note := func(f *schema.File) {
		if f != root && !declared[f] {
			declared[f] = true
			some.Files = append(some.Files, f)
		}
	}
	for _, o := range all.Objects {
		if k.kept[o] {
			some.Objects = append(some.Objects, o)
			note(o.File)
		}
	}
	for _, e := range all.Enums {
		if k.kept[e] {
			some.Enums = append(some.Enums, e)
			note(e.File)
		}
	}
	for _, s := range all.Services {
		if k.kept[s] {
			some.Services = append(some.Services, s)
		}
	}
	some.Files = append(some.Files, root)
	if root.RootType != nil && k.kept[root.RootType] {
		some.Root, some.FileIdentifier = root.RootType, root.Identifier
	}
	return bfbs.WriteExact(some, fileNames(some.Files))
}

// fileNames returns names for the files of a definition, in the form of binary schemas. They do not
// depend on where the files are.
func fileNames(files []*schema.File) func(*schema.File) string {
	names := make(map[*schema.File]string, len(files))
	taken := make(map[string]bool)
	for _, f := range slices.Backward(files) {
		name := path.Base(f.Name)
		for i := 2; taken[name]; i++ {
			name = path.Join(strconv.Itoa(i), path.Base(f.Name))
		}
		taken[name] = true
		names[f] = "//" + name
	}
	return func(f *schema.File) string { return names[f] }
}

// definition writes the definition of a protocol, if it stands in the protocol's file.
func (f *file) definition(protocol any, d *definition) {
	if d == nil || d.first != protocol {
		return
	}
	f.decl(d.name+" is the binary schema of the package's protocols.",
		jen.Const().Id(d.name).Op("=").Add(bytesText(f.plan.binary(d))))
}

// bytesText returns a string literal for bytes that are partly text, over several lines.
func bytesText(data []byte) *jen.Statement {
	const columns = 80
	literal := jen.Lit("")
	for len(data) > 0 {
		n, width := 0, 0
		for n < len(data) && width < columns {
			width += len(quotedByte(data[n]))
			n++
		}
		var b strings.Builder
		for _, c := range data[:n] {
			b.WriteString(quotedByte(c))
		}
		literal.Op("+").Line().Op(`"` + b.String() + `"`)
		data = data[n:]
	}
	return literal
}

// quotedByte returns a byte as it stands in a string literal.
func quotedByte(c byte) string {
	switch {
	case c == '"' || c == '\\':
		return `\` + string(rune(c))
	case c >= ' ' && c < 0x7f:
		return string(rune(c))
	}
	const digits = "0123456789abcdef"
	return `\x` + string([]byte{digits[c>>4], digits[c&15]})
}
