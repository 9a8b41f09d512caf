package main

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"
)

// reportPage is one file with its drawings in it, so that it needs no network.
var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>audio_host: {{.Blocks}} blocks, {{.Xruns}} xruns</title>
<style>
:root{color-scheme:light dark;--page:#fcfcfb;--ink:#1b1f24;--dim:#5b6470;--rule:#d9dde2;
--line:#2563a8;--other:#b26a00;--crash:#c2382f;--card:#fff;--good:#2c7a3f}
@media(prefers-color-scheme:dark){:root{--page:#14171b;--ink:#e8eaed;--dim:#9aa4b0;
--rule:#333a43;--line:#6fb0f0;--other:#e0a04a;--crash:#ff8078;--card:#1b1f25;--good:#6cc784}}
body{background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif;margin:0}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .25rem}
p{color:var(--dim);margin:.25rem 0 1rem;max-width:46rem}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.75rem;margin:1rem 0}
dl div{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;
padding:.6rem .8rem;display:flex;flex-direction:column;justify-content:space-between}
dt{color:var(--dim);font-size:.8rem}dd{margin:0;font-size:1.25rem;
font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;display:block}.scroll{overflow-x:auto}.scroll svg{min-width:34rem}
text{fill:var(--dim);font:12px system-ui,sans-serif}
.grid{stroke:var(--rule)}.line{fill:none;stroke:var(--line);stroke-width:1.5}
.line2{fill:none;stroke:var(--other);stroke-width:1.5}
.bar,.dot{fill:var(--line)}.dot2{fill:var(--other)}
.ring{fill:none;stroke:var(--other)}.pair{stroke:var(--rule)}
.crash{stroke:var(--crash);stroke-dasharray:2 4;opacity:.55}.due{stroke:var(--crash)}
.none{color:var(--good)}.some,.key0{color:var(--crash)}.key1{color:var(--line)}
.key2{color:var(--other)}
</style></head><body><main>
<h1>{{.Blocks}} blocks, <span class="{{if .Xruns}}some{{else}}none{{end}}">{{.Xruns}}
xrun{{if ne .Xruns 1}}s{{end}}</span>, {{.Crashes}} crash{{if ne .Crashes 1}}es{{end}}</h1>
<p>{{.Format}}; a block each {{.Period}}, and its answer due {{.Headroom}} later.</p>
<dl>{{range .Facts}}<div><dt>{{.Name}}</dt><dd>{{.Value}}</dd></div>{{end}}</dl>
<h2>Slack over time</h2>
<p>How long before it was due each answer came: the least of each moment.
{{if .Crashes}}Each <span class="key0">dashed line</span> is a primary that was killed.{{end}}
Below 0 is an xrun; one that is later than the chart shows is at its lower edge.</p>
<div class="scroll">{{.Slack}}</div>
{{if .Crashes}}<h2>Crashes</h2>
<p>From SIGKILL <span class="key1">to the next good block</span>, and
<span class="key2">to the group's notice of the death</span>, for which no block waits. The ring
is the kernel's notice to this process: what lies between it and the group's is the group's
part.</p>
<div class="scroll">{{.Kills}}</div>{{end}}
<h2>The clock</h2>
<p>How late <span class="key1">this process sent its blocks</span>, and how late
<span class="key2">a thread woke up that only sleeps</span>: the most of each moment. Where both
are late, the machine had no processor for either. {{.OwnFault}} xruns are of blocks that were
sent late and answered within the headroom; at the time of {{.Machine}}, the thread that only sleeps
was late by more than a block.</p>
<div class="scroll">{{.Clock}}</div>
<h2>Latency</h2>
<p>From the block to its first answer. The bars have a logarithmic height.</p>
<div class="scroll">{{.Latency}}</div>
</main></body></html>
`))

type fact struct{ Name, Value string }

// writeReport writes the report.
func writeReport(w io.Writer, r *session, f figures) error {
	facts := []fact{
		{"slack, median", micro(f.P50).String()}, {"slack, 99 % have more", micro(f.P99).String()},
		{"slack, 99.9 % have more", micro(f.P999).String()},
		{"slack, worst", micro(f.Worst).String()},
		{"latency, median", micro(f.MedianLatency).String()},
		{"signal path alone", f.Alone.Round(100 * time.Nanosecond).String()},
	}
	if len(f.Kills) > 0 {
		facts = append(facts,
			fact{"crash to good block, median", micro(median(f.Recovery)).String()},
			fact{"crash to good block, worst", micro(worst(f.Recovery)).String()},
			fact{"crash to group's notice, median", micro(median(f.Notice)).String()})
	}
	if len(f.Kernel) > 0 {
		facts = append(facts,
			fact{"crash to kernel's notice, median", micro(median(f.Kernel)).String()})
	}
	facts = append(facts,
		fact{"blocks sent late, worst", micro(worst(f.Clock)).String()},
		fact{"a sleeper late, worst", micro(worst(f.Asleep)).String()},
		fact{"load of the host", f.Load.share(f.Load.host)},
		fact{"load of the replicas", f.Load.share(f.Load.replicas)},
		fact{"load, signal path alone", f.shareAlone()})
	if f.Load.stolen > 0 {
		facts = append(facts, fact{"stolen by the machine below", f.Load.share(f.Load.stolen)})
	}
	return reportPage.Execute(w, map[string]any{
		"Blocks": f.Blocks, "Xruns": f.Xruns, "Crashes": len(f.Kills), "Facts": facts,
		"OwnFault": f.OwnFault, "Machine": f.Machine,
		"Format":   fmt.Sprintf("%v, %d frames", r.studio.format, r.opts.frames),
		"Period":   micro(f.Period).String(),
		"Headroom": micro(headroom * f.Period).String(),
		"Slack":    template.HTML(slackChart(f)), "Kills": template.HTML(killChart(f)),
		"Clock": template.HTML(clockChart(f)), "Latency": template.HTML(latencyChart(f)),
	})
}

// The size of a chart, in the units of its drawing.
const (
	chartWidth, chartHeight = 960.0, 260.0
	chartLeft, chartRight   = 70.0, chartWidth - 10
	chartTop, chartBottom   = 10.0, chartHeight - 30
	chartSpace              = chartBottom - chartTop
)

// A chart is a drawing.
type chart struct{ strings.Builder }

func newChart(label string) *chart {
	c := &chart{}
	c.add(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, label)
	return c
}

func (c *chart) add(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// level draws a line of the grid at the height y.
func (c *chart) level(y float64, label string) {
	c.add(`<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`+
		`<text x="%g" y="%.1f" text-anchor="end">%s</text>`, chartLeft, chartRight, y, y,
		chartLeft-8, y+4, label)
}

// mark writes a label below the chart.
func (c *chart) mark(x float64, label string) {
	c.add(`<text x="%.1f" y="%g" text-anchor="middle">%s</text>`, min(x, chartWidth-20),
		chartHeight-8, label)
}

func (c *chart) String() string { return c.Builder.String() + "</svg>" }

// An overTime is a chart of what happened in a session.
type overTime struct {
	*chart
	f figures
	y func(time.Duration) float64
}

func (c overTime) x(at time.Duration) float64 {
	length := time.Duration(max(1, c.f.Blocks)) * c.f.Period
	return chartLeft + float64(at)/float64(length)*(chartRight-chartLeft)
}

// seconds marks the time.
func (c overTime) seconds() {
	for i := range 5 {
		at := time.Duration(c.f.Blocks) * c.f.Period * time.Duration(i) / 4
		c.mark(c.x(at), fmt.Sprintf("%.1f s", at.Seconds()))
	}
}

// line draws the values of blocks: of each of up to 600 moments, the one that pick chooses.
func (c overTime) line(class string, values []time.Duration,
	pick func(a, b time.Duration) time.Duration) {
	c.add(`<polyline class="%s" points="`, class)
	per := max(1, (len(values)+599)/600)
	for n := 0; n < len(values); n += per {
		v := values[n]
		for _, other := range values[n:min(n+per, len(values))] {
			v = pick(v, other)
		}
		c.add("%.1f,%.1f ", c.x(time.Duration(n)*c.f.Period), c.y(v))
	}
	c.add(`"/>`)
}

