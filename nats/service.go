package natsipc

import (
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file makes a server a micro service of NATS (ADR-32), so that "nats service" lists it.

// Keys of the metadata of a server's service, beside one for each protocol: its name, with the
// fingerprint.
const (
	// MetaChannel has the name of the channel.
	MetaChannel = "ipcgen-channel"
	// MetaSchema, with the name of a protocol behind it, has the canonical description of the
	// protocol.
	MetaSchema = "ipcgen-schema:"
)

// longestShown is how long a description may be that "nats service info" shows.
const longestShown = 64 << 10

// serviceName returns the name of the micro service of a channel.
func serviceName(channel string) string {
	name := []byte(channel)
	for i, c := range name {
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '-' {
			name[i] = '_'
		}
	}
	return string(name)
}

// semantic is the form of the versions that NATS takes (semver.org).
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][\da-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][\da-zA-Z-]*))*)?` +
	`(\+[\da-zA-Z-]+(\.[\da-zA-Z-]+)*)?$`)

// versioned returns an error if the version of a server is none.
func (s *settings) versioned() error {
	if !semantic.MatchString(s.version) {
		return invalid("the version %q; give one like 1.2.3, by the rules of semver.org", s.version)
	}
	return nil
}

// register makes the server a micro service, whose endpoint takes the calls.
func (s *Server) register() error {
	about := s.set.about
	if about == "" {
		about = "ipcgen channel " + s.channel
	}
	metadata := map[string]string{MetaChannel: s.channel}
	endpoint := map[string]string{}
	for name, p := range s.protocols {
		metadata[name] = strconv.FormatUint(p.Fingerprint, 16)
		if len(p.Schema) <= longestShown {
			endpoint[MetaSchema+name] = p.Schema
		}
	}
	name := s.set.service
	if name == "" {
		name = s.channel
	}
	svc, err := micro.AddService(s.nc, micro.Config{Name: serviceName(name),
		Version: s.set.version, Description: about, Metadata: metadata, QueueGroup: queue,
		StatsHandler: func(*micro.Endpoint) any { return s.counts.stats() }})
	if err != nil {
		return registerFailed(err)
	}
	s.service = svc
	err = svc.AddEndpoint("call", micro.HandlerFunc(func(r micro.Request) {
		s.take(r.Reply(), nats.Header(r.Headers()), r.Data())
	}),
		micro.WithEndpointSubject(s.place.calls()), micro.WithEndpointMetadata(endpoint),
		micro.WithEndpointPendingLimits(-1, -1))
	if err != nil {
		return registerFailed(err)
	}
	return nil
}

func registerFailed(err error) error {
	return &ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotSent, Err: err,
		Msg: "the micro service"}
}

// counts are what "nats service stats" shows beside the requests.
type counts struct {
	mu      sync.Mutex
	calls   uint64
	failed  map[string]uint64
	refused uint64
	time    time.Duration
}

func (c *counts) count(code ipc.Code, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.time += took
	if code != ipc.CodeOK {
		if c.failed == nil {
			c.failed = map[string]uint64{}
		}
		c.failed[code.String()]++
	}
}

func (c *counts) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
}

// Stats are what a server says in the data of its endpoint's statistics. The time that NATS shows
// itself is that of the dispatch alone, for handlers run beside it.
type Stats struct {
	Calls   uint64            `json:"calls"` // that were executed, with one-way messages
	Failed  map[string]uint64 `json:"failed,omitempty"`
	Refused uint64            `json:"refused"` // that were not executed
	Time    time.Duration     `json:"time"`    // of handlers, in nanoseconds
}

func (c *counts) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Calls: c.calls, Refused: c.refused, Time: c.time}
	for code, n := range c.failed {
		if s.Failed == nil {
			s.Failed = map[string]uint64{}
		}
		s.Failed[code] = n
	}
	return s
}
