// Package history checks what clients have seen of a list that they have appended to and read, in
// tests of groups: whether the list has what they were told, and whether all that they were told
// can have happened in one order.
package history

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// An Operation is one call of a client.
type Operation struct {
	Append    uint64 // the number, which no other operation appends; 0 for a read
	Call, End int64  // when it began and ended, by one clock for all clients
	Length    uint64 // the answer: how long the list is
	Last      uint64 // the answer to a read: the last number of the list
	Err       error
}

// A Client is what one client has done, one operation after the other.
type Client []Operation

// Counts are what operations have come to.
type Counts struct {
	Reads, Answered, NotExecuted int // numbers that were appended, but for the reads
	Unknown, UnknownMade         int // numbers without an answer, and those of them in the list
	Duplicates, Lost             int // which are errors
}

// Kept checks a list, as it is in the end, against what clients were told. Every number that was
// answered is there once, where the answer said. Any other one is there once at most, and not at
// all if its error says that it was not executed.
func Kept(t testing.TB, clients []Client, list []uint64) (c Counts) {
	t.Helper()
	at := make(map[uint64]int)
	for i, x := range list {
		if at[x] != 0 {
			c.Duplicates++
			t.Errorf("change %#x is there twice, as %d and %d", x, at[x], i+1)
		}
		at[x] = i + 1
	}
	for _, client := range clients {
		for _, op := range client {
			switch {
			case op.Append == 0:
				c.Reads++
			case op.Err == nil:
				c.Answered++
				if at[op.Append] != int(op.Length) {
					c.Lost++
					t.Errorf("change %#x was answered as number %d and is number %d of %d",
						op.Append, op.Length, at[op.Append], len(list))
				}
			case ipc.OutcomeOf(op.Err) == ipc.OutcomeUnknown:
				c.Unknown++
				if at[op.Append] != 0 {
					c.UnknownMade++
				}
			default:
				c.NotExecuted++
				if at[op.Append] != 0 {
					t.Errorf("change %#x is there, but: %v", op.Append, op.Err)
				}
			}
		}
	}
	if c.Answered == 0 {
		t.Error("nothing was answered")
	}
	return c
}

// patience is how long a check may take. It takes seconds.
const patience = 5 * time.Minute

// Linearizable checks that there is an order of all operations, each of which happens between its
// begin and its end, in which every answer is true. A change with an unknown outcome happened at
// any time after its begin, if it is in the list at all.
func Linearizable(t testing.TB, clients []Client, list []uint64) bool {
	t.Helper()
	at := make(map[uint64]uint64)
	for i, x := range list {
		at[x] = uint64(i + 1)
	}
	var all []porcupine.Operation
	for id, client := range clients {
		for _, op := range client {
			if op.Err != nil {
				if op.Append == 0 || at[op.Append] == 0 {
					continue
				}
				op.End, op.Length = math.MaxInt64, at[op.Append]
			}
			all = append(all, porcupine.Operation{ClientId: id, Input: op.Append, Output: op,
				Call: op.Call, Return: op.End})
		}
	}
	type state struct{ length, last uint64 }
	model := porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, input, output any) (bool, any) {
			now, number, op := s.(state), input.(uint64), output.(Operation)
			if number == 0 {
				return op.Length == now.length && op.Last == now.last, now
			}
			return op.Length == now.length+1, state{now.length + 1, number}
		},
	}
	verdict := porcupine.CheckOperationsTimeout(model, all, patience)
	if verdict != porcupine.Ok {
		t.Errorf("the history of %d operations is not linearizable: %v", len(all), verdict)
	}
	return verdict == porcupine.Ok
}
