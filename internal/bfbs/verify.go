package bfbs

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// verify checks that every offset in a binary schema stays inside it, that everything is aligned,
// and that required fields are present. A buffer that passes can be read with the accessors of
// table. verify returns the buffer without its size prefix, if it has one.
func verify(buf []byte) ([]byte, error) {
	switch {
	case len(buf) >= 8 && string(buf[4:8]) == identifier:
	case len(buf) >= 12 && string(buf[8:12]) == identifier:
		if n := binary.LittleEndian.Uint32(buf); uint64(n) != uint64(len(buf)-4) {
			return nil, fmt.Errorf("the size prefix is %d, and %d bytes follow it", n, len(buf)-4)
		}
		buf = buf[4:]
	default:
		return nil, fmt.Errorf("the file identifier %s is missing", identifier)
	}
	if uint64(len(buf)) > 1<<31-1 {
		return nil, fmt.Errorf("%d bytes are more than a buffer may have", len(buf))
	}
	v := &verifier{buf: buf, budget: maxReuse * len(buf)}
	root := schemaLayout()
	pos, err := v.indirect(0)
	if err == nil {
		err = v.table(pos, root)
	}
	if err != nil {
		return nil, fmt.Errorf("%s%w", root.name, err)
	}
	return buf, nil
}

// A verifier walks a buffer as the reader does. It visits a part once for each reference to it, so
// its budget bounds the work of the reader.
type verifier struct {
	buf []byte
	// budget is the number of bytes of tables, vectors and strings that may still be visited. Parts
	// of a buffer may be shared, and with sharing on every level a few kilobytes could unpack to
	// gigabytes.
	budget int
}

// maxReuse is the number of times that the whole buffer may be visited. Compilers share the names
// of files, and equal types; both are small compared to the rest.
const maxReuse = 8

// spend takes n bytes from the budget.
func (v *verifier) spend(n int) error {
	if v.budget -= n; v.budget < 0 {
		return fault("the buffer refers to the same data too often")
	}
	return nil
}

// fault returns an error whose text continues the path of field names in front of it.
func fault(format string, args ...any) error { return fmt.Errorf(": "+format, args...) }

// span checks that n bytes at pos are inside the buffer, and that pos is a multiple of align.
func (v *verifier) span(pos, n, align int) error {
	if pos < 0 || n < 0 || pos > len(v.buf)-n {
		return fault("%d bytes at %d are outside of the buffer of %d bytes", n, pos, len(v.buf))
	}
	if pos%align != 0 {
		return fault("position %d is not a multiple of %d", pos, align)
	}
	return nil
}

// indirect follows the offset at pos.
func (v *verifier) indirect(pos int) (int, error) {
	if err := v.span(pos, 4, 4); err != nil {
		return 0, err
	}
	offset := binary.LittleEndian.Uint32(v.buf[pos:])
	if offset == 0 || uint64(offset) > uint64(len(v.buf)-pos) {
		return 0, fault("offset %d at %d points outside of the buffer", offset, pos)
	}
	return pos + int(offset), nil
}

func (v *verifier) table(pos int, l *layout) error {
	if err := v.span(pos, 4, 4); err != nil {
		return err
	}
	vtable := pos - int(int32(binary.LittleEndian.Uint32(v.buf[pos:])))
	if err := v.span(vtable, 4, 2); err != nil {
		return err
	}
	size := int(binary.LittleEndian.Uint16(v.buf[vtable:]))
	if size < 4 || size%2 != 0 {
		return fault("a vtable of %d bytes at %d", size, vtable)
	}
	if err := v.span(vtable, size, 2); err != nil {
		return err
	}
	tableSize := int(binary.LittleEndian.Uint16(v.buf[vtable+2:]))
	if err := v.span(pos, max(tableSize, 4), 4); err != nil {
		return err
	}
	if err := v.spend(max(tableSize, 4)); err != nil {
		return err
	}
	for i := range l.slots {
		s := &l.slots[i]
		offset := 0
		if entry := 4 + 2*s.index; entry < size {
			offset = int(binary.LittleEndian.Uint16(v.buf[vtable+entry:]))
		}
		if offset == 0 {
			if s.required {
				return fmt.Errorf(".%s: the field is required and missing", s.name)
			}
			continue
		}
		if offset < 4 || offset+s.width() > tableSize {
			return fmt.Errorf(".%s: the field is outside of its table", s.name)
		}
		if err := v.field(pos+offset, s); err != nil {
			return fmt.Errorf(".%s%w", s.name, err)
		}
	}
	return nil
}

// width returns the number of bytes that the field takes in its table.
func (s *slot) width() int {
	switch s.kind {
	case scalar1:
		return 1
	case scalar2:
		return 2
	case scalar8:
		return 8
	}
	return 4
}

func (v *verifier) field(pos int, s *slot) error {
	if s.kind <= scalar8 {
		return v.span(pos, s.width(), s.width())
	}
	at, err := v.indirect(pos)
	if err != nil {
		return err
	}
	switch s.kind {
	case text:
		return v.text(at)
	case oneTable:
		return v.table(at, s.table)
	}
	n, err := v.vector(at, 4)
	if err != nil {
		return err
	}
	for i := range n {
		elem, err := v.indirect(at + 4 + 4*i)
		if err == nil {
			if s.kind == texts {
				err = v.text(elem)
			} else {
				err = v.table(elem, s.table)
			}
		}
		if err != nil {
			return fmt.Errorf("[%d]%w", i, err)
		}
	}
	return nil
}

// vector checks a vector of elements of size bytes, and returns its length.
func (v *verifier) vector(pos, size int) (int, error) {
	if err := v.span(pos, 4, 4); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint32(v.buf[pos:])
	if uint64(n)*uint64(size) > uint64(len(v.buf)-pos-4) {
		return 0, fault("a vector of %d elements at %d is longer than the buffer", n, pos)
	}
	return int(n), v.spend(4 + int(n)*size)
}

// text checks a string: its terminating zero, and that it is UTF-8.
func (v *verifier) text(pos int) error {
	n, err := v.vector(pos, 1)
	if err != nil {
		return err
	}
	end := pos + 4 + n
	if end >= len(v.buf) || v.buf[end] != 0 {
		return fault("the string at %d does not end with a zero", pos)
	}
	if !utf8.Valid(v.buf[pos+4 : end]) {
		return fault("the string at %d is not valid UTF-8", pos)
	}
	return nil
}
