package contest

import (
	"os"
	"sync/atomic"
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
		Files: sharedMemory(linesLen),
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

// sharedMemory makes memory of that length, which both processes get from the start.
func sharedMemory(length int) func(size int) (mine, theirs []*os.File, err error) {
	return func(int) (mine, theirs []*os.File, err error) {
		f, err := sys.NewMemory("bench", length)
		if err != nil {
			return nil, nil, err
		}
		return []*os.File{f}, []*os.File{f}, nil
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
	mem, err := sys.MapFile(f, 0, linesLen, true)
	if err != nil {
		return nil, err
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

func (l *lines) Close() error { return sys.UnmapFile(l.mem) }
