//go:build !linux

package sys

import "os"

// A Doorbell wakes another process that waits, and lets that process wake this one.
type Doorbell struct{}

// NewDoorbell creates a pair of doorbells.
func NewDoorbell() (*Doorbell, *os.File, error) {
	return nil, nil, unsupported("make a doorbell")
}

// OpenDoorbell returns the doorbell of an end that another process has created.
func OpenDoorbell(*os.File) (*Doorbell, error) { return nil, unsupported("open a doorbell") }

// Ring wakes the peer's Wait.
func (d *Doorbell) Ring() {}

// Expect increases the number of bytes that can lie unread.
func (d *Doorbell) Expect() {}

// Wait calls look and blocks until the peer rings.
func (d *Doorbell) Wait(func() bool) error { return unsupported("wait for a doorbell") }

// Poke makes the current or the next Wait of this side return.
func (d *Doorbell) Poke() {}

// Close makes every Wait fail.
func (d *Doorbell) Close() error { return nil }
