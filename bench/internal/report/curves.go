package report

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// The picture's measures, in pixels.
const (
	picWidth, picHeight = 960, 560
	plotLeft, plotRight = 280, 880
	plotTop, plotBottom = 64, 500
	labelGap            = 15
)

// maxNines is where the percentiles end: 4 stands for 99.99 %.
const maxNines = 4

// quantiles are what a curve goes through, in percent.
var quantiles = []float64{0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99,
	99.3, 99.5, 99.7, 99.8, 99.9, 99.93, 99.95, 99.97, 99.98, 99.99}

// A colour is that of a curve and its name, on a light and on a dark page.
type colour struct{ light, dark string }

// Colours that can be told apart by those who see few of them (after Okabe and
// Ito). Ours are warm, the others cold or grey.
var (
	ourColours = []colour{{"#d55e00", "#ff8b3d"}, {"#e69f00", "#f2b632"}, {"#a63603", "#d9653b"},
		{"#cc79a7", "#e39cc4"}, {"#7a0177", "#cf6fd0"}, {"#6b4f1d", "#b8955a"}}
	theirColours = []colour{{"#0072b2", "#4aa5e0"}, {"#009e73", "#2fc79a"}, {"#56b4e9", "#8fd0f5"},
		{"#4d4d4d", "#c4c4c4"}, {"#8c6bb1", "#b79ddb"}, {"#08306b", "#7b96e8"}}
	bareColour = colour{"#999999", "#7f858c"}
)

// ink is the colours of everything else, in the order of their use in the style sheet.
var ink = [...]colour{
	{"#333", "#e6e8eb"}, // texts
	{"#666", "#9aa2ab"}, // ticks
	{"#ddd", "#3a4048"}, // lines of the grid
	{"#f1f1f1", "#1d2228"},
	{"#bbb", "#596069"}, // from names to curves
	{"#fff", "#0d1117"}, // the page
}

// Curves draws the latencies as percentile curves: to the right the rarer,
// upwards the slower, both on logarithmic scales.
func Curves(w io.Writer, title string, ls []*measure.Latency) error {
	p := &picture{low: math.Inf(1), high: math.Inf(-1)}
	for _, l := range ls {
		if l.Err == nil {
			p.add(l)
		}
	}
	p.low, p.high = math.Floor(p.low), math.Ceil(p.high)
	slices.SortFunc(p.curves, func(a, b curve) int { // the slowest first, as their names are
		return cmp.Compare(b.points[0][1], a.points[0][1])
	})
	p.frame(title)
	for i, c := range p.curves {
		p.draw(i, c)
	}
	p.labels()
	p.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// A curve is a contestant's, its points as nines and powers of ten of
// nanoseconds.
type curve struct {
	name   string
	colour colour
	thick  bool
	points [][2]float64
}

// A picture has a horizontal axis of nines, from 0, and a vertical one of powers
// of ten of nanoseconds, from low to high.
type picture struct {
	b         strings.Builder
	low, high float64
	curves    []curve
	ours      int
	theirs    int
}

// rules returns the rules of the style sheet that have colours, for light or dark pages.
func (p *picture) rules(of func(colour) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "text { fill: %s }\n.tick, .nine { fill: %s }\n.grid { stroke: %s }\n"+
		".fine { stroke: %s }\n.lead { stroke: %s }\n.page { fill: %s }\n", of(ink[0]), of(ink[1]),
		of(ink[2]), of(ink[3]), of(ink[4]), of(ink[5]))
	for i, c := range p.curves {
		fmt.Fprintf(&b, "polyline.c%d { stroke: %[2]s } text.c%[1]d { fill: %[2]s }\n", i,
			of(c.colour))
	}
	return b.String()
}

func (p *picture) add(l *measure.Latency) {
	c := curve{name: l.Contestant.Name + ", " + Duration(l.P50()), thick: l.Contestant.Ours}
	switch {
	case l.Contestant.Key == contest.BareKey:
		c.colour = bareColour
	case l.Contestant.Ours:
		c.colour = ourColours[p.ours%len(ourColours)]
		p.ours++
	default:
		c.colour = theirColours[p.theirs%len(theirColours)]
		p.theirs++
	}
	for _, q := range quantiles {
		// Ten calls at least lie beyond each point.
		if float64(l.Hist.TotalCount())*(100-q)/100 < 10 {
			break
		}
		y := math.Log10(float64(max(l.Quantile(q), 1)))
		p.low, p.high = min(p.low, y), max(p.high, y)
		c.points = append(c.points, [2]float64{-math.Log10(1 - q/100), y})
	}
	if len(c.points) > 0 {
		p.curves = append(p.curves, c)
	}
}

