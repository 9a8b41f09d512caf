package registry

import (
	"context"
	"errors"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// A Kind says what happened to an instance.
type Kind uint8

// The kinds of events.
const (
	Appeared    Kind = iota // it registered, or was there when the watch began
	Changed                 // its role or epoch changed
	Disappeared             // it closed its registration, or died
)

// String returns "appeared", "changed" or "disappeared".
func (k Kind) String() string { return [...]string{"appeared", "changed", "disappeared"}[k%3] }

// An Event is a change of the registry.
type Event struct {
	Kind Kind
	// Record is the instance after the change; for Disappeared, as it was last
	// seen.
	Record Record
}

// Watch returns the changes to the live instances whose names begin with the
// components of prefix: first those that are there, then every change as it
// happens. Changes in quick succession may be merged, but the last state of an
// instance is always delivered. The watch begins with the loop over it and ends
// with it; when ctx is done or the registry fails, its last pair is the error.
//
//	for ev, err := range reg.Watch(ctx, "audio") { ... }
func (r *Registry) Watch(ctx context.Context, prefix string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := r.follow(ctx, prefix, func(_ *watcher, events []Event) bool {
			for _, ev := range events {
				if !yield(ev, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// follow calls f with what is there, then with every change, until it returns
// false.
func (r *Registry) follow(ctx context.Context, prefix string,
	f func(*watcher, []Event) bool) error {
	// Watch before the first look, so that no change falls in between.
	dir, err := r.watch()
	if err != nil {
		return err
	}
	defer r.endWatch(dir)
	stop := context.AfterFunc(ctx, func() { dir.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	w := &watcher{r: r, prefix: prefix}
	for {
		events, err := w.scan()
		r.step("registry looked")
		if !f(w, events) || err != nil {
			return err
		}
		if err := w.wait(ctx, dir); err != nil {
			return err
		}
	}
}

// A dying owner's file is closed, and watchers are told, a moment before the
// kernel drops its locks, which nothing tells of. So groups with a closed file are
// looked at again, at these times after the event; the last ones are for a machine
// on which the dying process has to wait for its turn.
var afterClose = [...]time.Duration{100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond,
	100 * time.Millisecond, time.Second, 10 * time.Second}

// A watcher knows what was reported and finds out what changed since.
type watcher struct {
	r      *Registry
	prefix string
	known  map[int]sighting // by slot: the live instances reported
	names  map[string]int   // their slots
	dirty  map[int]bool     // groups to look at
	// closed has the groups in which a file was closed, and when; again counts
	// the looks since.
	closed   map[int]bool
	closedAt time.Time
	again    int

	everything bool // all groups are to be looked at
	// generation is the table's that all this is about. moving has the instances that were
	// live in the table before and have not registered in this one yet, as they will
	// if they live; those that have not until the time limit are taken to be gone.
	generation int
	moving     map[string]Record
	limit      time.Time
}

// moveTime is what a live instance may take to register in a new table.
const moveTime = 10 * domain.CheckPeriod

// markAll has all groups of the present table looked at. If it is a new one, the instances
// known are expected to register there. It needs the Registry's lock.
func (w *watcher) markAll() {
	if w.generation != w.r.generation {
		if w.generation != 0 {
			w.limit = time.Now().Add(moveTime)
		}
		if w.moving == nil {
			w.moving = make(map[string]Record)
		}
		for _, s := range w.known {
			w.moving[s.rec.Name] = s.rec
		}
		w.generation = w.r.generation
		w.known, w.names, w.closed = make(map[int]sighting), make(map[string]int), nil
		w.everything = true
	}
	if !w.everything {
		return
	}
	w.everything = false
	w.dirty = make(map[int]bool)
	for group := range w.r.slots / groupSize {
		w.dirty[group] = true
	}
}

// has reports whether an instance is live, or about to register in a new table.
func (w *watcher) has(name string) bool {
	_, known := w.names[name]
	_, moves := w.moving[name]
	return known || moves
}

// wait blocks until a group may have changed, and marks it.
func (w *watcher) wait(ctx context.Context, dir *sys.DirWatch) error {
	var deadline time.Time
	if len(w.closed) > 0 {
		deadline = w.closedAt.Add(afterClose[w.again])
	}
	if len(w.moving) > 0 && (deadline.IsZero() || w.limit.Before(deadline)) {
		deadline = w.limit
	}
	dir.SetDeadline(deadline)
	if err := ctx.Err(); err != nil { // after SetDeadline, which may undo AfterFunc's
		return context.Cause(ctx)
	}
	err := dir.Next(func(name string, closed bool) {
		group, ok := groupOf(name, maxSlots/groupSize)
		if name == "" {
			w.everything = true
		}
		if !ok {
			return
		}
		w.dirty[group] = true
		if closed {
			if w.closed == nil {
				w.closed = make(map[int]bool)
			}
			w.closed[group] = true
			w.closedAt, w.again = time.Now(), 0
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && len(w.closed) == 0 {
		return nil // it is the limit that has come
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		for group := range w.closed {
			w.dirty[group] = true
		}
		if w.again++; w.again == len(afterClose) {
			w.closed = nil
		}
		return nil
	}
	return err
}

// groupOf returns the group whose locks are in the file of that name.
func groupOf(file string, groups int) (group int, ok bool) {
	digits, ok := strings.CutPrefix(file, "slots.")
	if !ok {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' || group >= groups {
			return 0, false
		}
		group = group*10 + int(d-'0')
	}
	return group, digits != "" && group < groups
}

// scan looks at the dirty groups and returns what changed.
func (w *watcher) scan() (events []Event, err error) {
	err = w.r.use(func() error {
		w.markAll()
		for group := range w.dirty {
			if group >= len(w.r.locks) {
				delete(w.dirty, group)
				continue
			}
			for slot := group * groupSize; slot < (group+1)*groupSize; slot++ {
				if events, err = w.look(slot, events); err != nil {
					return err
				}
			}
			delete(w.dirty, group)
		}
		return nil
	})
	if err == nil && len(w.moving) > 0 && !time.Now().Before(w.limit) {
		for name, rec := range w.moving {
			events = append(events, Event{Disappeared, rec})
			delete(w.moving, name)
		}
	}
	return events, err
}

// look compares a slot with what was reported of it.
func (w *watcher) look(slot int, events []Event) ([]Event, error) {
	old, wasKnown := w.known[slot]
	now, ok := w.r.record(slot)
	if ok = ok && hasPrefix(now.rec.Name, w.prefix); ok {
		live, err := w.r.alive(slot)
		if err != nil {
			return events, err
		}
		ok = live
	}
	if wasKnown && !ok && !w.r.current() {
		return events, nil // it may have moved to another table, where it is looked for next
	}
	if wasKnown && (!ok || now.state != old.state) {
		events = append(events, w.forget(slot))
		wasKnown = false
	}
	if !ok {
		return events, nil
	}
	rec := now.rec
	before, moved := w.moving[rec.Name]
	delete(w.moving, rec.Name)
	same := moved && before.PID == rec.PID && before.Incarnation == rec.Incarnation &&
		before.StartTime.Equal(rec.StartTime)
	switch {
	case same:
		if rec.Role != before.Role || rec.Epoch != before.Epoch {
			events = append(events, Event{Changed, rec})
		}
	case moved:
		events = append(events, Event{Disappeared, before}, Event{Appeared, rec})
	case !wasKnown:
		if before, moved := w.names[rec.Name]; moved { // and its old slot was not looked at yet
			events = append(events, w.forget(before))
		}
		events = append(events, Event{Appeared, rec})
	case rec.Role != old.rec.Role || rec.Epoch != old.rec.Epoch:
		events = append(events, Event{Changed, rec})
	}
	w.known[slot], w.names[rec.Name] = now, slot
	return events, nil
}

func (w *watcher) forget(slot int) Event {
	old := w.known[slot]
	delete(w.known, slot)
	delete(w.names, old.rec.Name)
	return Event{Disappeared, old.rec}
}
