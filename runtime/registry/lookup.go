package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// Lookup returns the live instance with the given name. The instance was alive at a moment during
// the call. Lookup does not block. The error is a [*NotFoundError] if no live instance has the
// name, [ErrClosed], a [*TableError], or that of a system call.
func (r *Registry) Lookup(name string) (rec Record, err error) {
	look := func() error {
		rec, _, err = r.find(name)
		return err
	}
	err = r.use(look)
	if errors.Is(err, ErrNotFound) && !r.inPlace() {
		r.replaceTable()
		err = r.use(look)
	}
	return rec, err
}

// find searches the slots that can hold the name: from the name's home slot to the largest distance
// that any registration ever needed.
func (r *Registry) find(name string) (Record, int, error) {
	hash := hashName(name)
	reach := min(wordAt(r.mem, offReach).Load(), uint64(r.slots-1))
	for i := range reach + 1 {
		slot := int((hash + i) % uint64(r.slots))
		if r.word(slot, wHash).Load() != hash {
			continue
		}
		s, ok := r.record(slot)
		if !ok || s.rec.Name != name {
			continue
		}
		live, err := r.alive(slot)
		if err != nil {
			return Record{}, 0, err
		}
		if live {
			return s.rec, slot, nil
		}
	}
	return Record{}, 0, &NotFoundError{name}
}

// List returns the live instances whose names begin with the components of prefix, ordered by name.
// The prefix "audio" covers "audio" and "audio.0", but not "audio2.0"; "" covers all names. List
// does not block. The error is [ErrClosed], a [*TableError], or that of a system call.
func (r *Registry) List(prefix string) (recs []Record, err error) {
	if !r.inPlace() {
		r.replaceTable()
	}
	err = r.use(func() error {
		for slot := range r.slots {
			s, ok := r.record(slot)
			if !ok || !hasPrefix(s.rec.Name, prefix) {
				continue
			}
			live, err := r.alive(slot)
			if err != nil {
				return err
			}
			if live {
				recs = append(recs, s.rec)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(recs, func(a, b Record) int { return cmp.Compare(a.Name, b.Name) })
	return recs, nil
}

// WaitFor returns the live instance with the given name. It blocks until there is one, until ctx is
// done, or until the registry fails. After the end of ctx the error is context.Cause(ctx).
func (r *Registry) WaitFor(ctx context.Context, name string) (Record, error) {
	if rec, err := r.Lookup(name); err == nil {
		return rec, nil
	}
	var found Record
	err := r.follow(ctx, name, func(w *watcher, _ []Event) bool {
		slot, ok := w.names[name]
		if ok {
			found = w.known[slot].rec
		}
		return !ok
	})
	return found, err
}

// WaitGone blocks until no live instance has the given name, until ctx is done, or until the
// registry fails. After the end of ctx the error is context.Cause(ctx).
func (r *Registry) WaitGone(ctx context.Context, name string) error {
	return r.follow(ctx, name, func(w *watcher, _ []Event) bool { return w.has(name) })
}
