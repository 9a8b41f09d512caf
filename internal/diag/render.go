package diag

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxLine is the number of bytes of a source line that are shown around a span. Longer lines, which
// generated schemas have, are cut.
const maxLine = 160

// Render writes every diagnostic with its source line and a caret under the
// span:
//
//	a.fbs:3:9: error: type Foo is not defined
//	  foo: Foo;
//	       ^~~
//	a.fbs:1:7: note: ...
//	help: ...
func (l *List) Render(w io.Writer) error {
	var b bytes.Buffer
	for _, d := range l.All() {
		fmt.Fprintln(&b, d.Error())
		l.excerpt(&b, d.Span)
		for _, n := range d.Notes {
			if n.Span.IsValid() {
				fmt.Fprintf(&b, "%s: ", n.Span)
			}
			fmt.Fprintf(&b, "note: %s\n", n.Message)
			l.excerpt(&b, n.Span)
		}
		if d.Help != "" {
			fmt.Fprintf(&b, "help: %s\n", d.Help)
		}
	}
	if l.dropped > 0 {
		fmt.Fprintf(&b, "error: too many errors; %d more are not shown\n", l.dropped)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// excerpt writes the line on which a span starts, and carets under the span. Tabs are kept in both
// lines, so that the lines align whatever the width of a tab.
func (l *List) excerpt(b *bytes.Buffer, s Span) {
	src, ok := l.sources[s.File]
	if !ok || s.Line == 0 || s.Start > len(src) || s.Start < 0 {
		return
	}
	begin := s.Start - (s.Col - 1)
	if begin < 0 {
		return
	}
	end := len(src)
	if i := bytes.IndexAny(src[s.Start:], "\r\n"); i >= 0 {
		end = s.Start + i
	}
	stop := max(min(s.End, end), s.Start) // of the carets
	cutLeft, cutRight := "", ""
	if s.Start-begin > maxLine/2 {
		begin, cutLeft = runeStart(src, s.Start-maxLine/2), "..."
	}
	if end-begin > maxLine {
		end, cutRight = max(runeStart(src, begin+maxLine), s.Start), "..."
		stop = min(stop, end)
	}
	fmt.Fprintf(b, "  %s%s%s\n", cutLeft, printable(src[begin:end]), cutRight)
	fmt.Fprintf(b, "  %s%s^%s\n", strings.Repeat(" ", len(cutLeft)),
		blank(src[begin:s.Start]), strings.Repeat("~", max(width(src[s.Start:stop])-1, 0)))
}

// runeStart returns the start of the rune that contains the byte at i, or i itself in text that is
// not UTF-8.
func runeStart(src []byte, i int) int {
	for n := range utf8.UTFMax {
		if j := i - n; j >= 0 && j < len(src) && utf8.RuneStart(src[j]) {
			return j
		}
	}
	return i
}

// printable replaces characters that would disturb a terminal, by one column each.
func printable(line []byte) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return utf8.RuneError
		}
		return r
	}, string(line))
}

// blank returns white space of the width of the text.
func blank(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(text))
}

// width returns the number of columns of a span, one per rune.
func width(text []byte) int { return utf8.RuneCount(text) }
