package web

import (
	"fmt"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// An Event is a change in the domain.
type Event struct {
	Number uint64    `json:"number"` // from 1
	At     time.Time `json:"at"`
	Kind   EventKind `json:"kind"`
	Name   string    `json:"name"` // of the instance or the channel
	Text   string    `json:"text"`
}

// An EventKind is what has changed.
type EventKind string

// The kinds of events.
const (
	Came     EventKind = "came"     // a server is there
	Gone     EventKind = "gone"     // a server has ended
	Lost     EventKind = "lost"     // the primary of a group has ended
	Promoted EventKind = "promoted" // a server has become the primary
	Changed  EventKind = "changed"  // a server has another role or epoch
)

// mostEvents is how many events are kept.
const mostEvents = 200

// settled is the time after which a channel is taken for a plain one: a server registers its
// instance after it has taken the channel.
const settled = time.Second

// A chronicle keeps what has changed from one survey to the next.
type chronicle struct {
	before *residents      // nil before the first survey
	owned  map[string]bool // channels that belonged to instances
	events []Event         // the newest last
	count  uint64
}

// note compares a survey to the one before, and reports whether something has changed.
func (c *chronicle) note(s *survey.Survey, at time.Time) bool {
	if c.owned == nil {
		c.owned = make(map[string]bool)
	}
	for _, r := range s.Instances {
		c.owned[r.Control] = true
	}
	now := &residents{all: make(map[string]registry.Record)}
	for _, r := range s.Instances {
		now.add(r)
	}
	for _, p := range s.Plain() {
		if !c.owned[p.Name] && at.Sub(p.Since) > settled {
			now.add(registry.Record{Name: p.Name, PID: p.PID})
		}
	}
	before := c.before
	c.before = now
	if before == nil {
		return false
	}
	events := changes(before, now)
	for _, e := range events {
		c.count++
		e.Number, e.At = c.count, at
		c.events = append(c.events, e)
	}
	c.events = c.events[max(0, len(c.events)-mostEvents):]
	return len(events) > 0
}

// since returns the events after the one of a number.
func (c *chronicle) since(number uint64) []Event {
	fresh := min(c.count-min(number, c.count), uint64(len(c.events)))
	return slices.Clone(c.events[len(c.events)-int(fresh):])
}

// residents are the instances and plain channels of a survey, by name.
type residents struct {
	names []string
	all   map[string]registry.Record
}

func (rs *residents) add(r registry.Record) {
	if _, taken := rs.all[r.Name]; !taken {
		rs.names = append(rs.names, r.Name)
		rs.all[r.Name] = r
	}
}

// changes returns what is different. What has ended comes first and what has come last, as in a
// failover.
func changes(before, now *residents) (events []Event) {
	for _, name := range before.names {
		old, next := before.all[name], now.all[name]
		switch {
		case sameProcess(old, next):
		case old.Role == registry.RolePrimary:
			events = append(events, Event{Kind: Lost, Name: name,
				Text: fmt.Sprintf("pid %d, the primary, has ended", old.PID)})
		default:
			events = append(events, Event{Kind: Gone, Name: name,
				Text: fmt.Sprintf("pid %d has ended", old.PID)})
		}
	}
	var came []Event
	for _, name := range now.names {
		old, next := before.all[name], now.all[name]
		fresh := !sameProcess(old, next)
		if fresh {
			text := fmt.Sprintf("pid %d is there", next.PID)
			if next.Role == registry.RoleStandby {
				text += ", a standby"
			}
			came = append(came, Event{Kind: Came, Name: name, Text: text})
		}
		switch {
		case next.Role == registry.RolePrimary &&
			(fresh || old.Role != next.Role || old.Epoch != next.Epoch):
			e := Event{Kind: Promoted, Name: name,
				Text: fmt.Sprintf("pid %d is the primary, in epoch %d", next.PID, next.Epoch)}
			if fresh {
				came = append(came, e)
			} else {
				events = append(events, e)
			}
		case !fresh && old.Role != next.Role: // a standby follows the epoch of its primary
			events = append(events, Event{Kind: Changed, Name: name,
				Text: fmt.Sprintf("%s instead of %s", next.Role, old.Role)})
		}
	}
	return append(events, came...)
}

// sameProcess reports whether two records are of one life of an instance, or of one server.
func sameProcess(a, b registry.Record) bool {
	return a.PID == b.PID && a.Incarnation == b.Incarnation && a.StartTime.Equal(b.StartTime)
}