func least(a, b time.Duration) time.Duration { return min(a, b) }

func most(a, b time.Duration) time.Duration { return max(a, b) }

// slackChart draws the least slack of each moment.
func slackChart(f figures) string {
	top := headroom * f.Period
	// What is later by far is drawn at the lower edge, so that it does not flatten the rest.
	low := max(min(0, f.Worst), -top)
	c := overTime{newChart("slack over time"), f, func(v time.Duration) float64 {
		return chartTop + float64(top-max(v, low))/float64(top-low)*chartSpace
	}}
	for i := range 5 {
		v := low + (top-low)*time.Duration(i)/4
		c.level(c.y(v), fmt.Sprintf("%.1f ms", float64(v)/1e6))
	}
	c.seconds()
	for _, k := range f.Kills {
		c.add(`<line class="crash" x1="%.1[1]f" x2="%.1[1]f" y1="%[2]g" y2="%[3]g"/>`, c.x(k.at),
			chartTop, chartBottom)
	}
	c.add(`<line class="due" x1="%[1]g" x2="%[2]g" y1="%.1[3]f" y2="%.1[3]f"/>`, chartLeft,
		chartRight, c.y(0))
	c.line("line", f.Slack, least)
	return c.String()
}

// decades returns a logarithmic scale from 10 µs to the decade above most, whose levels are drawn.
func decades(c *chart, most time.Duration) func(time.Duration) float64 {
	const low = 10 * time.Microsecond
	count := max(1, math.Ceil(math.Log10(float64(most)/float64(low))))
	y := func(v time.Duration) float64 {
		return chartBottom - math.Log10(float64(max(v, low))/float64(low))/count*chartSpace
	}
	for i, v := 0, low; i <= int(count); i, v = i+1, v*10 {
		c.level(y(v), v.String())
	}
	return y
}

