package bfbs

import (
	"encoding/binary"
	"math"
)

// A table reads the fields of a table of a verified buffer. An absent field reads as zero.
type table struct {
	buf  []byte
	text string // the same bytes; the strings of the model are slices of it
	pos  int
}

// field returns the position of a field, or 0.
func (t table) field(slot int) int {
	vtable := t.pos - int(int32(binary.LittleEndian.Uint32(t.buf[t.pos:])))
	entry := 4 + 2*slot
	if entry >= int(binary.LittleEndian.Uint16(t.buf[vtable:])) {
		return 0
	}
	if offset := int(binary.LittleEndian.Uint16(t.buf[vtable+entry:])); offset != 0 {
		return t.pos + offset
	}
	return 0
}

func (t table) u8(slot int) uint8 {
	if p := t.field(slot); p != 0 {
		return t.buf[p]
	}
	return 0
}

func (t table) bool(slot int) bool { return t.u8(slot) != 0 }

func (t table) u16(slot int) uint16 {
	if p := t.field(slot); p != 0 {
		return binary.LittleEndian.Uint16(t.buf[p:])
	}
	return 0
}

func (t table) i32(slot int, absent int32) int32 {
	if p := t.field(slot); p != 0 {
		return int32(binary.LittleEndian.Uint32(t.buf[p:]))
	}
	return absent
}

func (t table) i64(slot int) int64 {
	if p := t.field(slot); p != 0 {
		return int64(binary.LittleEndian.Uint64(t.buf[p:]))
	}
	return 0
}

func (t table) f64(slot int) float64 { return math.Float64frombits(uint64(t.i64(slot))) }

// indirect follows the offset at p.
func (t table) indirect(p int) int { return p + int(binary.LittleEndian.Uint32(t.buf[p:])) }

func (t table) stringAt(p int) string {
	n := int(binary.LittleEndian.Uint32(t.buf[p:]))
	return t.text[p+4 : p+4+n]
}

func (t table) string(slot int) string {
	if p := t.field(slot); p != 0 {
		return t.stringAt(t.indirect(p))
	}
	return ""
}

// table returns a table field, and whether it is present.
func (t table) table(slot int) (table, bool) {
	if p := t.field(slot); p != 0 {
		return table{t.buf, t.text, t.indirect(p)}, true
	}
	return table{}, false
}

// elements returns the positions to which the elements of a vector lead.
func (t table) elements(slot int) []int {
	p := t.field(slot)
	if p == 0 {
		return nil
	}
	p = t.indirect(p)
	out := make([]int, binary.LittleEndian.Uint32(t.buf[p:]))
	for i := range out {
		out[i] = t.indirect(p + 4 + 4*i)
	}
	return out
}

func (t table) tables(slot int) []table {
	var out []table
	for _, p := range t.elements(slot) {
		out = append(out, table{t.buf, t.text, p})
	}
	return out
}

func (t table) strings(slot int) []string {
	var out []string
	for _, p := range t.elements(slot) {
		out = append(out, t.stringAt(p))
	}
	return out
}
