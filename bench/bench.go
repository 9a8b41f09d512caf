package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/report"
)

// An effort is how long and how much is measured.
type effort struct {
	rounds     int
	warm, turn time.Duration
	idle       time.Duration
	lookups    int // short operations within this process, of each kind
	kills      int // of each kind of process
	hangs      int
	rolls      int
}

func thorough() effort {
	return effort{rounds: 9, warm: 100 * time.Millisecond, turn: 300 * time.Millisecond,
		idle:    5 * time.Second,
		lookups: 500, kills: 200, hangs: 20, rolls: 5}
}

func brief() effort {
	return effort{rounds: 3, warm: 5 * time.Millisecond, turn: 15 * time.Millisecond,
		idle:    200 * time.Millisecond,
		lookups: 20, kills: 3, hangs: 1, rolls: 1}
}

// A bench is one run of the command.
type bench struct {
	effort   effort
	match    *regexp.Regexp
	size     int // of messages; 0 for all sizes
	folder   string
	readme   string // the README to bring up to date; "" for none
	pinned   bool
	progress *progress

	doc     bytes.Buffer // the tables of the section
	summary report.Summary
}

// run measures what was chosen and reports each section when it is done. A
// section that fails does not keep the others from being measured.
func (b *bench) run(stdout io.Writer) (err error) {
	if err := os.MkdirAll(b.folder, 0o777); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(b.folder, "tables.md"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	defer b.progress.clear()
	out := io.MultiWriter(file, stdout)
	b.summary.Machine = machine()
	b.summary.Effort = fmt.Sprintf("%d rounds of %v", b.effort.rounds, b.effort.turn)
	if b.pinned {
		b.summary.Effort += ", clients and servers pinned to a processor each"
	}
	fmt.Fprintf(&b.doc, "Measured on %s.\n%s; medians of the rounds unless another percentile "+
		"is named.\n",
		b.summary.Machine, b.summary.Effort)
	some := false
	var failed []error
	for _, s := range sections() {
		items := b.chosen(s)
		if len(items) == 0 {
			continue
		}
		some = true
		if err := s.measure(b, items); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.key, err))
		}
		b.progress.clear()
		if _, err := b.doc.WriteTo(out); err != nil {
			return err
		}
	}
	if !some {
		return fmt.Errorf("-run %q matches nothing; -list shows what there is", b.match)
	}
	return errors.Join(append(failed, b.summarise())...)
}

// summarise writes the summary of what was measured, and brings the README up to
// date.
func (b *bench) summarise() error {
	var text bytes.Buffer
	if err := b.summary.Write(&text); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.folder, "summary.md"), text.Bytes(), 0o666); err != nil {
		return err
	}
	if b.readme == "" {
		return nil
	}
	if err := b.summary.Complete(); err != nil {
		return fmt.Errorf("%s stays as it is: %w", b.readme, err)
	}
	return writeReadme(b.readme, b.folder, text.Bytes())
}
