// Package ask asks JetStream questions that have no answer at times: servers leave some without one
// while they elect a leader or make a stream, and those that the user may not ask.
package ask

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Attempt is how long to wait for one answer.
const Attempt = 2 * time.Second

// Pause is the time between two attempts of anything.
const Pause = 20 * time.Millisecond

// Settle is the time for which servers may be wrong that say the same again and again: one that has
// just become a leader, or has not heard yet of a stream that was made. See [Settled].
const Settle = 5 * time.Second

// Settled reports whether servers have said the same so often in a row, with pauses, that it is
// true. The answers count, and not the time, of which both sides may have stood still for the most.
func Settled(times int, settle time.Duration) bool { return times > int(settle/Pause) }

// A Mark is a moment of a connection. What NATS forbade before does not count: the last error of a
// connection stays there, also when its user has got the permission meanwhile.
type Mark struct {
	nc   *nats.Conn
	last error
}

// Now returns the mark of this moment.
func Now(nc *nats.Conn) Mark { return Mark{nc, nc.LastError()} }

// Until returns the answer to a question of JetStream. It asks again while there is none, until ctx
// ends, or NATS says that the user may not ask. The question must be one that does no harm when it
// is asked twice.
func Until[T any](ctx context.Context, nc *nats.Conn, question func(context.Context) (T, error)) (T,
	error) {
	since, missing := Now(nc), 0
	for {
		attempt, cancel := context.WithTimeout(ctx, Attempt)
		answer, err := question(attempt)
		cancel()
		absent := errors.Is(err, jetstream.ErrStreamNotFound) ||
			errors.Is(err, jetstream.ErrBucketNotFound)
		if missing++; !absent {
			missing = 0
		}
		again := absent && !Settled(missing, Settle) || undecided(err)
		if !again || ctx.Err() != nil || since.Denied("$JS.API.") != nil {
			return answer, err
		}
		select {
		case <-time.After(Pause):
		case <-ctx.Done():
			return answer, err
		}
	}
}

// undecided reports whether there was no answer, or one that will be another in a moment: the
// servers have no leader (JSClusterNotAvailErr), or make the stream just now, which was not there
// before.
func undecided(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) ||
		errors.As(err, &api) && api.ErrorCode == 10008
}

// Denied returns why the user of the connection may not use one of the subjects that begin with
// these, if NATS has said so since the mark, or nil. NATS tells of that beside the request, which
// it does not answer, and ahead of the answer to a ping behind the request. A connection keeps the
// last refusal only, so of two that come together one may be missed.
func (m Mark) Denied(subjects ...string) error {
	err := m.nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) || err == m.last {
		return nil
	}
	for _, subject := range subjects {
		if strings.Contains(err.Error(), `"`+subject) {
			return err
		}
	}
	return nil
}
