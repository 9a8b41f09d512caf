package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	fan        *contest.Fan
	n          int
	mood       measure.Mood
}

// sections are all that can be measured.
func sections() []section {
	those := func(takes func(*contest.Contestant) bool) []item {
		return items(contest.All(), takes)
	}
	many := those(func(c *contest.Contestant) bool { return c.Many })
	return []section{
		{"latency", those(func(c *contest.Contestant) bool {
			return c.Open != nil
		}), (*bench).latency},
		{"oneway", those(func(c *contest.Contestant) bool {
			return c.OpenStream != nil || c.OpenFlow != nil
		}), (*bench).oneWay},
		{"clients", many, (*bench).clients},
		{"shared", those(func(c *contest.Contestant) bool { return c.Shared }), (*bench).shared},
		{"onecpu", those(func(c *contest.Contestant) bool {
			return slices.Contains(placed, c.Key)
		}), (*bench).oneCPU},
		{"idle", many, (*bench).idle},
		{"codec", sizes(), (*bench).codec},
		{"registry", []item{
			{key: "10", note: "the registry with 10 instances", n: 10},
			{key: "1000", note: "with 1,000", n: 1000},
			{key: "4000", note: "with 4,000", n: 4000},
		}, (*bench).registry},
		{"fan", fans(), (*bench).fan},
		{"audience", []item{
			{key: "1", note: "publish to 1 subscription of a topic", n: 1},
			{key: "10", note: "to 10, all awake, of which one reads per free processor", n: 10},
			{key: "100", note: "to 100", n: 100},
			{key: "1000", note: "to 1,000", n: 1000},
			{key: "asleep4", note: "to 4 that all wait for each message", n: 4,
				mood: measure.Asleep},
			{key: "asleep100", note: "to 100 such", n: 100, mood: measure.Asleep},
			{key: "asleep1000", note: "to 1,000 such", n: 1000, mood: measure.Asleep},
			{key: "inplace", note: "to 4 that read in place", n: 4, mood: measure.InPlace},
		}, (*bench).audience},
		{"replication", items(contest.Replicated(), nil), (*bench).replication},
		{"failover", []item{
			{key: "10MB", note: "kill primaries that hold 10 MB", n: 10 << 20},
			{key: "256MB", note: "kill primaries that hold 256 MB", n: 256 << 20},
			{key: "hang", note: "stop primaries; a heartbeat finds out"},
			{key: "roll", note: "replace all replicas under load"},
		}, (*bench).failover},
	}
}

// placed are the contestants that are measured with less than two processors.
var placed = []string{contest.CallKey, contest.ParkedKey, contest.PipeKey}

// items makes items of those contestants that are wanted; of all if wanted is
// nil.
func items(cs []*contest.Contestant, wanted func(*contest.Contestant) bool) (items []item) {
	for _, c := range cs {
		if wanted == nil || wanted(c) {
			items = append(items, item{key: c.Key, note: c.Name + ": " + c.Note, contestant: c})
		}
	}
	return items
}

// fans are the ways to send each message to several readers as items.
func fans() (items []item) {
	for _, f := range contest.Fans() {
		items = append(items, item{key: f.Key, note: f.Name + ": " + f.Note, fan: f})
	}
	return items
}

