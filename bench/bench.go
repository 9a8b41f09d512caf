package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
	"github.com/ipcgen/ipcgen/bench/internal/report"
)

// An effort is how long and how much is measured.
type effort struct {
	rounds     int
	warm, turn time.Duration
	idle       time.Duration
}

func thorough() effort {
	return effort{rounds: 9, warm: 100 * time.Millisecond, turn: 300 * time.Millisecond, idle: 5 * time.Second}
}

func brief() effort {
	return effort{rounds: 3, warm: 5 * time.Millisecond, turn: 15 * time.Millisecond, idle: 200 * time.Millisecond}
}

// A bench is one run of the command.
type bench struct {
	effort   effort
	match    *regexp.Regexp
	folder   string
	progress *progress

	doc bytes.Buffer // the tables so far
}

// A section is a part of the report.
type section struct {
	key     string
	takes   func(*contest.Contestant) bool
	measure func(*bench, []*contest.Contestant) error
}

var sections = []section{
	{"latency", func(*contest.Contestant) bool { return true }, (*bench).latency},
	{"oneway", func(c *contest.Contestant) bool { return c.OpenStream != nil }, (*bench).oneWay},
	{"clients", func(c *contest.Contestant) bool { return c.Many }, (*bench).clients},
	{"idle", func(c *contest.Contestant) bool { return c.Many }, (*bench).idle},
}

// chosen are the contestants of a section that -run matches.
func (b *bench) chosen(s section) []*contest.Contestant {
	var cs []*contest.Contestant
	for _, c := range contest.All() {
		if s.takes(c) && b.match.MatchString(s.key+"/"+c.Key) {
			cs = append(cs, c)
		}
	}
	return cs
}

// list prints what can be chosen.
func (b *bench) list(w io.Writer) error {
	for _, s := range sections {
		for _, c := range b.chosen(s) {
			if _, err := fmt.Fprintf(w, "%-16s %s: %s\n", s.key+"/"+c.Key, c.Name, c.Note); err != nil {
				return err
			}
		}
	}
	return nil
}

// run measures what was chosen and reports it.
func (b *bench) run(stdout io.Writer) error {
	if err := os.MkdirAll(b.folder, 0o777); err != nil {
		return err
	}
	defer b.progress.clear()
	fmt.Fprintf(&b.doc, "Measured on %s.\n%d rounds of %v; medians of the rounds unless another percentile is named.\n",
		machine(), b.effort.rounds, b.effort.turn)
	some := false
	for _, s := range sections {
		if cs := b.chosen(s); len(cs) > 0 {
			some = true
			if err := s.measure(b, cs); err != nil {
				return err
			}
		}
	}
	if !some {
		return fmt.Errorf("-run %q matches nothing; -list shows what there is", b.match)
	}
	b.progress.clear()
	if _, err := stdout.Write(b.doc.Bytes()); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.folder, "tables.md"), b.doc.Bytes(), 0o666)
}

func (b *bench) plan() measure.Plan {
	return measure.Plan{Rounds: b.effort.rounds, Turn: b.effort.turn, Warm: b.effort.warm, Progress: b.progress.say}
}

// title starts a section of the report.
func (b *bench) title(s string) { fmt.Fprintf(&b.doc, "\n## %s\n\n", s) }

func (b *bench) latency(cs []*contest.Contestant) error {
	b.title("Round trips")
	for _, size := range contest.Sizes {
		ls, err := measure.Latencies(cs, size, b.plan())
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

func (b *bench) oneWay(cs []*contest.Contestant) error {
	b.title("One way")
	var bySize [][]*measure.Throughput
	for _, size := range contest.Sizes {
		ts, err := measure.OneWay(cs, size, b.plan())
		if err != nil {
			return err
		}
		bySize = append(bySize, ts)
	}
	return report.OneWay(&b.doc, bySize)
}

func (b *bench) clients(cs []*contest.Contestant) error {
	b.title("Several clients on one server, 64 B")
	var byCount [][]*measure.Crowd
	for _, n := range []int{1, 4, 16} {
		crowds, err := measure.Crowds(cs, n, 64, b.plan())
		if err != nil {
			return err
		}
		byCount = append(byCount, crowds)
	}
	return report.Crowds(&b.doc, byCount)
}

func (b *bench) idle(cs []*contest.Contestant) error {
	b.title("Idle")
	is, err := measure.Idles(cs, 64, b.effort.idle, b.plan())
	if err != nil {
		return err
	}
	return report.Idles(&b.doc, is)
}
