package ipc

import "testing"

// TestDearYields checks that after a yield that took a time slice, waits do without yields: as many
// as make up for it, and twice as many after the next one, unless enough waits with cheap yields
// lie between the two.
func TestDearYields(t *testing.T) {
	p := new(spinPolicy)
	if p.stay() {
		t.Fatal("the first wait does without yields")
	}
	without := func() (n int) {
		for p.stay() {
			n++
		}
		return n
	}
	p.cheap.Store(cheapYields) // as if all had gone well before
	for i, want := range []int{cheapYields, 2 * cheapYields, 4 * cheapYields} {
		if p.lost(); without() != want {
			t.Errorf("after %d dear yields, not %d waits do without", i+1, want)
		}
	}
	p.cheap.Store(cheapYields)
	if p.lost(); without() != cheapYields {
		t.Errorf("after a dear yield among cheap ones, not %d waits do without", cheapYields)
	}
	for range 64 {
		p.cheap.Store(0)
		p.lost()
	}
	if n := without(); n != mostWithout {
		t.Errorf("after many dear yields, %d waits do without, not %d", n, mostWithout)
	}
}

// TestLongWaits checks that a wait which yields leaves early yields to the next one only if it was
// long and no yield was dear, and that neither waits on the only processor of the process yield,
// nor those without WithYield.
func TestLongWaits(t *testing.T) {
	p := &spinPolicy{longest: defaultSpin, perGosched: checksPerGosched, yield: true}
	p.budget.Store(int64(defaultSpin))
	wait := func(polls int) *spin {
		s := &spin{p: p}
		for range polls {
			s.more()
		}
		s.paid()
		return s
	}
	if s := wait(pollsPerCheck - 1); s.yields || p.long.Load() {
		t.Error("a short wait has yielded")
	}
	p.long.Store(true)
	if s := wait(briefPolls); s.yields || p.long.Load() {
		t.Error("a wait as short as that yields, or counts as long")
	}
	p.long.Store(true)
	if s := wait(briefPolls + 1); !s.yields {
		t.Error("after a long wait, the next one does not yield early")
	}
	p.long.Store(true)
	p.without.Store(1)
	if s := wait(briefPolls + 1); s.yields || p.long.Load() {
		t.Error("a wait that is to do without yields has yielded, or counts as long")
	}
	p.without.Store(0)
	p.long.Store(true)
	p.perGosched = checksAlone
	if s := wait(pollsPerCheck - 1); s.yields {
		t.Error("a wait has yielded the only processor of its process")
	}
	p.long.Store(true)
	p.perGosched, p.yield = checksPerGosched, false
	if s := wait(2*pollsPerCheck - 1); s.yields || p.long.Load() {
		t.Error("a wait without WithYield has yielded, or counts as long")
	}
}

// TestSpinEnds checks that a wait ends, however many polls are made in a row, and whether it yields
// always, never, or until a yield has proved dear. A million polls take longer than a wait may.
func TestSpinEnds(t *testing.T) {
	ends := func(inARow uint, yield, long bool, without uint32, dearAfter int) {
		p := &spinPolicy{longest: shortestSpin, perGosched: checksPerGosched, yield: yield}
		p.budget.Store(int64(shortestSpin))
		p.long.Store(long)
		p.without.Store(without)
		s, n := &spin{p: p}, 0
		for ; s.moreAfter(inARow) && n < 1e6; n++ {
			if n == dearAfter {
				s.stays = true
			}
		}
		if n == 1e6 || !s.checkDue() {
			t.Errorf("%d polls in a row, yield %t, long %t, without %d, dear after %d: no end",
				inARow, yield, long, without, dearAfter)
		}
	}
	for _, inARow := range []uint{1, 3, burst, yieldPolls, 2 * pollsPerCheck} {
		for _, dearAfter := range []int{-1, 0, 1, 2, 100} {
			ends(inARow, false, false, 0, dearAfter)
			ends(inARow, true, false, 0, dearAfter)
			ends(inARow, true, true, 0, dearAfter)
			ends(inARow, true, true, 1, dearAfter)
		}
	}
}

// TestSpinners checks how many readers of a server may poll, alone and beside calls that wait for
// other processes, and how many of them must yield to other goroutines.
func TestSpinners(t *testing.T) {
	for _, c := range []struct{ processors, most, calm, besideCalls int }{
		{1, 1, 1, 0}, {2, 2, 1, 0}, {3, 2, 1, 0}, {4, 2, 2, 1}, {5, 2, 2, 1}, {16, 8, 8, 7},
	} {
		var s spinners
		s.init(c.processors)
		n, calm := 0, 0
		for ; s.take(); n++ {
			if !s.crowd() {
				calm++
			}
		}
		if n != c.most || calm != c.calm {
			t.Errorf("of %d processors, %d readers may poll, not %d; %d without yields, not %d",
				c.processors, n, c.most, calm, c.calm)
		}
		s.count(s.away - int32(n))
		for n = 0; s.take(); n++ {
		}
		if n != c.besideCalls {
			t.Errorf("of %d processors, %d readers may poll beside calls that wait, not %d",
				c.processors, n, c.besideCalls)
		}
	}
}
