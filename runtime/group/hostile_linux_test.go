package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// childRogue is a replica that breaks every rule towards the processes that connect to it: its
// supervisor, which checks whether it is ready, and the clients of its group.
func childRogue(args []string) error {
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	channel := "rogue_" + args[1]
	path := filepath.Join(args[0], channel+".sock")
	_ = os.Remove(path) // a predecessor that was killed has left its socket
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go rogueConn(c.(*net.UnixConn), n,
				rand.New(rand.NewPCG(uint64(n), uint64(os.Getpid()))))
		}
	}()
	if err := r.Announce(registry.Record{Control: channel}); err != nil {
		return err
	}
	select {}
}

// rogueConn shakes hands as a server does, the first few times, and then fills both rings with
// frames and random bytes.
func rogueConn(c *net.UnixConn, nth int, rnd *rand.Rand) {
	defer c.Close()
	if nth > 3 && rnd.IntN(8) == 0 {
		return
	}
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return
	}
	question := make([]byte, binary.NativeEndian.Uint32(n[:]))
	if _, err := io.ReadFull(c, question); err != nil {
		return
	}
	version := binary.NativeEndian.Uint32(question[4:])
	const ring = 4096
	geo := shm.Geometry{ToServer: ring, ToClient: ring}
	memory, err := shm.NewFileMemory(geo.Size())
	if err != nil {
		return
	}
	defer memory.Close()
	seg, err := shm.NewSegment(memory, geo)
	if err != nil {
		return
	}
	defer seg.Close()
	mine, theirs, err := sys.NewDoorbell()
	if err != nil {
		return
	}
	defer mine.Close()
	defer theirs.Close()
	var hello []byte
	for _, v := range []uint32{0, 0x63706930, version, shm.Version, 0, ring, ring, 0, 1 << 20,
		64, 0, 0, 1} {
		hello = binary.NativeEndian.AppendUint32(hello, v)
	}
	p := audio.AudioControlProtocol
	hello = binary.NativeEndian.AppendUint32(hello, uint32(len(p.Name)))
	hello = append(hello, p.Name...)
	hello = binary.NativeEndian.AppendUint64(hello, p.Fingerprint)
	hello = append(hello, make([]byte, 8+8)...) // and no streaming calls
	binary.NativeEndian.PutUint32(hello, uint32(len(hello)-4))
	if nth > 3 && rnd.IntN(8) == 0 {
		for range 3 {
			hello[rnd.IntN(len(hello))] = byte(rnd.Uint32())
		}
	}
	if _, _, err := c.WriteMsgUnix(hello, syscall.UnixRights(int(memory.Fd()), int(theirs.Fd())),
		nil); err != nil {
		return
	}
	out, err := shm.NewProducer(seg.ToClient(), ring)
	if err != nil {
		return
	}
	if nth <= 3 || rnd.IntN(2) == 0 {
		refuseOne(seg, ring, out, mine)
	}
	for end := time.Now().Add(time.Duration(rnd.IntN(50)) * time.Millisecond); time.Now().Before(
		end); {
		switch rnd.IntN(20) {
		case 0: // the words of both rings
			words := seg.ToServer()
			if rnd.IntN(2) == 0 {
				words = seg.ToClient()
			}
			binary.NativeEndian.PutUint64(words[rnd.IntN(64)*8:], rnd.Uint64()>>rnd.UintN(64))
		default:
			dst, ok, err := out.Reserve(24 + rnd.IntN(100))
			if err != nil || !ok {
				time.Sleep(time.Millisecond)
				continue
			}
			for i := range dst {
				dst[i] = byte(rnd.Uint32())
			}
			binary.NativeEndian.PutUint64(dst, uint64(rnd.IntN(4))<<19|uint64(rnd.IntN(16)))
			out.Commit(uint32(rnd.IntN(9)), len(dst))
		}
		mine.Ring()
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Microsecond)
	}
}

// refuseOne answers the first request, a health check, as a server that has no such method.
func refuseOne(seg *shm.Segment, ring int, out *shm.Producer, bell *sys.Doorbell) {
	in, err := shm.NewConsumer(seg.ToServer(), ring)
	if err != nil {
		return
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		_, request, ok, err := in.Next()
		if err != nil || !ok {
			continue
		}
		if dst, ok, err := out.Reserve(24); ok && err == nil {
			copy(dst, request[:8])                               // the number of the call
			binary.NativeEndian.PutUint64(dst[16:], 4<<32|2<<48) // unimplemented, not executed
			out.Commit(3, len(dst))
			bell.Ring()
		}
		in.Release()
		return
	}
}

// TestRogueReplicas shows that replicas which break every rule end neither their supervisor,
// which is this process, nor a client that follows the group.
func TestRogueReplicas(t *testing.T) {
	domain := newDomain(t)
	cfg := bareConfig(domain)
	cfg.Service, cfg.Replicas = "rogue", 2
	cfg.Command = func(i int) *exec.Cmd { return childCommand("rogue", domain, strconv.Itoa(i)) }
	cfg.ReadyTimeout = 2 * time.Second
	cfg.Restart = group.Restart{Delay: 1e6, MaxDelay: 1e6, Intensity: 1 << 30}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g, err := group.Start(ctx, cfg)
	for err != nil {
		// A rogue may hang up during the first probe. Then there is no group, and Start returns an
		// error.
		if failed := new(group.ReplicaError); !errors.As(err, &failed) || ctx.Err() != nil {
			t.Fatal(err)
		}
		g, err = group.Start(ctx, cfg)
	}
	defer func() { _ = g.Shutdown(context.Background()) }()
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		if c, err := group.Dial(short, "rogue", group.DialConfig{Domain: domain}); err == nil {
			for range 5 {
				_, _ = audio.NewAudioControlClient(c).SetParam(short, &audio.SetParamT{})
			}
			c.Close()
		}
		stop()
	}
	if err := ctx.Err(); err != nil {
		t.Error(err)
	}
}
