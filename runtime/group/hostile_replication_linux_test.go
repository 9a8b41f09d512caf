package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// These tests have a process of the same user act as the primary of a group's standbys, and as a
// standby of its primary, without any of the rules.

const (
	enter, install, apply, seal = 0, 1, 2, 3
)

// childRoguePrimary calls the standbys of the group "list" as their primary does. With "endless" it
// sends a snapshot without end.
func childRoguePrimary(args []string) error {
	domain, kind := args[0], args[1]
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 5))
	reg, err := registry.Open(domain, nil)
	if err != nil {
		return err
	}
	defer reg.Close()
	for {
		recs, err := reg.List("list")
		if err != nil || len(recs) == 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		epoch, primary, err := reignOf(filepath.Join(domain, ".groups", "list"))
		rec := recs[rnd.IntN(len(recs))]
		if err != nil || rec.Name == "list."+strconv.Itoa(primary) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		c, err := ipc.Dial(ctx, group.ReplicaChannel(rec.Name), ipc.WithDomain(domain),
			ipc.WithMaxMessage(1<<30))
		if err == nil {
			head := group.RawPacket{Epoch: epoch, Place: primary, Incarnation: rec.Incarnation,
				Session: rnd.Uint64()}
			if kind == "endless" {
				endlessSnapshot(ctx, c, head)
			} else {
				for range 50 {
					randomPacket(head, rnd).Call(ctx, c)
				}
			}
			c.Close()
		}
		cancel()
	}
}

// endlessSnapshot sends pieces of a snapshot that is said to be as long as can be.
func endlessSnapshot(ctx context.Context, c *ipc.Conn, p group.RawPacket) {
	p.Method = enter
	_, err := p.Call(ctx, c)
	p.Method = install
	piece := make([]byte, 1<<20)
	for offset := uint64(0); err == nil; offset += uint64(len(piece)) {
		b := binary.LittleEndian.AppendUint64(make([]byte, 0, 32+len(piece)), 1)
		for _, v := range []uint64{1, 1 << 62, offset} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		p.Body = append(b, piece...)
		_, err = p.Call(ctx, c)
	}
}

// randomPacket returns a packet with the head p, mostly, and a body that a primary could send, or
// one near it.
func randomPacket(p group.RawPacket, rnd *rand.Rand) group.RawPacket {
	pick := func(of ...uint64) uint64 { return of[rnd.IntN(len(of))] }
	p.Method = []int{enter, install, install, apply, apply, seal}[rnd.IntN(6)]
	if rnd.IntN(10) == 0 {
		p.Session++
	}
	p.Epoch += pick(0, 0, 0, 0, 0, 0, 0, 0, 1, rnd.Uint64())
	word := func(v uint64) { p.Body = binary.LittleEndian.AppendUint64(p.Body, v) }
	rubbish := func() {
		for range rnd.IntN(40) {
			p.Body = append(p.Body, byte(rnd.Uint32()))
		}
	}
	switch p.Method {
	case install:
		word(p.Epoch)
		word(pick(0, 1, 5, rnd.Uint64()))                      // the position
		word(pick(0, 8, 16, 20, 1<<20, 1<<63, rnd.Uint64()))   // the length of the snapshot
		word(pick(0, 0, 0, 8, 16, 1<<20, 1<<63, rnd.Uint64())) // and the offset of the piece
		p.Body = append(p.Body, make([]byte, pick(0, 8, 8, 16, 20, 1000))...)
	case apply:
		for range rnd.IntN(4) {
			word(pick(0, 1, 2, 6, 7, rnd.Uint64()))
			p.Body = binary.LittleEndian.AppendUint32(p.Body, uint32(pick(0, rnd.Uint64())))
			p.Body = binary.LittleEndian.AppendUint32(p.Body,
				uint32(pick(0, 8, 20, 1<<31, rnd.Uint64())))
			rubbish()
		}
	}
	if rnd.IntN(4) == 0 {
		rubbish()
	}
	if rnd.IntN(4) == 0 {
		p.Body = p.Body[:rnd.IntN(len(p.Body)+1)]
	}
	return p
}

// reignOf reads the reign from a group's file.
func reignOf(path string) (epoch uint64, primary int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var b [8]byte
	if _, err := f.ReadAt(b[:], group.ReignAt); err != nil {
		return 0, 0, err
	}
	epoch, primary = group.ReignOf(binary.NativeEndian.Uint64(b[:]))
	return epoch, primary, nil
}

// childRogueStandby registers as a standby of the group "list" that the supervisor does not know,
// and answers its primary in every wrong way.
func childRogueStandby(args []string) error {
	domain, rogueName := ipc.WithDomain(args[0]), args[1]
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 6))
	whole := uint64(0)
	var mu sync.Mutex
	srv := ipc.NewServer(ipc.WithMaxMessage(1<<30), group.RawStandby(
		func(method int, packet []byte) ([]byte, error) {
			mu.Lock() // of rnd and whole
			defer mu.Unlock()
			time.Sleep(time.Duration(rnd.IntN(3)*rnd.IntN(10)) * time.Millisecond)
			if rnd.IntN(10) == 0 {
				return nil, ipc.Errorf(ipc.Code(rnd.Uint32N(20)), "rogue")
			}
			switch method {
			case enter:
				whole ^= 1
				b := binary.LittleEndian.AppendUint64(nil, rnd.Uint64()>>rnd.UintN(64))
				b = binary.LittleEndian.AppendUint64(b, rnd.Uint64()>>rnd.UintN(64))
				return binary.LittleEndian.AppendUint64(b, whole)[:24-rnd.IntN(2)*rnd.IntN(24)], nil
			case apply:
				return make([]byte, []int{0, 3, 4, 8, 1 << 20}[rnd.IntN(5)]), nil
			}
			return make([]byte, rnd.IntN(2)*rnd.IntN(1<<20)), nil
		}))
	l, err := ipc.Listen(group.ReplicaChannel(rogueName), domain)
	for ipc.CodeOf(err) == ipc.CodeAlreadyExists { // a replica has it, and is about to be killed
		time.Sleep(time.Millisecond)
		l, err = ipc.Listen(group.ReplicaChannel(rogueName), domain)
	}
	if err != nil {
		return err
	}
	go func() {
		rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 7))
		reg, err := registry.Open(args[0], nil)
		for err == nil { // the primary gives up a standby that diverges, until there is another one
			var own *registry.Registration
			own, err = reg.Register(registry.Record{Name: rogueName, Service: "list",
				Control: "rogue_standby", Incarnation: rnd.Uint64() | 1})
			if errors.Is(err, registry.ErrExists) {
				err = nil
				time.Sleep(time.Millisecond)
			} else if err == nil {
				time.Sleep(time.Duration(20+rnd.IntN(200)) * time.Millisecond)
				err = own.Close()
			}
		}
		fmt.Fprintln(os.Stderr, "rogue standby:", err)
		os.Exit(1)
	}()
	return srv.Serve(context.Background(), l)
}

// rss is the memory that a process has resident, in bytes.
func rss(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	n, _ := strconv.Atoi(fields[1])
	return n * os.Getpagesize()
}

// besideRogue runs a group that keeps a state while a rogue talks to its replicas, and returns the
// errors of the calls that failed meanwhile. Calls end by their deadlines, no process crashes or
// grows, and the group is healthy afterwards.
func besideRogue(t *testing.T, role string, args ...string) (failed []error) {
	cfg := listConfig(newDomain(t), 3)
	cfg.ReadyTimeout = 10 * time.Second // a replica whose name the rogue has waits for so long
	cfg.Stderr = io.Discard             // and says so again and again
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	c, err := group.Dial(t.Context(), "list",
		group.DialConfig{Domain: cfg.Domain, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rogue := childCommand(role, append([]string{cfg.Domain}, args...)...)
	rogue.Stderr = os.Stderr
	if err := rogue.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- rogue.Wait() }()
	if role == "rogue standby" && args[0] == standbyName {
		syscall.Kill(g.Replicas()[2].PID, syscall.SIGKILL) // the rogue waits for its name
	}
	seconds := 8
	if testing.Short() {
		seconds = 3
	}
	limit := 5 * time.Second
	if role == "rogue standby" && args[0] == outsideName {
		limit = patience // of calls that may not fail
	}
	largest, answered := 0, 0
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := ipc.Invoke(ctx, c, methodAppend, &words{1})
		cancel()
		if e := new(ipc.Error); err != nil && !errors.As(err, &e) {
			t.Errorf("an error without a type: %v", err)
		} else if err == nil {
			answered++
		} else {
			failed = append(failed, err)
		}
		for _, r := range g.Replicas() {
			largest = max(largest, rss(r.PID))
		}
	}
	select {
	case err := <-over:
		t.Errorf("the rogue has ended: %v", err)
	default:
		_ = rogue.Process.Kill()
		<-over
	}
	for _, file := range []string{".sock", ".lock"} { // what a killed standby leaves
		_ = os.Remove(filepath.Join(cfg.Domain, group.ReplicaChannel(outsideName)+file))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := g.WaitHealthy(ctx, 0); err != nil {
		t.Errorf("after the rogue: %v\n%v", err, &events)
	}
	// The primary refuses changes for as long as it counts the rogue, which lacks the protocol, as
	// a standby of another version: until it has learned of its death.
	_, err = ipc.Invoke(ctx, c, methodAppend, &words{1})
	for ipc.CodeOf(err) == ipc.CodeFailedPrecondition && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
		_, err = ipc.Invoke(ctx, c, methodAppend, &words{1})
	}
	if err != nil {
		t.Errorf("after the rogue: %v\n%v", err, &events)
	}
	if crashes := events.crashes(); len(crashes) > 0 {
		t.Errorf("crashes: %q", crashes)
	}
	t.Logf("%d calls answered, %d bytes at most, %d events", answered, largest,
		strings.Count(events.String(), "\n"))
	if largest > 256<<20 {
		t.Errorf("a replica grew to %d bytes", largest)
	}
	return failed
}

func TestRoguePrimary(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"random", "endless"} {
		t.Run(kind, func(t *testing.T) { besideRogue(t, "rogue primary", kind) })
	}
}

const (
	standbyName = "list.2" // of a replica of the group
	outsideName = "list.7" // of a place that the group does not have
)

func TestRogueStandby(t *testing.T) {
	t.Parallel()
	t.Run("in a place of the group", func(t *testing.T) {
		besideRogue(t, "rogue standby", standbyName)
	})
	// The primary has no business with it: no call waits for it, and none fails.
	t.Run("in another place", func(t *testing.T) {
		if failed := besideRogue(t, "rogue standby", outsideName); len(failed) > 0 {
			t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
		}
	})
}
