//go:build !linux

package sys

import "time"

// A DirWatch tells of changes to the files of one directory.
type DirWatch struct{}

// WatchDir starts to watch the files of a directory.
func WatchDir(path string) (*DirWatch, error) { return nil, unsupported("watch " + path) }

// Next waits for events.
func (w *DirWatch) Next(f func(name string, closed bool)) error { return unsupported("watch") }

// SetDeadline limits how long Next waits.
func (w *DirWatch) SetDeadline(t time.Time) error { return unsupported("watch") }

// Poke makes Next say that anything may have changed.
func (w *DirWatch) Poke() {}

// Close ends the watch.
func (w *DirWatch) Close() error { return nil }

// WatchTrouble returns why the kernel does not tell of changes.
func WatchTrouble() error { return nil }
