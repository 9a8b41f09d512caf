// Package vitals follows what the servers of a domain do: rates, durations, and who waits for whom.
package vitals

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A Server is what a server did between two looks.
type Server struct {
	Name    string `json:"name"` // of the instance, or else the channel
	Channel string `json:"channel"`
	Role    string `json:"role,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	PID     int    `json:"pid,omitempty"`

	Clients  int     `json:"clients"` // without the tool
	InFlight int     `json:"in_flight"`
	Calls    float64 `json:"calls_per_second"` // calls and one-way messages that have ended
	Errors   float64 `json:"errors_per_second"`
	// FullRings counts how often in a second the server has waited for a client to make room.
	FullRings float64       `json:"full_rings_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	// Waiting says who waits for whom, and why; it is empty if no one does.
	Waiting string `json:"waiting,omitempty"`
	// History has the calls in a second of the last looks, the newest at the end.
	History []float64 `json:"history"`
	Methods []Method  `json:"methods,omitempty"` // the busiest first
	Topics  []Topic   `json:"topics,omitempty"`
	// Processes are those of the clients without the tool, the ones that wait first. A server whose
	// runtime is of an earlier version does not tell them.
	Processes []Process `json:"processes,omitempty"`
}

// A Topic is a topic that a server publishes.
type Topic struct {
	Name        string  `json:"name"`
	Subscribers int     `json:"subscribers"`
	Published   uint64  `json:"published"`
	Messages    float64 `json:"messages_per_second"`
}

// A Method is what a method or one-way message did between two looks.
type Method struct {
	Name     string        `json:"name"`
	InFlight int           `json:"in_flight"`
	Calls    float64       `json:"calls_per_second"`
	Errors   float64       `json:"errors_per_second"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`

	streams bool // its calls may go on for as long as they like
	stuck   bool // calls were in flight at both looks, and none has ended
}

// A View is the state of a domain at one moment.
type View struct {
	At      time.Time `json:"at"`
	Domain  string    `json:"domain"`
	Servers []Server  `json:"servers"`
	Trouble string    `json:"trouble,omitempty"` // why the domain cannot be looked at
}

// patience is how long a server may take to answer.
const patience = time.Second

// rings is the capacity of the rings to each server. The connections stay, and there may be
// thousands, while what each carries in a second is short.
const rings = 4 << 10

// mostHistory is the length of a history.
const mostHistory = 60

// mostShown is how many methods, topics and processes are shown of a server, which may tell of any
// number.
const mostShown = 1000

// A Watcher looks at a domain again and again. It is for one goroutine.
type Watcher struct {
	domain  string
	servers map[string]*watched // by channel
}

// A watched server has a connection and its last counters.
type watched struct {
	conn    *ipc.Conn
	last    *introspect.CountersT
	history []float64
	trouble string // why it did not answer
	now     *introspect.CountersT

	hasTopics bool // or it is not known
	topics    []Topic
}

// New returns a Watcher of a domain. The caller must close it.
func New(domain string) *Watcher {
	return &Watcher{domain: domain, servers: make(map[string]*watched)}
}

// Close ends the connections.
func (w *Watcher) Close() {
	for _, s := range w.servers {
		s.hangUp()
	}
}

func (s *watched) hangUp() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// Look asks all servers, and returns what they did since the last look. A server that is asked for
// the first time has no rates yet.
func (w *Watcher) Look(ctx context.Context) View {
	s, err := survey.Of(w.domain)
	return w.LookAt(ctx, s, err)
}

// LookAt is Look for those who have just looked into the domain: s and err are what [survey.Of] has
// returned.
func (w *Watcher) LookAt(ctx context.Context, s *survey.Survey, err error) View {
	v := View{At: time.Now()}
	if err != nil {
		v.Trouble = err.Error()
		return v
	}
	v.Domain = s.Domain
	if s.RegistryErr != nil {
		v.Trouble = s.RegistryErr.Error()
	}
	w.ask(ctx, s)
	owners := s.Owners()
	for _, c := range s.Channels {
		if c.Live {
			v.Servers = append(v.Servers, w.servers[c.Name].server(owners, c))
		}
	}
	slices.SortFunc(v.Servers, func(a, b Server) int { return survey.CompareNames(a.Name, b.Name) })
	return v
}

// ask reads the counters of all live servers, and forgets the others.
func (w *Watcher) ask(ctx context.Context, s *survey.Survey) {
	live := make(map[string]bool)
	for _, c := range s.Channels {
		if !c.Live {
			continue
		}
		live[c.Name] = true
		if w.servers[c.Name] == nil {
			w.servers[c.Name] = new(watched)
		}
	}
	s.EachLive(func(c survey.Channel) { w.servers[c.Name].ask(ctx, s.Domain, c.Name) })
	for name, one := range w.servers {
		if !live[name] {
			one.hangUp()
			delete(w.servers, name)
		}
	}
}

func (s *watched) ask(ctx context.Context, domain, channel string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.last, s.now, s.trouble = s.now, nil, ""
	known := s.conn != nil
	err := s.read(ctx, domain, channel)
	if known && ipc.CodeOf(err) == ipc.CodeUnavailable { // another process has the channel
		s.hangUp()
		err = s.read(ctx, domain, channel)
	}
	if err == nil {
		return
	}
	s.hangUp()
	switch ipc.CodeOf(err) {
	case ipc.CodeDeadlineExceeded:
		s.trouble = "clients wait for the server: it does not answer (asleep, stopped or hung)"
	case ipc.CodeUnimplemented, ipc.CodePermissionDenied:
		s.trouble = "the server does not tell what it does"
	default:
		s.trouble = err.Error()
	}
}

