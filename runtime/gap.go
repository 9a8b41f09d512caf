package ipc

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Gap describes the difference between two versions of some protocols: the methods, fields, union
// members and enum values that one version can ask for and the other version lacks. The replicas of
// a service use it to find requests that one of them would not understand. A Gap is safe for
// concurrent use.
type Gap struct {
	ours, theirs map[string]*description // by protocol
	empty        bool
}

// NewGap compares two versions of a process's protocols. It returns nil if they are equal, and an
// error with [CodeIncompatible], as [CheckCompatible] does, if one version could misread the other.
// A protocol that only one side has is part of the gap. NewGap does not compare how often a call
// may be executed, which concerns clients only.
func NewGap(ours, theirs []*Protocol) (*Gap, error) {
	same := len(ours) == len(theirs)
	g := &Gap{ours: make(map[string]*description),
		theirs: make(map[string]*description), empty: true}
	for _, p := range ours {
		d, err := parseDescription(p.Schema)
		if err != nil {
			return nil, &Error{Code: CodeInvalidArgument, Outcome: NotSent, Msg: "protocol " +
				p.Name, Err: err}
		}
		g.ours[p.Name] = d
		i := slices.IndexFunc(theirs, func(q *Protocol) bool { return q.Name == p.Name })
		if i < 0 {
			same, g.empty = false, false
			continue
		}
		if theirs[i].Schema == p.Schema {
			g.theirs[p.Name] = d
			continue
		}
		same = false
		other, err := parseDescription(theirs[i].Schema)
		if err != nil {
			return nil, &Error{Code: CodeIncompatible, Outcome: NotSent,
				Msg: "the peer's protocol " + p.Name, Err: err}
		}
		if err := compareDescriptions(d, other, false); err != nil {
			return nil, err
		}
		g.theirs[p.Name] = other
		g.empty = g.empty && !lacksSomething(d, other)
	}
	if same {
		return nil, nil
	}
	return g, nil
}

// lacksSomething reports whether the other version lacks anything that a request could contain.
func lacksSomething(ours, theirs *description) bool {
	for key, b := range ours.blocks {
		other := theirs.blocks[key]
		if other == nil {
			return true
		}
		for key, e := range b.entries {
			if there := other.entries[key]; there == nil || e.kind() == "method" &&
				there.has("read_only") && !e.has("read_only") {
				return true
			}
		}
	}
	return false
}

// Find returns nil if the other version understands a request of a method in full, and otherwise an
// error that names the first thing that the other version lacks. One of the two versions must have
// verified the request and encoded it anew. So the request has no field that this version lacks,
// but it can have enum values, bits and nested buffers that came from elsewhere. g may be nil.
func (g *Gap) Find(m *MethodInfo, request []byte) error {
	if g == nil || g.empty {
		return nil
	}
	ours, theirs := g.ours[m.Protocol.Name], g.theirs[m.Protocol.Name]
	if ours == nil || theirs == nil {
		return fmt.Errorf("there is no protocol %s", m.Protocol.Name)
	}
	key := "method " + m.Name
	a, b := ours.blocks["protocol "+m.Protocol.Name], theirs.blocks["protocol "+m.Protocol.Name]
	if a == nil || a.entries[key] == nil {
		return nil // nothing is known of it
	}
	if b == nil || b.entries[key] == nil {
		return fmt.Errorf("there is no method %s/%s", m.Protocol.Name, m.Name)
	}
	if b.entries[key].has("read_only") && !a.entries[key].has("read_only") {
		return fmt.Errorf("method %s/%s changes nothing", m.Protocol.Name, m.Name)
	}
	root := a.entries[key].words[0]
	if e := a.entries["envelopes"]; e != nil {
		root = e.words[0]
	}
	w := &gapWalk{ours, theirs, request}
	return w.table(root, w.ref(0))
}

// A gapWalk looks through a verified buffer for what one of the descriptions has and the other
// has not.
type gapWalk struct {
	ours, theirs *description
	buf          []byte
}

func (w *gapWalk) u32(pos uint32) uint32 { return binary.LittleEndian.Uint32(w.buf[pos:]) }
func (w *gapWalk) u16(pos uint32) uint32 { return uint32(binary.LittleEndian.Uint16(w.buf[pos:])) }

// ref follows the offset at pos.
func (w *gapWalk) ref(pos uint32) uint32 { return pos + w.u32(pos) }

// field returns where a field of the table at pos lies, or 0.
func (w *gapWalk) field(pos uint32, id int) uint32 {
	vtable := pos - w.u32(pos)
	slot := uint32(4 + 2*id)
	if slot+2 > w.u16(vtable) || w.u16(vtable+slot) == 0 {
		return 0
	}
	return pos + w.u16(vtable+slot)
}

func (w *gapWalk) table(name string, pos uint32) error {
	ours, theirs := w.ours.typ(name), w.theirs.typ(name)
	if ours == nil {
		return nil
	}
	for _, key := range ours.order {
		e := ours.entries[key]
		id, _ := strconv.Atoi(strings.TrimPrefix(key, "field "))
		at := w.field(pos, id)
		if at == 0 || e.has("deprecated") {
			continue
		}
		if theirs == nil || theirs.entries[key] == nil {
			return fmt.Errorf("there is no field %s in %s", e.name(), ours.title)
		}
		if err := w.tableField(e, pos, id, at); err != nil {
			return err
		}
	}
	return nil
}

