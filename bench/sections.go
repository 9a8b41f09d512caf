package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/codec"
	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/failover"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
	"github.com/ipcgen/ipcgen/bench/internal/names"
	"github.com/ipcgen/ipcgen/bench/internal/report"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A section is a part of the report.
type section struct {
	key   string
	items []item
	// measure measures the items that were chosen.
	measure func(*bench, []item) error
}

// An item is what -run can choose within a section: a contestant, or a size.
type item struct {
	key, note  string
	contestant *contest.Contestant
	n          int
}

// sections are all that can be measured.
func sections() []section {
	contestants := func(takes func(*contest.Contestant) bool) (items []item) {
		for _, c := range contest.All() {
			if takes(c) {
				items = append(items, item{key: c.Key, note: c.Name + ": " + c.Note, contestant: c})
			}
		}
		return items
	}
	many := func(c *contest.Contestant) bool { return c.Many }
	return []section{
		{"latency", contestants(func(c *contest.Contestant) bool { return c.Open != nil }), (*bench).latency},
		{"oneway", contestants(func(c *contest.Contestant) bool { return c.OpenStream != nil }), (*bench).oneWay},
		{"clients", contestants(many), (*bench).clients},
		{"idle", contestants(many), (*bench).idle},
		{"codec", sizes(), (*bench).codec},
		{"registry", []item{
			{key: "10", note: "the registry with 10 instances", n: 10},
			{key: "1000", note: "with 1,000", n: 1000},
			{key: "4000", note: "with 4,000", n: 4000},
		}, (*bench).registry},
		{"failover", []item{
			{key: "10MB", note: "kill primaries that hold 10 MB", n: 10 << 20},
			{key: "256MB", note: "kill primaries that hold 256 MB", n: 256 << 20},
			{key: "hang", note: "stop primaries; a heartbeat finds out"},
			{key: "roll", note: "replace all replicas under load"},
		}, (*bench).failover},
	}
}

// sizes are the lengths of messages as items.
func sizes() (items []item) {
	for _, n := range contest.Sizes {
		name := report.Bytes(int64(n))
		items = append(items, item{key: strings.ReplaceAll(name, " ", ""), note: "build, verify and unpack a message of " + name, n: n})
	}
	return items
}

// chosen are the items of a section that -run matches.
func (b *bench) chosen(s section) (items []item) {
	for _, i := range s.items {
		if b.match.MatchString(s.key + "/" + i.key) {
			items = append(items, i)
		}
	}
	return items
}

// list prints what can be chosen.
func (b *bench) list(w io.Writer) error {
	for _, s := range sections() {
		for _, i := range b.chosen(s) {
			if _, err := fmt.Fprintf(w, "%-16s %s\n", s.key+"/"+i.key, i.note); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) plan() measure.Plan {
	return measure.Plan{Rounds: b.effort.rounds, Turn: b.effort.turn, Warm: b.effort.warm, Progress: b.progress.say}
}

func contestants(items []item) (cs []*contest.Contestant) {
	for _, i := range items {
		cs = append(cs, i.contestant)
	}
	return cs
}

// title starts a section of the report.
func (b *bench) title(s string) { fmt.Fprintf(&b.doc, "\n## %s\n\n", s) }

func (b *bench) latency(items []item) error {
	b.title("Round trips")
	for _, size := range contest.Sizes {
		ls, err := measure.Latencies(contestants(items), size, b.plan())
		if err != nil {
			return err
		}
		if len(ls) == 0 {
			continue
		}
		name := report.Bytes(int64(size))
		fmt.Fprintf(&b.doc, "### %s\n\n", name)
		if err := report.Latencies(&b.doc, ls); err != nil {
			return err
		}
		file := "latency_" + strings.ReplaceAll(name, " ", "") + ".svg"
		fmt.Fprintf(&b.doc, "\n![percentiles of %s](%s)\n\n", name, file)
		var pic bytes.Buffer
		if err := report.Curves(&pic, "Round trip with a request of "+name, ls); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.folder, file), pic.Bytes(), 0o666); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) oneWay(items []item) error {
	b.title("One way")
	var bySize [][]*measure.Throughput
	for _, size := range contest.Sizes {
		ts, err := measure.OneWay(contestants(items), size, b.plan())
		if err != nil {
			return err
		}
		bySize = append(bySize, ts)
	}
	return report.OneWay(&b.doc, bySize)
}

func (b *bench) clients(items []item) error {
	b.title("Several clients on one server, 64 B")
	var byCount [][]*measure.Crowd
	for _, n := range []int{1, 4, 16} {
		crowds, err := measure.Crowds(contestants(items), n, 64, b.plan())
		if err != nil {
			return err
		}
		byCount = append(byCount, crowds)
	}
	return report.Crowds(&b.doc, byCount)
}

func (b *bench) idle(items []item) error {
	b.title("Idle")
	is, err := measure.Idles(contestants(items), 64, b.effort.idle, b.plan())
	if err != nil {
		return err
	}
	return report.Idles(&b.doc, is)
}

func (b *bench) codec(items []item) error {
	b.title("Building and verifying")
	var all []*codec.Costs
	for _, i := range items {
		c, err := codec.Measure(i.n, b.effort.lookups, b.progress.say)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	return report.Codec(&b.doc, all)
}

func (b *bench) registry(items []item) error {
	b.title("Registry")
	var all []*names.Costs
	for _, i := range items {
		c, err := names.Measure(i.n, b.effort.lookups, b.progress.say)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	return report.Registry(&b.doc, all)
}

// beat is the heartbeat with which hangs are found out.
var beat = group.Heartbeat{Period: 5 * time.Millisecond, Grace: 50 * time.Millisecond}

func (b *bench) failover(items []item) error {
	b.title("Failover")
	var f report.Failover
	for _, i := range items {
		var err error
		switch i.key {
		case "hang":
			f.Beat = beat
			f.Hangs, err = failover.Hangs(beat, b.effort.hangs, b.progress.say)
		case "roll":
			f.Rolling, err = failover.Roll(b.effort.rolls, b.progress.say)
		default:
			var k *failover.Kills
			k, err = failover.Measure(i.n, b.effort.kills, b.progress.say)
			f.Kills = append(f.Kills, k)
		}
		if err != nil {
			return fmt.Errorf("failover/%s: %w", i.key, err)
		}
	}
	return f.Write(&b.doc)
}
