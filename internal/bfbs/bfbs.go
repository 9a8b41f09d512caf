// Package bfbs reads and writes binary schemas: FlatBuffers of the format that FlatBuffers'
// reflection.fbs describes, as flatc writes them with -b --schema.
//
// A binary schema comes from outside, so [Read] trusts nothing. The buffer is verified first, and
// then its contents are checked by the rules for the text of a schema. The resulting model equals
// that of the text, except for the parts that the format does not have: positions, declared
// attributes that are not used, and the defaults of strings. By default flatc also omits
// documentation, and built-in attributes, of which Read restores the ones that it can.
package bfbs

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/fbs"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// Read decodes the contents of the binary schema at path. It reports errors and warnings to diags,
// and returns nil after an error. It has the type of [schema.Options.ReadBinary].
func Read(path string, data []byte, diags *diag.List) *schema.Schema {
	at := diag.Span{File: path}
	buf, err := verify(data)
	if err != nil {
		diags.Errorf(at, "not a valid binary schema: %v", err)
		return nil
	}
	root := table{buf: buf, text: string(buf)}
	root.pos = root.indirect(0)
	r := &reader{
		path: path, diags: diags, at: at, root: root,
		schema:  &schema.Schema{},
		files:   make(map[string]*schema.File),
		objects: make(map[string]*schema.Object),
		byName:  make(map[string][]*schema.Object),
	}
	r.before = diags.Errors()
	r.read()
	if r.failed() {
		return nil
	}
	return r.schema
}

// A reader converts a verified buffer into a model.
type reader struct {
	path   string
	diags  *diag.List
	before int // errors in diags from before
	at     diag.Span
	root   table
	schema *schema.Schema

	files   map[string]*schema.File
	objects map[string]*schema.Object   // by full name
	byName  map[string][]*schema.Object // by unqualified name
	// The objects and enums in the order of the buffer, which types index.
	objectList []*schema.Object
	enumList   []*schema.Enum

	lostStrings []string // the fields that are strings with a default
	complete    bool     // a list of attributes shows that no built-in ones were left out
}

// errorf reports that the schema breaks a rule of the language.
func (r *reader) errorf(format string, args ...any) *diag.Diagnostic {
	return r.diags.Errorf(r.at, "not a valid binary schema: "+format, args...)
}

func (r *reader) failed() bool { return r.diags.Errors() > r.before }

func (r *reader) read() {
	s := r.schema
	s.FileIdentifier = r.root.string(schemaIdent)
	s.FileExtension = r.root.string(schemaExt)
	if n := len(s.FileIdentifier); n != 0 && n != 4 {
		r.errorf("a file identifier of %d bytes", n)
	}
	r.readFiles()

	// Declare everything first, so that types can refer to it.
	types := make(map[string]bool)
	objects, enums := r.root.tables(schemaObjects), r.root.tables(schemaEnums)
	for _, t := range objects {
		o := r.declareObject(t)
		if types[o.FullName()] {
			r.errorf("%s is declared twice", o.FullName())
			return
		}
		types[o.FullName()] = true
	}
	for _, t := range enums {
		e := r.declareEnum(t)
		if types[e.FullName()] {
			r.errorf("%s is declared twice", e.FullName())
			return
		}
		types[e.FullName()] = true
	}
	if r.failed() {
		return
	}
	for i, t := range enums {
		r.readMembers(r.enumList[i], t)
	}
	for i, t := range objects {
		r.readFields(r.objectList[i], t)
	}
	r.readServices()
	if r.failed() {
		return
	}
	r.restoreBuiltins()
	r.warnStrings()
	if root, ok := r.root.table(schemaRoot); ok {
		name := root.string(objectName)
		if s.Root = r.objects[name]; s.Root == nil || s.Root.IsStruct {
			r.errorf("the root type %s is not one of its tables", name)
		}
	}
	root := s.Files[len(s.Files)-1]
	root.RootType, root.Identifier = s.Root, s.FileIdentifier
	if r.failed() {
		return
	}
	for _, o := range r.objectList {
		r.checkObject(o)
	}
	if !r.failed() {
		r.layoutStructs()
	}
	s.Arrange()
}