func (w *gapWalk) tableField(e *entryLine, table uint32, id int, at uint32) error {
	typ := e.typ()
	if root, ok := nestedRoot(e); ok {
		at = w.ref(at)
		n := w.u32(at)
		inner := &gapWalk{w.ours, w.theirs, w.buf[at+4:][:n:n]}
		return inner.table(root, inner.ref(0))
	}
	elem, isVector := strings.CutPrefix(typ, "[")
	elem = strings.TrimSuffix(elem, "]")
	switch {
	case !isVector && w.isUnion(typ):
		tag := w.field(table, id-1)
		if tag == 0 {
			return nil
		}
		return w.member(typ, w.scalar(w.ours.typ(typ).rest[0], tag), w.ref(at))
	case !isVector:
		if b := w.ours.typ(typ); b != nil && b.kind == "table" {
			at = w.ref(at)
		}
		return w.value(typ, at)
	case w.isUnion(elem):
		tags, at := w.field(table, id-1), w.ref(at)
		if tags == 0 {
			return nil
		}
		tags = w.ref(tags)
		size := w.size(w.ours.typ(elem).rest[0])
		for i := range min(w.u32(at), w.u32(tags)) {
			if err := w.member(elem, w.scalar(w.ours.typ(elem).rest[0], tags+4+i*size),
				w.ref(at+4+4*i)); err != nil {
				return err
			}
		}
		return nil
	}
	b := w.ours.typ(elem)
	if b == nil {
		return nil // of scalars or strings
	}
	at = w.ref(at)
	size := w.size(elem)
	for i := range w.u32(at) {
		pos := at + 4 + i*size
		if b.kind == "table" {
			pos = w.ref(pos)
		}
		if err := w.value(elem, pos); err != nil {
			return err
		}
	}
	return nil
}

// value looks at the table, struct or enum at pos; a scalar or string has no gap.
func (w *gapWalk) value(typ string, pos uint32) error {
	b := w.ours.typ(typ)
	if b == nil {
		return nil
	}
	switch b.kind {
	case "table":
		return w.table(typ, pos)
	case "struct":
		return w.structure(b, pos)
	case "enum":
		return w.enum(b, typ, pos)
	}
	return nil
}

func (w *gapWalk) structure(b *block, pos uint32) error {
	for _, key := range b.order {
		e := b.entries[key]
		typ, n := e.typ(), 1
		if elem, isArray := strings.CutPrefix(typ, "["); isArray {
			var count string
			typ, count, _ = strings.Cut(strings.TrimSuffix(elem, "]"), ":")
			n, _ = strconv.Atoi(count)
		}
		offset, _ := strconv.Atoi(e.words[2])
		for i := range uint32(n) {
			if err := w.value(typ, pos+uint32(offset)+i*w.size(typ)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *gapWalk) enum(b *block, typ string, pos uint32) error {
	theirs := w.theirs.typ(typ)
	v := w.scalar(b.rest[0], pos)
	var unknown func(key string) bool
	if slices.Contains(b.rest, "bit_flags") {
		unknown = func(key string) bool { return v&number(key) != 0 }
	} else {
		unknown = func(key string) bool { return v == number(key) }
	}
	for _, key := range b.order {
		if unknown(key) && (theirs == nil || theirs.entries[key] == nil) {
			return fmt.Errorf("there is no value %s in %s", b.entries[key].name(), b.title)
		}
	}
	return nil
}

// member looks at a member of a union at pos.
func (w *gapWalk) member(union string, tag uint64, pos uint32) error {
	key := "member " + strconv.FormatUint(tag, 10)
	ours, theirs := w.ours.typ(union), w.theirs.typ(union)
	e := ours.entries[key]
	if e == nil {
		return nil
	}
	if theirs == nil || theirs.entries[key] == nil {
		return fmt.Errorf("there is no member %s in %s", e.name(), ours.title)
	}
	return w.value(e.typ(), pos)
}

func (w *gapWalk) isUnion(typ string) bool {
	b := w.ours.typ(typ)
	return b != nil && b.kind == "union"
}

// nestedRoot returns the root of a buffer that a field holds.
func nestedRoot(e *entryLine) (table string, ok bool) {
	for _, flag := range e.flags() {
		if table, ok := strings.CutPrefix(flag, "nested:"); ok {
			return table, true
		}
	}
	return "", false
}

// number is the value that a key of an enum stands for, as the bits of a scalar.
func number(key string) uint64 {
	_, digits, _ := strings.Cut(key, " ")
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return uint64(n)
	}
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}

// size is the size of an element: of a scalar, an enum or a struct, or of the offset of
// anything else.
func (w *gapWalk) size(typ string) uint32 {
	if b := w.ours.typ(typ); b != nil && len(b.rest) > 0 {
		switch b.kind {
		case "struct":
			n, _ := strconv.ParseUint(b.rest[0], 10, 32)
			return uint32(n)
		case "enum":
			typ = b.rest[0]
		}
	}
	switch typ {
	case "bool", "int8", "uint8":
		return 1
	case "int16", "uint16":
		return 2
	case "int64", "uint64", "float64":
		return 8
	}
	return 4
}

// scalar returns the integer at pos, sign-extended where its type has one.
func (w *gapWalk) scalar(typ string, pos uint32) uint64 {
	b := w.buf[pos:]
	switch typ {
	case "int8":
		return uint64(int8(b[0]))
	case "bool", "uint8":
		return uint64(b[0])
	case "int16":
		return uint64(int16(binary.LittleEndian.Uint16(b)))
	case "uint16":
		return uint64(binary.LittleEndian.Uint16(b))
	case "int32":
		return uint64(int32(binary.LittleEndian.Uint32(b)))
	case "uint32":
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}
