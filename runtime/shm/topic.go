package shm

import (
	"errors"
	"fmt"
	"math"

	"github.com/ipcgen/ipcgen/internal/interleave"
)

// This file is the memory of a topic: numbered messages from one writer to any number of readers.
// The writer's segment holds them, and is mapped for reading only by readers. What a reader has to
// say stands in a page of its own, which the writer only reads.
//
// As in a stream of blocks, messages lie in slots, and an index says which slot holds which one.
// To use a slot again, the writer first clears the message's entry, by an exchange. A reader loads
// the entry, copies the message, and loads the entry again, after an exchange on a word of its own:
// an entry that has not changed means that the copy is whole. The two exchanges are what processors
// need that order plain loads and stores weakly.
//
// The index counts the messages that were written. The numbers that readers are told of may have
// gaps: the header of a message has the number, which is never less than the count, and the
// difference never shrinks. The numbers of a topic begin at its base.
//
// A reader in place stores its claim before it loads the entry. The writer clears the entry before
// it loads the claims, and leaves a slot alone whose message is claimed. There is one slot more for
// each reader that may have a claim, and one for the message that the writer fills.

// Offsets of the words of a topic's segment, all of which the writer writes.
const (
	offTopicMagic   = 0
	offTopicVersion = 8
	offTopicDepth   = 16
	offTopicLongest = 24
	offTopicClaims  = 32
	offTopicLife    = 40        // a number that no other writer has
	offTopicTail    = line      // number of messages published so far
	offTopicFirst   = line + 8  // number of the oldest message in the index
	offTopicBase    = line + 16 // what the numbers in headers begin with
	offTopicStarve  = 2 * line  // 0, or the number of its wait for readers
	offTopicIndex   = 4 * line  // (number+1)<<16 | slot, per entry; 0 for a cleared entry

	topicMagic = 0x6e65_6763_7069_0002
	mostClaims = 64
)

// Offsets of the words of a reader's page. The reader writes all of them but the first next, and
// gaps.
const (
	offTopicNext  = 0    // number of the next message to read
	offTopicClaim = 8    // number + 1 of the message that is read in place; 0 for none
	offTopicGaps  = 16   // by the writer: the numbers left out before the first next
	offTopicSleep = line // as in a ring
)

// TopicPageSize is the length of a reader's page, in bytes.
const TopicPageSize = 2 * line

// Offsets of the words in front of a message.
const (
	offMessageLength = 0
	offMessageNumber = 8
	offMessageEpoch  = 16
	offMessageTime   = 24 // nanoseconds since 1970
	messageHeader    = 32
)

// mostMessages is the number of messages that a topic can have.
const mostMessages = 1<<(64-slotBits) - 2

// A TopicGeometry is the size of a topic.
type TopicGeometry struct {
	Depth   int // number of messages that are kept
	Longest int // length of the longest message, in bytes
	Claims  int // number of readers that may read in place at a time
}

func (g TopicGeometry) stride() int { return (messageHeader + g.Longest + 63) &^ 63 }
func (g TopicGeometry) slots() int  { return offTopicIndex + (g.Depth*8+line-1)&^(line-1) }
func (g TopicGeometry) count() int  { return g.Depth + 1 + g.Claims }

// Size returns the number of bytes of the segment.
func (g TopicGeometry) Size() int { return g.slots() + g.count()*g.stride() }

// Check returns an error unless a topic can have this size.
func (g TopicGeometry) Check() error {
	// With a depth of 1, there would be no newest message while the next one is written.
	if g.Depth < 2 || g.Depth > maxDepth-1-mostClaims || g.Longest < 1 || g.Longest > maxBlock ||
		g.Claims < 0 || g.Claims > mostClaims || g.Size() > maxStream {
		return fmt.Errorf("a topic keeps 2 to %d messages of 1 to %d bytes for 0 to %d readers in "+
			"place, %d bytes in all; not %d messages of %d bytes for %d",
			maxDepth-1-mostClaims, maxBlock, mostClaims, maxStream, g.Depth, g.Longest, g.Claims)
	}
	return nil
}

type topicWords struct {
	tail, first, base, starve *interleave.Uint64
	mem                       []byte
	geo                       TopicGeometry
}

