package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// Lookup returns the live instance of that name, or a NotFoundError. It does
// not block; a record that it returns had a live owner during the call.
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

// find searches the slots in which the name can be: from its home slot as far
// as any registration ever had to go.
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

// List returns the live instances whose names begin with the components of
// prefix, ordered by name; all of them for "". It does not block.
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

// WaitFor returns the live instance of that name as soon as there is one. It
// blocks until then or until ctx is done.
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

// WaitGone returns as soon as no live instance has that name. It blocks until
// then or until ctx is done.
func (r *Registry) WaitGone(ctx context.Context, name string) error {
	return r.follow(ctx, name, func(w *watcher, _ []Event) bool { return w.has(name) })
}
