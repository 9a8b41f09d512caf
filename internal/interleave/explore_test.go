//go:build ipcinterleave

package interleave

import (
	"errors"
	"strings"
	"testing"
)

// explore runs two goroutines that work on a counter, and expects it to be 2 in the end.
func explore(add func(count *Uint64, mu *Mutex)) Report {
	return Explore(func(r *Run) {
		var count Uint64
		var mu Mutex
		r.Share(&count, &mu)
		for range 2 {
			r.Go("", func() { add(&count, &mu) })
		}
		r.Check = func(waiting []string) error {
			if len(waiting) > 0 {
				return errors.New("goroutines wait")
			}
			if count.Load() != 2 {
				return errors.New("an addition is lost")
			}
			return nil
		}
	})
}

func TestInterleave(t *testing.T) {
	load := func(c *Uint64, _ *Mutex) { c.Store(c.Load() + 1) }
	for _, test := range []struct {
		name, want string
		add        func(*Uint64, *Mutex)
	}{
		{"Add", "", func(c *Uint64, _ *Mutex) { c.Add(1) }},
		{"Load and Store", "an addition is lost", load},
		{"under a mutex", "", func(c *Uint64, m *Mutex) {
			m.Lock()
			defer m.Unlock()
			load(c, m)
		}},
		{"CompareAndSwap", "", func(c *Uint64, _ *Mutex) {
			for v := c.Load(); !c.CompareAndSwap(v, v+1); v = c.Load() {
			}
		}},
		{"a wait that nobody ends", "goroutines wait", func(c *Uint64, _ *Mutex) {
			c.Add(1)
			Until(func() bool { return c.Load() == 3 })
		}},
		{"a panic", "panics: boom", func(c *Uint64, _ *Mutex) {
			if c.Add(1) == 2 && c.Load() == 2 {
				panic("boom")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			rep := explore(test.add)
			switch {
			case test.want == "" && rep.Err != nil:
				t.Errorf("%v\n%s", rep.Err, strings.Join(rep.Trace, "\n"))
			case test.want != "" &&
				(rep.Err == nil || !strings.Contains(rep.Err.Error(), test.want)):
				t.Errorf("%v in %d states, not %q", rep.Err, rep.States, test.want)
			}
		})
	}
}

// TestInterleaveSection lets two goroutines into a section.
func TestInterleaveSection(t *testing.T) {
	rep := Explore(func(r *Run) {
		var word Uint64
		var section Section
		r.Share(&word)
		for range 2 {
			r.Go("", func() {
				section.Enter()
				word.Add(1)
				section.Leave()
			})
		}
		r.Check = func([]string) error { return nil }
	})
	if rep.Err == nil || !strings.Contains(rep.Err.Error(), "one at a time") {
		t.Error(rep.Err)
	}
}

// TestInterleaveUndeclared shares a word that is not declared.
func TestInterleaveUndeclared(t *testing.T) {
	rep := Explore(func(r *Run) {
		var word Uint64
		for range 2 {
			r.Go("", func() { word.Add(1) })
		}
		r.Check = func([]string) error { return nil }
	})
	if rep.Err == nil || !strings.Contains(rep.Err.Error(), "not declared") {
		t.Error(rep.Err)
	}
}
