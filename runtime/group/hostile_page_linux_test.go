package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// These tests have another process of the same user write into the files by which a group works.
// That stops the service, as that process could by signals, but it crashes neither supervisor,
// replicas nor clients, and the service is back when it ends.

// childScribbler writes random words into a file, in bursts, until it is killed.
func childScribbler(args []string) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 4))
	for {
		f, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err != nil {
			time.Sleep(time.Millisecond) // it is being made again
			continue
		}
		for range 1 + rnd.IntN(20) {
			if err := scribble(f, rnd); err != nil {
				break
			}
		}
		f.Close()
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
	}
}

// scribble writes a random word, or a likely one, to a random place, mostly one that is in use.
func scribble(f *os.File, rnd *rand.Rand) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() < 8 {
		return errors.Join(err, errors.New("no file"))
	}
	page := int64(os.Getpagesize())
	at := rnd.Int64N(fi.Size() / 8)
	if rnd.IntN(4) > 0 {
		at = rnd.Int64N(max(fi.Size()/page, 1))*page/8 + rnd.Int64N(32)
	}
	word := []uint64{rnd.Uint64(), rnd.Uint64() >> rnd.UintN(64), rnd.Uint64N(4), ^uint64(0),
		1 << rnd.UintN(64)}[rnd.IntN(5)]
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], word)
	_, err = f.WriteAt(b[:], at*8)
	return err
}

// crashes returns the events that tell of a process that crashed: by a panic, which is status 2, or
// by a signal that the supervisor does not send.
func (l *eventLog) crashes() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range l.all {
		var exit *exec.ExitError
		if !errors.As(ev.Err, &exit) {
			continue
		}
		status := exit.Sys().(syscall.WaitStatus)
		if status.ExitStatus() == 2 || status.Signaled() && status.Signal() != syscall.SIGKILL &&
			status.Signal() != syscall.SIGTERM {
			all = append(all, ev.Err.Error())
		}
	}
	return all
}

// scribbled runs a group while another process scribbles over a file of its domain.
func scribbled(t *testing.T, file string) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 3)
	var events eventLog
	cfg.Events = events.add
	cfg.Heartbeat = group.Heartbeat{Period: 50 * time.Millisecond, Grace: 10 * time.Second}
	g := startGroup(t, cfg)
	seconds := 8
	if testing.Short() {
		seconds = 3
	}
	vandal := childCommand("scribbler", filepath.Join(cfg.Domain, file), strconv.Itoa(rand.Int()))
	vandal.Stderr = os.Stderr
	if err := vandal.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if c, err := group.Dial(ctx, "list", group.DialConfig{Domain: cfg.Domain}); err == nil {
			for range 5 {
				_, _ = ipc.Invoke(ctx, c, methodAppend, &words{1})
			}
			c.Close()
		}
		cancel()
	}
	_ = vandal.Process.Kill()
	_ = vandal.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dial := func() (*group.Client, error) {
		return group.Dial(ctx, "list",
			group.DialConfig{Domain: cfg.Domain, Patience: patience})
	}
	c, err := dial()
	for err != nil && ctx.Err() == nil { // the group repairs what it finds overwritten, in a moment
		time.Sleep(10 * time.Millisecond)
		c, err = dial()
	}
	if err != nil {
		t.Fatalf("after the vandal: %v\n%v", err, &events)
	}
	defer c.Close()
	if _, err := ipc.Invoke(ctx, c, methodAppend, &words{1}); err != nil {
		t.Errorf("after the vandal: %v\n%v", err, &events)
	}
	if _, err := g.WaitHealthy(ctx, 0); err != nil {
		t.Errorf("after the vandal: %v\n%v", err, &events)
	}
	if crashes := events.crashes(); len(crashes) > 0 {
		t.Errorf("crashes: %q", crashes)
	}
	t.Log(strings.Count(events.String(), "\n"), "events")
}

func TestScribbledGroupFile(t *testing.T) { scribbled(t, ".groups/list") }

func TestScribbledRegistry(t *testing.T) { scribbled(t, ".registry/table") }

// TestScribbledFileBeforeStart starts a group over a file that an earlier one left and another
// process changed.
func TestScribbledFileBeforeStart(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		cfg := listConfig(newDomain(t), 2)
		var events eventLog
		cfg.Events = events.add
		path := filepath.Join(cfg.Domain, ".groups", "list")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		words := make([]uint64, 5*os.Getpagesize()/8)
		for i := range words {
			words[i] = ^uint64(0) >> (rnd.UintN(64) * uint(round%2))
		}
		words[0] = 0x3170726767637069 // the magic number
		b, err := binary.Append(nil, binary.NativeEndian, words)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		g := startGroup(t, cfg)
		appendTo(t, dialList(t, cfg.Domain), 1)
		before := g.Status()
		time.Sleep(time.Second) // two checks of the file
		if after := g.Status(); after.Epoch != before.Epoch || events.has(group.FileLost) {
			t.Errorf("epoch %d, then %d\n%v", before.Epoch, after.Epoch, &events)
		}
		shutdown(t, g)
	}
}

