package group

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
)

// An EventKind is the kind of an event of a group.
type EventKind uint8

// The kinds of events.
const (
	Started   EventKind = iota // the process of a replica was started
	Ready                      // a replica is registered and answers
	Suspected                  // a replica failed a check, and is killed
	Died                       // the process of a replica ended
	Promoted                   // a replica became the primary
	Vacant                     // there is no primary, and no replica that can be promoted yet
	Delayed                    // a restart waits: back-off, or the limit of restarts
	Degraded                   // the limit of restarts was reached
	Recovered                  // a degraded group has a healthy replica again
	Stopping                   // the group shuts down
	Stopped                    // the group has ended
	Adopted                    // the supervisor took over a replica of an earlier supervisor
	Evicted                    // such a replica had no place in the group, and was killed
	InSync                     // a replica has the whole state
	// a replica lacks part of the state, and cannot become the primary; Err is an *OutOfSyncError
	OutOfSync
	StateLost // changes that were answered are lost
	FileLost  // the group's file is gone or damaged, and is created again
	// a request that ended the processes that executed it is refused for a while
	Quarantined
)

var eventNames = [...]string{"started", "ready", "suspected", "died", "promoted",
	"vacant", "delayed",
	"degraded", "recovered", "stopping", "stopped", "adopted", "evicted",
	"in sync", "out of sync", "state lost", "file lost", "quarantined"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// An Event is a change in a group. Config.Events receives it.
type Event struct {
	Time    time.Time
	Kind    EventKind
	Replica string // name of the replica; empty if the event concerns the group
	PID     int
	Epoch   uint64
	Cause   string        // for people
	Err     error         // for Died and Suspected often a *ReplicaError; see OutOfSync
	Delay   time.Duration // of a restart, or of a quarantine
}

// String returns the event in one line, without its time: "svc.0 promoted (pid 321, epoch 2)".
func (e Event) String() string {
	var b strings.Builder
	if e.Replica != "" {
		b.WriteString(e.Replica + " ")
	}
	b.WriteString(e.Kind.String())
	if e.PID != 0 {
		fmt.Fprintf(&b, " (pid %d, epoch %d)", e.PID, e.Epoch)
	} else {
		fmt.Fprintf(&b, " (epoch %d)", e.Epoch)
	}
	if e.Delay != 0 {
		fmt.Fprintf(&b, " for %v", e.Delay)
	}
	loss, ok := e.Err.(*OutOfSyncError)
	switch {
	case ok && loss.Replica == e.Replica && loss.PID == e.PID:
		b.WriteString(": " + loss.why())
	case e.Err != nil:
		fmt.Fprintf(&b, ": %v", e.Err)
	case e.Cause != "":
		b.WriteString(": " + e.Cause)
	}
	return b.String()
}

// eventPatience is the time for which the end of a group waits for the delivery of an event.
const eventPatience = 5 * time.Second

// An eventQueue delivers events to the hook and the logger without delaying the goroutine that
// reports them.
type eventQueue struct {
	service string
	logger  *slog.Logger
	hook    func(Event)

	mu        sync.Mutex
	queue     []func()
	wake      *sync.Cond
	closed    bool
	delivered atomic.Uint64 // counts the deliveries
	idle      chan struct{} // closed after the last delivery
}

func newEventQueue(service string, log *slog.Logger, hook func(Event)) *eventQueue {
	q := &eventQueue{service: service, logger: log, hook: hook, idle: make(chan struct{})}
	q.wake = sync.NewCond(&q.mu)
	go func() {
		defer close(q.idle)
		for {
			deliver, ok := q.next()
			if !ok {
				return
			}
			deliver()
			q.delivered.Add(1)
		}
	}()
	return q
}

func (q *eventQueue) add(ev Event) {
	q.enqueue(func() {
		logEvent(q.logger, q.service, ev)
		if q.hook != nil {
			_ = contain(q.logger, "Config.Events", func() error {
				q.hook(ev)
				return nil
			})
		}
	})
}

// log passes a record to the logger that is not an event.
func (q *eventQueue) log(level slog.Level, msg string, args ...any) {
	q.enqueue(func() {
		q.logger.With("group", q.service).Log(context.Background(), level, msg, args...)
	})
}

func (q *eventQueue) enqueue(deliver func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, deliver)
	q.wake.Signal()
}

func (q *eventQueue) next() (deliver func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 {
		if q.closed {
			return nil, false
		}
		q.wake.Wait()
	}
	deliver = q.queue[0]
	q.queue = q.queue[1:]
	return deliver, true
}

// close blocks until every event was delivered, or one delivery has taken longer than
// eventPatience: a hook or a logger that blocks forever must not keep the group from ending.
func (q *eventQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.wake.Signal()
	q.mu.Unlock()
	for {
		before := q.delivered.Load()
		if sys.Within(eventPatience, q.idle) || q.delivered.Load() == before {
			return
		}
	}
}

func logEvent(log *slog.Logger, service string, ev Event) {
	level := slog.LevelInfo
	switch ev.Kind {
	case Died, Suspected, Vacant, Degraded, OutOfSync, StateLost, FileLost, Quarantined:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("group", service), slog.Uint64("epoch", ev.Epoch)}
	if ev.Replica != "" {
		attrs = append(attrs, slog.String("replica", ev.Replica), slog.Int("pid", ev.PID))
	}
	if ev.Cause != "" {
		attrs = append(attrs, slog.String("cause", ev.Cause))
	}
	if ev.Err != nil {
		attrs = append(attrs, slog.Any("err", ev.Err))
	}
	if ev.Delay != 0 {
		attrs = append(attrs, slog.Duration("delay", ev.Delay))
	}
	log.LogAttrs(context.Background(), level, ev.Kind.String(), attrs...)
}
