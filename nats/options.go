package natsipc

import (
	"time"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// DefaultBeat is how often a server says of a call that takes long that it still has it, unless
// [WithBeat] says otherwise.
const DefaultBeat = 2 * time.Second

// patience is how many beats may be missing before a call is given up. It is a number, and no
// sys.Patience: a client counts only the beats during which its process ran, see Conn.watch.
const patience = 5

// settings are what the options of this package set.
type settings struct {
	prefix  string
	beat    time.Duration
	version string
	about   string
	service string // the name of the micro service; "": that of the channel
	calls   int
	inboxes []string
	topics  *nats.Conn // nil: that of calls
}

func defaults() settings {
	return settings{prefix: DefaultPrefix, beat: DefaultBeat, version: "0.0.0",
		calls: DefaultMaxCalls, inboxes: []string{defaultInboxes}}
}

// An option is one of this package. It is an option of package ipc, too, which changes nothing
// there, so that all options of a server or a client are in one list.
type option struct {
	ipc.Option
	apply func(*settings)
}

func newOption(apply func(*settings)) ipc.Option {
	return option{ipc.WithSpin(0), apply}
}

// take applies the options of this package among others.
func take[O any](opts []O) settings {
	s := defaults()
	for _, o := range opts {
		if own, ok := any(o).(option); ok {
			own.apply(&s)
		}
	}
	return s
}

// check returns an error for settings with which nothing could be reached. [placeOf] checks the
// prefix.
func (s *settings) check() error {
	if len(s.inboxes) == 0 {
		return invalid("there are no prefixes of inboxes, so nobody could be answered; see " +
			"natsipc.WithInboxes")
	}
	for _, p := range s.inboxes {
		if err := checkTokens("inbox", p); err != nil {
			return err
		}
	}
	return s.versioned()
}

// WithPrefix sets the first tokens of all subjects, separated by dots, for clients and servers. The
// default is [DefaultPrefix].
func WithPrefix(prefix string) ipc.Option {
	return newOption(func(s *settings) { s.prefix = prefix })
}

// WithBeat sets how often a server says of a call that takes long that it still has it, and how
// long a client waits for that: five times as long. Both sides must have the same setting. The
// default is [DefaultBeat].
func WithBeat(every time.Duration) ipc.Option {
	return newOption(func(s *settings) {
		if every > 0 {
			s.beat = every
		}
	})
}

// WithVersion sets the version of a server that "nats service info" shows, by the rules of semantic
// versions, and a line that describes the server.
func WithVersion(version, about string) ipc.Option {
	return newOption(func(s *settings) { s.version, s.about = version, about })
}

// DefaultMaxCalls is the default of [WithMaxCalls].
const DefaultMaxCalls = 1 << 14

// WithMaxCalls limits how many calls and one-way messages a server has at a time, of all clients.
// Further ones are refused with CodeResourceExhausted, not executed.
func WithMaxCalls(n int) ipc.Option {
	return newOption(func(s *settings) { s.calls = max(n, 1) })
}

// WithTopicConn makes a server, or a side of a [Gateway], take topics over a connection of their
// own, so that over a slow link calls and their answers do not wait behind messages of topics. nc
// must have been made as that of [Serve], with the same user and inbox, and remains the caller's.
// Several servers and gateways may share it. A subscription has the connection that [Topics] is
// given.
func WithTopicConn(nc *nats.Conn) ipc.Option {
	return newOption(func(s *settings) { s.topics = nc })
}

// topicsOver returns the connection for topics beside that of calls.
func (s *settings) topicsOver(calls *nats.Conn) *nats.Conn {
	if s.topics != nil {
		return s.topics
	}
	return calls
}
