package fb_test

import (
	"testing"

	"github.com/ipcgen/ipcgen/runtime/fb"
)

// TestFlags writes and parses every value of enums of eight bits.
func TestFlags(t *testing.T) {
	type signed int8
	type unsigned uint8
	everyValue(t, map[signed]string{1: "A", 4: "C", 64: "G"})
	everyValue(t, map[unsigned]string{1: "A", 8: "D", 128: "H"})
	for v, want := range map[unsigned]string{
		0: "U(0)", 1: "A", 9: "A|D", 137: "A|D|H", 3: "A|U(2)", 100: "U(100)", 255: "A|D|H|U(118)",
	} {
		if got := fb.FlagsString(v, "U",
			map[unsigned]string{1: "A", 8: "D", 128: "H"}); got != want {
			t.Errorf("%d is %s, not %s", v, got, want)
		}
	}
	for _, s := range []string{"", "|", "A|", "|A", "A|X", "A B", "A|U(256)", "a"} {
		if v, err := fb.ParseFlags(s, "U", map[string]unsigned{"A": 1}); err == nil {
			t.Errorf("%q is %d", s, v)
		}
	}
}

func everyValue[E ~int8 | ~uint8](t *testing.T, names map[E]string) {
	values := make(map[string]E)
	for v, name := range names {
		values[name] = v
	}
	for n := range 256 {
		v := E(n)
		s := fb.FlagsString(v, "U", names)
		if got, err := fb.ParseFlags(s, "U", values); err != nil || got != v {
			t.Errorf("%d is %s, which is %d, %v", v, s, got, err)
		}
	}
}
