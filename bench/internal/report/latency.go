package report

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// Latencies writes the table of the round trips of one size.
func Latencies(w io.Writer, ls []*measure.Latency) error {
	var bare, ours *measure.Latency
	for _, l := range ls {
		switch l.Contestant.Key {
		case contest.BareKey:
			bare = l
		case contest.CallKey:
			ours = l
		}
	}
	head := []string{"round trip", "p50", "its rounds", "p99", "p99.9"}
	if bare != nil {
		head = append(head, "÷ bare line")
	}
	if ours != nil {
		head = append(head, "÷ typed call")
	}
	t := NewTable(append(head, "allocs/call, client + server")...)
	for _, l := range ls {
		row := []string{
			l.Contestant.Name, Duration(l.P50()),
			Duration(slices.Min(l.Medians)) + " … " + Duration(slices.Max(l.Medians)),
			Duration(l.Quantile(99)), Duration(l.Quantile(99.9)),
		}
		if bare != nil {
			row = append(row, Ratio(l.Times(bare), 1))
		}
		if ours != nil {
			row = append(row, Ratio(l.Times(ours), 1))
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
			rate := ts[i].Median()
			cell := Rate(rate)
			if ts[i].Size > 64 {
				cell += fmt.Sprintf(", %s GB/s", digits(rate*float64(ts[i].Size)/1e9))
			}
			row = append(row, cell, Ratio(ts[0].Median(), rate))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

// Crowds writes the table of several clients on one server.
func Crowds(w io.Writer, byCount [][]*measure.Crowd) error {
	head := []string{"calls of all clients"}
	for _, cs := range byCount {
		head = append(head, fmt.Sprintf("%d: rate", cs[0].Clients), "p50", "p99.9")
	}
	t := NewTable(head...)
	for i, first := range byCount[0] {
		row := []string{first.Contestant.Name}
		for _, cs := range byCount {
			row = append(row, Rate(cs[i].Rate()),
				Duration(time.Duration(cs[i].Hist.ValueAtQuantile(50))), Duration(time.Duration(cs[i].Hist.ValueAtQuantile(99.9))))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

// Idles writes the table of idle connections.
func Idles(w io.Writer, is []*measure.Idle) error {
	t := NewTable("idle", "client's CPU", "server's CPU", "server's memory", "each further connection")
	for _, i := range is {
		t.Row(i.Contestant.Name, percent(i.Client), percent(i.Server), Bytes(i.Resident), Bytes(i.PerConn))
	}
	_, err := t.WriteTo(w)
	return err
}

func percent(f float64) string { return fmt.Sprintf("%.3f %%", 100*f) }