// sizes are the lengths of messages as items.
func sizes() (items []item) {
	for _, n := range contest.Sizes {
		name := report.Bytes(int64(n))
		items = append(items,
			item{key: strings.ReplaceAll(name, " ", ""),
				note: "build, verify and unpack a message of " + name, n: n})
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
	return measure.Plan{Rounds: b.effort.rounds, Turn: b.effort.turn, Warm: b.effort.warm,
		Progress: b.progress.say}
}

// messages are the sizes of the messages to measure.
func (b *bench) messages() []int {
	if b.size != 0 {
		return []int{b.size}
	}
	return contest.Sizes
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
	var failed []error
	sizes := b.messages()
	if b.size == 0 {
		sizes = append(sizes, contest.HugeSize)
	}
	for _, size := range sizes {
		ls, err := measure.Latencies(contestants(items), size, b.plan())
		failed = append(failed, err)
		if len(ls) == 0 {
			continue
		}
		if size == contest.Sizes[0] {
			b.summary.Latencies = ls
		}
		if err := b.latencyOf(size, ls); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// latencyOf reports the round trips of one size.
func (b *bench) latencyOf(size int, ls []*measure.Latency) error {
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
	return os.WriteFile(filepath.Join(b.folder, file), pic.Bytes(), 0o666)
}

func (b *bench) oneWay(items []item) error {
	b.title("One way")
	var failed []error
	for _, size := range b.messages() {
		ts, err := measure.OneWay(contestants(items), size, b.plan())
		failed = append(failed, err)
		b.summary.OneWay = append(b.summary.OneWay, ts)
	}
	return errors.Join(append(failed, report.OneWay(&b.doc, b.summary.OneWay))...)
}

// crowds measures so many callers at a time and reports them.
func (b *bench) crowds(of, base string, items []item, counts []int, share bool) error {
	var byCount [][]*measure.Crowd
	var failed []error
	for _, n := range counts {
		crowds, err := measure.Crowds(contestants(items), n, share, 64, b.plan())
		failed = append(failed, err)
		byCount = append(byCount, crowds)
	}
	return errors.Join(append(failed, report.Crowds(&b.doc, of, base, byCount))...)
}

func (b *bench) clients(items []item) error {
	b.title("Several clients of one server, 64 B")
	return b.crowds("clients, each with a connection", "", items, []int{1, 4, 16}, false)
}

func (b *bench) shared(items []item) error {
	b.title("Several callers on one connection, 64 B")
	return b.crowds("goroutines that share a client", "", items, []int{1, 8, 64}, true)
}

func (b *bench) fan(items []item) error {
	b.title("One publisher, several readers")
	var fans []*contest.Fan
	for _, i := range items {
		fans = append(fans, i.fan)
	}
	var failed []error
	for _, size := range contest.FanSizes {
		if b.size != 0 && b.size != size {
			continue
		}
		var byCount [][]*measure.Fanned
		for _, readers := range []int{1, 4, 16} {
			all, err := measure.Fans(fans, size, readers, b.plan())
			failed = append(failed, err)
			byCount = append(byCount, all)
		}
		fmt.Fprintf(&b.doc, "### %s\n\n", report.Bytes(int64(size)))
		failed = append(failed, report.Fans(&b.doc, byCount))
		b.doc.WriteByte('\n')
	}
	return errors.Join(failed...)
}

func (b *bench) audience(items []item) error {
	b.title("Publishing to many subscriptions of a topic, 64 B")
	var all []*measure.Audience
	for _, i := range items {
		a, err := measure.Publishing(i.n, i.mood, b.effort.lookups, b.progress.say)
		if err != nil {
			return fmt.Errorf("%s: %w", i.key, err)
		}
		all = append(all, a)
	}
	return report.Audiences(&b.doc, all)
}

func (b *bench) replication(items []item) error {
	b.title("Replication's cost per call, 64 B")
	return b.crowds("goroutines that share a client of a group", contest.StatelessKey, items,
		[]int{1, 8}, true)
}

func (b *bench) oneCPU(items []item) error {
	b.title("With less than two processors")
	all, err := measure.AllPlaced(contestants(items), 64, b.plan())
	return errors.Join(err, report.Placed(&b.doc, all))
}

func (b *bench) idle(items []item) error {
	b.title("Idle")
	is, err := measure.Idles(contestants(items), 64, b.effort.idle, b.plan())
	return errors.Join(err, report.Idles(&b.doc, is))
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
	f := report.Failover{Beat: beat}
	var failed []error
	for _, i := range items {
		if err := measure.Again(func() error { return b.failoverOf(i, &f) }); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", i.key, err))
		}
	}
	b.summary.Kills = f.Kills
	return errors.Join(append(failed, f.Write(&b.doc))...)
}

func (b *bench) failoverOf(i item, f *report.Failover) (err error) {
	switch i.key {
	case "hang":
		f.Hangs, err = failover.Hangs(beat, b.effort.hangs, b.progress.say)
	case "roll":
		f.Rolling, err = failover.Roll(b.effort.rolls, b.progress.say)
	default:
		var k *failover.Kills
		if k, err = failover.Measure(i.n, b.effort.kills, b.progress.say); err == nil {
			f.Kills = append(f.Kills, k)
		}
	}
	return err
}
