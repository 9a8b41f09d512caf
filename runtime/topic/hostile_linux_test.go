package topic_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/liar"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestHostilePublisher reads from publishers that lie about everything. A subscriber gets messages
// that are within their limits, or errors with a code.
func TestHostilePublisher(t *testing.T) {
	for name, l := range liar.Publishers() {
		t.Run(name, func(t *testing.T) {
			where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
			ipctest.Serve(t, where, channelName, l.Serve(meter.Protocol))
			rounds := 60
			if testing.Short() {
				rounds = 20
			}
			corrupt, noticeable := 0, l.Word == nil || !l.Constant
			// On a busy machine, nothing may be read before the deadline.
			deadline := 10 * time.Millisecond
			for round := 0; round < rounds || noticeable && corrupt == 0; round++ {
				if round >= rounds {
					deadline *= 2
				}
				if deadline > time.Minute {
					t.Fatal("nothing was noticed")
				}
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				err := useHostile(ctx, where, topic.SubscribeOptions{
					Policy: topic.Policy(round % 3), History: round % 5, InPlace: round%2 == 0})
				cancel()
				switch ipc.CodeOf(err) {
				case ipc.CodeCorrupt:
					corrupt++
				case ipc.CodeDeadlineExceeded:
				default:
					t.Fatalf("round %d: %v", round, err)
				}
			}
		})
	}
}

// useHostile reads in all ways until there is an error.
func useHostile(ctx context.Context, where ipc.DialOption, o topic.SubscribeOptions) error {
	s, err := topic.Subscribe(ctx, topic.Channel(channelName, where), meter, o)
	if err != nil {
		return err
	}
	defer s.Close()
	check := func(m []byte) error {
		if len(m) > liar.Geometry.Longest {
			return fmt.Errorf("message of %d bytes", len(m))
		}
		return nil
	}
	for {
		b, _, _, err := s.Latest(ctx, nil)
		if err == nil {
			err = check(b)
		}
		if err == nil {
			err = s.Read(ctx, func(m []byte, _ topic.Arrival) error { return check(m) })
		}
		if err != nil {
			var e *ipc.Error
			if !errors.As(err, &e) {
				return fmt.Errorf("an error without a code: %w", err)
			}
			return err
		}
	}
}

// TestHostileSubscriber has subscribers write anything to their pages. The publisher goes on, and
// the others get every message.
func TestHostileSubscriber(t *testing.T) {
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	p := publisher(t, where, topic.Options{Depth: 4, InPlace: 3, LetGo: 5 * time.Millisecond})
	reader := keepUp(t, where)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	defer busy.Wait()
	defer close(stop)
	source, err := ipc.NewLinkSource(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	attack := func(policy uint32) {
		var page []byte
		end, err := source.Open(within(t), meter.Protocol, [4]uint32{1, 4, 0, policy},
			func(memory []shm.Memory, sizes [3]int) (_ []byte, err error) {
				page, err = memory[1].Map(sizes[1])
				return nil, err
			})
		if err != nil {
			return // no room for another one
		}
		busy.Go(func() {
			defer end.Leave(nil)
			liar.Scribble(page, stop, func(at int) uint64 {
				end.Notify()
				if at == 0 && rand.IntN(2) == 0 {
					return rand.Uint64N(500)
				}
				return liar.Wild(at)
			})
		})
	}
	for n := range uint64(300) {
		if n == 0 || n%100 == 0 && !testing.Short() {
			for _, policy := range []uint32{0, 1, 2, 0x100, 0x101} {
				attack(policy)
			}
		}
		publish(t, p, n, n+1)
	}
	<-reader
}

// keepUp returns a channel that is closed when a subscriber has got 300 messages, or
// learned of their loss.
func keepUp(t *testing.T, where ipc.DialOption) <-chan struct{} {
	s := subscribe(t, where, topic.SubscribeOptions{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lost, n := uint64(0), uint64(0); lost+n < 300; n++ {
			b, a, err := s.Next(within(t), nil)
			if lost += a.Lost; err == nil && a.Number != lost+n {
				err = fmt.Errorf("%+v, not %d", a, lost+n)
			}
			if err == nil {
				err = checkMessage(b, a.Number)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	return done
}

// TestHostileHello asks for subscriptions that do not exist.
func TestHostileHello(t *testing.T) {
	where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
	p := publisher(t, where, topic.Options{})
	publish(t, p, 0, 100)
	source, err := ipc.NewLinkSource(channelName, where)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][4]uint32{{1, 0, 0, 3}, {1, 0, 0, 0x200}, {1, 0, 0, 1 << 31},
		{0, 1<<32 - 1, 0, 0xffff}} {
		end, err := source.Open(within(t), meter.Protocol, words,
			func([]shm.Memory, [3]int) ([]byte, error) { return nil, nil })
		if ipc.CodeOf(err) != ipc.CodeUnimplemented {
			t.Errorf("%v: %v", words, err)
		}
		if end != nil {
			end.Leave(nil)
		}
	}
	if n := p.Subscribers(); n != 0 {
		t.Error(n, "subscribers")
	}
}
