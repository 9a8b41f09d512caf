package report

import (
	"strconv"
	"strings"
)

// A Figure is one number of the tables.
type Figure struct {
	Table, Row, Column string
	// Unit is what the number counts, without prefixes: "s", "/s", "B/s", "B", "%", "×" or "".
	Unit  string
	Value float64
}

// Same reports whether two figures say the same of two runs.
func (f Figure) Same(g Figure) bool {
	return f.Table == g.Table && f.Row == g.Row && f.Column == g.Column && f.Unit == g.Unit
}

// prefixes are those that the functions of this package write.
var prefixes = map[string]float64{"n": 1e-9, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9,
	"Ki": 1 << 10, "Mi": 1 << 20}

// Read reads the figures of tables that this package has written. A cell with several numbers
// gives several figures, and one with a range none.
func Read(tables string) (all []Figure) {
	var title string
	var head []string
	for line := range strings.Lines(tables) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			title, head = strings.TrimLeft(line, "# "), nil
		case !strings.HasPrefix(line, "|"):
			head = nil
		case head == nil:
			head = cells(line)
		case !strings.HasPrefix(line, "|:"):
			row := cells(line)
			for i, cell := range row[1:] {
				if strings.Contains(cell, "…") || i+1 >= len(head) {
					continue
				}
				for _, part := range strings.Split(cell, ", ") {
					if f, ok := number(part); ok {
						f.Table, f.Row, f.Column = title, row[0], column(head, i+1)
						all = append(all, f)
					}
				}
			}
		}
	}
	return all
}

func cells(line string) []string {
	all := strings.Split(strings.Trim(line, "|"), "|")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// column is the name of a column. A group of columns has its name before the first of them:
// "1: rate", "p50".
func column(head []string, i int) string {
	for at := i; at > 0; at-- {
		if group, _, ok := strings.Cut(head[at], ": "); ok && at < i {
			return group + ": " + head[i]
		} else if ok {
			break
		}
	}
	return head[i]
}

// number reads a number with its unit.
func number(s string) (f Figure, ok bool) {
	num, unit, _ := strings.Cut(s, " ")
	v, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return f, false
	}
	for _, base := range []string{"B/s", "/s", "s", "B"} {
		prefix, found := strings.CutSuffix(unit, base)
		if !found {
			continue
		}
		times, known := prefixes[prefix]
		if known || prefix == "" {
			if known {
				v *= times
			}
			return Figure{Unit: base, Value: v}, true
		}
	}
	known := unit == "" || unit == "%" || unit == "×"
	return Figure{Unit: unit, Value: v}, known
}
