package ipc_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"golang.org/x/sys/unix"
)

// punch makes a hole of the first page of a memory file.
func punch(f *os.File) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0,
		int64(os.Getpagesize()))
}

// knowsFutureWrite reports whether the kernel has the seal that keeps holes out.
func knowsFutureWrite(t *testing.T) bool {
	fd, err := unix.MemfdCreate("probe", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE)
	return err == nil
}

// TestNoHoles shows that a peer that keeps the descriptor of the memory cannot take pages out of
// it, nor map it once more, once the two sides use it.
func TestNoHoles(t *testing.T) {
	if !knowsFutureWrite(t) {
		t.Skip("the kernel is older than 5.1")
	}
	d := newDomain(t)
	serve(t, d)
	var file *os.File
	var seg *shm.Segment
	ipc.RawMemory = func(m shm.Memory, s *shm.Segment) {
		fd, err := unix.Dup(int(m.(shm.FileMemory).Fd()))
		if err != nil {
			t.Fatal(err)
		}
		file, seg = os.NewFile(uintptr(fd), "kept"), s
	}
	defer func() { ipc.RawMemory = nil }()
	raw := rawDial(t, d)
	defer file.Close()
	// The answer to a call shows that the server is through with the handshake.
	raw.Put(ipc.RawFrame{Tag: ipc.RawRequest, ID: 8, Method: methodEcho.Info().ID, Body: goodBlob})
	for {
		if f, ok := raw.Get(); ok {
			if f.Tag != ipc.RawReply {
				t.Fatalf("answered with %+v", f)
			}
			break
		}
	}
	page := seg.ToServer()[os.Getpagesize()-128:][:os.Getpagesize()] // whole pages of the mapping
	for name, err := range map[string]error{
		"a hole":               punch(file),
		"a hole by its memory": unix.Madvise(page, unix.MADV_REMOVE),
		"another size":         file.Truncate(0),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if mem, err := unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED); err == nil {
		_ = unix.Munmap(mem)
		t.Error("it can be mapped once more")
	}
	still(t, dial(t, d))
}

// TestHolesBeforeTheVerdict shows that a client which punches a hole before the memory is sealed
// is not served, and that the server serves others.
func TestHolesBeforeTheVerdict(t *testing.T) {
	d := newDomain(t)
	srv := serve(t, d)
	ipc.RawMemory = func(m shm.Memory, _ *shm.Segment) {
		if err := punch(m.(shm.FileMemory).File); err != nil {
			t.Error(err)
		}
	}
	raw := rawDial(t, d)
	ipc.RawMemory = nil
	if _, err := raw.Read(make([]byte, 1)); err == nil {
		t.Error("the server goes on")
	}
	if srv.Conns() != 0 || srv.Refused() == 0 {
		t.Errorf("%d connections, %d refused", srv.Conns(), srv.Refused())
	}
	still(t, dial(t, d))
}

// TestMemoryOfAServer shows what memory a client refuses: it could make its accesses fault.
func TestMemoryOfAServer(t *testing.T) {
	const ring = 4096
	geo := shm.Geometry{ToServer: ring, ToClient: ring}
	for name, tt := range map[string]struct {
		make func(f *os.File) error
		want string
	}{
		"not allocated": {func(f *os.File) error { return f.Truncate(int64(geo.Size())) }, "holes"},
		"too short": {func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), 0, 0, ring)
		}, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			l, err := ipc.Listen("echo", d)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			fd, err := unix.MemfdCreate("hostile", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "hostile")
			if err := tt.make(f); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|
				unix.F_SEAL_GROW); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				ipc.RawOffer(l,
					ipc.RawHello{ToServer: ring, ToClient: ring, MaxMessage: 1000, MaxCalls: 1},
					shm.FileMemory{File: f})
			}()
			_, err = ipc.Dial(t.Context(), "echo", d)
			if ipc.CodeOf(err) != ipc.CodeCorrupt || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the client says: %v", err)
			}
			<-done
		})
	}
}
