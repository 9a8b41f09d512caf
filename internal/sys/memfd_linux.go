package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memorySeals fix the size of a memory file for ever, so that no holder of a
// descriptor can make another's access fault, and fix the seals themselves.
const memorySeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// NewMemory creates an anonymous memory file of size zero bytes, with all its
// pages allocated and its size sealed. It is in no file system, not even in
// /dev/shm, and vanishes with its last descriptor and mapping.
func NewMemory(name string, size int) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	CrashPoint("memory created")
	// Without the allocation, a machine short of memory would kill us by
	// SIGBUS at the first touch of a page.
	err = ignoringEINTR(func() error { return unix.Fallocate(fd, 0, 0, int64(size)) })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("allocate %d bytes of shared memory: %w; choose smaller rings or fewer connections", size, err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, memorySeals); err != nil {
		f.Close()
		return nil, os.NewSyscallError("seal memory file", err)
	}
	CrashPoint("memory sealed")
	return f, nil
}

// ErrUnsealed marks a memory file whose size its maker could still change.
var ErrUnsealed = errors.New("memory file is not sealed against resizing")

// CheckMemory reports whether f is a memory file of at least size bytes whose
// size can never change.
func CheckMemory(f *os.File, size int) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return os.NewSyscallError("read seals", err)
	}
	if seals&memorySeals != memorySeals {
		return ErrUnsealed
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() < int64(size) {
		return fmt.Errorf("memory file has %d bytes, not %d", fi.Size(), size)
	}
	return nil
}

// Populate maps in every page of b, part of a shared mapping, so that later
// touches do not fault. It is a hint: kernels before 5.14 ignore it.
func Populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }
