package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// TestCurvesColours draws as many curves as the README's picture has, and checks that each has a
// colour of its own, on light and on dark pages, and that the style sheet has all colours.
func TestCurvesColours(t *testing.T) {
	var all []*measure.Latency
	add := func(c *contest.Contestant) {
		h := hdrhistogram.New(1, 1e9, 3)
		for range 100 {
			if err := h.RecordValue(int64(100 * (len(all) + 1))); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, &measure.Latency{Contestant: c, Hist: h,
			Medians: []time.Duration{time.Microsecond}})
	}
	add(&contest.Contestant{Key: contest.BareKey, Name: "bare"})
	for n := range 6 {
		add(&contest.Contestant{Key: fmt.Sprint("ours", n), Name: fmt.Sprint("ours <", n),
			Ours: true})
		add(&contest.Contestant{Key: fmt.Sprint("theirs", n), Name: fmt.Sprint("theirs ", n)})
	}
	var b strings.Builder
	if err := Curves(&b, "Title", all); err != nil {
		t.Fatal(err)
	}
	style, rest, ok := strings.Cut(b.String(), "</style>")
	light, dark, twice := strings.Cut(style, "@media (prefers-color-scheme: dark)")
	if !ok || !twice {
		t.Fatalf("no style for dark pages:\n%s", b.String())
	}
	if found := regexp.MustCompile(`#[0-9a-f]{3,6}\b`).FindString(rest); found != "" {
		t.Errorf("the colour %s is not in the style sheet", found)
	}
	rule := regexp.MustCompile(
		`polyline\.c(\d+) { stroke: (#[0-9a-f]{6}) } text\.c(\d+) { fill: (\S+) }`)
	for name, sheet := range map[string]string{"light": light, "dark": dark} {
		var colours []string
		for _, m := range rule.FindAllStringSubmatch(sheet, -1) {
			if m[1] != m[3] || m[2] != m[4] {
				t.Errorf("%s: a curve and its name differ: %s", name, m[0])
			}
			colours = append(colours, m[2])
		}
		if slices.Sort(colours); len(slices.Compact(slices.Clone(colours))) != len(all) {
			t.Errorf("%s: the colours of %d curves: %v", name, len(all), colours)
		}
	}
	for n := range all {
		if !strings.Contains(rest, fmt.Sprintf(`<polyline class="c%d`, n)) ||
			!strings.Contains(rest, fmt.Sprintf(`class="label c%d"`, n)) {
			t.Errorf("curve %d is not drawn, or has no name", n)
		}
	}
}
