package registry

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// keep checks whether the Registry's table still has the table's name.
func (r *Registry) keep() {
	r.abandonTable()
	r.replaceTable()
	_ = r.restoreHeader() // the next check tries again
	r.users.Lock()
	regs := slices.Collect(maps.Keys(r.regs))
	r.users.Unlock()
	for _, reg := range regs {
		reg.again()
	}
	if now := time.Now(); now.Sub(r.touched) > domain.TouchPeriod {
		r.touched = now
		r.touch()
	}
}

// restoreHeader writes the header of the table anew if another process has overwritten it: this
// process has checked the header, which never changes, when it opened the table, and processes that
// come later could not open it.
func (r *Registry) restoreHeader() (err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.freed || !r.current() {
		return nil
	}
	defer r.catchFault(debug.SetPanicOnFault(true), &err)
	if headed(r.mem, r.slots) {
		return nil
	}
	f, err := r.openFile("table", os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !os.SameFile(fi, r.id) {
		return err
	}
	return writeHeader(f, r.slots)
}

// abandonTable removes the name of the table if a file with locks of its slots has lost its own
// name. The locks in such a file and those in a file of the same name that was made later are not
// evidence for the same processes. All processes then move to a new table, whose lock files each of
// them opens anew.
func (r *Registry) abandonTable() {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.freed && r.current() && r.lockFileLost() {
		_ = r.dir.Root().Remove(filepath.Join(folder, "table"))
	}
}

// lockFileLost reports whether a lock file that this process has open has lost its name. The caller
// must hold r.mu.
func (r *Registry) lockFileLost() bool {
	lost := func(group int, f *os.File) bool {
		fi, err := f.Stat()
		return err == nil && !r.dir.Holds(filepath.Join(folder, lockFile(group)), fi)
	}
	for group := range r.locks {
		if f := r.locks[group].Load(); f != nil && lost(group, f) {
			return true
		}
	}
	r.users.Lock()
	regs := slices.Collect(maps.Keys(r.regs))
	r.users.Unlock()
	return slices.ContainsFunc(regs, func(reg *Registration) bool {
		reg.mu.Lock()
		defer reg.mu.Unlock()
		return reg.gen == r.generation && reg.slotLock != nil && lost(reg.group, reg.slotLock)
	})
}

// replaceTable changes to the table that has the name now, and creates one if there is none. A
// damaged table is not replaced: its users get an error, because other processes may have their
// names in it.
func (r *Registry) replaceTable() {
	if r.inPlace() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.freed {
		return
	}
	dir := r.dir
	if !dir.InPlace() {
		var err error
		if dir, err = dir.Again(); err != nil {
			return
		}
	}
	old := r.dir
	if err := r.open(dir, r.slots); err != nil {
		if dir != old {
			dir.Close()
		}
		return
	}
	if dir != old {
		old.Close()
	}
	r.users.Lock()
	defer r.users.Unlock()
	for w := range r.watchers {
		w.Poke()
	}
}

func (r *Registry) inPlace() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.freed || r.current()
}

// current reports whether the table's name still stands for this table. The caller must hold r.mu.
func (r *Registry) current() bool {
	return r.dir.InPlace() && r.dir.Holds(filepath.Join(folder, "table"), r.id)
}

// touch renews the times of the registry's files.
func (r *Registry) touch() {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.freed {
		return
	}
	names := []string{folder, filepath.Join(folder, "table")}
	for group := range r.locks {
		names = append(names, filepath.Join(folder, lockFile(group)))
	}
	r.dir.Touch(names...)
}

// watch starts a watch of the registry's folder, for every table that is ever in it.
func (r *Registry) watch() (*sys.DirWatch, error) {
	w, err := sys.WatchDir(r.path)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r.users.Lock()
	defer r.users.Unlock()
	r.watchers[w] = struct{}{}
	return w, nil
}

func (r *Registry) endWatch(w *sys.DirWatch) {
	w.Close()
	r.users.Lock()
	defer r.users.Unlock()
	delete(r.watchers, w)
}
