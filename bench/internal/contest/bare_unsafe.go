package contest

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// bare is the least that two processes can do: each writes a number to a cache
// line of its own and waits for the other's, in shared memory that neither
// leaves. Nothing is carried, so it is what the machine allows.
func bare() *Contestant {
	return &Contestant{
		Key: BareKey, Name: "bare cache-line ping-pong",
		Note:  "two atomic words in a shared memfd, both sides spinning, nothing carried",
		Sizes: []int{64},
		Files: func(int) (mine, theirs []*os.File, err error) {
			f, err := sys.NewMemory("bare", linesLen)
			if err != nil {
				return nil, nil, err
			}
			return []*os.File{f}, []*os.File{f}, nil
		},
		Serve: func(s peer.Setup) error {
			l, err := mapLines(s.Files[0])
			if err != nil {
				return err
			}
			go l.answer()
			return nil
		},
		Open: func(s peer.Setup) (Session, error) { return mapLines(s.Files[0]) },
	}
}

// lines are two words, each far enough from the other that no processor
// fetches them together.
type lines struct {
	mem        []byte
	ping, pong *atomic.Uint64
	n          uint64
}

const linesLen = 4096

func mapLines(f *os.File) (*lines, error) {
	mem, err := syscall.Mmap(int(f.Fd()), 0, linesLen, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &lines{
		mem:  mem,
		ping: (*atomic.Uint64)(unsafe.Pointer(&mem[0])),
		pong: (*atomic.Uint64)(unsafe.Pointer(&mem[1024])),
	}, nil
}

func (l *lines) answer() {
	for n := uint64(1); ; n++ {
		for l.ping.Load() != n {
		}
		l.pong.Store(n)
	}
}

func (l *lines) Call() error {
	l.n++
	l.ping.Store(l.n)
	for l.pong.Load() != l.n {
	}
	return nil
}

func (l *lines) Close() error { return syscall.Munmap(l.mem) }
