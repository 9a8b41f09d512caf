package gogen

import (
	"slices"
	"strings"

	"golang.org/x/tools/imports"
)

// A writer emits the body of one Go file in gofmt's format: braces and parentheses indent the lines
// between them. This takes a hundredth of the time of parsing and printing the text again, which
// would be most of the time for a schema of thousands of tables. If the format depends on more than
// the line (the layout of unusual comments, the alignment of long keys), the writer requests one
// pass of gofmt over the file.
type writer struct {
	buf    []byte
	indent int
	// needsFormat is set if the text may differ from gofmt's.
	needsFormat bool
}

// p writes one line that consists of parts. An opening brace or parenthesis at the end of a line
// indents the lines that follow. A line that starts with a closing one, and the label of a switch,
// is indented one level less.
func (w *writer) p(parts ...string) {
	for len(parts) > 0 && parts[0] == "" {
		parts = parts[1:] // a qualifier that is not needed
	}
	if len(parts) == 0 {
		w.buf = append(w.buf, '\n')
		return
	}
	first, last := parts[0], parts[len(parts)-1]
	indent := w.indent
	switch {
	case first[0] == '}' || first[0] == ')':
		w.indent--
		indent--
	case strings.HasPrefix(first, "case ") || first == "default:":
		indent--
	}
	for range indent {
		w.buf = append(w.buf, '\t')
	}
	for _, part := range parts {
		w.buf = append(w.buf, part...)
	}
	w.buf = append(w.buf, '\n')
	if n := len(last); n > 0 && (last[n-1] == '{' || last[n-1] == '(') {
		w.indent++
	}
}

// columns writes lines whose cells are aligned as in gofmt. A row of one cell, a comment, ends the
// block of lines that are aligned together.
func (w *writer) columns(rows [][]string) {
	for len(rows) > 0 {
		n := slices.IndexFunc(rows, func(row []string) bool { return len(row) == 1 })
		if n == 0 {
			w.p(rows[0][0])
			rows = rows[1:]
			continue
		}
		if n < 0 {
			n = len(rows)
		}
		w.block(rows[:n])
		rows = rows[n:]
	}
}

// block writes rows with the cells of each column, except the last, padded to the same width.
func (w *writer) block(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	var line strings.Builder
	for _, row := range rows {
		line.Reset()
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				for range widths[i] + 1 - width(cell) {
					line.WriteByte(' ')
				}
			}
		}
		w.p(line.String())
	}
}

// width returns the number of characters of a cell without marks.
func width(cell string) int {
	n := 0
	for _, c := range cell {
		if c != 'ℓ' && c != 'ℱ' && c != 'ℙ' {
			n++
		}
	}
	return n
}

// keyed writes "key: value," lines of a composite literal. gofmt aligns the values, but breaks the
// alignment if the lengths of long keys vary.
func (w *writer) keyed(rows [][2]string) {
	const small = 40 // up to this length gofmt always aligns
	cells := make([][]string, len(rows))
	for i, row := range rows {
		if len(row[0]) > small {
			w.needsFormat = true
		}
		cells[i] = []string{row[0] + ":", row[1] + ","}
	}
	w.columns(cells)
}

// doc writes the comment of a schema's declaration as a Go doc comment.
func (w *writer) doc(lines []string) {
	for _, line := range docLines(lines) {
		w.comment(line)
	}
}

// comment writes one line of a comment, which is passed without "//".
func (w *writer) comment(line string) {
	if !plainDoc(line) {
		w.needsFormat = true
	}
	w.p("//", line)
}

// docLines returns the lines of a comment with one leading space, without blank lines at its start
// and end.
func docLines(lines []string) []string {
	var out []string
	for _, line := range lines {
		line = unmarked(printable(strings.TrimRight(line, " \t\r")))
		if line == "" && len(out) == 0 {
			continue
		}
		if line != "" && line[0] != ' ' && line[0] != '\t' {
			line = " " + line
		}
		out = append(out, line)
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// printable returns a line of a comment without characters that Go does not accept in source text.
func printable(line string) string {
	return strings.Map(func(c rune) rune {
		switch c {
		case 0, '\r', '\uFEFF':
			return -1
		}
		return c // invalid UTF-8 arrives as U+FFFD
	}, line)
}

// plainDoc reports whether gofmt leaves a line of a doc comment unchanged: text that cannot be
// taken for a list, a heading, a code block or a directive.
func plainDoc(line string) bool {
	if len(line) < 2 || line[0] != ' ' {
		return false
	}
	c := line[1]
	return (c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') && !strings.Contains(line, "``") &&
		!strings.Contains(line, "''")
}

// finish returns the text, formatted. The formatter of goimports also sorts imports. It does not
// search for missing ones, because every emitter states its imports.
func (w *writer) finish() ([]byte, error) {
	if !w.needsFormat {
		return w.buf, nil
	}
	return imports.Process("", w.buf,
		&imports.Options{FormatOnly: true, Comments: true, TabIndent: true, TabWidth: 8})
}