func topicWordsOf(mem []byte, g TopicGeometry) topicWords {
	return topicWords{tail: word(mem, offTopicTail), first: word(mem, offTopicFirst),
		base: word(mem, offTopicBase), starve: word(mem, offTopicStarve), mem: mem, geo: g}
}

func (w *topicWords) entry(number uint64) *interleave.Uint64 {
	return word(w.mem, offTopicIndex+number%uint64(w.geo.Depth)*8)
}

// slot returns the memory of slot i, which must exist, up to a multiple of 8.
func (w *topicWords) slot(i int) []byte {
	at := w.geo.slots() + i*w.geo.stride()
	end := at + w.geo.stride()
	return w.mem[at:end:end]
}

// A TopicWriter writes the messages of a topic. It is not safe for concurrent use.
type TopicWriter struct {
	w topicWords

	// The fields below are private, so no reader can change them.
	next, first uint64
	gaps        uint64   // numbers left out so far, those before the first one included
	gapsOf      []uint64 // before and of a message, by number modulo the depth
	gapsGone    uint64   // of the last message that was given up
	slotOf      []int    // by number modulo the depth
	free        []int
	current     int // the reserved slot; -1 for none
	lent        map[uint64]int
	waits       uint64
}

// NewTopicWriter returns the writer of a new topic in mem, which must be g.Size() zero bytes that
// start at a multiple of 8. life is a number that tells the writer from all others.
func NewTopicWriter(mem []byte, g TopicGeometry, life uint64) (*TopicWriter, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	if len(mem) != g.Size() || !aligned(mem) {
		return nil, errors.New("memory of a topic has the wrong size or alignment")
	}
	t := &TopicWriter{w: topicWordsOf(mem, g), slotOf: make([]int, g.Depth),
		gapsOf: make([]uint64, g.Depth), current: -1, lent: make(map[uint64]int)}
	for i := range g.count() {
		t.free = append(t.free, i)
	}
	word(mem, offTopicVersion).Store(Version)
	word(mem, offTopicDepth).Store(uint64(g.Depth))
	word(mem, offTopicLongest).Store(uint64(g.Longest))
	word(mem, offTopicClaims).Store(uint64(g.Claims))
	word(mem, offTopicLife).Store(life)
	word(mem, offTopicMagic).Store(topicMagic)
	return t, nil
}

// Next returns the number of messages that were published.
func (t *TopicWriter) Next() uint64 { return t.next }

// number returns the number of the next message as readers are told of it: Next, unless numbers
// were left out.
func (t *TopicWriter) number() uint64 { return t.next + t.gaps }

// Begin sets the number of the first message, before there is any. Readers do not count the numbers
// before as lost.
func (t *TopicWriter) Begin(number uint64) error {
	if t.next != 0 || number > mostMessages {
		return errors.New("a topic that has begun, or a number beyond the last one")
	}
	t.gaps, t.gapsGone = number, number
	t.w.base.Store(number)
	return nil
}

// Skip leaves out numbers, so that the next message has the given one. Readers count those that
// were left out as lost.
func (t *TopicWriter) Skip(number uint64) error {
	if number < t.number() || number > mostMessages {
		return fmt.Errorf("message %d behind message %d", number, t.number()-1)
	}
	t.gaps = number - t.next
	return nil
}

// Gaps returns how many numbers were left out before a message that is kept, or the next one, those
// before the first number of the topic included.
func (t *TopicWriter) Gaps(count uint64) uint64 {
	switch {
	case count == t.first:
		return t.gapsGone
	case count > t.first && count <= t.next:
		return t.gapsOf[(count-1)%uint64(t.w.geo.Depth)]
	}
	return 0
}

// First returns the number of the oldest message that is kept.
func (t *TopicWriter) First() uint64 { return t.first }

// Full reports whether the next message replaces the oldest one.
func (t *TopicWriter) Full() bool { return t.next-t.first >= uint64(t.w.geo.Depth) }

// Reserve takes memory for the next message. The caller fills it by [TopicWriter.Set] or
// [TopicWriter.Fill], and calls [TopicWriter.Commit]. If the topic is full, the oldest message is
// given up; claimants are the pages of all readers that may read in place, up to the number in the
// geometry. Until Commit, further calls do nothing. The error says that the topic has had the most
// messages that it can have.
func (t *TopicWriter) Reserve(claimants []*TopicPage) error {
	if t.next >= mostMessages {
		return errors.New("the topic has no numbers left for messages; start another one")
	}
	if t.current < 0 {
		if t.Full() {
			t.giveUp(claimants)
		}
		last := len(t.free) - 1
		t.current, t.free = t.free[last], t.free[:last]
	}
	return nil
}

