//go:build !linux

package sys

import "time"

// A DirWatch reports changes of the files of a directory.
type DirWatch struct{}

// WatchDir starts to watch the files of a directory.
func WatchDir(path string) (*DirWatch, error) { return nil, unsupported("watch " + path) }

// Next blocks until there are events.
func (w *DirWatch) Next(f func(name string, closed bool)) error { return unsupported("watch") }

// SetDeadline sets the time at which Next returns.
func (w *DirWatch) SetDeadline(t time.Time) error { return unsupported("watch") }

// Poke makes Next report that any file may have changed.
func (w *DirWatch) Poke() {}

// Close ends the watch.
func (w *DirWatch) Close() error { return nil }

// WatchTrouble returns the reason why the kernel does not report changes.
func WatchTrouble() error { return nil }
