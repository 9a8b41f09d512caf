//go:build ipcinterleave

package shm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// A topicVariant is what one writer and one reader do.
type topicVariant struct {
	name     string
	messages uint64
	switches int // of goroutines that could go on, in one execution; 0: no bound
	lossless bool
	inPlace  bool
	newest   bool
}

var topicVariants = []topicVariant{
	{name: "lossy", messages: 4, switches: 3},
	{name: "in place", messages: 5, switches: 3, inPlace: true},
	{name: "newest", messages: 4, switches: 3, newest: true},
	{name: "newest in place", messages: 4, switches: 3, newest: true, inPlace: true},
	{name: "lossless", messages: 4, switches: 3, lossless: true},
	{name: "lossless in place", messages: 4, switches: 3, lossless: true, inPlace: true},
}

// TestInterleaveTopic runs a writer and a reader in every order of their accesses to the memory of
// a topic. No message is torn, none is counted wrongly, a claimed one does not change, and never do
// both sides sleep while there is something to do.
func TestInterleaveTopic(t *testing.T) {
	for _, v := range topicVariants {
		t.Run(v.name, func(t *testing.T) {
			rep := interleave.Explore(func(r *interleave.Run) { v.start(t, r) })
			if rep.Err != nil {
				t.Errorf("%v\n%s", rep.Err, strings.Join(rep.Trace, "\n"))
			}
			t.Logf("%d states, %d runs, at most %d steps", rep.States, rep.Runs, rep.Deepest)
		})
	}
}

// A topicScene is one execution of a variant.
type topicScene struct {
	topicVariant
	run  *interleave.Run
	w    *TopicWriter
	page *TopicPage
	r    *TopicReader

	toReader, toWriter bool // a doorbell that has rung
	read, lost         uint64
}

func (v topicVariant) start(t *testing.T, run *interleave.Run) {
	g := TopicGeometry{Depth: 2, Longest: 16, Claims: 1}
	mem, page := heapMemory(g.Size()), heapMemory(TopicPageSize)
	s := &topicScene{topicVariant: v, run: run}
	var err error
	if s.w, err = NewTopicWriter(mem, g, 1); err == nil {
		s.page, err = NewTopicPage(page, 0, 0)
	}
	if err == nil {
		s.r, err = NewTopicReader(mem, page, v.lossless)
	}
	if err != nil {
		t.Fatal(err)
	}
	run.Switches = v.switches
	for _, off := range []uint64{offTopicTail, offTopicFirst, offTopicStarve} {
		run.Share(word(mem, off))
	}
	for i := range uint64(g.Depth) {
		run.Share(s.w.w.entry(i))
	}
	for i := range g.count() {
		for off := uint64(0); off < messageHeader+16; off += 8 {
			run.Share(word(s.w.w.slot(i), off))
		}
	}
	for _, off := range []uint64{offTopicNext, offTopicClaim, offTopicSleep} {
		run.Share(word(page, off))
	}
	run.State = func() uint64 {
		n := s.read<<32 | s.lost<<2
		if s.toReader {
			n |= 1
		}
		if s.toWriter {
			n |= 2
		}
		return n
	}
	run.Check = func(waiting []string) error {
		if len(waiting) > 0 {
			return fmt.Errorf("%q wait for ever", waiting)
		}
		if s.read+s.lost != v.messages || v.lossless && s.lost > 0 {
			return fmt.Errorf("read %d, lost %d, of %d", s.read, s.lost, v.messages)
		}
		return nil
	}
	run.Go("writer", s.write)
	run.Go("reader", s.readAll)
}

// room reports whether the writer may publish.
func (s *topicScene) room() bool {
	if !s.lossless || !s.w.Full() {
		return true
	}
	at, err := s.page.Position(s.w.Next())
	if err != nil {
		s.run.Fail("the reader's position is wrong")
	}
	return at > s.w.First()
}

func (s *topicScene) write() {
	var claimants []*TopicPage
	if s.inPlace {
		claimants = append(claimants, s.page)
	}
	for n := range s.messages {
		for !s.room() {
			s.w.Starve()
			if s.room() {
				break
			}
			interleave.Until(func() bool { return s.toWriter })
			s.toWriter = false
		}
		if err := s.w.Reserve(claimants); err != nil {
			s.run.Fail(err.Error())
		}
		s.w.Set([]byte(strings.Repeat(string(rune('a'+n)), 16)))
		s.w.Commit(16, n, int64(n))
		if s.page.Asleep() {
			interleave.Point()
			s.toReader = true
		}
	}
}

func (s *topicScene) readAll() {
	for s.read+s.lost < s.messages {
		var b []byte
		var m TopicMessage
		var ok bool
		var err error
		if s.inPlace {
			b, m, ok, err = s.r.Claim(s.newest)
		} else {
			b, m, ok, err = s.r.Next(nil, s.newest)
		}
		if err != nil {
			s.run.Fail(err.Error())
			return
		}
		if !ok {
			if s.r.Sleep() {
				interleave.Until(func() bool { return s.toReader })
				s.toReader = false
			}
			s.r.Awake()
			continue
		}
		for range 2 { // a claimed one must not change meanwhile
			got := make([]byte, 16)
			if s.inPlace {
				copyOut(got, b[:16:16])
			} else {
				copy(got, b)
			}
			if string(got) != strings.Repeat(string(rune('a'+m.Number)), 16) ||
				m.Epoch != m.Number {
				s.run.Fail(fmt.Sprintf("message %+v is torn: %q", m, got))
				return
			}
		}
		s.lost += m.Lost
		if m.Number != s.read+s.lost {
			s.run.Fail(fmt.Sprintf("message %+v after %d read and %d lost", m, s.read, s.lost))
			return
		}
		s.read++
		if s.r.Release() {
			interleave.Point()
			s.toWriter = true
		}
	}
}
