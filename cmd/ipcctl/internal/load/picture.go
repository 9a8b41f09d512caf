package load

import (
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// WriteSVG writes a picture of the percentiles of a result. The axis of the percentage has the
// distance to 100 % on a logarithmic scale, so that each nine takes the same room.
func (r *Result) WriteSVG(w io.Writer, title string) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "percentile", "time of a call"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(durationTicks)
	p.X.Tick.Marker = plot.TickerFunc(nines)
	p.Add(plotter.NewGrid())
	var points plotter.XYs
	for _, b := range r.Times.CumulativeDistribution() {
		if b.Quantile < 100 && b.ValueAt > 0 {
			points = append(
				points,
				plotter.XY{X: -math.Log10(1 - b.Quantile/100), Y: float64(b.ValueAt)},
			)
		}
	}
	if len(points) == 0 { // one value, or none
		points = plotter.XYs{{X: 0, Y: 1}, {X: 1, Y: 1}}
		if n := r.Times.Max(); n > 0 {
			points[0].Y, points[1].Y = float64(n), float64(n)
		}
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Width = vg.Points(1.5)
	p.Add(line)
	// From one power of ten to another: a range of no height has no logarithmic scale.
	p.Y.Min = math.Pow(10, math.Floor(math.Log10(points[0].Y)))
	p.Y.Max = math.Pow(10, math.Floor(math.Log10(points[len(points)-1].Y))+1)
	picture, err := p.WriterTo(16*vg.Centimeter, 9*vg.Centimeter, "svg")
	if err != nil {
		return err
	}
	_, err = picture.WriteTo(w)
	return err
}

// durationTicks marks each power of ten, and names it.
func durationTicks(low, high float64) (ticks []plot.Tick) {
	for e := math.Round(math.Log10(max(low, 1))); e <= math.Round(math.Log10(max(high, 1))); e++ {
		v := math.Pow(10, e)
		ticks = append(ticks, plot.Tick{Value: v, Label: Short(v)})
		for f := 2.0; f < 10; f++ {
			ticks = append(ticks, plot.Tick{Value: f * v})
		}
	}
	return ticks
}

// nines marks 0, 50, 90, 99 % and so on.
func nines(low, high float64) []plot.Tick {
	labels := []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"}
	ticks := []plot.Tick{{Value: -math.Log10(0.5), Label: "50 %"}}
	for i, l := range labels {
		if float64(i) <= math.Ceil(high) {
			ticks = append(ticks, plot.Tick{Value: float64(i), Label: l})
		}
	}
	return ticks
}
