package main

import (
	"errors"
	"fmt"
	"html/template"
	"math"
	"os"
	"path/filepath"
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
--line:#2563a8;--crash:#c2382f;--card:#fff}
@media(prefers-color-scheme:dark){:root{--page:#14171b;--ink:#e8eaed;--dim:#9aa4b0;
--rule:#333a43;--line:#6fb0f0;--crash:#ff8078;--card:#1b1f25}}
body{background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif;margin:0}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .25rem}
p{color:var(--dim);margin:.25rem 0 1rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0}
dl div{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;
padding:.6rem .8rem}
dt{color:var(--dim);font-size:.8rem}dd{margin:0;font-size:1.25rem;
font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;display:block}.scroll{overflow-x:auto}.scroll svg{min-width:34rem}
text{fill:var(--dim);font:12px system-ui,sans-serif}
.grid{stroke:var(--rule)}.line{fill:none;stroke:var(--line);stroke-width:1.5}
.bar{fill:var(--line)}.crash{stroke:var(--crash);stroke-dasharray:3 3}.due{stroke:var(--crash)}
.key{fill:var(--crash)}
</style></head><body><main>
<h1>{{.Blocks}} blocks, {{.Xruns}} xruns, {{.Crashes}} crashes</h1>
<p>{{.Format}}; a block each {{.Period}}, and its answer due {{.Headroom}} later.</p>
<dl>{{range .Facts}}<div><dt>{{.Name}}</dt><dd>{{.Value}}</dd></div>{{end}}</dl>
<h2>Slack over time</h2>
<p>How long before it was due each answer came: the least of each moment.
{{if .Crashes}}Each dashed line is a primary that was killed.{{end}} Below 0 is an xrun: there were
{{.Xruns}}, {{.OwnFault}} of them since this process was late itself.</p>
<div class="scroll">{{.Slack}}</div>
<h2>Latency</h2>
<p>From the block to its first answer. The bars have a logarithmic height.</p>
<div class="scroll">{{.Latency}}</div>
</main></body></html>
`))

type fact struct{ Name, Value string }

// writeReport writes the report under a temporary name, and renames it.
func writeReport(path string, r *session, f figures) error {
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
			fact{"crash to notice, median", micro(median(f.Notice)).String()})
	}
	var b strings.Builder
	if err := reportPage.Execute(&b, map[string]any{
		"Blocks": f.Blocks, "Xruns": f.Xruns, "Crashes": len(f.Kills), "Facts": facts,
		"OwnFault": f.OwnFault,
		"Format":   fmt.Sprintf("%v, %d frames", r.studio.format, r.opts.frames),
		"Period":   micro(f.Period).String(),
		"Headroom": micro(headroom * f.Period).String(),
		"Slack":    template.HTML(slackChart(f)), "Latency": template.HTML(latencyChart(f)),
	}); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report.*.tmp")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = tmp.WriteString(b.String())
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// The size of a chart, in the units of its drawing.
const (
	chartWidth, chartHeight = 960.0, 260.0
	chartLeft, chartBottom  = 70.0, 30.0
)

// slackChart draws the least slack of each of up to 600 moments.
func slackChart(f figures) string {
	if len(f.Slack) == 0 {
		return ""
	}
	top := float64(headroom * f.Period)
	// What is later by far is drawn at the lower edge, so that it does not flatten the rest.
	low := max(min(0, float64(f.Worst)), -top)
	seconds := (time.Duration(len(f.Slack)) * f.Period).Seconds()
	x := func(s float64) float64 { return chartLeft + s/seconds*(chartWidth-chartLeft-10) }
	y := func(v float64) float64 {
		return 10 + (top-v)/(top-low)*(chartHeight-chartBottom-10)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="slack over time">`,
		chartWidth, chartHeight)
	for i := range 5 {
		v := low + (top-low)*float64(i)/4
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`+
			`<text x="%g" y="%.1f" text-anchor="end">%.1f ms</text>`, chartLeft, chartWidth-10,
			y(v), y(v), chartLeft-8, y(v)+4, v/1e6)
		s := seconds * float64(i) / 4
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%.1f s</text>`,
			min(x(s), chartWidth-20), chartHeight-8, s)
	}
	for _, k := range f.Kills {
		at := x(k.Seconds())
		fmt.Fprintf(&b, `<line class="crash" x1="%.1f" x2="%.1f" y1="10" y2="%g"/>`, at, at,
			chartHeight-chartBottom)
	}
	fmt.Fprintf(&b, `<line class="due" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, chartLeft,
		chartWidth-10, y(0), y(0))
	b.WriteString(`<polyline class="line" points="`)
	per := max(1, (len(f.Slack)+599)/600)
	for n := 0; n < len(f.Slack); n += per {
		least := f.Slack[n]
		for _, s := range f.Slack[n:min(n+per, len(f.Slack))] {
			least = min(least, s)
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", x((time.Duration(n) * f.Period).Seconds()),
			y(max(float64(least), low)))
	}
	b.WriteString(`"/></svg>`)
	return b.String()
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
	width := (chartWidth - chartLeft - 10) / classes
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="histogram of latency">`,
		chartWidth, chartHeight)
	space := chartHeight - chartBottom - 10
	scale := func(n int) float64 {
		return math.Log2(float64(n)+1) / math.Log2(float64(most)+1) * space
	}
	for n := 1; n <= most; n *= 10 {
		y := chartHeight - chartBottom - scale(n)
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`+
			`<text x="%g" y="%.1f" text-anchor="end">%d</text>`, chartLeft, chartWidth-10, y, y,
			chartLeft-8, y+4, n)
	}
	for i, n := range counts {
		x := chartLeft + float64(i)*width
		if n > 0 {
			fmt.Fprintf(&b, `<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f">`+
				`<title>%d blocks</title></rect>`, x+1, chartHeight-chartBottom-scale(n), width-2,
				scale(n), n)
		}
		if i%perOctave == 0 {
			from := time.Duration(base * math.Exp2(float64(i)/perOctave))
			fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%v</text>`, x,
				chartHeight-8, from)
		}
	}
	b.WriteString(`</svg>`)
	return b.String()
}