func (p *picture) x(nines float64) float64 { return plotLeft + (plotRight-plotLeft)*nines/maxNines }

func (p *picture) y(power float64) float64 {
	return plotBottom - (plotBottom-plotTop)*(power-p.low)/max(p.high-p.low, 1)
}

func (p *picture) text(x, y float64, class, s string) {
	fmt.Fprintf(&p.b, "<text x=\"%.0f\" y=\"%.0f\" class=\"%s\">%s</text>\n", x, y, class,
		html.EscapeString(s))
}

func (p *picture) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&p.b, "<line x1=\"%.0f\" y1=\"%.0f\" x2=\"%.0f\" y2=\"%.0f\" class=\"%s\"/>\n", x1,
		y1, x2, y2, class)
}

// frame draws everything but the curves.
func (p *picture) frame(title string) {
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" font-family="system-ui, sans-serif" font-size="12">
<style>
.title { font-size: 16px; font-weight: 600 }
.nine { text-anchor: middle }
.label { font-size: 13px; text-anchor: end }
polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.ours { stroke-width: 3 }
%[3]s@media (prefers-color-scheme: dark) {
%[4]s}
</style>
<rect width="100%%" height="100%%" class="page"/>
`, picWidth, picHeight, p.rules(func(c colour) string { return c.light }),
		p.rules(func(c colour) string { return c.dark }))
	p.text(plotLeft, 28, "title", title)
	p.text(plotLeft, 46, "", "medians beside the names; thick: what this project makes")
	for power := p.low; power <= p.high; power++ {
		for m := 2.0; m < 10 && power < p.high; m++ {
			y := p.y(power + math.Log10(m))
			p.line(plotLeft, y, plotRight, y, "fine")
		}
		p.line(plotLeft, p.y(power), plotRight, p.y(power), "grid")
		p.text(plotRight+8, p.y(power)+4, "tick", Duration(time.Duration(math.Pow(10, power))))
	}
	for _, t := range []struct {
		nines float64
		name  string
	}{{0, "fastest"}, {-math.Log10(0.5), "50 %"}, {1, "90 %"}, {2, "99 %"}, {3, "99.9 %"},
		{4, "99.99 %"}} {
		p.line(p.x(t.nines), plotTop, p.x(t.nines), plotBottom, "grid")
		p.text(p.x(t.nines), plotBottom+20, "nine", t.name)
	}
	p.text((plotLeft+plotRight)/2, plotBottom+44, "nine",
		"share of the calls that were at least as fast")
}

func (p *picture) draw(n int, c curve) {
	class := fmt.Sprintf("c%d", n)
	if c.thick {
		class += " ours"
	}
	fmt.Fprintf(&p.b, `<polyline class="%s" points="`, class)
	for i, pt := range c.points {
		if i > 0 {
			p.b.WriteByte(' ')
		}
		fmt.Fprintf(&p.b, "%.1f,%.1f", p.x(pt[0]), p.y(pt[1]))
	}
	p.b.WriteString("\"/>\n")
}

// labels writes the names beside the beginnings of the curves, where they lie
// apart, in their order, and as far from each other as it takes to read them.
func (p *picture) labels() {
	at := make([]float64, len(p.curves))
	for i, c := range p.curves {
		at[i] = p.y(c.points[0][1])
		if i > 0 {
			at[i] = max(at[i], at[i-1]+labelGap)
		}
	}
	// What was pushed out at the bottom pushes back.
	for i := len(at) - 1; i >= 0; i-- {
		limit := float64(plotBottom)
		if i < len(at)-1 {
			limit = at[i+1] - labelGap
		}
		at[i] = min(at[i], limit)
	}
	for i, c := range p.curves {
		p.line(plotLeft-18, at[i], plotLeft-2, p.y(c.points[0][1]), "lead")
		p.text(plotLeft-22, at[i]+4, fmt.Sprintf("label c%d", i), c.name)
	}
}
