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

// Colours that can be told apart by those who see few of them (after Okabe and
// Ito). Ours are warm, the others cold or grey.
var (
	ourColours   = []string{"#d55e00", "#e69f00", "#a63603", "#cc79a7", "#7a0177"}
	theirColours = []string{"#0072b2", "#009e73", "#56b4e9", "#4d4d4d", "#8c6bb1"}
)

const bareColour = "#999999"

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
	p.frame(title)
	for _, c := range p.curves {
		p.draw(c)
	}
	p.labels()
	p.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// A curve is a contestant's, its points as nines and powers of ten of
// nanoseconds.
type curve struct {
	name, colour string
	thick        bool
	points       [][2]float64
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
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12">
<style>
text { fill: #333 }
.title { font-size: 16px; font-weight: 600 }
.tick { fill: #666 }
.nine { fill: #666; text-anchor: middle }
.label { font-size: 13px; text-anchor: end }
.grid { stroke: #ddd }
.fine { stroke: #f1f1f1 }
.lead { stroke: #bbb }
polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.ours { stroke-width: 3 }
</style>
<rect width="100%%" height="100%%" fill="#fff"/>
`, picWidth, picHeight, picWidth, picHeight)
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

func (p *picture) draw(c curve) {
	class := ""
	if c.thick {
		class = ` class="ours"`
	}
	fmt.Fprintf(&p.b, `<polyline%s stroke="%s" points="`, class, c.colour)
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
	slices.SortFunc(p.curves, func(a, b curve) int {
		return cmp.Compare(b.points[0][1], a.points[0][1])
	})
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
		fmt.Fprintf(&p.b, "<text x=\"%d\" y=\"%.0f\" class=\"label\" style=\"fill:%s\">%s</text>\n",
			plotLeft-22, at[i]+4, c.colour, html.EscapeString(c.name))
	}
}
