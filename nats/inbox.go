package natsipc

import (
	"strings"

	"github.com/nats-io/nats.go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file bounds where servers publish answers. A client names the subject of its answers, and
// NATS does not ask whether it may publish there: the server does, with the server's permissions.
// Without a bound, a client that may only call could have a server write to a log, or delete a
// stream.

// defaultInboxes is what inboxes begin with by default, in nats.go as here.
const defaultInboxes = "_INBOX"

// WithInboxes sets what the inboxes of clients begin with: "_INBOX" by default. A server answers no
// request whose answer is to go elsewhere, because it publishes answers with its own permissions.
// Clients with another [nats.CustomInboxPrefix] need this option on both sides, and servers whose
// calls come from other accounts of NATS need "_R_" among the prefixes.
func WithInboxes(prefixes ...string) ipc.Option {
	return newOption(func(s *settings) { s.inboxes = prefixes })
}

// answers reports whether a server may publish answers to a subject.
func (s *settings) answers(subject string) bool {
	for _, p := range s.inboxes {
		if rest, ok := strings.CutPrefix(subject, p); ok && len(rest) > 1 && rest[0] == '.' {
			return true
		}
	}
	return false
}

// answered returns an error if the settings are wrong, or servers would not answer to the inboxes
// of a connection.
func (s *settings) answered(nc *nats.Conn) error {
	if err := s.check(); err != nil {
		return err
	}
	if inbox := nc.NewInbox(); !s.answers(inbox) {
		return invalid("the inbox %s is none that servers answer to, which begin with %s; see "+
			"nats.CustomInboxPrefix and natsipc.WithInboxes", inbox, strings.Join(s.inboxes, ", "))
	}
	return nil
}