// TestOverwrittenWordsOfSuccession has another process overwrite the words that decide which
// replica may be promoted next. They are written again, no replica is replaced, and no change is
// lost.
func TestOverwrittenWordsOfSuccession(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int64{"candidates": group.CandidatesAt,
		"set of the primary": group.SetAt(0), "set of another place": group.SetAt(2),
		"state of the primary": group.SyncedAt(0), "state of a standby": group.SyncedAt(1)} {
		t.Run(name, func(t *testing.T) {
			cfg := listConfig(newDomain(t), 3)
			cfg.Replication = &group.Replication{AckTimeout: time.Minute, SyncTimeout: time.Minute}
			var events eventLog
			cfg.Events = events.add
			g := startGroup(t, cfg)
			c := dialList(t, cfg.Domain)
			before := g.Status()
			for x := range uint64(10) {
				appendTo(t, c, x)
			}
			f, err := os.OpenFile(filepath.Join(cfg.Domain, ".groups", "list"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var was, now [8]byte
			if _, err := f.ReadAt(was[:], at); err != nil {
				t.Fatal(err)
			}
			for _, word := range []uint64{0, ^uint64(0), ^uint64(1), 1<<24 | 1<<23, 1 << 40} {
				if word == 0 && at == group.SetAt(2) {
					continue // it is 0
				}
				binary.NativeEndian.PutUint64(now[:], word)
				if _, err := f.WriteAt(now[:], at); err != nil {
					t.Fatal(err)
				}
				if at == group.SetAt(2) {
					continue // it is not read, and its owner does not check it
				}
				for give := time.Now().Add(patience); now != was; time.Sleep(time.Millisecond) {
					if _, err := f.ReadAt(now[:], at); err != nil {
						t.Fatal(err)
					}
					if time.Now().After(give) {
						t.Fatalf("the word stays %x, and was %x\n%v", now, was, &events)
					}
				}
			}
			status, err := g.WaitHealthy(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range status.Replicas {
				if r.PID != before.Replicas[i].PID {
					t.Errorf("%s was replaced\n%v", r.Name, &events)
				}
			}
			syscall.Kill(status.Replicas[0].PID, syscall.SIGKILL)
			if _, err := g.WaitHealthy(t.Context(), status.Epoch); err != nil {
				t.Fatal(err)
			}
			if all := readAll(t, c); len(all) != 10 {
				t.Errorf("the list is %v\n%v", all, &events)
			}
			if events.has(group.StateLost) {
				t.Errorf("events:\n%v", &events)
			}
		})
	}
}

// TestReignThatComesBack has another process overwrite the word that says who is the primary, and
// store the old value before the supervisor looks. The reign goes on.
func TestReignThatComesBack(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 2)
	var events eventLog
	cfg.Events = events.add
	startGroup(t, cfg)
	c := dialList(t, cfg.Domain)
	f, err := os.OpenFile(filepath.Join(cfg.Domain, ".groups", "list"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var was, now [8]byte
	if _, err := f.ReadAt(was[:], group.ReignAt); err != nil {
		t.Fatal(err)
	}
	reign := binary.NativeEndian.Uint64(was[:])
	for i, word := range []uint64{0, 1, ^uint64(0), reign ^ 1<<16, reign ^ 1<<17, reign + 1<<29,
		1<<24 | 1<<16 | 2} {
		binary.NativeEndian.PutUint64(now[:], word)
		if _, err := f.WriteAt(now[:], group.ReignAt); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // in which replicas probably look
		if _, err := f.WriteAt(was[:], group.ReignAt); err != nil {
			t.Fatal(err)
		}
		_, err := ipc.Invoke(t.Context(), c, methodAppend, &words{uint64(i)})
		for give := time.Now().Add(patience); err != nil && !events.has(group.FileLost); {
			if time.Now().After(give) {
				t.Fatalf("%v\n%v", err, &events)
			}
			time.Sleep(time.Millisecond)
		}
		if events.has(group.FileLost) { // the supervisor has looked first, and made it again
			break
		}
	}
}

// TestGroupFileOfAnotherVersion starts a group over the file of an earlier version, which survivors
// of that version still use. They end, and the next supervisor starts its own.
func TestGroupFileOfAnotherVersion(t *testing.T) {
	t.Parallel()
	cfg := listConfig(newDomain(t), 2)
	cfg.Survive = true
	killedHost(t, cfg.Domain, "list", "survive")
	f, err := os.OpenFile(filepath.Join(cfg.Domain, ".groups", "list"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("ipcggrp1"), 0)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	appendTo(t, dialList(t, cfg.Domain), 1)
	if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if events.has(group.Adopted) || events.has(group.FileLost) {
		t.Errorf("events:\n%v", &events)
	}
}

// TestGroupFileOfZeros starts groups over what a loss of power can leave of their first start.
func TestGroupFileOfZeros(t *testing.T) {
	page := os.Getpagesize()
	for _, size := range []int{0, 1, page - 1, page, 3*page + 1, 100 * page} {
		cfg := listConfig(newDomain(t), 2)
		var events eventLog
		cfg.Events = events.add
		path := filepath.Join(cfg.Domain, ".groups", "list")
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, make([]byte, size), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		g := startGroup(t, cfg)
		appendTo(t, dialList(t, cfg.Domain), 1)
		if s := g.Status(); s.Epoch != 1 || events.has(group.FileLost) ||
			events.has(group.StateLost) {
			t.Errorf("%d zeros: epoch %d\n%v", size, s.Epoch, &events)
		}
		shutdown(t, g)
	}
}
