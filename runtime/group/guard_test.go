package group

import (
	"testing"
	"testing/synctest"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// aGuard returns the guard of a primary.
func aGuard() *guard {
	g := newGuard(&Replica{page: &page{mem: make([]byte, pageSize())},
		place: make([]byte, pageSize())})
	wordAt(g.replica.page.mem, offReign).Store(reign{epoch: 1}.pack())
	return g
}

// A suspect waits for the trial slot while another process, which still answers what it has taken,
// dies of it. It is refused then, and not executed once more.
func TestSuspectsThatWaitAreQuarantinedToo(t *testing.T) {
	const request = 0x123456789abcdef0
	for name, word := range map[string]uint64{"the request": requestWord(request),
		"its method": methodWord(request)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, until := aGuard(), time.Now().Add(time.Minute)
				ticket, _ := g.slot.take(nil)
				wordAt(g.replica.page.mem, offSuspects).Store(1)
				g.replica.page.setSuspect(0, word, until, deathsOfMethod-1)
				result := make(chan error, 1)
				go func() {
					_, err := g.Enter(request)
					result <- err
				}()
				synctest.Wait()
				g.replica.page.setSuspect(0, word|quarantined, until, deathsOfMethod)
				g.slot.give(ticket)
				if err := <-result; ipc.CodeOf(err) != ipc.CodeFailedPrecondition ||
					ipc.OutcomeOf(err) != ipc.NotExecuted {
					t.Errorf("it is admitted: %v", err)
				}
				if ticket, ok := g.slot.take(time.After(1)); !ok {
					t.Error("it has kept the trial slot")
				} else {
					g.slot.give(ticket)
				}
			})
		})
	}
}

// A process that stood still while it waited takes what is free now, although it is late.
func TestLateSuspectTakesTheTrialSlot(t *testing.T) {
	over := make(chan time.Time)
	close(over)
	s := newTrialSlot()
	for range 100 { // select chooses at random
		ticket, ok := s.take(over)
		if !ok {
			t.Fatal("it has given up")
		}
		if _, ok := s.take(over); ok {
			t.Fatal("two have the trial slot")
		}
		s.give(ticket)
	}
}

// BenchmarkGuard measures the cost of the guard for a request, without its checksum.
func BenchmarkGuard(b *testing.B) {
	g := aGuard()
	for name, suspects := range map[string]int{"no suspects": 0, "64 suspects": mostSuspects} {
		b.Run(name, func(b *testing.B) {
			wordAt(g.replica.page.mem, offSuspects).Store(uint64(suspects))
			for b.Loop() {
				place, err := g.Enter(0x123456789abcdef0)
				if err != nil {
					b.Fatal(err)
				}
				g.Leave(place)
			}
		})
	}
}