// giveUp removes the oldest message from the index, and takes back the slots that no reader claims.
func (t *TopicWriter) giveUp(claimants []*TopicPage) {
	k := t.first
	t.first++
	hook("topic first")
	t.w.first.Store(t.first)
	hook("topic clear")
	e := t.w.entry(k)
	announce(e, 0)
	// The load orders the plain stores to the slot behind the exchange, on processors where the
	// exchange alone does not.
	e.Load()
	hook("topic cleared")
	t.gapsGone = t.gapsOf[k%uint64(t.w.geo.Depth)]
	t.lent[k] = t.slotOf[k%uint64(t.w.geo.Depth)]
	var claimed [mostClaims]uint64
	for i, p := range claimants {
		claimed[i] = p.claim.Load()
	}
	for number, slot := range t.lent {
		if !contains(claimed[:len(claimants)], number+1) {
			delete(t.lent, number)
			t.free = append(t.free, slot)
		}
	}
}

func contains(vs []uint64, v uint64) bool {
	for _, x := range vs {
		if x == v {
			return true
		}
	}
	return false
}

// Commit publishes the first n bytes of the reserved memory. It panics if none is reserved or n is
// too large. The caller must then wake the readers that sleep; see [TopicPage.Asleep].
func (t *TopicWriter) Commit(n int, epoch uint64, published int64) {
	if t.current < 0 || n < 0 || n > t.w.geo.Longest {
		panic("shm: Commit of a message that is not reserved")
	}
	slot := t.w.slot(t.current)
	hook("topic header")
	word(slot, offMessageLength).Store(uint64(n))
	word(slot, offMessageNumber).Store(t.next + t.gaps)
	word(slot, offMessageEpoch).Store(epoch)
	word(slot, offMessageTime).Store(uint64(published))
	t.slotOf[t.next%uint64(t.w.geo.Depth)] = t.current
	t.gapsOf[t.next%uint64(t.w.geo.Depth)] = t.gaps
	hook("topic index")
	t.w.entry(t.next).Store((t.next+1)<<slotBits | uint64(t.current))
	t.current = -1
	t.next++
	hook("topic publish")
	announce(t.w.tail, t.next)
	hook("topic published")
}

// Set copies message to the reserved memory.
func (t *TopicWriter) Set(message []byte) {
	copyIn(t.w.slot(t.current)[messageHeader:], message)
}

// Fill lets fill write the first n bytes of the reserved memory, and returns its error.
func (t *TopicWriter) Fill(n int, fill func([]byte) error) error {
	return fillIn(t.w.slot(t.current)[messageHeader:], n, fill)
}

// Starve declares that the writer is about to wait for readers. The caller must look at their
// positions once more before it waits.
func (t *TopicWriter) Starve() {
	t.waits++
	hook("topic starve")
	announce(t.w.starve, t.waits)
	hook("topic starved")
}

// Fed withdraws the declaration of Starve.
func (t *TopicWriter) Fed() { t.w.starve.Store(0) }

// A TopicPage is the page of a reader as the writer sees it.
type TopicPage struct {
	next, claim, sleep *interleave.Uint64
	position           uint64
	woken              uint64
}

// NewTopicPage returns the page of a reader that has not got it yet, in mem, which must be
// TopicPageSize zero bytes that start at a multiple of 8. The reader begins with message start, as
// the writer counts, before which gaps numbers were left out; see [TopicWriter.Gaps].
func NewTopicPage(mem []byte, start, gaps uint64) (*TopicPage, error) {
	if len(mem) != TopicPageSize || !aligned(mem) {
		return nil, errors.New("page of a topic's reader has the wrong size or alignment")
	}
	p := &TopicPage{next: word(mem, offTopicNext), claim: word(mem, offTopicClaim),
		sleep: word(mem, offTopicSleep), position: start}
	hook("topic join")
	word(mem, offTopicGaps).Store(gaps)
	p.next.Store(start)
	return p, nil
}

// Position returns the number of the next message that the reader reads. tail is that of the next
// message to be published. The error is [ErrCorrupt], if the reader broke the rules of the topic.
func (p *TopicPage) Position(tail uint64) (uint64, error) {
	next := p.next.Load()
	if next < p.position || next > tail {
		return 0, ErrCorrupt
	}
	p.position = next
	return next, nil
}

// Sleeps reports whether the reader has declared that it sleeps; it may have been woken since. It
// is safe for concurrent use.
func (p *TopicPage) Sleeps() bool { return p.sleep.Load() != 0 }

// Asleep reports whether the reader sleeps and has not been woken since.
func (p *TopicPage) Asleep() (wake bool) {
	s := p.sleep.Load()
	if s == 0 || s == p.woken {
		return false
	}
	p.woken = s
	return true
}

// A TopicReader reads the messages of a topic. It is not safe for concurrent use.
type TopicReader struct {
	w                  topicWords
	next, claim, sleep *interleave.Uint64
	life               uint64
	lossless           bool

	position uint64
	limit    uint64 // the first message that is not read any more
	tail     uint64 // as seen last
	lost     uint64
	gaps     uint64 // numbers left out before the position
	fromBase bool   // those before the first message are not known yet, and not counted
	claimed  bool
	sleeps   uint64
	fed      uint64
	fence    interleave.Uint64 // private; see copyOut
	err      error
}

// ErrLapped is the error of a lossless reader that the writer has not waited for; see
// [TopicReader.Unawaited].
var ErrLapped = errors.New("a message was given up before it was read")

// NewTopicReader returns the reader of the topic in segment, with its page, which must start at
// multiples of 8. lossless says that the writer waits for the reader. The error is [ErrCorrupt] if
// the segment is not that of a topic.
func NewTopicReader(segment, page []byte, lossless bool) (*TopicReader, error) {
	if len(segment) < offTopicIndex || len(page) != TopicPageSize || !aligned(segment) ||
		!aligned(page) {
		return nil, fmt.Errorf("a topic of %d bytes, with a page of %d: %w", len(segment),
			len(page), ErrCorrupt)
	}
	load := func(off uint64) uint64 { return word(segment, off).Load() }
	depth, longest, claims := load(offTopicDepth), load(offTopicLongest), load(offTopicClaims)
	if load(offTopicMagic) != topicMagic || load(offTopicVersion) != Version ||
		max(depth, longest, claims) > maxStream {
		return nil, fmt.Errorf("constants of a topic: %w", ErrCorrupt)
	}
	g := TopicGeometry{Depth: int(depth), Longest: int(longest), Claims: int(claims)}
	if g.Check() != nil || g.Size() != len(segment) {
		return nil, fmt.Errorf("size of a topic: %w", ErrCorrupt)
	}
	r := &TopicReader{w: topicWordsOf(segment, g), next: word(page, offTopicNext),
		claim: word(page, offTopicClaim), sleep: word(page, offTopicSleep),
		life: load(offTopicLife), lossless: lossless, limit: math.MaxUint64}
	r.position = r.next.Load()
	r.fromBase = r.position == 0
	if !r.fromBase {
		r.gaps = word(page, offTopicGaps).Load()
	}
	if tail := r.w.tail.Load(); r.position > tail || max(tail, r.gaps) > mostMessages {
		return nil, fmt.Errorf("first message of a topic's reader: %w", ErrCorrupt)
	}
	return r, nil
}

// Geometry returns the size of the topic.
func (r *TopicReader) Geometry() TopicGeometry { return r.w.geo }

// Life returns the number that tells the writer from all others.
func (r *TopicReader) Life() uint64 { return r.life }

// Position returns the number of the message behind the last one that was read. Those that were
// lost since are not counted yet.
func (r *TopicReader) Position() uint64 { return r.position - r.lost }

// Gaps returns how many numbers were left out before that message.
func (r *TopicReader) Gaps() uint64 { return r.gaps }

// Base returns the number of the first message of the topic, once there is one.
func (r *TopicReader) Base() uint64 { return r.w.base.Load() }

// Number returns the number of the next message, as far as it is known.
func (r *TopicReader) Number() uint64 {
	if r.fromBase {
		return r.Position() + r.Base()
	}
	return r.Position() + r.gaps
}

// Finish makes the reader leave out what is published from now on. It is for a reader without a
// connection: its writer may go on without it.
func (r *TopicReader) Finish() { r.limit = min(r.limit, r.w.tail.Load()) }

