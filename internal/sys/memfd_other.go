//go:build !linux

package sys

import (
	"errors"
	"os"
)

// ErrUnsealed marks a memory file whose size its creator could still change.
var ErrUnsealed = errors.New("memory file is not sealed against resizing")

// NewMemory creates an anonymous memory file.
func NewMemory(string, int) (*os.File, error) { return nil, unsupported("create memory file") }

// CheckMemory returns an error unless a memory file has a size that can never change.
func CheckMemory(*os.File, int) error { return unsupported("check memory file") }

// ErrHoles marks a memory file with missing pages.
var ErrHoles = errors.New("memory file has holes")

// SealMemory withdraws the rights that could make an access fault.
func SealMemory(*os.File, int) error { return unsupported("seal memory file") }

// SealWriters leaves the right to write to the processes that have it.
func SealWriters(*os.File) error { return unsupported("seal memory file") }

// Populate maps every page of b.
func Populate([]byte) {}
