package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A finder is the ipc.Resolver of a group's clients: the group's page says which replica is
// the primary, and the registry how the replicas can be reached.
type finder struct {
	service string
	dir     *domain.Dir
	reg     *registry.Registry
	pages   *sys.DirWatch

	mu      sync.Mutex
	closed  bool
	page    *page                      // nil while there is no group
	reign   reign                      // the last one that was seen
	checked reign                      // the one at the last look at the name of the page
	records map[string]registry.Record // the registered replicas, by name
	trouble error                      // the registry's
	corrupt error                      // why the page that has the name cannot be read
}

func newFinder(where, service string) (*finder, error) {
	dir, err := domain.Open(where)
	if err != nil {
		return nil, err
	}
	f := &finder{service: service, dir: dir, reign: reign{primary: none},
		records: make(map[string]registry.Record)}
	if err := f.open(); err != nil {
		return nil, sys.JoinErrors(err, f.close())
	}
	return f, nil
}

func (f *finder) open() (err error) {
	if f.reg, err = registry.Open(f.dir.Path(), nil); err != nil {
		return err
	}
	if err := f.dir.Root().Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f.pages, err = sys.WatchDir(filepath.Join(f.dir.Path(), folder))
	return err
}

// close gives back what the finder holds. It may be called again.
func (f *finder) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	var errs []error
	if f.page != nil {
		f.page.close()
		f.page = nil
	}
	if f.pages != nil {
		errs = append(errs, f.pages.Close())
	}
	if f.reg != nil {
		errs = append(errs, f.reg.Close())
	}
	return sys.JoinErrors(append(errs, f.dir.Close())...)
}

// Watch implements ipc.Resolver.
func (f *finder) Watch(ctx context.Context, changed func()) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { f.followRegistry(ctx, changed) })
	f.followPage(ctx, changed)
	return context.Cause(ctx)
}

// followPage learns of reigns.
func (f *finder) followPage(ctx context.Context, changed func()) {
	stop := context.AfterFunc(ctx, func() { f.pages.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		// Calls that were lost with the primary wait for the news, and the system calls of the
		// check take longer than all else.
		if f.refresh(f.readPage) {
			changed()
			runtime.Gosched() // to those who were told
		}
		if f.refresh(f.checkPage) {
			changed()
		}
		if f.pages.Next(func(string, bool) {}) != nil {
			return
		}
	}
}

// followRegistry learns of replicas, until ctx ends.
func (f *finder) followRegistry(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		err := f.watchRegistry(ctx, changed)
		f.mu.Lock()
		f.trouble = err
		f.mu.Unlock()
		changed()
		select {
		case <-time.After(sys.CheckPeriod):
		case <-ctx.Done():
		}
	}
}

func (f *finder) watchRegistry(ctx context.Context, changed func()) error {
	for ev, err := range f.reg.Watch(ctx, f.service) {
		if err != nil {
			return err
		}
		if ev.Record.Incarnation == 0 || ev.Record.Service != f.service {
			continue // not the group's
		}
		if f.apply(ev) {
			changed()
		}
	}
	return nil
}

// apply takes an event into the records.
func (f *finder) apply(ev registry.Event) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, there := f.records[ev.Record.Name]
	same := there && known.Incarnation == ev.Record.Incarnation
	switch {
	case ev.Kind == registry.Appeared && !same: // else told again, by a new watch
		f.records[ev.Record.Name] = ev.Record
		return true
	case ev.Kind == registry.Disappeared && same:
		delete(f.records, ev.Record.Name)
		return true
	}
	return false
}

// refresh looks at the page, and reports whether the reign is another.
func (f *finder) refresh(look func()) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.reign
	look()
	return f.reign != old
}

// readPage takes the reign from the page, whether or not it still has its name. The caller must
// hold f.mu.
func (f *finder) readPage() {
	if f.closed || f.page == nil {
		return
	}
	if now := f.page.reign(); now != unreadable {
		f.reign = now
	}
}

// checkPage takes the reign from the page, or from a new one where the last one has lost its name.
// The caller must hold f.mu.
func (f *finder) checkPage() {
	if f.closed {
		return
	}
	if f.page == nil || !f.page.named(f.service) {
		f.findPage()
	}
	f.readPage()
	f.checked = f.reign
}

// findPage looks for the page that has the group's name now. While there is none, or no
// supervisor has it, the last one stays: its group may be about to make another. The caller must
// hold f.mu.
func (f *finder) findPage() {
	dir, own := f.dir, false
	if !dir.InPlace() {
		var err error
		if dir, err = dir.Again(); err != nil {
			return
		}
		own = true
	}
	p, err := openPage(dir, f.service)
	f.corrupt = nil
	if err != nil {
		if errors.Is(err, ipc.ErrCorrupt) {
			f.corrupt = err
		}
		if own {
			dir.Close()
		}
		return
	}
	p.own = own
	if f.page != nil {
		if there, err := p.supervised(); err != nil || !there {
			p.close()
			return
		}
		f.page.close()
	}
	f.page = p
}

// Resolve implements ipc.Resolver.
func (f *finder) Resolve() ipc.Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readPage(); f.reign == f.checked { // else followPage checks soon
		f.checkPage()
	}
	t := ipc.Target{Epoch: f.reign.epoch, Absent: f.absent()}
	for _, rec := range f.records {
		t.Warm = append(t.Warm, endpointOf(rec))
	}
	switch {
	case f.reign.primary != none:
		t.Endpoint = ipc.Endpoint{Name: replicaName(f.service, f.reign.primary)}
		if rec, ok := f.records[t.Name]; ok {
			t.Endpoint = endpointOf(rec)
		}
	case f.reign.phase == phaseDegraded:
		t.Down = fmt.Errorf("group %s is degraded: its replicas fail again and again", f.service)
	}
	return t
}

func endpointOf(rec registry.Record) ipc.Endpoint {
	return ipc.Endpoint{Name: rec.Name, Channel: rec.Control, Reply: rec.Reply,
		Incarnation: rec.Incarnation}
}

// absent returns why there is no primary, or why it cannot be found. The caller must hold f.mu.
func (f *finder) absent() error {
	switch {
	case f.page == nil && f.corrupt != nil:
		return f.corrupt
	case f.page == nil:
		return fmt.Errorf("no process supervises group %s in domain %s; start its supervisor "+
			"first, or check the domain %s", f.service, f.dir.Path(),
			f.dir.Absence(pagePath(f.service)))
	case f.reign.phase == phaseClosing:
		return fmt.Errorf("group %s is shutting down", f.service)
	case f.reign.primary == none:
		return fmt.Errorf("group %s has no primary", f.service)
	case f.trouble != nil:
		return fmt.Errorf("the registry cannot be read: %w", f.trouble)
	}
	return nil
}

// pid returns the pid of the process at the other end, as this process sees it.
func (f *finder) pid(conn ipc.Connection) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rec, ok := f.records[conn.Endpoint.Name]; ok && endpointOf(rec) == conn.Endpoint {
		return rec.PID
	}
	return conn.Conn.Peer().PID
}