// Resume makes the reader of a further page of the same topic go on at message number, before which
// gaps numbers were left out, or at the oldest one that its page offers. It takes the Position and
// Gaps of the former reader, or zeros to begin at the first message. A number that the writer has
// not had yet is refused.
func (r *TopicReader) Resume(number, gaps uint64) error {
	if number > r.w.tail.Load() {
		return r.corrupt()
	}
	r.gaps, r.fromBase = gaps, number == 0
	if number < r.position {
		r.lost = r.position - number
		return nil
	}
	r.position = number
	r.next.Store(number)
	return nil
}

// A TopicMessage is what a reader learns of a message beside its bytes.
type TopicMessage struct {
	Number    uint64 // from 0, or what the topic begins with
	Lost      uint64 // messages between the previous one and this one
	Epoch     uint64
	Published int64 // nanoseconds since 1970
}

// Next copies the next message to buf, which it replaces if it is too small. ok is false if there
// is no message. With newest set, it leaves out all messages but the newest. The error is
// permanent: [ErrCorrupt] if the writer broke the rules of the topic, or [ErrLapped]. Next does not
// block.
func (r *TopicReader) Next(buf []byte, newest bool) (b []byte, m TopicMessage, ok bool, err error) {
	if r.claimed {
		panic("shm: Next before Release")
	}
	for range lapTries {
		if ok, err = r.available(newest); !ok {
			return buf, m, false, err
		}
		b, m, ok, err = r.copyOut(r.position, buf)
		if err != nil {
			return buf, m, false, err
		}
		if ok {
			if err := r.count(&m); err != nil {
				return b, m, false, err
			}
			return b, m, true, nil
		}
		buf = b
		if err := r.lapped(); err != nil {
			return buf, m, false, err
		}
	}
	return buf, m, false, nil
}

// count says of the message at the position how many were lost before it.
func (r *TopicReader) count(m *TopicMessage) error {
	gaps := m.Number - r.position
	if r.fromBase {
		r.gaps, r.fromBase = r.w.base.Load(), false
	}
	if gaps < r.gaps {
		return r.corrupt()
	}
	m.Lost, r.lost, r.gaps = r.lost+gaps-r.gaps, 0, gaps
	return nil
}

// available reports whether the message at the position has been published.
func (r *TopicReader) available(newest bool) (ok bool, err error) {
	if r.err != nil {
		return false, r.err
	}
	tail := r.w.tail.Load()
	if tail < r.position || tail < r.tail || tail > mostMessages {
		return false, r.corrupt()
	}
	r.tail = tail
	end := min(tail, r.limit)
	if r.position >= end {
		return false, nil
	}
	if newest {
		r.skipTo(end - 1)
	}
	return true, nil
}

func (r *TopicReader) skipTo(number uint64) {
	r.lost += number - r.position
	r.position = number
}

// lapped goes on after the message at the position was given up: in the middle of what is kept, as
// the oldest message would soon be given up, too.
func (r *TopicReader) lapped() error {
	first := r.w.first.Load()
	tail := r.w.tail.Load()
	// The writer has increased first before it has cleared the entry. Between the two loads, it may
	// have published more than it keeps.
	if first <= r.position || first > tail || tail > mostMessages {
		return r.corrupt()
	}
	if r.lossless {
		r.err = ErrLapped
		return r.err
	}
	r.skipTo(first + (tail-first)/2)
	return nil
}

// Unawaited makes a lossless reader go on after [ErrLapped], and count what it loses from now on:
// the writer does not wait for it any more.
func (r *TopicReader) Unawaited() {
	r.lossless = false
	if errors.Is(r.err, ErrLapped) {
		r.err = nil
	}
}

// Latest copies the newest message to buf, as Next does, and leaves the position where it is. ok is
// false if there is no message.
func (r *TopicReader) Latest(buf []byte) (b []byte, m TopicMessage, ok bool, err error) {
	for range lapTries {
		if r.err != nil {
			return buf, m, false, r.err
		}
		tail := r.w.tail.Load()
		if tail > mostMessages {
			return buf, m, false, r.corrupt()
		}
		if tail == 0 {
			return buf, m, false, nil
		}
		b, m, ok, err = r.copyOut(tail-1, buf)
		if ok || err != nil {
			return b, m, ok, err
		}
		buf = b
	}
	return buf, m, false, nil
}

