// Package report writes what was measured, as Markdown that reads well in a
// terminal too, and as pictures.
package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// A Table is rows of cells under a head. All columns but the first hold numbers.
type Table struct {
	head []string
	rows [][]string
}

// NewTable makes an empty table.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Row adds a row; cells that are left out stay empty.
func (t *Table) Row(cells ...string) {
	t.rows = append(t.rows, append(cells, make([]string, len(t.head)-len(cells))...))
}

// WriteTo writes the table as Markdown, with all columns aligned.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + pad + " ")
			} else {
				b.WriteString("| " + pad + cell + " ")
			}
		}
		b.WriteString("|\n")
	}
	line(t.head)
	for i, n := range width {
		if i == 0 {
			b.WriteString("|:" + strings.Repeat("-", n+1))
		} else {
			b.WriteString("|" + strings.Repeat("-", n+1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Duration writes a time with three digits.
func Duration(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return digits(float64(d)/float64(time.Microsecond)) + " µs"
	case d < time.Second:
		return digits(float64(d)/float64(time.Millisecond)) + " ms"
	}
	return digits(d.Seconds()) + " s"
}

// Bytes writes a size in binary units.
func Bytes(n int64) string {
	switch {
	case n < 0:
		return "-" + Bytes(-n)
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return digits(float64(n)/(1<<10)) + " KiB"
	}
	return digits(float64(n)/(1<<20)) + " MiB"
}

// Rate writes a number per second.
func Rate(r float64) string {
	switch {
	case r >= 1e6:
		return digits(r/1e6) + " M/s"
	case r >= 1e3:
		return digits(r/1e3) + " k/s"
	}
	return digits(r) + " /s"
}

// Quantity writes a value with a unit of a [Figure].
func Quantity(v float64, unit string) string {
	switch unit {
	case "s":
		return Duration(time.Duration(v * float64(time.Second)))
	case "/s":
		return Rate(v)
	case "B":
		return Bytes(int64(v))
	case "B/s":
		return digits(v/1e9) + " GB/s"
	}
	return strings.TrimSpace(digits(v) + " " + unit)
}

// Ratio writes how many times as much one thing is as another.
func Ratio(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return digits(a/b) + " ×"
}

// digits writes a number with two or three digits that count, and without
// zeros at its end.
func digits(f float64) string {
	switch {
	case f >= 99.5:
		return fmt.Sprintf("%.0f", f)
	case f >= 9.95:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0")
	}
	s := strings.TrimRight(fmt.Sprintf("%.2f", f), "0")
	return strings.TrimSuffix(s, ".")
}
