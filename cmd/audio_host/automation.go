package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/audiomirror"
	"github.com/ipcgen/ipcgen/internal/dsp"
)

// An automation is a list of changes of parameters, by time.
type automation []automated

type automated struct {
	line  int
	at    time.Duration
	param dsp.Param
	value float32
}

// readAutomation reads a file of lines such as "2.5s gain 0.25".
func readAutomation(path string) (automation, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseAutomation(path, f)
}

func parseAutomation(path string, r io.Reader) (a automation, err error) {
	lines, n := bufio.NewScanner(r), 1
	for ; lines.Scan(); n++ {
		// Some editors begin a file with a byte order mark.
		line, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "\ufeff"), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		c, err := parseAutomated(words)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		c.line = n
		a = append(a, c)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s:%d: a line of more than %d bytes; this is no automation", path,
			n, bufio.MaxScanTokenSize)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	slices.SortStableFunc(a, func(x, y automated) int { return cmp.Compare(x.at, y.at) })
	return a, nil
}

func parseAutomated(words []string) (c automated, err error) {
	if len(words) != 3 {
		return c, fmt.Errorf("%q has %d words, want a time, a parameter and a value, such as "+
			"\"2.5s gain 0.25\"", strings.Join(words, " "), len(words))
	}
	if c.at, err = time.ParseDuration(words[0]); err != nil || c.at < 0 {
		return c, fmt.Errorf("%q is not a time; write \"2.5s\" or \"1m30s\"", words[0])
	}
	names := make([]string, dsp.NumParams)
	for p := range names {
		names[p] = dsp.Param(p).String()
	}
	p := slices.Index(names, words[1])
	if p < 0 {
		return c, fmt.Errorf("no parameter %q; there are %s", words[1], strings.Join(names, ", "))
	}
	c.param = dsp.Param(p)
	v, err := strconv.ParseFloat(words[2], 32)
	if err != nil {
		return c, fmt.Errorf("%q is not a number", words[2])
	}
	c.value = float32(v)
	return c, c.param.Check(c.value)
}

// check returns an error if a block of so many frames would have more changes than it can.
func (a automation) check(path string, rate uint32, frames int) error {
	block, n := int64(-1), 0
	for _, c := range a {
		if b := frameOf(c.at, rate) / int64(frames); b != block {
			block, n = b, 0
		}
		if n++; n > audiomirror.MaxChanges {
			return fmt.Errorf("%s:%d: more than %d changes in the block of %d frames that begins "+
				"at %v; leave some out, or choose fewer -frames", path, c.line,
				audiomirror.MaxChanges, frames, timeOf(block*int64(frames), rate))
		}
	}
	return nil
}

// note says how many changes are left behind the end of the sound, if any.
func (a automation) note(w io.Writer, path string) {
	if n := len(a); n > 0 {
		fmt.Fprintf(w, "audio_host: changes behind the end of the sound: %d, from %s:%d (%v) on\n",
			n, path, a[0].line, a[0].at)
	}
}

// frameOf returns the frame of a time.
func frameOf(at time.Duration, rate uint32) int64 {
	seconds, rest := int64(at/time.Second), int64(at%time.Second)
	return seconds*int64(rate) + rest*int64(rate)/int64(time.Second)
}

// take removes the changes in the frames from start to end from a, and returns them as changes of
// a block that begins at start.
func (a *automation) take(start, end int64, rate uint32, dst []dsp.Change) []dsp.Change {
	for len(*a) > 0 {
		c := (*a)[0]
		frame := frameOf(c.at, rate)
		if frame >= end {
			break
		}
		dst = append(dst, dsp.Change{Frame: int(max(frame-start, 0)), Param: c.param,
			Value: c.value})
		*a = (*a)[1:]
	}
	return dst
}
