package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/ipcgen/ipcgen/bench/internal/report"
)

// defaultPairs is how many pairs of turns a comparison has. The host changes what it gives a
// virtual processor from one turn to the next, so it takes many.
const defaultPairs = 20

// A comparison runs this program and that of another tree in turns, on the same machine at the
// same time.
type comparison struct {
	before, after string   // the programs
	args          []string // of both
	pairs         int
	progress      *progress
}

// compare compares with other: a folder with another tree of the project, whose benchmarks it
// builds in dir, or a program that was built from one.
func (b *bench) compare(other, dir string, pairs int, args []string, stdout io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	info, err := os.Stat(other)
	if err != nil {
		return fmt.Errorf("-against: %w", err)
	}
	if other, err = filepath.Abs(other); err != nil {
		return err
	}
	if info.IsDir() {
		program := filepath.Join(dir, "before")
		cmd := exec.Command("go", "build", "-o", program, ".")
		cmd.Dir = filepath.Join(other, "bench")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("-against: build %s: %w: %s", cmd.Dir, err, out)
		}
		other = program
	}
	c := &comparison{before: other, after: self, pairs: pairs, progress: b.progress,
		args: append(args, "-rounds", "1", "-run", b.match.String(), "-o")}
	return c.run(dir, stdout)
}

// A pair is one figure of both programs, in all turns.
type pair struct {
	report.Figure
	before, after []float64
}

// run measures, and writes a table.
func (c *comparison) run(dir string, stdout io.Writer) error {
	var all []*pair
	for i := range c.pairs {
		c.progress.say(fmt.Sprintf("pair %d of %d", i+1, c.pairs))
		turn := []string{c.before, c.after}
		if i%2 == 1 { // neither is always the first
			slices.Reverse(turn)
		}
		var figures [2][]report.Figure
		for j, program := range turn {
			got, err := c.turn(program, dir)
			if err != nil {
				return err
			}
			figures[(j+i)%2] = got
		}
		all = merge(all, figures[0], figures[1])
	}
	c.progress.clear()
	fmt.Fprintf(stdout,
		"%d pairs of turns; the quartiles of their ratios tell gains from noise.\n\n", c.pairs)
	t := report.NewTable("figure", "before", "after", "after ÷ before", "quartiles")
	for _, p := range all {
		var ratios []float64
		for i := range p.before {
			ratios = append(ratios, p.after[i]/p.before[i])
		}
		t.Row(fmt.Sprintf("%s: %s, %s", p.Table, p.Row, p.Column),
			report.Quantity(at(p.before, 0.5), p.Unit), report.Quantity(at(p.after, 0.5), p.Unit),
			report.Ratio(at(ratios, 0.5), 1),
			report.Ratio(at(ratios, 0.25), 1)+" … "+report.Ratio(at(ratios, 0.75), 1))
	}
	_, err := t.WriteTo(stdout)
	return err
}

// at is the value at a fraction of the sorted values.
func at(values []float64, fraction float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(fraction*float64(len(sorted)-1)+0.5)]
}

// turn runs a program once.
func (c *comparison) turn(program, dir string) ([]report.Figure, error) {
	folder := filepath.Join(dir, "turn")
	cmd := exec.Command(program, append(slices.Clone(c.args), folder)...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = nil, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, stderr.String())
	}
	tables, err := os.ReadFile(filepath.Join(folder, "tables.md"))
	return report.Read(string(tables)), err
}

// merge adds the figures of one pair of turns that both have, without those that have no ratio:
// zeros, and ratios.
func merge(all []*pair, before, after []report.Figure) []*pair {
	for _, f := range after {
		i := slices.IndexFunc(before, f.Same)
		if i < 0 || f.Unit == "×" || f.Value == 0 || before[i].Value == 0 {
			continue
		}
		j := slices.IndexFunc(all, func(p *pair) bool { return p.Same(f) })
		if j < 0 {
			j = len(all)
			all = append(all, &pair{Figure: f})
		}
		all[j].before = append(all[j].before, before[i].Value)
		all[j].after = append(all[j].after, f.Value)
	}
	return all
}
