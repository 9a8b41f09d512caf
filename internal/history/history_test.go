package history

import (
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A recorder counts the errors of a check, and does not fail.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Helper()               {}
func (r *recorder) Error(...any)          { r.errors++ }
func (r *recorder) Errorf(string, ...any) { r.errors++ }

// TestChecks has histories of which each but the first has one fault.
func TestChecks(t *testing.T) {
	unknown := &ipc.Error{Code: ipc.CodeUnavailable}
	refused := &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted}
	good := []Client{
		{{Append: 1, Call: 1, End: 2, Length: 1}, {Call: 3, End: 9, Length: 3, Last: 4},
			{Append: 6, Call: 10, End: 11, Err: unknown}},
		{{Append: 4, Call: 4, End: 5, Err: unknown}, {Append: 3, Call: 1, End: 4, Length: 2},
			{Append: 5, Call: 5, End: 6, Err: refused}},
	}
	for _, c := range []struct {
		name         string
		list         []uint64
		change       func(Client)
		kept, linear bool
		counts       Counts
	}{
		{name: "good", list: []uint64{1, 3, 4}, kept: true, linear: true,
			counts: Counts{Reads: 1, Answered: 2, NotExecuted: 1, Unknown: 2, UnknownMade: 1}},
		{name: "a lost change", list: []uint64{1}, linear: false,
			counts: Counts{Reads: 1, Answered: 2, NotExecuted: 1, Unknown: 2, Lost: 1}},
		{name: "a change twice", list: []uint64{1, 3, 4, 6, 6}, linear: false,
			counts: Counts{Reads: 1, Answered: 2, NotExecuted: 1, Unknown: 2, UnknownMade: 2,
				Duplicates: 1}},
		{name: "a refused change", list: []uint64{1, 3, 4, 5}, linear: true,
			counts: Counts{Reads: 1, Answered: 2, NotExecuted: 1, Unknown: 2, UnknownMade: 1}},
		{name: "a stale read", list: []uint64{1, 3, 4}, kept: true, linear: false,
			change: func(c Client) { c[1].Call, c[1].Length, c[1].Last = 5, 1, 1 },
			counts: Counts{Reads: 1, Answered: 2, NotExecuted: 1, Unknown: 2, UnknownMade: 1}},
	} {
		clients := []Client{append(Client(nil), good[0]...), good[1]}
		if c.change != nil {
			c.change(clients[0])
		}
		var kept, linear recorder
		if got := Kept(&kept, clients, c.list); got != c.counts || (kept.errors == 0) != c.kept {
			t.Errorf("%s: %+v with %d errors, want %+v", c.name, got, kept.errors, c.counts)
		}
		if got := Linearizable(&linear, clients, c.list); got != c.linear ||
			(linear.errors == 0) != c.linear {
			t.Errorf("%s: linearizable %v with %d errors", c.name, got, linear.errors)
		}
	}
	if Kept(&recorder{}, nil, nil) != (Counts{}) {
		t.Error("counts of nothing")
	}
}
