package fbjson

import "fmt"

// An Error says what is wrong with a text, and where.
type Error struct {
	Line, Column int    // of the text, from 1; columns are bytes
	Path         string // of the field, such as "inventory[3].name"; empty for the root
	Msg          string
}

// Error returns position, path and message.
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Msg)
	}
	return fmt.Sprintf("%d:%d: %s: %s", e.Line, e.Column, e.Path, e.Msg)
}
