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

// A Kind is the kind of a change to an instance.
type Kind uint8

// The kinds of events.
const (
	Appeared    Kind = iota // the instance registered, or was there when the watch started
	Changed                 // the instance's role or epoch changed
	Disappeared             // the instance closed its registration, or died
)

// String returns "appeared", "changed" or "disappeared".
func (k Kind) String() string { return [...]string{"appeared", "changed", "disappeared"}[k%3] }

// An Event is a change of one instance.
type Event struct {
	Kind Kind
	// Record is the instance after the change or, for Disappeared, the last record seen of it.
	Record Record
}

// Watch returns an iterator over the changes of the live instances whose names begin with the
// components of prefix, as in [Registry.List]. It yields Appeared for the instances that are there,
// and then every change as it happens. Changes in quick succession may be merged, but the last
// state of an instance is always delivered.
//
//	for ev, err := range reg.Watch(ctx, "audio") { ... }
//
// The watch starts with the loop and ends with it. The loop blocks between changes. When ctx is
// done or the registry fails, the last pair holds the error; after the end of ctx that is
// context.Cause(ctx). Loops are independent of each other.
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

// follow calls f with the present instances, then with every change, until f returns false.
func (r *Registry) follow(ctx context.Context, prefix string,
	f func(*watcher, []Event) bool) error {
	// Start the watch before the first scan, so that no change falls in between.
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

// afterClose has the pauses before the scans of a group of which a lock file was closed. The kernel
// closes the files of a dying owner, and wakes watchers, a moment before it releases the owner's
// locks, which no event reports. The last pauses are for a machine on which the dying process has
// to wait for a processor. Each begins at the scan before it: one that counted from the close would
// be over at once, as would the next, when the whole machine stood still.
var afterClose = [...]time.Duration{100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond,
	100 * time.Millisecond, time.Second, 10 * time.Second}

// A watcher knows what was reported, and finds what has changed since.
type watcher struct {
	r      *Registry
	prefix string
	known  map[int]sighting // by slot: the live instances reported
	names  map[string]int   // the slots of known, by name
	dirty  map[int]bool     // groups to scan
	// closed has the groups in which a file was closed, again counts the scans since the last
	// close, and scanAt is when the next one is due.
	closed map[int]bool
	again  int
	scanAt time.Time

	everything bool // all groups are to be scanned
	// generation is that of the table to which the fields above belong. moving has the instances
	// that were live in the previous table and have not registered in this one yet. Those that have
	// not registered when patience ends are reported as gone.
	generation int
	moving     map[string]Record
	patience   sys.Patience
}

// moveTime is the time that a live instance has to register in a new table.
const moveTime = 10 * domain.CheckPeriod

// markAll marks all groups of the present table if they are to be scanned. If the table is a new
// one, it expects the known instances to register there. The caller must hold the Registry's lock.
func (w *watcher) markAll() {
	if w.generation != w.r.generation {
		if w.generation != 0 {
			w.patience = sys.NewPatience(moveTime)
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

// has reports whether an instance is live, or expected to register in a new table.
func (w *watcher) has(name string) bool {
	_, known := w.names[name]
	_, moves := w.moving[name]
	return known || moves
}

// wait blocks until a group may have changed, and marks that group.
func (w *watcher) wait(ctx context.Context, dir *sys.DirWatch) error {
	var deadline time.Time
	if len(w.closed) > 0 {
		deadline = w.scanAt
	}
	if len(w.moving) > 0 {
		next := time.Now().Add(w.patience.Next())
		if deadline.IsZero() || next.Before(deadline) {
			deadline = next
		}
	}
	dir.SetDeadline(deadline)
	if err := ctx.Err(); err != nil { // after SetDeadline, which may undo the one of AfterFunc
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
			w.scanAt, w.again = time.Now().Add(afterClose[0]), 0
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if now := time.Now(); len(w.closed) > 0 && !now.Before(w.scanAt) {
		for group := range w.closed {
			w.dirty[group] = true
		}
		if w.again++; w.again == len(afterClose) {
			w.closed = nil
		} else {
			w.scanAt = now.Add(afterClose[w.again])
		}
	}
	return nil
}

// groupOf returns the group whose locks are in the named file.
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

// scan looks at the marked groups and returns the changes.
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
	if err == nil && len(w.moving) > 0 && w.patience.Next() == 0 {
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
		return events, nil // the instance may have moved to another table, which is scanned next
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
		if before, moved := w.names[rec.Name]; moved { // and its old slot was not scanned yet
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
