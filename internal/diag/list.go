package diag

import (
	"cmp"
	"fmt"
	"slices"
)

// MaxErrors is the number of errors, and of warnings, after which a list discards further ones, so
// that a file that is not a schema does not flood the terminal.
const MaxErrors = 50

// A List collects the diagnostics of one run and the sources they refer to.
// The zero value is ready for use. It is not safe for concurrent use.
type List struct {
	diags   []*Diagnostic
	sources map[string][]byte
	files   []string // in the order in which they were added, which is the order of the output
	errors  int
	dropped int
	seen    map[place]bool
}

// A place identifies a diagnostic, so that it is reported once.
type place struct {
	file    string
	start   int
	message string
}

// AddSource registers the text of a file, so that diagnostics in the file are rendered with their
// lines. The list keeps src and does not change it.
func (l *List) AddSource(path string, src []byte) {
	if l.sources == nil {
		l.sources = make(map[string][]byte)
	}
	if _, ok := l.sources[path]; !ok {
		l.files = append(l.files, path)
	}
	l.sources[path] = src
}

// Errorf reports an error and returns it, so that notes and help can be added.
func (l *List) Errorf(span Span, format string, args ...any) *Diagnostic {
	return l.add(Error, span, fmt.Sprintf(format, args...))
}

// Warnf reports a warning and returns it, so that notes and help can be added.
func (l *List) Warnf(span Span, format string, args ...any) *Diagnostic {
	return l.add(Warning, span, fmt.Sprintf(format, args...))
}

// add records a diagnostic, unless the same one was reported at the same position or the limit is
// reached. It returns a diagnostic in any case, so that the caller can add notes.
func (l *List) add(sev Severity, span Span, message string) *Diagnostic {
	d := &Diagnostic{Severity: sev, Span: span, Message: message}
	p := place{span.File, span.Start, message}
	if l.seen[p] {
		return d
	}
	if sev == Error && l.Full() {
		l.dropped++
		return d
	}
	if sev == Warning && l.Warnings() >= MaxErrors {
		return d
	}
	if l.seen == nil {
		l.seen = make(map[place]bool)
	}
	l.seen[p] = true
	l.diags = append(l.diags, d)
	if sev == Error {
		l.errors++
	}
	return d
}

// Full reports whether the limit of errors is reached. A stage that could report many more errors
// may then stop.
func (l *List) Full() bool { return l.errors >= MaxErrors }

// HasErrors reports whether any error was reported.
func (l *List) HasErrors() bool { return l.errors > 0 }

// Errors returns the number of errors collected.
func (l *List) Errors() int { return l.errors }

// Warnings returns the number of warnings collected.
func (l *List) Warnings() int { return len(l.diags) - l.errors }

// Len returns the number of diagnostics collected.
func (l *List) Len() int { return len(l.diags) }

// All returns the diagnostics ordered by file, in the order in which files were added, and by
// position.
func (l *List) All() []*Diagnostic {
	order := make(map[string]int, len(l.files))
	for i, f := range l.files {
		order[f] = i + 1 // 0 is for a diagnostic without a registered file
	}
	out := slices.Clone(l.diags)
	slices.SortStableFunc(out, func(a, b *Diagnostic) int {
		return cmp.Or(
			cmp.Compare(order[a.Span.File], order[b.Span.File]),
			cmp.Compare(a.Span.Start, b.Span.Start),
		)
	})
	return out
}

// Err returns nil if no error was reported. Otherwise it returns an error with the text of the
// first one and the number of further ones.
func (l *List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	for _, d := range l.All() {
		if d.Severity != Error {
			continue
		}
		if n := l.errors + l.dropped - 1; n > 0 {
			return fmt.Errorf("%w (and %d more)", d, n)
		}
		return d
	}
	return nil
}
