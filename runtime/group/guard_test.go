package group

import (
	"testing"
)

// BenchmarkGuard measures the cost of the guard for a request, without its checksum.
func BenchmarkGuard(b *testing.B) {
	g := newGuard(&Replica{page: &page{mem: make([]byte, pageSize())},
		place: make([]byte, pageSize())})
	for name, suspects := range map[string]int{"no suspects": 0, "64 suspects": mostSuspects} {
		b.Run(name, func(b *testing.B) {
			wordAt(g.replica.page.mem, offSuspects).Store(uint64(suspects))
			for b.Loop() {
				place, err := g.Enter(0x123456789abcdef0)
				if err != nil {
					b.Fatal(err)
				}
				g.Leave(place)
			}
		})
	}
}