// read connects, if there is no connection, and reads what a server counts, and its topics if it
// has some.
func (s *watched) read(ctx context.Context, domain, channel string) (err error) {
	if s.conn == nil {
		s.last, s.hasTopics, s.topics = nil, true, nil // as far as is known
		if s.conn, err = ipc.Dial(ctx, channel, ipc.WithDomain(domain),
			ipc.WithRings(rings, rings)); err != nil {
			return err
		}
	}
	if s.now, err = ipc.ReadCounters(ctx, s.conn); err != nil || !s.hasTopics {
		return err
	}
	d, err := ipc.Describe(ctx, s.conn)
	if err != nil {
		return err
	}
	before := make(map[string]uint64)
	for _, t := range s.topics {
		before[t.Name] = t.Published
	}
	s.topics, s.hasTopics = nil, false
	for _, p := range d.Protocols {
		t := p.Topic
		if t == nil || len(s.topics) == mostShown {
			continue
		}
		one := Topic{Name: p.Name, Subscribers: int(t.Subscribers), Published: t.Published}
		was, known := before[p.Name]
		if known && s.last != nil && s.now.At > s.last.At && t.Published > was {
			one.Messages = float64(t.Published-was) /
				time.Duration(s.now.At-s.last.At).Seconds()
		}
		s.topics, s.hasTopics = append(s.topics, one), true
	}
	return nil
}

// server returns what a server did since it was asked last.
func (s *watched) server(owners map[string]registry.Record, c survey.Channel) Server {
	v := Server{Name: c.Name, Channel: c.Name, PID: c.PID, Waiting: s.trouble}
	if r, owned := owners[c.Name]; owned {
		v.Name, v.Role, v.Epoch, v.PID = r.Name, r.Role.String(), r.Epoch, r.PID
	}
	if s.now != nil {
		v.Topics, v.Processes = s.topics, processesOf(s.now)
		v.Clients = max(0, int(s.now.Clients)-1)
		v.InFlight = int(s.now.CallsInFlight)
	}
	if s.now != nil && s.last != nil && s.now.At > s.last.At {
		s.compare(&v)
	}
	s.history = append(s.history, v.Calls)
	s.history = s.history[max(0, len(s.history)-mostHistory):]
	v.History = slices.Clone(s.history)
	return v
}

// compare fills in what is known from the counters of two looks.
func (s *watched) compare(v *Server) {
	seconds := time.Duration(s.now.At - s.last.At).Seconds()
	rate := func(now, before uint64) float64 {
		if now < before {
			return 0
		}
		return float64(now-before) / seconds
	}
	before := make(map[string]*introspect.MethodCountersT)
	for _, m := range s.last.Methods {
		before[m.Protocol+"."+m.Name] = m
	}
	var all []uint64
	for _, m := range s.now.Methods {
		name := m.Protocol + "." + m.Name
		was := before[name]
		if was == nil {
			was = &introspect.MethodCountersT{}
		}
		times := difference(m.Histogram, was.Histogram)
		one := Method{Name: name, InFlight: int(m.InFlight), Calls: rate(m.Done, was.Done),
			Errors: rate(failures(m), failures(was)), P50: Quantile(times, 0.5),
			P99: Quantile(times, 0.99), streams: m.Streaming}
		one.stuck = m.InFlight > 0 && was.InFlight > 0 && m.Done <= was.Done
		v.Calls += one.Calls
		v.Errors += one.Errors
		all = sum(all, times)
		if one.Calls > 0 || one.InFlight > 0 {
			v.Methods = append(v.Methods, one)
		}
	}
	slices.SortStableFunc(v.Methods, func(a, b Method) int {
		switch {
		case a.Calls > b.Calls:
			return -1
		case a.Calls < b.Calls:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	v.Methods = v.Methods[:min(len(v.Methods), mostShown)]
	v.P50, v.P99 = Quantile(all, 0.5), Quantile(all, 0.99)
	v.FullRings = rate(s.now.WaitsForRoom, s.last.WaitsForRoom)
	s.compareProcesses(v, rate)
	v.Waiting = waiting(v)
}

// short returns the last part of a name.
func short(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

func failures(m *introspect.MethodCountersT) (n uint64) {
	for _, e := range m.Errors {
		n += e.Count
	}
	return n
}

// difference returns what a histogram counts more than an earlier one.
func difference(now, before []uint64) []uint64 {
	d := slices.Clone(now)
	for i := range min(len(d), len(before)) {
		d[i] -= min(d[i], before[i])
	}
	return d
}

func sum(a, b []uint64) []uint64 {
	if len(a) < len(b) {
		a, b = slices.Clone(b), a
	}
	for i, n := range b {
		a[i] += n
	}
	return a
}

// Quantile returns a duration that a share of those in a histogram of introspection do not exceed,
// with an error of a fifth at most.
func Quantile(histogram []uint64, share float64) time.Duration {
	var all uint64
	for _, n := range histogram {
		all += n
	}
	if all == 0 {
		return 0
	}
	rest := uint64(math.Ceil(float64(all) * share))
	for i, n := range histogram {
		if n >= rest {
			return endOf(i).Round(time.Microsecond / 10)
		}
		rest -= n
	}
	return 0
}

// endOf returns the greatest duration that a place of a histogram counts.
func endOf(i int) time.Duration {
	if i < 4 {
		return time.Duration(i)
	}
	power := uint(i/4 - 1)
	if power > 60 {
		return math.MaxInt64
	}
	return time.Duration(min(uint64(i%4+5)<<power-1, math.MaxInt64))
}