// readFiles creates the files, the root last.
func (r *reader) readFiles() {
	included := make(map[*schema.File]bool)
	for _, t := range r.root.tables(schemaFiles) {
		f := r.file(t.string(fileName))
		listed := make(map[*schema.File]bool)
		for _, name := range t.strings(fileIncludes) {
			g := r.file(name)
			if !listed[g] {
				listed[g] = true
				f.Includes = append(f.Includes, g)
				included[g] = included[g] || g != f
			}
		}
	}
	root := r.rootFile(included)
	root.Root = true
	root.Path = r.path
	for _, f := range r.files {
		if f != root {
			r.schema.Files = append(r.schema.Files, f)
		}
	}
	r.schema.Files = append(r.schema.Files, root)
}

// rootFile returns the file from which the schema was made. That file decides which code is
// generated, and the format does not name it. It is the file that no other file includes or, in a
// cycle, the one with the name of the binary schema.
func (r *reader) rootFile(included map[*schema.File]bool) *schema.File {
	base := strings.TrimSuffix(filepath.Base(r.path), ".bfbs") + ".fbs"
	if len(r.files) == 0 {
		return r.file("//" + base) // old versions of flatc wrote no names
	}
	var first, named []*schema.File
	for _, f := range r.files {
		if !included[f] {
			first = append(first, f)
		}
		if path.Base(f.Name) == base {
			named = append(named, f)
		}
	}
	switch {
	case len(first) == 1:
		return first[0]
	case len(first) == 0 && len(named) == 1:
		return named[0]
	}
	r.errorf("it does not tell which of its %d files is the root", len(r.files)).
		Helpf("give the binary schema the name of that file, with .bfbs instead of .fbs")
	return r.file("//" + base)
}

// file returns the file with the given name.
func (r *reader) file(name string) *schema.File {
	f := r.files[name]
	if f == nil {
		f = &schema.File{Name: name}
		r.files[name] = f
	}
	return f
}

// declaredIn returns the file that a declaration names, or the root file if it names none.
func (r *reader) declaredIn(name string) *schema.File {
	if f := r.files[name]; f != nil && name != "" {
		return f
	}
	return r.schema.Files[len(r.schema.Files)-1]
}

// maxNamespace bounds the length of a namespace, as for the text of a schema, because names are
// looked up in each part of it.
const maxNamespace = 1000

// split checks a full name and splits it into its namespace and its last part. Names become Go
// source, so nothing but a valid name may pass.
func (r *reader) split(full string) (schema.Namespace, string) {
	if strings.LastIndexByte(full, '.') > maxNamespace {
		r.errorf("a namespace has more than %d characters", maxNamespace)
		return nil, "_"
	}
	parts := strings.Split(full, ".")
	for _, p := range parts {
		if !fbs.IsName(p) {
			r.errorf("%q is not a name", full)
			return nil, "_"
		}
	}
	last := len(parts) - 1
	if last == 0 {
		return nil, full
	}
	return parts[:last], parts[last]
}

// name checks an unqualified name.
func (r *reader) name(t table, slot int, owner string) string {
	n := t.string(slot)
	if !fbs.IsName(n) {
		r.errorf("%s: %q is not a name", owner, n)
	}
	return n
}

func (r *reader) doc(t table, slot int) []string {
	lines := t.strings(slot)
	for i := range lines {
		lines[i] = fbs.CleanDoc(lines[i])
	}
	return lines
}

// attributes reads a list of attributes. flatc stores the value 0 for attributes without a value.
// Attributes that are numbers keep the 0.
func (r *reader) attributes(t table, slot int) schema.Attributes {
	var list schema.Attributes
	kvs := t.tables(slot)
	if len(kvs) == 0 && t.field(slot) != 0 {
		r.complete = true
	}
	for _, kv := range kvs {
		a := schema.Attribute{Name: kv.string(keyValueKey),
			Value: kv.string(keyValueValue), Span: r.at}
		if a.Value == "0" && a.Name != "id" && a.Name != "force_align" {
			a.Value, a.Bare = "", true
		}
		list = append(list, a)
	}
	slices.SortStableFunc(list, func(a, b schema.Attribute) int {
		return strings.Compare(a.Name, b.Name)
	})
	return slices.CompactFunc(list, func(a, b schema.Attribute) bool { return a.Name == b.Name })
}

