package report

import (
	"strings"
	"testing"
	"time"
)

// TestRead shows that what tables say can be read back.
func TestRead(t *testing.T) {
	var b strings.Builder
	b.WriteString("## Title\n\n")
	table := NewTable("things", "1: rate", "p50", "4: rate", "p50", "rounds")
	table.Row("one", Rate(2.5e6)+", "+"1.5 GB/s", Duration(1500*time.Nanosecond), Rate(3),
		Duration(2*time.Millisecond), "1 ns … 2 ns")
	table.Row("failed", "–")
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := []Figure{
		{"Title", "one", "1: rate", "/s", 2.5e6},
		{"Title", "one", "1: rate", "B/s", 1.5e9},
		{"Title", "one", "1: p50", "s", 1.5e-6},
		{"Title", "one", "4: rate", "/s", 3},
		{"Title", "one", "4: p50", "s", 2e-3},
	}
	got := Read(b.String())
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if g := got[i]; !g.Same(w) || g.Value < w.Value*0.999 || g.Value > w.Value*1.001 {
			t.Errorf("%+v, not %+v", g, w)
		}
	}
}
