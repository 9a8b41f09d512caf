package shm_test

import (
	"testing"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A model of the protocol of revoking requests. Its steps are the single accesses to shared words
// that the code makes:
//
//	producer: Revoke   stores revoke
//	          Taken    loads taken; if it is not, claims that nothing happened
//	consumer: Next     sees the record
//	          Take     stores taken
//	          Revoked  loads revoke; if it is not, executes
//
// Either side may end at any point. The steps of each side, in their order, are 0 for the store and
// 1 for the load.
func claimsFalsely(producer, consumer [2]int) bool {
	for schedule := range 1 << 4 { // the side that makes each of the four steps
		var revoke, taken, claimed, executed bool
		p, c := 0, 0
		for step := range 4 {
			switch {
			case schedule>>step&1 == 0 && p < 2:
				if producer[p] == 0 {
					revoke = true
				} else {
					claimed = !taken
				}
				p++
			case schedule>>step&1 == 1 && c < 2:
				if consumer[c] == 0 {
					taken = true
				} else {
					executed = !revoke
				}
				c++
			}
		}
		if claimed && executed {
			return true
		}
	}
	return false
}

func TestRevokeInAllInterleavings(t *testing.T) {
	inOrder, swapped := [2]int{0, 1}, [2]int{1, 0}
	if claimsFalsely(inOrder, inOrder) {
		t.Error("a request was executed that its client says was not")
	}
	for name, k := range map[string][2][2]int{
		"the producer looks before it revokes": {swapped, inOrder},
		"the consumer looks before it takes":   {inOrder, swapped},
	} {
		if !claimsFalsely(k[0], k[1]) {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func TestRevoke(t *testing.T) {
	p, c, _ := newRing(t, shm.MinCapacity)
	var at []uint64
	for range 3 {
		if _, ok, err := p.Reserve(8); !ok || err != nil {
			t.Fatal(ok, err)
		}
		at = append(at, p.Position())
		p.Commit(1, 8)
	}
	c.Next()
	c.Take() // in place
	p.Revoke()
	c.Next()
	c.Release()
	if !c.Revoked() {
		t.Error("the consumer does not see that requests are taken back")
	}
	for i, want := range []bool{true, true, false} {
		if p.Taken(at[i]) != want {
			t.Errorf("record %d taken: %v", i, !want)
		}
	}
}
