package registry_test

import (
	"fmt"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := open(b, newDomain(b))
			all := names("audio", n)
			for _, name := range all {
				register(b, r, name)
			}
			i := 0
			for b.Loop() {
				if _, err := r.Lookup(all[i%n]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkRegister(b *testing.B) {
	for _, n := range []int{10, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := open(b, newDomain(b))
			for _, name := range names("audio", n-1) {
				register(b, r, name)
			}
			for b.Loop() {
				reg, err := r.Register(registry.Record{Name: "last"})
				if err != nil {
					b.Fatal(err)
				}
				reg.Close()
			}
		})
	}
}