// exact takes an attribute of [WriteExact] out of a list, and returns its value.
func (r *reader) exact(list *schema.Attributes, name, owner string) (value string, ok bool) {
	text, ok := list.Lookup(name)
	if !ok {
		return "", false
	}
	r.complete = true
	*list = slices.DeleteFunc(*list, func(a schema.Attribute) bool { return a.Name == name })
	if len(*list) == 0 {
		*list = nil
	}
	value, err := strconv.Unquote(text)
	if err != nil {
		r.errorf("%s: the attribute %s is not quoted text: %q", owner, name, text)
	}
	return value, err == nil
}

func (r *reader) declareObject(t table) *schema.Object {
	full := t.string(objectName)
	o := &schema.Object{
		File: r.declaredIn(t.string(objectFile)), Span: r.at,
		Doc: r.doc(t, objectDoc), Attributes: r.attributes(t, objectAttributes),
		IsStruct: t.bool(objectIsStruct),
	}
	o.Namespace, o.Name = r.split(full)
	o.OriginalOrder = o.Attributes.Has("original_order")
	if ident, ok := r.exact(&o.Attributes, attrIdentifier, full); ok {
		r.declareIdentifier(o, ident)
	}
	if o.IsStruct {
		o.Size, o.Align = int(t.i32(objectByteSize, 0)), int(t.i32(objectMinAlign, 0))
	}
	r.objects[full] = o
	r.byName[o.Name] = append(r.byName[o.Name], o)
	r.objectList = append(r.objectList, o)
	r.schema.Objects = append(r.schema.Objects, o)
	return o
}

// declareIdentifier makes o the root type of its file.
func (r *reader) declareIdentifier(o *schema.Object, ident string) {
	switch {
	case o.IsStruct || len(ident) != 4:
		r.errorf("%s cannot have the file identifier %q", o.FullName(), ident)
	case o.File.RootType != nil:
		r.errorf("%s and %s are both the root type of %s", o.File.RootType.FullName(),
			o.FullName(), o.File.Name)
	default:
		o.File.RootType, o.File.Identifier = o, ident
	}
}

func (r *reader) declareEnum(t table) *schema.Enum {
	e := &schema.Enum{
		File: r.declaredIn(t.string(enumFile)), Span: r.at,
		Doc: r.doc(t, enumDoc), Attributes: r.attributes(t, enumAttributes),
		IsUnion: t.bool(enumIsUnion),
	}
	e.Namespace, e.Name = r.split(t.string(enumName))
	e.BitFlags = e.Attributes.Has("bit_flags")
	if u, ok := t.table(enumUnderlying); ok {
		e.Underlying = schema.BaseType(u.u8(typeBase))
	}
	if !e.Underlying.IsInteger() || e.Underlying == schema.Bool || !e.IsUnion &&
		e.Underlying == schema.UType {
		r.errorf("the underlying type of %s is %s", e.FullName(), e.Underlying)
	}
	r.enumList = append(r.enumList, e)
	r.schema.Enums = append(r.schema.Enums, e)
	return e
}

func (r *reader) readMembers(e *schema.Enum, t table) {
	names := make(map[string]bool)
	for _, vt := range t.tables(enumValues) {
		v := &schema.EnumVal{
			Name: r.name(vt, enumValName, e.FullName()), Span: r.at, Value: vt.i64(enumValValue),
			Doc: r.doc(vt, enumValDoc), Attributes: r.attributes(vt, enumValAttributes),
		}
		if names[v.Name] {
			r.errorf("%s has two values %s", e.FullName(), v.Name)
			return
		}
		names[v.Name] = true
		if mt, ok := vt.table(enumValType); ok && e.IsUnion {
			v.Type = r.readType(mt, e.FullName()+"."+v.Name)
		}
		e.Values = append(e.Values, v)
	}
	r.checkEnum(e)
}

