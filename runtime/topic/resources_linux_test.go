package topic_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// A footprint is what this process holds, publisher and subscribers together.
type footprint struct{ descriptors, mappings, goroutines int }

func footprintNow(t *testing.T) footprint {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return footprint{len(fds), bytes.Count(maps, []byte("/memfd:")), runtime.NumGoroutine()}
}

// TestSubscriptionsGiveEverythingBack subscribes and leaves a thousand times, in every way: with
// messages that are read, unread or read in place, refused, and cut in the handshake. Descriptors,
// mappings and goroutines of both sides are given back.
func TestSubscriptionsGiveEverythingBack(t *testing.T) {
	rounds := 125
	if testing.Short() {
		rounds = 20
	}
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	p := publisher(t, where, topic.Options{Depth: 4})
	all := []topic.SubscribeOptions{{}, {Policy: topic.Lossless, History: 3},
		{Policy: topic.Latest}, {InPlace: true}}
	subscribing := func(o topic.SubscribeOptions, read bool) {
		s, err := topic.Subscribe(within(t), topic.Channel(channelName, where), meter, o)
		if err != nil {
			t.Error(err)
			return
		}
		if read {
			err := s.Read(within(t), func([]byte, topic.Arrival) error { return nil })
			if err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	round := func(n int) {
		var busy sync.WaitGroup
		for _, o := range all {
			busy.Go(func() { subscribing(o, o.History > 0 || o.Policy == topic.Latest) })
			busy.Go(func() { subscribing(o, false) })
		}
		busy.Wait()
		source, err := ipc.NewLinkSource(channelName, where)
		if err != nil {
			t.Fatal(err)
		}
		cut := errors.New("cut")
		_, err = source.Open(within(t), meter.Protocol, [4]uint32{1, 0, 0, uint32(n % 3)},
			func([]shm.Memory, [3]int) ([]byte, error) { return nil, cut })
		if !errors.Is(err, cut) {
			t.Error(err)
		}
		_, err = source.Open(within(t), meter.Protocol, [4]uint32{1, 0, 0, 99}, nil)
		if ipc.CodeOf(err) != ipc.CodeUnimplemented {
			t.Error(err)
		}
	}
	settled := func() footprint {
		heardOf(t, p, 0)
		return footprintNow(t)
	}
	publish(t, p, 0, 4)
	round(0) // opens what the process needs once
	before := settled()
	for n := range rounds {
		round(n)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		now := settled()
		if now.descriptors <= before.descriptors && now.mappings <= before.mappings &&
			now.goroutines <= before.goroutines {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v is left; there was %+v", now, before)
		}
	}
}

// TestStalledHandshake stalls subscribers between the memory and their consent. Neither the
// publisher nor other subscribers wait for them, and one that goes on hears of what it has missed.
func TestStalledHandshake(t *testing.T) {
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	p := publisher(t, where, topic.Options{Depth: 4})
	other := subscribe(t, where, topic.SubscribeOptions{Policy: topic.Lossless})
	heardOf(t, p, 1)
	source, err := ipc.NewLinkSource(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	resume := make(chan struct{})
	var stalled sync.WaitGroup
	for policy := range uint32(3) {
		has := make(chan struct{})
		stalled.Go(func() {
			end, err := source.Open(within(t), meter.Protocol, [4]uint32{1, 0, 0, policy},
				func(memory []shm.Memory, sizes [3]int) ([]byte, error) {
					mem, err := memory[0].MapReadOnly(sizes[0])
					close(has)
					<-resume
					return mem, err
				})
			if err != nil {
				t.Error(policy, err)
				return
			}
			if policy != uint32(topic.Lossless) {
				end.Leave(nil)
				return
			}
			select {
			case <-end.Down():
				if why := end.DisconnectReason(); ipc.CodeOf(why) != ipc.CodeUnavailable {
					t.Error(why)
				}
			case <-within(t).Done():
				t.Error("the publisher does not say that it has gone on")
			}
		})
		<-has
	}
	const count = 20
	done := make(chan struct{})
	go func() {
		defer close(done)
		publish(t, p, 0, count) // more than it keeps
	}()
	for n := range uint64(count) {
		if a := expect(t, other, n); a.Lost != 0 {
			t.Errorf("%+v", a)
		}
	}
	<-done
	close(resume)
	stalled.Wait()
}
