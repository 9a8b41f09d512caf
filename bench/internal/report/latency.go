package report

import (
	"fmt"
	"io"
	"slices"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// failed stands in the row of a contestant that could not be measured.
const failed = "failed"

// find returns what was measured of a contestant, or nil.
func find(ls []*measure.Latency, key string) *measure.Latency {
	for _, l := range ls {
		if l.Contestant.Key == key && l.Err == nil {
			return l
		}
	}
	return nil
}

// times writes how many times as long l takes as base, which may be nil.
func times(l, base *measure.Latency) string {
	if base == nil {
		return "–"
	}
	return Ratio(l.Times(base), 1)
}

// Latencies writes the table of the round trips of one size.
func Latencies(w io.Writer, ls []*measure.Latency) error {
	bare, ours := find(ls, contest.BareKey), find(ls, contest.CallKey)
	head := []string{"round trip", "p50", "its rounds", "p99", "p99.9"}
	if bare != nil {
		head = append(head, "÷ bare line")
	}
	if ours != nil {
		head = append(head, "÷ typed call")
	}
	t := NewTable(append(head, "allocs/call, client + server")...)
	for _, l := range ls {
		if l.Err != nil {
			t.Row(l.Contestant.Name, failed)
			continue
		}
		row := []string{
			l.Contestant.Name, Duration(l.P50()),
			Duration(slices.Min(l.Medians)) + " … " + Duration(slices.Max(l.Medians)),
			Duration(l.Quantile(99)), Duration(l.Quantile(99.9)),
		}
		if bare != nil {
			row = append(row, times(l, bare))
		}
		if ours != nil {
			row = append(row, times(l, ours))
		}
		t.Row(append(row, fmt.Sprintf("%.1f + %.1f", l.ClientAllocs, l.ServerAllocs))...)
	}
	_, err := t.WriteTo(w)
	return err
}

// OneWay writes the table of the one-way messages of all sizes: a column for
// each size, with the rate and its share of the plain copy's.
func OneWay(w io.Writer, bySize [][]*measure.Throughput) error {
	head := []string{"one way"}
	for _, ts := range bySize {
		head = append(head, Bytes(int64(ts[0].Size)), "copy ÷")
	}
	t := NewTable(head...)
	for i, first := range bySize[0] {
		row := []string{first.Name}
		for _, ts := range bySize {
			if ts[i].Err != nil {
				row = append(row, failed, "")
				continue
			}
			row = append(row, messages(ts[i]), Ratio(ts[0].Median(), ts[i].Median()))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

// messages writes the rate of messages, and of their bytes where they are not
// small and are moved.
func messages(t *measure.Throughput) string {
	if t.Size <= 64 || t.Key == contest.StreamKey {
		return Rate(t.Median())
	}
	return fmt.Sprintf("%s, %s GB/s", Rate(t.Median()), digits(t.Median()*float64(t.Size)/1e9))
}

// Crowds writes the table of several callers of one server, all measured with
// the same numbers of callers. If base is the key of a contestant, the others'
// medians are compared with its.
func Crowds(w io.Writer, of, base string, byCount [][]*measure.Crowd) error {
	head := []string{of}
	for _, cs := range byCount {
		head = append(head, fmt.Sprintf("%d: rate", cs[0].Callers), "p50", "p99")
		if cs[0].Callers > 1 {
			head = append(head, "spread")
		}
		if base != "" {
			head = append(head, "÷ "+byCount[0][0].Contestant.Name)
		}
	}
	t := NewTable(head...)
	for i, first := range byCount[0] {
		row := []string{first.Contestant.Name}
		for _, cs := range byCount {
			row = append(row, crowd(cs[i])...)
			if base != "" {
				row = append(row, timesCrowd(cs[i], cs, base))
			}
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

func crowd(c *measure.Crowd) []string {
	cells := []string{failed, "", ""}
	if c.Err == nil {
		cells = []string{Rate(c.Rate()), Duration(c.Quantile(50)), Duration(c.Quantile(99))}
	}
	switch {
	case c.Callers == 1:
		return cells
	case c.Err != nil:
		return append(cells, "")
	}
	return append(cells, Ratio(c.Spread(), 1))
}

// timesCrowd compares a crowd with the one called base among the others.
func timesCrowd(c *measure.Crowd, others []*measure.Crowd, base string) string {
	for _, o := range others {
		if o.Contestant.Key == base && o.Err == nil && c.Err == nil {
			return Ratio(float64(c.Quantile(50)), float64(o.Quantile(50)))
		}
	}
	return "–"
}

// Idles writes the table of idle connections.
func Idles(w io.Writer, is []*measure.Idle) error {
	many := fmt.Sprintf("%d: ", measure.ManyConns)
	t := NewTable("idle connections", "1: client's CPU", "server's", many+
		"client's CPU", "server's",
		"server's memory", "each further connection")
	for _, i := range is {
		if i.Err != nil {
			t.Row(i.Contestant.Name, failed)
			continue
		}
		t.Row(i.Contestant.Name, percent(i.One.Client), percent(i.One.Server),
			percent(i.Many.Client), percent(i.Many.Server),
			Bytes(i.Resident), Bytes(i.PerConn))
	}
	_, err := t.WriteTo(w)
	return err
}

func percent(f float64) string { return fmt.Sprintf("%.3f %%", 100*f) }

// Placed writes the table of round trips in all places, a row for each
// contestant.
func Placed(w io.Writer, all []*measure.Placed) error {
	places := measure.Places()
	head := []string{"round trip, 64 B"}
	for _, p := range places {
		head = append(head, p.Name+": p50", "p99")
	}
	t := NewTable(head...)
	for of := range slices.Chunk(all, len(places)) {
		row := []string{of[0].Contestant.Name}
		for _, p := range of {
			if p.Err != nil {
				row = append(row, failed, "")
				continue
			}
			row = append(row, Duration(measure.Median(p.Medians)), Duration(measure.Median(p.P99s)))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}
