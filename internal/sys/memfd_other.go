//go:build !linux

package sys

import (
	"errors"
	"os"
)

// ErrUnsealed marks a memory file whose size its maker could still change.
var ErrUnsealed = errors.New("memory file is not sealed against resizing")

// NewMemory creates an anonymous memory file.
func NewMemory(string, int) (*os.File, error) { return nil, unsupported("create memory file") }

// CheckMemory reports whether a memory file has a size that can never change.
func CheckMemory(*os.File, int) error { return unsupported("check memory file") }

// ErrHoles marks a memory file of which pages are missing.
var ErrHoles = errors.New("memory file has holes")

// SealMemory takes from everybody what could make an access fault.
func SealMemory(*os.File, int) error { return unsupported("seal memory file") }

// Populate maps in every page of b.
func Populate([]byte) {}