// copyOut copies a message. ok is false if the message was given up before the copy was complete.
func (r *TopicReader) copyOut(number uint64, buf []byte) (b []byte, m TopicMessage, ok bool,
	err error) {
	e := r.w.entry(number)
	entry := e.Load()
	slot := int(entry & slotMask)
	if entry>>slotBits != number+1 {
		return buf, m, false, nil
	}
	if slot >= r.w.geo.count() {
		return buf, m, false, r.corrupt()
	}
	mem := r.w.slot(slot)
	n, m, sound := r.header(mem, number)
	if sound {
		if uint64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		copyOut(buf, mem[messageHeader:])
	}
	// The exchange orders the plain loads of the copy before the next load, on processors where
	// nothing else does.
	announce(&r.fence, number)
	if e.Load() != entry {
		return buf, m, false, nil
	}
	if !sound {
		return buf, m, false, r.corrupt()
	}
	return buf, m, true, nil
}

// header reads what stands in front of a message. sound is false if that cannot be message number.
func (r *TopicReader) header(slot []byte, number uint64) (n uint64, m TopicMessage, sound bool) {
	n = word(slot, offMessageLength).Load()
	m = TopicMessage{Number: word(slot, offMessageNumber).Load(),
		Epoch:     word(slot, offMessageEpoch).Load(),
		Published: int64(word(slot, offMessageTime).Load())}
	return n, m, n <= uint64(r.w.geo.Longest) && m.Number >= number &&
		m.Number-number <= mostMessages
}

// Claim is Next in place: the writer leaves the message alone until [TopicReader.Release], but a
// hostile writer may not. The reader must be one of the claimants of the writer.
func (r *TopicReader) Claim(newest bool) (b []byte, m TopicMessage, ok bool, err error) {
	if r.claimed {
		panic("shm: Claim before Release")
	}
	for range lapTries {
		if ok, err = r.available(newest); !ok {
			break
		}
		hook("topic claim")
		announce(r.claim, r.position+1)
		hook("topic claimed")
		entry := r.w.entry(r.position).Load()
		if entry>>slotBits == r.position+1 {
			slot := int(entry & slotMask)
			if slot >= r.w.geo.count() {
				err = r.corrupt()
				break
			}
			mem := r.w.slot(slot)
			n, m, sound := r.header(mem, r.position)
			if !sound {
				err = r.corrupt()
				break
			}
			if err = r.count(&m); err != nil {
				break
			}
			r.claimed = true
			return mem[messageHeader : messageHeader+n : messageHeader+n], m, true, nil
		}
		if err = r.lapped(); err != nil {
			break
		}
	}
	r.claim.Store(0)
	return nil, m, false, err
}

// Release moves the reader behind the message that Next or Claim has returned. wake is true if the
// writer waits for readers and the caller must wake it.
func (r *TopicReader) Release() (wake bool) {
	if r.claimed {
		r.claimed = false
		hook("topic release")
		announce(r.claim, 0)
	}
	r.position++
	hook("topic next")
	if !r.lossless {
		r.next.Store(r.position)
		return false
	}
	announce(r.next, r.position)
	hook("topic moved")
	if r.tail > r.position && r.tail-r.position > uint64(r.w.geo.Depth)/2 {
		return false // the writer gets room for several messages at once
	}
	s := r.w.starve.Load()
	if s == 0 || s == r.fed {
		return false
	}
	r.fed = s
	return true
}

func (r *TopicReader) corrupt() error {
	r.err = ErrCorrupt
	return r.err
}

// Ready reports whether Next would return a message or an error.
func (r *TopicReader) Ready() bool {
	return r.err != nil || r.position < r.limit && r.w.tail.Load() != r.position
}

// Sleep declares that the reader is about to sleep, and reports whether it may; see
// [Consumer.Sleep].
func (r *TopicReader) Sleep() bool {
	r.sleeps++
	hook("topic sleep")
	announce(r.sleep, r.sleeps)
	hook("topic slept")
	if r.Ready() {
		r.Awake()
		return false
	}
	return true
}

// Awake withdraws the declaration of Sleep.
func (r *TopicReader) Awake() {
	hook("topic awake")
	r.sleep.Store(0)
}
