package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sizeSeals fix the size of a memory file, so that no holder of a descriptor can make an access of
// another process fault.
const sizeSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW

// finalSeals are added when both sides have mapped a memory file. From then on no process can map
// it for writing or punch holes into it, but existing mappings stay writable. Kernels before 5.1 do
// not have F_SEAL_FUTURE_WRITE.
const finalSeals = unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL

// NewMemory creates an anonymous memory file of size zero bytes. All of its pages are allocated,
// and its size is sealed; [SealMemory] adds the other seals. The file has no name in any file
// system, not even in /dev/shm, and vanishes with its last descriptor and mapping. It fails if a
// control group of this process would have too little memory left; see cgroup_linux.go.
func NewMemory(name string, size int) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, Explain("memfd_create", "", err)
	}
	f := os.NewFile(uintptr(fd), name)
	CrashPoint("memory created")
	// Without the allocation, a machine short of memory would kill this process by SIGBUS at the
	// first access to a page.
	err = withinLimits(size, func() error {
		return ignoringEINTR(func() error { return unix.Fallocate(fd, 0, 0, int64(size)) })
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%d bytes of shared memory: %w", size,
			Explain("reserve memory", "", err))
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sizeSeals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal a memory file: %w", Explain("fcntl", "", err))
	}
	CrashPoint("memory sealed")
	return f, nil
}

// ErrUnsealed marks a memory file whose size its creator could still change.
var ErrUnsealed = errors.New("memory file is not sealed against resizing")

// ErrHoles marks a memory file with missing pages. An access to such a page allocates it, and kills
// the process if there is no memory for it.
var ErrHoles = errors.New("memory file has holes")

// CheckMemory returns an error unless f is a memory file of at least size bytes, all of them
// allocated, whose size can never change.
func CheckMemory(f *os.File, size int) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("read a memory file's seals: %w", Explain("fcntl", "", err))
	}
	if seals&sizeSeals != sizeSeals {
		return ErrUnsealed
	}
	return checkAllocated(f, size)
}

// checkAllocated returns an error unless f has size bytes of ordinary pages, without holes.
func checkAllocated(f *os.File, size int) error {
	var st unix.Stat_t
	var fs unix.Statfs_t
	err := unix.Fstat(int(f.Fd()), &st)
	if err == nil {
		err = unix.Fstatfs(int(f.Fd()), &fs)
	}
	switch {
	case err != nil:
		return fmt.Errorf("look at memory file: %w", Explain("fstat", "", err))
	case fs.Type != unix.TMPFS_MAGIC: // huge pages, of which there may be too few
		return errors.New("memory file is not of ordinary pages")
	case st.Size < int64(size):
		return fmt.Errorf("memory file has %d bytes, not %d", st.Size, size)
	case st.Blocks*512 < int64(size):
		return ErrHoles
	}
	return nil
}

// SealMemory withdraws from all processes, including this one, the rights that could make an access
// to the first size bytes of f fault. Both sides call it when both have mapped the bytes. It fails
// if there are holes.
func SealMemory(f *os.File, size int) error {
	CrashPoint("memory seal")
	fd := f.Fd()
	_, err := unix.FcntlInt(fd, unix.F_ADD_SEALS, finalSeals)
	if errors.Is(err, unix.EINVAL) {
		// the best that this kernel offers
		_, err = unix.FcntlInt(fd, unix.F_ADD_SEALS, unix.F_SEAL_SEAL)
	} else if errors.Is(err, unix.EPERM) { // the peer was first
		var seals int
		if seals, err = unix.FcntlInt(fd, unix.F_GET_SEALS, 0); err == nil &&
			seals&finalSeals != finalSeals {
			err = ErrUnsealed
		}
	}
	if err != nil {
		return fmt.Errorf("seal memory file: %w", Explain("fcntl", "", err))
	}
	return checkAllocated(f, size)
}

// SealWriters leaves the right to write to f to the processes that have mapped it for writing by
// now: no other can get it, by the descriptor or by its name in /proc. The error wraps
// errors.ErrUnsupported on kernels before 5.1.
func SealWriters(f *os.File) error {
	CrashPoint("memory seal")
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, finalSeals)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("seal a memory file against writing, which needs Linux 5.1: %w",
			errors.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("seal a memory file against writing: %w", Explain("fcntl", "", err))
	}
	return nil
}

// Populate maps every page of b, a part of a shared mapping, so that later accesses do not fault.
// It is a hint, which kernels before 5.14 ignore.
func Populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }
