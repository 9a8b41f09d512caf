package golden_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// These tests have a peer change a message while the other side reads it in place. Both are
// processes of their own, which run this test binary again in a role that vandalEnv names.

const (
	vandalEnv       = "GOLDEN_VANDAL_ROLE"
	vandalDomainEnv = "GOLDEN_VANDAL_DOMAIN"
)

var vandalRoles = map[string]func(ipc.RendezvousOption) error{
	"vandal client": vandalClient,
	"vandal server": vandalServer,
	"prey client":   preyClient,
	"prey server":   preyServer,
}

// quiet keeps the panics of handlers, which are many, out of the output.
var quiet = ipc.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// A scribbler overwrites a message in the ring with random bytes until it is stopped.
type scribbler struct {
	stop atomic.Bool
	done sync.WaitGroup
}

// begin changes the message at the end of buf, whose root is n bytes before the end.
func (s *scribbler) begin(buf []byte, n flatbuffers.UOffsetT) {
	message := buf[len(buf)-int(n):]
	var root kitchen.Kitchen
	root.Init(buf, flatbuffers.UOffsetT(len(buf))-n)
	var links []flatbuffers.UOffsetT // the offsets that lead from a table to the next one
	var tables []flatbuffers.UOffsetT
	for k := &root; k != nil; k = k.Next(nil) {
		tables = append(tables, k.Table().Pos)
	}
	for i, to := range tables[1:] {
		for at := tables[i]; at < to; at += 4 {
			if at+flatbuffers.GetUOffsetT(buf[at:]) == to {
				links = append(links, at)
			}
		}
	}
	s.done.Go(func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { _ = recover() }() // the connection has ended, and with it the memory
		for i := 0; !s.stop.Load(); i++ {
			if i%8 > 0 {
				scribble(message)
				continue
			}
			at := links[rand.IntN(len(links))] // a circle
			old := flatbuffers.GetUOffsetT(buf[at:])
			flatbuffers.WriteUOffsetT(buf[at:], tables[0]-at)
			time.Sleep(time.Microsecond)
			flatbuffers.WriteUOffsetT(buf[at:], old)
		}
	})
}

func (s *scribbler) end() {
	s.stop.Store(true)
	s.done.Wait()
}

// scribble replaces a word of a message: by one that leads backwards, by a length that is too
// large, or by one that is small, and sometimes puts the old one back.
func scribble(message []byte) {
	at := message[rand.IntN(len(message)/4)*4:]
	old := binary.LittleEndian.Uint32(at)
	word := []uint32{-uint32(rand.IntN(256)), rand.Uint32(), uint32(rand.IntN(256)), 1 << 31,
		old + 4, old - 4}[rand.IntN(6)]
	binary.LittleEndian.PutUint32(at, word)
	if rand.IntN(20) > 0 {
		binary.LittleEndian.PutUint32(at, old)
	}
}

// longKitchen is a message with a chain of tables, and what else there is.
func longKitchen() *kitchen.KitchenT {
	k := fullKitchen()
	for range 8 {
		k = &kitchen.KitchenT{Name: "level", Next: k, Strict: k.Strict, Things: k.Things}
	}
	return k
}

// vandalRoom is the room for a longKitchen.
const vandalRoom = 16 << 10

// vandalClient calls in place and changes its requests while they are handled.
func vandalClient(domain ipc.RendezvousOption) error {
	fmt.Println("ready")
	for {
		c, err := ipc.Dial(context.Background(), "kitchen", domain)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		for range 50 {
			var s scribbler
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			_ = kitchen.NewPantryInPlaceClient(c).Store(ctx, vandalRoom,
				func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					x := longKitchen().Pack(b)
					s.begin(b.Bytes, b.Offset())
					return x
				}, func(shared.Item) error { return nil })
			cancel()
			s.end()
		}
		c.Close()
	}
}

// vandalServer answers in place and changes its replies while they are read.
func vandalServer(domain ipc.RendezvousOption) error {
	l, err := ipc.Listen("kitchen", domain)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return ipc.NewServer(kitchen.NewPantryInPlaceService(pantry{}, kitchen.PantryInPlaceHandlers{
		Fetch: func(_ context.Context, _ shared.Item,
			reply ipc.InPlaceReply[kitchen.Kitchen]) error {
			return reply.Build(vandalRoom,
				func(b *flatbuffers.Builder, _ uint64) flatbuffers.UOffsetT {
					x := longKitchen().Pack(b)
					s := new(scribbler)
					s.begin(b.Bytes, b.Offset())
					time.AfterFunc(2*time.Millisecond, s.end)
					return x
				})
		},
	})).Serve(context.Background(), l)
}

// readOften reads all of a message that changes, again and again.
func readOften(k kitchen.Kitchen) error {
	for range 20 {
		depth := 0
		for next := &k; next != nil; next = next.Next(nil) {
			if depth++; depth > vandalRoom {
				fmt.Fprintln(os.Stderr, "an endless chain of tables")
				os.Exit(3)
			}
		}
		read(reflect.ValueOf(&k))
	}
	return nil
}

// preyServer serves honest clients too.
func preyServer(domain ipc.RendezvousOption) error {
	l, err := ipc.Listen("kitchen", domain)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return ipc.NewServer(quiet, ipc.WithTrustedClients(), kitchen.NewPantryInPlaceService(pantry{},
		kitchen.PantryInPlaceHandlers{
			Store: func(_ context.Context, req kitchen.Kitchen,
				reply ipc.InPlaceReply[shared.Item]) error {
				if err := readOften(req); err != nil {
					return err
				}
				return reply.Build(64, func(b *flatbuffers.Builder, _ uint64) flatbuffers.UOffsetT {
					return (&shared.ItemT{Name: "stored"}).Pack(b)
				})
			},
		})).Serve(context.Background(), l)
}

// preyCalls is the number of calls of a prey that is a client.
func preyCalls() int {
	if testing.Short() {
		return 150
	}
	return 1000
}

// preyClient calls a hostile server in place. Each call ends with a reply, or with an error that
// says that the reply changed.
func preyClient(domain ipc.RendezvousOption) error {
	fmt.Println("ready")
	failed := 0
	for n := 0; n < preyCalls(); {
		c, err := ipc.Dial(context.Background(), "kitchen", domain, quiet)
		if err != nil {
			return err
		}
		for i := 0; i < 100 && c.Err() == nil; i, n = i+1, n+1 {
			hangs := time.AfterFunc(5*time.Minute, func() {
				debug.SetTraceback("all")
				panic("a call hangs")
			})
			err := kitchen.NewPantryInPlaceClient(c).Fetch(context.Background(), 64,
				(&shared.ItemT{Name: "n"}).Pack, readOften)
			hangs.Stop()
			if e := new(ipc.Error); errors.As(err, &e) &&
				(e.Code == ipc.CodeInternal || e.Code == ipc.CodeCorrupt) {
				failed++
			} else if err != nil {
				return fmt.Errorf("call %d: %w", n, err)
			}
		}
		c.Close()
	}
	if failed == 0 {
		return errors.New("no reply changed while it was read: nothing was tested")
	}
	return nil
}

// startVandal starts a process in a role, which ends with its standard input.
func startVandal(t *testing.T, role, domain string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "-test.run=^TestInPlaceVandals$",
		fmt.Sprint("-test.short=", testing.Short()))
	c.Env = append(os.Environ(), vandalEnv+"="+role, vandalDomainEnv+"="+domain)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = c.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %q, %v", role, line, err)
	}
	return c
}

// TestInPlaceVandals shows that accessors of a message that its peer changes read wrong values or
// panic, and that the panic ends that call alone. Chains of tables end.
func TestInPlaceVandals(t *testing.T) {
	if role := os.Getenv(vandalEnv); role != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		if err := vandalRoles[role](ipc.WithDomain(os.Getenv(vandalDomainEnv))); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	t.Run("server", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d")
		startVandal(t, "prey server", path)
		startVandal(t, "vandal client", path)
		c, err := ipc.Dial(t.Context(), "kitchen", ipc.WithDomain(path))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		for range preyCalls() {
			k, err := kitchen.NewPantryClient(c).Fetch(ctx, &shared.ItemT{Name: "honest"})
			if err != nil || k.Name != "honest" {
				t.Fatalf("an honest client: %v, %v", k, err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	t.Run("client", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d")
		startVandal(t, "vandal server", path)
		// It ends itself if one of its calls hangs.
		if err := startVandal(t, "prey client", path).Wait(); err != nil {
			t.Errorf("the prey: %v", err)
		}
	})
}

// TestChangedMessages changes verified messages in the ways that could end a process: to tables in
// a circle, and to vectors that are longer than memory.
func TestChangedMessages(t *testing.T) {
	panics := func(what string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", what)
			}
		}()
		f()
	}
	buf := kitchenBuffer(&kitchen.KitchenT{Next: &kitchen.KitchenT{Name: "next"}})
	root := kitchen.GetRootAsKitchen(buf, 0)
	first, second := root.Table().Pos, root.Next(nil).Table().Pos
	changed := false
	for at := first; at < second; at += 4 {
		if at+flatbuffers.GetUOffsetT(buf[at:]) != second {
			continue
		}
		changed = true
		flatbuffers.WriteUOffsetT(buf[at:], first-at) // it wraps
		panics("a walk in a circle", func() {
			for n, k := 0, root; k != nil; n, k = n+1, k.Next(nil) {
				if n > len(buf) {
					t.Fatal("tables in a circle")
				}
			}
		})
		panics("UnPack of a circle", func() { root.UnPack() })
	}
	if !changed {
		t.Error("the offset is not found")
	}
	for _, k := range []*kitchen.KitchenT{
		{F64s: make([]float64, 77)}, {Strings: make([]string, 77)},
		{Leaves: make([]*kitchen.LeafT, 77)},
		{Things: make([]*kitchen.ThingT, 77)}, {Points: make([]*shared.PointT, 77)},
		{I8s: make([]int8, 77)}, {Bytes: make([]byte, 77)},
	} {
		buf := kitchenBuffer(k)
		for at := 0; at+4 <= len(buf); at += 4 {
			if flatbuffers.GetUOffsetT(buf[at:]) == 77 {
				flatbuffers.WriteUOffsetT(buf[at:], 1<<30)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		panics("a vector that is longer than the buffer", func() {
			kitchen.GetRootAsKitchen(buf, 0).UnPack()
		})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%+v: %d bytes were allocated", k, n)
		}
	}
}