func (r *reader) readServices() {
	names := make(map[string]bool)
	for _, t := range r.root.tables(schemaServices) {
		s := &schema.Service{
			File: r.declaredIn(t.string(serviceFile)), Span: r.at,
			Doc: r.doc(t, serviceDoc), Attributes: r.attributes(t, serviceAttributes),
		}
		s.Namespace, s.Name = r.split(t.string(serviceName))
		if names[s.FullName()] {
			r.errorf("service %s is declared twice", s.FullName())
			return
		}
		names[s.FullName()] = true
		methods := make(map[string]bool)
		for _, c := range t.tables(serviceCalls) {
			m := &schema.Method{
				Name: r.name(c, callName, s.FullName()), Span: r.at,
				Doc: r.doc(c, callDoc), Attributes: r.attributes(c, callAttributes),
			}
			if methods[m.Name] {
				r.errorf("%s has two methods %s", s.FullName(), m.Name)
				return
			}
			methods[m.Name] = true
			m.Request = r.message(c, callRequest, s, m)
			m.Reply = r.message(c, callResponse, s, m)
			var err error
			if m.Streaming, err = schema.StreamingOf(m.Attributes); err != nil {
				r.errorf("%s.%s: %v", s.FullName(), m.Name, err)
			}
			m.Idempotent = m.Attributes.Has("idempotent")
			s.Methods = append(s.Methods, m)
		}
		r.schema.Services = append(r.schema.Services, s)
	}
}

// message returns the table to which a method refers by name.
func (r *reader) message(call table, slot int, s *schema.Service, m *schema.Method) *schema.Object {
	t, _ := call.table(slot) // it is required, so it is present
	o := r.objects[t.string(objectName)]
	if o == nil || o.IsStruct {
		r.errorf("%s.%s: %s is not one of its tables", s.FullName(), m.Name, t.string(objectName))
	}
	return o
}

// readType reads a type and checks it.
func (r *reader) readType(t table, owner string) schema.Type {
	typ := schema.Type{
		Base: schema.BaseType(t.u8(typeBase)), Element: schema.BaseType(t.u8(typeElement)),
		FixedLength: int(t.u16(typeFixedLength)),
	}
	index := int(t.i32(typeIndex, -1))
	value := typ.Base
	switch typ.Base {
	case schema.Vector64:
		r.unsupported64(owner)
		return typ
	case schema.Vector, schema.Array:
		value = typ.Element
		if value == schema.Vector || value == schema.Array || value >= schema.Vector64 ||
			value == schema.None {
			r.errorf("%s: %s cannot be the element of a vector or an array", owner, value)
			return typ
		}
	default:
		typ.Element = schema.None
	}
	if typ.Base != schema.Array {
		typ.FixedLength = 0
	}
	switch {
	case value > schema.Vector64:
		r.errorf("%s: unknown type %d", owner, value)
	case value == schema.Obj:
		if index < 0 || index >= len(r.objectList) {
			r.errorf("%s: there is no object %d", owner, index)
			break
		}
		typ.Object = r.objectList[index]
	case value == schema.Union || value == schema.UType || index >= 0 && value.IsInteger():
		if index < 0 || index >= len(r.enumList) {
			r.errorf("%s: there is no enum %d", owner, index)
			break
		}
		typ.Enum = r.enumList[index]
		union := value == schema.Union || value == schema.UType
		if typ.Enum.IsUnion != union || !union && typ.Enum.Underlying != value {
			r.errorf("%s: %s does not fit %s", owner, value, typ.Enum.FullName())
		}
	}
	return typ
}

// unsupported64 reports a field that is valid in a schema but not supported in Go.
func (r *reader) unsupported64(field string) {
	r.diags.Errorf(r.at,
		"%s needs 64-bit offsets, which the FlatBuffers runtime for Go cannot read", field).
		Helpf("remove vector64 and offset64; without them a field holds up to 2 GiB")
}

// fail is errorf for a field.
func (r *reader) fail(o *schema.Object, f *schema.Field, format string,
	args ...any) *diag.Diagnostic {
	return r.errorf("%s.%s: %s", o.FullName(), f.Name, fmt.Sprintf(format, args...))
}