// killChart draws two dots and a ring for each kill.
func killChart(f figures) string {
	if len(f.Kills) == 0 {
		return ""
	}
	c := overTime{chart: newChart("crashes"), f: f}
	c.y = decades(c.chart, max(worst(f.Recovery), worst(f.Notice), worst(f.Kernel)))
	c.seconds()
	dot := func(class string, radius float64, k killed, v time.Duration) {
		if v > 0 {
			c.add(`<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"><title>%v</title></circle>`,
				class, c.x(k.at), c.y(v), radius, micro(v))
		}
	}
	for _, k := range f.Kills {
		dot("ring", 5.5, k, k.kernel)
		dot("dot2", 3.5, k, k.notice)
		dot("dot", 3.5, k, k.recovery)
	}
	return c.String()
}

// clockChart draws how late the clock was, and a thread that only sleeps.
func clockChart(f figures) string {
	c := overTime{chart: newChart("lateness of the clock"), f: f}
	c.y = decades(c.chart, max(worst(f.Clock), worst(f.Asleep)))
	c.seconds()
	c.line("line2", f.Asleep, most)
	c.line("line", f.Clock, most)
	return c.String()
}

// latencyChart draws a histogram, whose classes grow by a quarter of an octave.
func latencyChart(f figures) string {
	const base, perOctave, classes = float64(10 * time.Microsecond), 4, 48 // 10 µs to 41 ms
	var counts [classes]int
	most := 1
	for _, l := range f.Latency {
		class := int(math.Log2(max(float64(l), base)/base) * perOctave)
		class = min(class, classes-1)
		counts[class]++
		most = max(most, counts[class])
	}
	width := (chartRight - chartLeft) / classes
	c := newChart("histogram of latency")
	scale := func(n int) float64 {
		return math.Log2(float64(n)+1) / math.Log2(float64(most)+1) * chartSpace
	}
	for n := 1; n <= most; n *= 10 {
		c.level(chartBottom-scale(n), fmt.Sprint(n))
	}
	for i, n := range counts {
		x := chartLeft + float64(i)*width
		if n > 0 {
			c.add(`<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f">`+
				`<title>%d blocks</title></rect>`, x+1, chartBottom-scale(n), width-2, scale(n), n)
		}
		if i%perOctave == 0 {
			c.mark(x, time.Duration(base*math.Exp2(float64(i)/perOctave)).String())
		}
	}
	return c.String()
}
