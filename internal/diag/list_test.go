package diag_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
)

// at returns the span of the first occurrence of text in src.
func at(file, src, text string) diag.Span {
	start := strings.Index(src, text)
	line := strings.Count(src[:start], "\n") + 1
	col := start - strings.LastIndexByte(src[:start], '\n')
	return diag.Span{File: file, Start: start, End: start + len(text), Line: line, Col: col}
}

func render(t *testing.T, l *diag.List) string {
	t.Helper()
	var b strings.Builder
	if err := l.Render(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRenderShowsTheLineAndTheSpan(t *testing.T) {
	const src = "table A {}\n\ttable\tB { x: größe; }\r\nlast"
	var l diag.List
	l.AddSource("a.fbs", []byte(src))
	l.Errorf(at("a.fbs", src, "größe"), "type %s is not defined", "größe").
		Note(at("a.fbs", src, "A"), "not this one").
		Note(diag.Span{}, "nor any other").
		Helpf("declare it")
	l.Warnf(at("a.fbs", src, "x"), "a short name")
	l.Errorf(at("a.fbs", src, "last"), "at the end")
	l.Errorf(diag.Span{File: "b.fbs"}, "no place in it")
	l.Errorf(diag.Span{}, "no file at all")
	const want = `b.fbs: error: no place in it
error: no file at all
a.fbs:2:12: warning: a short name
  	table	B { x: größe; }
  	     	    ^
a.fbs:2:15: error: type größe is not defined
  	table	B { x: größe; }
  	     	       ^~~~~
a.fbs:1:7: note: not this one
  table A {}
        ^
note: nor any other
help: declare it
a.fbs:3:1: error: at the end
  last
  ^~~~
`
	if got := render(t, &l); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestLongLinesAreCutAroundTheSpan(t *testing.T) {
	src := strings.Repeat("ä", 500) + "HERE" + strings.Repeat("ö", 500)
	var l diag.List
	l.AddSource("a.fbs", []byte(src))
	l.Errorf(at("a.fbs", src, "HERE"), "here")
	lines := strings.Split(render(t, &l), "\n")
	if len(lines[1]) > 200 || !strings.HasPrefix(lines[1], "  ...") ||
		!strings.HasSuffix(lines[1], "...") {
		t.Errorf("the line is %q", lines[1])
	}
	caret := []rune(lines[2])
	line := []rune(lines[1])
	if got := string(line[len(caret)-4:][:4]); got != "HERE" {
		t.Errorf("the caret is under %q\n%s\n%s", got, lines[1], lines[2])
	}
}

func TestControlCharactersAreNotPrinted(t *testing.T) {
	const src = "a \x1b[31m b"
	var l diag.List
	l.AddSource("a.fbs", []byte(src))
	l.Errorf(at("a.fbs", src, "b"), "b")
	if got := render(t, &l); strings.Contains(got, "\x1b") {
		t.Errorf("an escape sequence reaches the terminal: %q", got)
	}
}

func TestTheSameDiagnosticIsReportedOnce(t *testing.T) {
	var l diag.List
	for range 3 {
		l.Errorf(diag.Span{File: "a.fbs", Start: 1, Line: 1, Col: 2}, "twice")
	}
	if l.Len() != 1 || l.Errors() != 1 {
		t.Errorf("%d diagnostics, %d errors", l.Len(), l.Errors())
	}
}

func TestErrorsAndWarningsAreLimited(t *testing.T) {
	var l diag.List
	for i := range 2 * diag.MaxErrors {
		l.Warnf(diag.Span{}, "warning %d", i)
	}
	if l.HasErrors() || l.Full() || l.Err() != nil {
		t.Error("warnings count as errors")
	}
	for i := range 2 * diag.MaxErrors {
		l.Errorf(diag.Span{}, "error %d", i)
	}
	if l.Len() != 2*diag.MaxErrors || l.Errors() != diag.MaxErrors || !l.Full() {
		t.Errorf("%d diagnostics, %d errors", l.Len(), l.Errors())
	}
	want := fmt.Sprintf("error: too many errors; %d more are not shown\n", diag.MaxErrors)
	if got := render(t, &l); !strings.HasSuffix(got, want) {
		t.Errorf("the output ends with %q", got[len(got)-80:])
	}
}

func TestErrIsTheFirstError(t *testing.T) {
	var l diag.List
	l.Warnf(diag.Span{}, "never mind")
	l.Errorf(diag.Span{File: "a.fbs", Start: 9, Line: 2, Col: 1}, "second")
	l.Errorf(diag.Span{File: "a.fbs", Start: 3, Line: 1, Col: 4}, "first")
	if got, want := l.Err().Error(), "a.fbs:1:4: error: first (and 1 more)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var d *diag.Diagnostic
	if !errors.As(l.Err(), &d) || d.Message != "first" {
		t.Errorf("the diagnostic is lost: %v", d)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"table", "struct", "namespace", "deprecated", "id"}
	for name, want := range map[string]string{
		"tabel": "table", "stuct": "struct", "Table": "table", "depricated": "deprecated",
		"ix": "id", "": "", "zebra": "", "table": "", strings.Repeat("x", 1000): "",
	} {
		if got := diag.Nearest(name, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
