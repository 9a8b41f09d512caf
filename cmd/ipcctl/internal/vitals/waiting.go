package vitals

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// A Process is a client's process, over all of its connections to a server.
type Process struct {
	PID         int     `json:"pid"` // 0 if the server does not see it
	Connections int     `json:"connections"`
	InFlight    int     `json:"in_flight"`
	Received    float64 `json:"received_per_second"` // messages of the process
	Sent        float64 `json:"sent_per_second"`     // messages to it
	// FullRings counts how often in a second the server has waited for the process to make room.
	FullRings float64 `json:"full_rings_per_second"`
	// Waiting says what waits at the moment, of the process and the server; it may be empty.
	Waiting string `json:"waiting,omitempty"`

	waits introspect.Waiting
}

// processesOf returns the processes of clients that counters tell of, without the tool's own
// connection.
func processesOf(n *introspect.CountersT) (all []Process) {
	for _, c := range n.Processes[:min(len(n.Processes), mostShown)] {
		p := Process{PID: int(c.Pid), Connections: int(c.Connections),
			InFlight: int(c.CallsInFlight), waits: c.Waiting}
		if c.Asks {
			p.Connections--
		}
		if p.Connections > 0 {
			p.Waiting = WaitingOf(c)
			all = append(all, p)
		}
	}
	return all
}

// compareProcesses fills in what is known of processes from the counters of two looks.
func (s *watched) compareProcesses(v *Server, rate func(now, before uint64) float64) {
	counters := func(n *introspect.CountersT) map[int]*introspect.ClientProcessT {
		all := make(map[int]*introspect.ClientProcessT, len(n.Processes))
		for _, c := range n.Processes {
			all[int(c.Pid)] = c
		}
		return all
	}
	now, before := counters(s.now), counters(s.last)
	for i := range v.Processes {
		p := &v.Processes[i]
		if is, was := now[p.PID], before[p.PID]; was != nil {
			p.Received, p.Sent = rate(is.Received, was.Received), rate(is.Sent, was.Sent)
			p.FullRings = rate(is.WaitsForRoom, was.WaitsForRoom)
		}
	}
}

// WaitingOf says what waits at the moment, of a client's process and the server. It is empty if
// neither does, or the process only waits for replies.
func WaitingOf(c *introspect.ClientProcessT) string {
	client := pids([]int{int(c.Pid)})
	switch {
	case c.Waiting&introspect.WaitingReplies != 0:
		return "the server reads nothing from " + client + " until that reads its replies"
	case c.Waiting&introspect.WaitingRoom != 0:
		return "the server waits for " + client + " to read: ring full"
	case c.Waiting&introspect.WaitingMessages != 0:
		return client + " waits for the server: handler of messages slow, queue full"
	}
	return ""
}

// slow is the duration from which a handler is named as what its clients wait for.
const slow = 100 * time.Millisecond

// waiting says who waits for whom, and why.
func waiting(v *Server) string {
	var unread, calling []int
	for i := range v.Processes {
		p := &v.Processes[i]
		switch {
		case p.FullRings > 0, p.waits&introspect.WaitingRoom != 0:
			unread = append(unread, p.PID)
		case p.Waiting != "":
			return p.Waiting
		}
		if p.InFlight > 0 {
			calling = append(calling, p.PID)
		}
	}
	if v.FullRings > 0 || len(unread) > 0 {
		return "the server waits for " + pids(unread) + " to read: ring full"
	}
	for _, m := range v.Methods {
		if m.streams || m.P50 < slow && !m.stuck {
			continue
		}
		wait := " wait for "
		if len(calling) == 1 {
			wait = " waits for "
		}
		text := pids(calling) + wait + short(m.Name) + ": handler slow"
		if m.stuck {
			text += ", no call has ended"
		}
		return text
	}
	return ""
}

// mostNamed is how many processes are named before the rest is counted.
const mostNamed = 4

// pids names processes: "pid 7", "pids 7, 9", or "clients" if none is known.
func pids(of []int) string {
	if len(of) == 0 {
		return "clients"
	}
	var names []string
	for _, pid := range of[:min(len(of), mostNamed)] {
		if pid == 0 {
			names = append(names, "of another namespace")
		} else {
			names = append(names, strconv.Itoa(pid))
		}
	}
	text := "pid "
	if len(of) > 1 {
		text = "pids "
	}
	text += strings.Join(names, ", ")
	if rest := len(of) - mostNamed; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}
