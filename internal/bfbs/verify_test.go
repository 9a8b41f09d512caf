package bfbs

import (
	"encoding/binary"
	"strings"
	"testing"
)

// smallest returns a binary schema that has only a file identifier, laid out by hand so that a test
// knows all positions.
func smallest() []byte {
	b := make([]byte, 56)
	u16 := func(pos int, n uint16) { binary.LittleEndian.PutUint16(b[pos:], n) }
	u32 := func(pos int, n uint32) { binary.LittleEndian.PutUint32(b[pos:], n) }
	u32(0, 20)
	copy(b[4:], identifier)
	// the vtable: its size, the table's, three fields
	for i, n := range []uint16{10, 16, 4, 8, 12} {
		u16(8+2*i, n)
	}
	u32(20, 20-8)  // the table: back to its vtable,
	u32(24, 36-24) // objects,
	u32(28, 40-28) // enums,
	u32(32, 44-32) // file_ident
	u32(36, 0)
	u32(40, 0)
	u32(44, 4)
	copy(b[48:], "KIND")
	return b
}

// TestVerify changes one number of a valid buffer at a time.
func TestVerify(t *testing.T) {
	if _, err := verify(smallest()); err != nil {
		t.Fatalf("the sound buffer: %v", err)
	}
	for _, test := range []struct {
		what  string
		pos   int
		bytes []byte
		want  string
	}{
		{"another identifier", 4, []byte("MONS"), "the file identifier BFBS is missing"},
		{"no root", 0, []byte{0, 0, 0, 0}, "Schema: offset 0 at 0 points outside of the buffer"},
		{"a root behind the end", 0, []byte{200},
			"Schema: offset 200 at 0 points outside of the buffer"},
		{"a root at the end", 0, []byte{56},
			"Schema: 4 bytes at 56 are outside of the buffer of 56 bytes"},
		{"a root off its alignment", 0, []byte{22}, "Schema: position 22 is not a multiple of 4"},
		{"a vtable before the buffer", 20, []byte{24},
			"Schema: 4 bytes at -4 are outside of the buffer of 56 bytes"},
		{"a vtable behind the buffer", 20, []byte{0, 0, 0, 0x80},
			"Schema: 4 bytes at 2147483668 are outside of the buffer of 56 bytes"},
		{"a vtable off its alignment", 20, []byte{11}, "Schema: position 9 is not a multiple of 2"},
		{"a vtable of odd size", 8, []byte{9}, "Schema: a vtable of 9 bytes at 8"},
		{"a vtable without its own size", 8, []byte{2}, "Schema: a vtable of 2 bytes at 8"},
		{"a vtable that is too long", 8, []byte{50},
			"Schema: 50 bytes at 8 are outside of the buffer of 56 bytes"},
		{"a table that is too long", 10, []byte{40},
			"Schema: 40 bytes at 20 are outside of the buffer of 56 bytes"},
		{"a field behind its table", 10, []byte{8},
			"Schema.enums: the field is outside of its table"},
		{"a field within the vtable's offset", 12, []byte{2},
			"Schema.objects: the field is outside of its table"},
		{"a field off its alignment", 12, []byte{6},
			"Schema.objects: position 26 is not a multiple of 4"},
		{"a required field that is missing", 12, []byte{0},
			"Schema.objects: the field is required and missing"},
		{"a vector that is nowhere", 24, []byte{0},
			"Schema.objects: offset 0 at 24 points outside of the buffer"},
		{"a vector that is too long", 36, []byte{0, 0, 0, 0x40},
			"Schema.objects: a vector of 1073741824 elements at 36 is longer than the buffer"},
		{"an element that is nowhere", 36, []byte{1},
			"Schema.objects[0]: offset 0 at 40 points outside of the buffer"},
		{"a string that is too long", 44, []byte{9},
			"Schema.file_ident: a vector of 9 elements at 44 is longer than the buffer"},
		{"a string without its zero", 52, []byte{'!'},
			"Schema.file_ident: the string at 44 does not end with a zero"},
		{"a string whose zero is behind the end", 44, []byte{8},
			"Schema.file_ident: the string at 44 does not end with a zero"},
		{"a string that is not UTF-8", 49, []byte{0xff},
			"Schema.file_ident: the string at 44 is not valid UTF-8"},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := smallest()
			copy(b[test.pos:], test.bytes)
			if _, err := verify(b); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// TestFeatures writes a schema that uses every feature that readers must support, and one that uses
// none.
func TestFeatures(t *testing.T) {
	all := loadKinds(t)
	if !strings.Contains(meaning(encode(all)), ".advanced_features = 15\n") {
		t.Error("not all of the features of kinds.fbs are noted")
	}
	for _, o := range all.Objects {
		for _, f := range o.Fields {
			f.Optional, f.Default.Set = false, false
		}
	}
	if !strings.Contains(meaning(encode(all)), ".advanced_features = 3\n") {
		t.Error("features are noted that are not used")
	}
}
