package report

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/failover"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// A Summary is the part of a run that the project's README shows.
type Summary struct {
	Machine   string
	Effort    string             // how long and how it was measured
	Latencies []*measure.Latency // of 64 B
	// OneWay are the one-way messages, by size.
	OneWay [][]*measure.Throughput
	Kills  []*failover.Kills
}

// SummaryPicture is where, beside the README, the summary's picture lies.
const SummaryPicture = "docs/latency_64B.svg"

// Complete is an error if something is missing.
func (s *Summary) Complete() error {
	if find(s.Latencies, contest.CallKey) == nil || len(s.OneWay) == 0 || len(s.Kills) == 0 {
		return errors.New(
			"the summary needs the sections latency, oneway and failover, without failures")
	}
	return nil
}

// Write writes those parts that were measured, as Markdown.
func (s *Summary) Write(w io.Writer) error {
	var parts []string
	for _, part := range []func(io.Writer) error{s.latencies, s.oneWay, s.failover} {
		var b strings.Builder
		if err := part(&b); err != nil {
			return err
		}
		if b.Len() > 0 {
			parts = append(parts, b.String())
		}
	}
	parts = append(parts,
		fmt.Sprintf("On %s:\nmedians of one run of `cd bench && go run .`, in which all took "+
			"turns, in %s.\n", s.Machine, s.Effort))
	_, err := io.WriteString(w, strings.Join(parts, "\n"))
	return err
}

func (s *Summary) latencies(w io.Writer) error {
	if len(s.Latencies) == 0 {
		return nil
	}
	bare, ours := find(s.Latencies, contest.BareKey), find(s.Latencies, contest.CallKey)
	t := NewTable("round trip of 64 B", "p50", "p99", "÷ bare line", "÷ typed call")
	for _, l := range s.Latencies {
		if l.Err != nil {
			t.Row(l.Contestant.Name, failed)
			continue
		}
		t.Row(l.Contestant.Name, Duration(l.P50()), Duration(l.Quantile(99)), times(l, bare),
			times(l, ours))
	}
	if _, err := t.WriteTo(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n![The percentiles of these round trips](%s)\n", SummaryPicture)
	return err
}

// oneWay writes the rates of the shortest and the longest messages.
func (s *Summary) oneWay(w io.Writer) error {
	if len(s.OneWay) == 0 {
		return nil
	}
	few, many := s.OneWay[0], s.OneWay[len(s.OneWay)-1]
	t := NewTable("messages that nobody answers", Bytes(int64(few[0].Size)),
		Bytes(int64(many[0].Size)))
	for i, first := range few {
		row := []string{first.Name}
		for _, m := range []*measure.Throughput{few[i], many[i]} {
			if m.Err != nil {
				row = append(row, failed)
				continue
			}
			row = append(row, messages(m))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

func (s *Summary) failover(w io.Writer) error {
	if len(s.Kills) == 0 {
		return nil
	}
	head := []string{"after the kill of a primary, p50 and p99"}
	for _, k := range s.Kills {
		head = append(head, "processes of "+Bytes(int64(k.Ballast)))
	}
	t := NewTable(head...)
	for _, part := range []struct {
		name  string
		times func(*failover.Kills) failover.Times
	}{
		{"the kernel lets somebody know: robust futex", func(k *failover.Kills) failover.Times {
			return k.Futex
		}},
		{"the kernel lets somebody know: pidfd", func(k *failover.Kills) failover.Times {
			return k.Pidfd
		}},
		{"a client has the standby's first answer", func(k *failover.Kills) failover.Times {
			return k.Warm
		}},
		{"without a standby: a new process's", func(k *failover.Kills) failover.Times {
			return k.Cold
		}},
	} {
		row := []string{part.name}
		for _, k := range s.Kills {
			ts := part.times(k)
			row = append(row, Duration(ts.Quantile(0.5))+", "+Duration(ts.Quantile(0.99)))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}
