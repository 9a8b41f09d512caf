// Package survey finds out what is in a domain: the instances of the registry, the channels, and
// what dead processes have left. It creates nothing.
package survey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A Channel is a channel with its files.
type Channel struct {
	Name string `json:"name"`
	// Live means that a process serves the channel, as its lock says.
	Live bool `json:"live"`
	// PID is that of the server, in the server's own pid namespace; 0 if it is not known.
	PID int `json:"pid,omitempty"`
	// Since is the time at which the server took the channel.
	Since time.Time `json:"since,omitzero"`
}

// Process names the process that serves the channel. Its number is not known while it has taken the
// channel and not yet written it.
func (c Channel) Process() string {
	if c.PID == 0 {
		return "a process"
	}
	return fmt.Sprintf("pid %d", c.PID)
}

// A Survey is the content of a domain at one moment.
type Survey struct {
	Domain    string            // its path
	Instances []registry.Record // that live, by name
	Channels  []Channel         // by name
	Registry  bool              // there is a registry
	// RegistryErr is why the registry cannot be read.
	RegistryErr error
}

// Of looks into a domain; the empty name is the default one. If the domain does not exist, the
// error wraps [fs.ErrNotExist].
func Of(name string) (*Survey, error) {
	dir, err := domain.Find(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	s := &Survey{Domain: dir.Path()}
	if s.Channels, err = channels(dir); err != nil {
		return nil, err
	}
	err = hasRegistry(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err == nil:
		s.Registry = true
		s.Instances, err = instances(dir.Path())
	}
	s.RegistryErr = err
	return s, nil
}

// hasRegistry looks whether a domain has a registry. If there is none, the error wraps
// [fs.ErrNotExist].
func hasRegistry(dir *domain.Dir) error {
	_, err := dir.Root().Lstat(".registry/table")
	return err
}

// LookPeriod is the longest time after which Follow looks again: no one tells of a channel that
// belongs to no instance, nor of a registry that is not there yet.
const LookPeriod = 100 * time.Millisecond

// share is how many times as long as a look takes Follow rests at least before the next one, unless
// the registry tells of a change: a domain of thousands of channels does not keep a processor busy.
const share = 10

// Follow looks into a domain until ctx is done: as soon as the registry tells that an instance has
// come, has gone, or has another role or epoch, and otherwise after period, or later if a look
// takes long. A domain that does not exist is an empty one, for it may come. The look after an
// error is like any other.
func Follow(ctx context.Context, name string, period time.Duration) iter.Seq2[*Survey, error] {
	return func(yield func(*Survey, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		told := make(chan bool, 1)
		var listening sync.WaitGroup
		defer listening.Wait()
		defer stop()
		listening.Go(func() { changes(ctx, name, told) })
		for ctx.Err() == nil {
			begin := time.Now()
			s, err := Of(name)
			if errors.Is(err, fs.ErrNotExist) {
				s, err = new(Survey), nil
			}
			if !yield(s, err) {
				return
			}
			took := time.Since(begin)
			again := time.NewTimer(max(period, share*took))
			select {
			case <-ctx.Done():
			case <-told:
				pause(ctx, took) // of many changes at once, one look tells several
			case <-again.C:
			}
			again.Stop()
		}
	}
}

// pause waits, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// changes rings a bell whenever the registry of a domain tells of a change, until ctx is done. The
// registry may come later.
func changes(ctx context.Context, name string, told chan<- bool) {
	ring := func() {
		select {
		case told <- true:
		default: // it rings already
		}
	}
	for ctx.Err() == nil {
		watch(ctx, name, ring)
		pause(ctx, LookPeriod)
	}
}

// watch calls f for the changes of the registry of a domain, and for what has changed before, until
// it fails. Without a registry it fails at once, and looks at no channel: there may be thousands.
func watch(ctx context.Context, name string, f func()) {
	dir, err := domain.Find(name)
	if err != nil {
		return
	}
	err = hasRegistry(dir)
	dir.Close()
	if err != nil {
		return // and does not make one
	}
	r, err := registry.Open(dir.Path(), nil)
	if err != nil {
		return
	}
	defer r.Close()
	f()
	for _, err := range r.Watch(ctx, "") {
		if err != nil {
			return
		}
		f()
	}
}

func instances(domain string) (all []registry.Record, err error) {
	r, err := registry.Open(domain, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, err = r.List("")
	slices.SortFunc(all, func(a, b registry.Record) int { return CompareNames(a.Name, b.Name) })
	return all, err
}

func channels(dir *domain.Dir) ([]Channel, error) {
	entries, err := fs.ReadDir(dir.Root().FS(), ".")
	if err != nil {
		return nil, sys.ExplainOf(err)
	}
	var all []Channel
	for _, e := range entries {
		name, isLock := strings.CutSuffix(e.Name(), domain.LockSuffix)
		if !isLock {
			if name, isLock = strings.CutSuffix(e.Name(), domain.SocketSuffix); isLock {
				_, err := dir.Root().Lstat(name + domain.LockSuffix)
				isLock = errors.Is(err, fs.ErrNotExist) // otherwise the lock is listed
			}
		}
		if !isLock || domain.CheckName("channel", name) != nil {
			continue
		}
		c, err := look(dir, name)
		if err != nil {
			return nil, fmt.Errorf("channel %s: %w", name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

func look(dir *domain.Dir, name string) (c Channel, err error) {
	c.Name = name
	f, err := dir.Root().Open(name + domain.LockSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil // a socket without its lock: left behind, or about to be mended
	}
	if err != nil {
		return c, sys.ExplainOf(err)
	}
	defer f.Close()
	if c.Live, err = sys.Locked(f, 0); err != nil || !c.Live {
		return c, err
	}
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	c.PID, _ = strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if info, err := dir.Root().Lstat(name + domain.SocketSuffix); err == nil {
		c.Since = info.ModTime()
	}
	return c, nil
}

// Plain returns the live channels that belong to no instance of the registry.
func (s *Survey) Plain() (all []Channel) {
	owners := s.Owners()
	for _, c := range s.Channels {
		if _, owned := owners[c.Name]; c.Live && !owned {
			all = append(all, c)
		}
	}
	return all
}

// Owners returns the instances of the registry that serve a channel, by the channel.
func (s *Survey) Owners() map[string]registry.Record {
	all := make(map[string]registry.Record, len(s.Instances))
	for _, r := range s.Instances {
		if r.Control != "" {
			all[r.Control] = r
		}
	}
	return all
}

// atOnce is how many servers are asked at the same time. With more of them, a machine that has
// thousands would be so busy that those asked first seem to hang.
const atOnce = 64

// EachLive calls f for all live channels, for some of them at the same time, and returns after all
// calls.
func (s *Survey) EachLive(f func(Channel)) {
	live := make(chan Channel)
	var asking sync.WaitGroup
	for range min(atOnce, len(s.Channels)) {
		asking.Go(func() {
			for c := range live {
				f(c)
			}
		})
	}
	for _, c := range s.Channels {
		if c.Live {
			live <- c
		}
	}
	close(live)
	asking.Wait()
}

// Left returns the channels whose files a dead server has left.
func (s *Survey) Left() (all []Channel) {
	for _, c := range s.Channels {
		if !c.Live {
			all = append(all, c)
		}
	}
	return all
}

// A Kind is what a name stands for.
type Kind int

// The kinds of names.
const (
	InstanceName Kind = iota
	GroupName
	ChannelName
)

// Resolve says what a name stands for. Instances come before services, and services before
// channels. A service that a supervisor keeps is a group; another one must have one instance. For
// an instance, channel is the one on which it is called.
func (s *Survey) Resolve(name string) (k Kind, channel string, err error) {
	var service []registry.Record
	for _, r := range s.Instances {
		if r.Name == name {
			return callable(r)
		}
		if r.Service == name || GroupOf(r.Name) == name {
			service = append(service, r)
		}
	}
	if slices.ContainsFunc(service, func(r registry.Record) bool { return r.Incarnation != 0 }) {
		return GroupName, "", nil
	}
	switch len(service) {
	case 0:
	case 1:
		return callable(service[0])
	default:
		names := make([]string, len(service))
		for i, r := range service {
			names[i] = r.Name
		}
		return 0, "", fmt.Errorf(
			"the service %s has no supervisor and several instances; name one "+
				"of them: %s",
			name,
			strings.Join(names, ", "),
		)
	}
	for _, c := range s.Channels {
		if c.Live && c.Name == name {
			return ChannelName, name, nil
		}
	}
	return 0, "", s.missing(name)
}

func callable(r registry.Record) (k Kind, channel string, err error) {
	if r.Control == "" {
		return 0, "", fmt.Errorf("the instance %s serves no channel", r.Name)
	}
	return InstanceName, r.Control, nil
}

// GroupOf returns the group of an instance's name, "service.index", or "".
func GroupOf(name string) string {
	index := path.Ext(name)
	if len(index) < 2 || strings.Trim(index[1:], "0123456789") != "" {
		return ""
	}
	return strings.TrimSuffix(name, index)
}

// CompareNames compares two names as people sort them, numbers in them by their values: instance 2
// of a service comes before 10.
func CompareNames(a, b string) int {
	restA, restB := a, b
	for restA != "" && restB != "" {
		numberA, numberB := digits(restA), digits(restB)
		if numberA == "" || numberB == "" {
			if c := cmp.Compare(restA[0], restB[0]); c != 0 {
				return c
			}
			restA, restB = restA[1:], restB[1:]
			continue
		}
		restA, restB = restA[len(numberA):], restB[len(numberB):]
		numberA, numberB = strings.TrimLeft(numberA, "0"), strings.TrimLeft(numberB, "0")
		if c := cmp.Or(cmp.Compare(len(numberA), len(numberB)),
			strings.Compare(numberA, numberB)); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(restA), len(restB)), strings.Compare(a, b))
}

// digits returns the digits that a text begins with.
func digits(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))] }

// Groups returns the names of the groups that live, with a supervisor or without.
func (s *Survey) Groups() (names []string) {
	for _, r := range s.Instances {
		if r.Incarnation != 0 {
			names = append(names, GroupOf(r.Name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ServedBeside returns the channels that the process which serves a channel also serves.
func (s *Survey) ServedBeside(channel string, pid int) (names []string) {
	for _, c := range s.Channels {
		if c.Live && c.PID == pid && c.Name != channel {
			names = append(names, c.Name)
		}
	}
	return names
}

// Names returns all names that can be called.
func (s *Survey) Names() (names []string) {
	for _, r := range s.Instances {
		names = append(names, r.Name)
		if r.Service != "" {
			names = append(names, r.Service)
		}
	}
	for _, c := range s.Channels {
		if c.Live {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *Survey) missing(name string) error {
	err := fmt.Errorf("nothing called %s lives in domain %s", name, s.Domain)
	for _, c := range s.Channels {
		if c.Name == name {
			err = fmt.Errorf("the server of channel %s is dead", name)
		}
	}
	names := s.Names()
	switch near := diag.Nearest(name, names); {
	case near != "":
		return fmt.Errorf("%w; did you mean %s?", err, near)
	case len(names) == 0:
		return fmt.Errorf("%w, and nothing else does", err)
	case len(names) > 10:
		return fmt.Errorf("%w; ipcctl ls shows what does", err)
	}
	return fmt.Errorf("%w; these do: %s", err, strings.Join(names, ", "))
}
