// Package diag has source positions and diagnostics, and renders them.
//
// Every stage of the front end reports into one [List]. A stage never prints, and never stops at
// its first error. The program renders the list at the end, and calls [List.HasErrors] to decide
// whether the results may be used.
//
// Messages are in lower case, without a full stop and without blame. The span is the exact token at
// fault. A note shows a second position that explains the first one. Help says what to write
// instead.
package diag

import "fmt"

// A Span is a range of a source file.
type Span struct {
	File       string // path as given to the user; empty for no position
	Start, End int    // byte offsets, End exclusive
	Line, Col  int    // 1-based position of Start; Col counts bytes
}

// IsValid reports whether the span has a position in a file.
func (s Span) IsValid() bool { return s.File != "" && s.Line > 0 }

// String returns "file:line:col", or the known part of it.
func (s Span) String() string {
	if s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d:%d", s.File, s.Line, s.Col)
}

// A Severity tells whether the results of a run with this diagnostic may be used.
type Severity uint8

// The severities.
const (
	Error Severity = iota
	Warning
)

// String returns the word in front of the message.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// A Note is a second position that explains a diagnostic.
type Note struct {
	Span    Span
	Message string
}

// A Diagnostic is one finding about a source file.
type Diagnostic struct {
	Severity Severity
	Span     Span
	Message  string
	Notes    []Note
	Help     string // a suggested edit; may be empty
}

// Note adds a second position and returns d.
func (d *Diagnostic) Note(span Span, format string, args ...any) *Diagnostic {
	d.Notes = append(d.Notes, Note{Span: span, Message: fmt.Sprintf(format, args...)})
	return d
}

// Helpf sets the suggested edit and returns d.
func (d *Diagnostic) Helpf(format string, args ...any) *Diagnostic {
	d.Help = fmt.Sprintf(format, args...)
	return d
}

// Error returns "file:line:col: error: message", without the source line, so
// that a diagnostic serves as an error.
func (d *Diagnostic) Error() string {
	if d.Span.File == "" {
		return fmt.Sprintf("%s: %s", d.Severity, d.Message)
	}
	return fmt.Sprintf("%s: %s: %s", d.Span, d.Severity, d.Message)
}
