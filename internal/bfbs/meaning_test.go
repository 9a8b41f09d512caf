package bfbs

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// absent has the values of absent fields that are not 0.
var absent = map[string]int64{"index": -1, "base_size": 4}

// meaning returns the contents of a verified binary schema as text, one fact per line: every field
// of every table of reflection.fbs, without positions in the buffer. A test compares two schemas
// with it independently of the reader.
func meaning(buf []byte) string {
	var out strings.Builder
	root := table{buf: buf, text: string(buf)}
	root.pos = root.indirect(0)
	tell(&out, "", root, schemaLayout())
	return out.String()
}

func tell(out *strings.Builder, path string, t table, l *layout) {
	for i := range l.slots {
		s := &l.slots[i]
		at := path + "." + s.name
		p := t.field(s.index)
		switch s.kind {
		case scalar1, scalar2, scalar4, scalar8:
			fmt.Fprintf(out, "%s = %s\n", at, number(t, p, s))
		case text:
			fmt.Fprintf(out, "%s = %q\n", at, t.string(s.index))
		case texts:
			fmt.Fprintf(out, "%s = %q\n", at, t.strings(s.index))
		case oneTable:
			if u, ok := t.table(s.index); ok {
				tell(out, at, u, s.table)
			}
		case tables:
			for _, u := range t.tables(s.index) {
				// Slot 0 of each of them is its name or key.
				tell(out, at+"["+u.string(0)+"]", u, s.table)
			}
		}
	}
}

func number(t table, p int, s *slot) string {
	n := absent[s.name]
	if p != 0 {
		b := append(t.buf[p:p+s.width():p+s.width()], make([]byte, 8-s.width())...)
		n = int64(binary.LittleEndian.Uint64(b))
		if s.width() == 4 {
			n = int64(int32(n))
		}
	}
	if s.name == "default_real" {
		return fmt.Sprint(math.Float64frombits(uint64(n)))
	}
	return fmt.Sprint(n)
}
