package failover

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/bench/internal/replica"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// MortalRole is the role of a process that only waits for its death, and whose
// Setup's Size and Huge are its ballast.
const MortalRole = "mortal"

// A notice is when after a kill each way to learn of it told.
type notice struct {
	Futex, Pidfd, Socket time.Duration
}

const wordLen = 4096

// Mortal is the server of MortalRole: it holds a robust futex and one end of a
// socket.
func Mortal(s peer.Setup) error {
	memory, err := replica.Ballast{Bytes: s.Size, Huge: s.Huge}.Load()
	if err != nil {
		return err
	}
	mem, err := sys.MapFile(s.Files[0], 0, wordLen, true)
	if err != nil {
		return err
	}
	if _, err := sys.HoldRobust(futexWord(mem)); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(s.Dir, "socket"))
	if err != nil {
		return err
	}
	go func() {
		defer func() { _ = memory[0] }() // held for life
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Read(make([]byte, 1)) // until this process or the other ends
	}()
	return nil
}

func futexWord(mem []byte) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&mem[0])) }

// takeNotice kills a process with that memory and sees how soon each way tells.
func takeNotice(dir string, b replica.Ballast) (n notice, err error) {
	f, err := sys.NewMemory("robust", wordLen)
	if err != nil {
		return n, err
	}
	defer f.Close()
	mem, err := sys.MapFile(f, 0, wordLen, true)
	if err != nil {
		return n, err
	}
	defer sys.UnmapFile(mem)
	path := filepath.Join(dir, "socket")
	defer os.Remove(path)
	p, err := peer.Start(MortalRole, peer.Setup{Dir: dir, Size: b.Bytes, Huge: b.Huge,
		Files: []*os.File{f}})
	if err != nil {
		return n, err
	}
	defer p.Kill()
	conn, err := net.Dial("unix", path)
	if err != nil {
		return n, err
	}
	defer conn.Close()
	handle, err := sys.OpenProcess(p.PID())
	if err != nil {
		return n, err
	}
	defer handle.Close()

	var start time.Time
	var told [3]time.Time
	var errs [3]error
	var waiting, wg sync.WaitGroup
	waiting.Add(len(told))
	for i, wait := range []func() error{
		func() error { _, err := sys.WaitRobust(context.Background(), futexWord(mem)); return err },
		func() error { return handle.Wait() },
		func() error { conn.Read(make([]byte, 1)); return nil },
	} {
		wg.Go(func() {
			waiting.Done()
			errs[i] = wait()
			told[i] = time.Now()
		})
	}
	waiting.Wait()
	time.Sleep(settle)
	start = time.Now()
	p.Kill()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return n, err
		}
	}
	return notice{told[0].Sub(start), told[1].Sub(start), told[2].Sub(start)}, nil
}
