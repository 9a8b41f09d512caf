package changelog

import (
	"testing"
)

// TestStrayParts reads parts that do not belong together. None of them is an entry, each is passed
// over, and they cost no memory but their own.
func TestStrayParts(t *testing.T) {
	e := &Entry{Epoch: 1, Changes: []Change{{Client: "c", Body: make([]byte, 1000)}}}
	changes := e.encode(Position{})[entryHead:]
	const size = partHead + 400
	other := &Entry{Epoch: 2}
	for _, c := range []struct {
		name  string
		parts func(at Position, i int) []byte
		want  string // per message: a part, void, or the entry
	}{
		{"all", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes, 400*i, size)
			return b
		}, "ppe"},
		{"the first one twice", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes, 400*max(i-1, 0), size)
			return b
		}, "pppe"},
		{"the first one is missing", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes, 400*(i+1), size)
			return b
		}, "vv"},
		{"the second one twice", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes, []int{0, 400, 400, 800}[i], size)
			return b
		}, "ppvv"},
		{"another length", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes[:len(changes)-i], 400*i, size)
			return b
		}, "pvv"},
		{"another epoch", func(at Position, i int) []byte {
			b, _ := []*Entry{e, other, e}[i].encodePart(at, changes, 400*i, size)
			return b
		}, "pvv"},
		{"an entry between", func(at Position, i int) []byte {
			if i == 1 {
				return other.encode(at)
			}
			b, _ := e.encodePart(at, changes, []int{0, 0, 400, 800}[i], size)
			return b
		}, "pevv"},
		{"garbage between", func(at Position, i int) []byte {
			if i == 1 {
				return []byte("garbage")
			}
			b, _ := e.encodePart(at, changes, []int{0, 0, 400, 800}[i], size)
			return b
		}, "pvvv"},
		{"an empty one", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes, 400*i, partHead)
			return b
		}, "v"},
		{"beyond the end", func(at Position, i int) []byte {
			b, _ := e.encodePart(at, changes, 0, size)
			copy(b[entryHead:], "\xff\xff\xff\xff\xff\xff\xff\xff")
			return b
		}, "v"},
	} {
		var r reader
		got := ""
		for i := range len(c.want) {
			e, ok, err := r.take(r.at.Seq+1, c.parts(r.at, i))
			switch {
			case err != nil:
				t.Fatal(err)
			case !ok:
				got += "p"
			case e.Void:
				got += "v"
			default:
				got += "e"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
