// Package diag holds source positions and diagnostics, and renders them.
package diag

// A Span is a range of a source file.
type Span struct {
	File       string // path as given to the user; empty for no position
	Start, End int    // byte offsets, End exclusive
	Line, Col  int    // 1-based position of Start; Col counts bytes
}
