package topic_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/shm"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// scribble writes words to mem until stop is closed.
func scribble(mem []byte, stop <-chan struct{}, word func(at int) uint64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		at := rand.IntN(len(mem)/8) * 8
		if rand.IntN(2) == 0 {
			at = rand.IntN(min(len(mem), 640)/8) * 8 // where the words of the protocol are
		}
		binary.NativeEndian.PutUint64(mem[at:], word(at))
		runtime.Gosched()
	}
}

// wild is a word of any kind, with a taste for those that mean something.
func wild(int) uint64 {
	switch rand.IntN(4) {
	case 0:
		return rand.Uint64()
	case 1:
		return rand.Uint64N(70)
	case 2:
		return (rand.Uint64N(8)+1)<<16 | rand.Uint64N(16)
	}
	return 1<<64 - 1 - rand.Uint64N(2)
}

// A liar is a publisher that breaks the protocol.
type liar struct {
	size     int                 // of the segment; 0: as it should be
	told     [2]uint32           // sizes that it tells; 0: the true ones
	constant bool                // keep the constants as they should be
	word     func(at int) uint64 // what it writes while others read
}

var liarGeometry = shm.TopicGeometry{Depth: 4, Longest: 64, Claims: 4}

// serve offers the liar's topic.
func (l liar) serve(t *testing.T, where ipc.ListenOption) {
	kind := &ipc.LinkKind{Protocol: meter.Protocol}
	kind.Open = func(r ipc.LinkRequest) (*ipc.LinkOffer, error) {
		stop := make(chan struct{})
		var busy sync.WaitGroup
		size := liarGeometry.Size()
		if l.size > 0 {
			size = l.size
		}
		var memory []shm.Memory
		for i, n := range []int{size, shm.TopicPageSize} {
			m, err := r.NewMemory(n)
			if err != nil {
				return nil, err
			}
			memory = append(memory, m)
			mem, err := m.Map(n)
			if err != nil {
				return nil, err
			}
			if i == 0 && l.size == 0 {
				w, err := shm.NewTopicWriter(mem, liarGeometry, 1)
				if err != nil {
					return nil, err
				}
				for range 6 {
					if err := w.Reserve(nil); err != nil {
						return nil, err
					}
					w.Commit(64, 0, 0)
				}
			}
			if l.constant && i == 0 {
				mem = mem[128:]
			}
			if l.word != nil && (i == 0 || !l.constant) {
				busy.Go(func() { scribble(mem, stop, l.word) })
			}
		}
		offer := &ipc.LinkOffer{Memory: memory, Sizes: [2]uint32{uint32(size), shm.TopicPageSize},
			Close: func() { close(stop); busy.Wait() }}
		for i, n := range l.told {
			if n != 0 {
				offer.Sizes[i] = n
			}
		}
		offer.Run = func(ctx context.Context, end *ipc.LinkEnd) error {
			for {
				select {
				case <-end.Down():
					return nil
				case <-ctx.Done():
					return nil
				default:
					end.Notify()
					time.Sleep(time.Millisecond)
				}
			}
		}
		return offer, nil
	}
	ipctest.Serve(t, where, channelName, ipc.ServeLinks(kind))
}

// TestHostilePublisher reads from publishers that lie about everything. A subscriber gets messages
// that are within their limits, or errors with a code.
func TestHostilePublisher(t *testing.T) {
	for name, l := range map[string]liar{
		"all words":             {word: wild},
		"all but the constants": {word: wild, constant: true},
		"small numbers": {constant: true,
			word: func(int) uint64 { return rand.Uint64N(9) }},
		"a tail that jumps": {constant: true, word: func(at int) uint64 {
			if at == 0 {
				return 6 + rand.Uint64N(1000)
			}
			return 6
		}},
		"an empty segment":     {size: 4096},
		"a segment too short":  {size: 100},
		"a size that is wrong": {told: [2]uint32{4096, 0}},
		"a size too large":     {told: [2]uint32{1 << 30, 0}},
		"the largest size":     {told: [2]uint32{1<<32 - 1, 0}},
		"a page too large":     {told: [2]uint32{0, 4096}},
		"a page too short":     {told: [2]uint32{0, 8}},
	} {
		t.Run(name, func(t *testing.T) {
			where := ipc.WithDomain(filepath.Join(t.TempDir(), "d"))
			l.serve(t, where)
			rounds := 60
			if testing.Short() {
				rounds = 20
			}
			corrupt := 0
			for round := range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
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
			if corrupt == 0 && (l.word == nil || !l.constant) {
				t.Error("nothing was noticed")
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
		if len(m) > liarGeometry.Longest {
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
			scribble(page, stop, func(at int) uint64 {
				end.Notify()
				if at == 0 && rand.IntN(2) == 0 {
					return rand.Uint64N(500)
				}
				return wild(at)
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
