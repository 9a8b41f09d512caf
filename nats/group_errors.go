package natsipc

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
	"github.com/ipcgen/ipcgen/nats/internal/changelog"
	"github.com/ipcgen/ipcgen/nats/internal/machine"
)

// Errors of groups, for [errors.Is]. The text of an error that wraps one says what to do.
var (
	// ErrNoJetStream: the servers, or the account, have no JetStream, which groups need.
	ErrNoJetStream = errors.New("JetStream is not enabled")
	// ErrForeign: a stream or bucket has the name of one of the group, and another form, or belongs
	// to a group of the same name with other services.
	ErrForeign = errors.New("not a part of this group")
	// ErrRewritten: the log of changes has lost messages that this member has executed, or has
	// others in their place.
	ErrRewritten = changelog.ErrRewritten
	// ErrVersion: the log of changes has a change of a method that this member does not have,
	// because its version is older than that of the leader.
	ErrVersion = machine.ErrVersion
	// ErrQuota: a limit of JetStream was reached.
	ErrQuota = errors.New("a limit of JetStream is reached")
)

// forbidden returns why the user of the connection may not do what a member must, if NATS has said
// so since a mark, or nil.
func (m *Member) forbidden(since ask.Mark) error {
	err := since.Denied("$JS.API.", "$KV."+m.subjects.bucket+".", m.subjects.log)
	if err == nil {
		return nil
	}
	return fmt.Errorf("the user of the connection may not do what a member must; see "+
		"docs/beyond-one-machine.md for its permissions: %w", err)
}

// explained returns an error of NATS of what began at a mark, with what the user can do about it.
func (m *Member) explained(ctx context.Context, since ask.Mark, err error) error {
	group, refusal := m.cfg.Group, m.forbidden(since)
	var layout *changelog.LayoutError
	var refused *changelog.RefusedError
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders): // nobody serves JetStream's API
		return fmt.Errorf("group %s: %w; start the NATS servers with JetStream (nats-server -js), "+
			"and enable it for the account: %w", group, ErrNoJetStream, err)
	case errors.As(err, &layout):
		return fmt.Errorf("group %s: %w: %w%s", group, ErrForeign, err, m.removal(layout))
	case errors.As(err, &refused) && refused.Full(), full(err):
		return fmt.Errorf("group %s: %w; raise the limit of the account or server, or that of the "+
			"log, which was GroupConfig.MaxLogBytes when it was made (run \"nats stream edit "+
			"--max-bytes=BYTES %s\"): %w", group, ErrQuota, m.subjects.stream, err)
	case refusal != nil:
		return fmt.Errorf("group %s: %w: %w", group, refusal, err)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("group %s: JetStream does not answer; in a cluster, a majority of the "+
			"servers must run and reach each other, and each needs JetStream: %w", group, err)
	}
	return fmt.Errorf("group %s: %w", group, err)
}

// removal says how to remove what has the name of a part of the group, if nothing else helps.
func (m *Member) removal(e *changelog.LayoutError) string {
	if e.Cure != "" {
		return ""
	}
	text := fmt.Sprintf("; give the group another name, or, if nothing needs what is in it, run "+
		"\"nats stream rm %s\"", e.Name)
	if !e.Whole {
		return text
	}
	for _, name := range []string{m.subjects.stream, changelog.SnapshotsOf(m.subjects.stream),
		"KV_" + m.subjects.bucket} {
		if name != e.Name {
			text += fmt.Sprintf(" and \"nats stream rm %s\"", name)
		}
	}
	return text + ", as far as these are there, when its members have ended"
}

// full reports whether the server refuses a stream because of a limit.
func full(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	refused := &changelog.RefusedError{Err: err}
	return refused.Full()
}
