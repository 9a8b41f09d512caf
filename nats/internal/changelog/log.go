// Package changelog keeps the changes of a group's state in a JetStream stream, with the snapshots
// that bound it.
//
// Every message names the one that it follows, twice: the server stores it only behind that one
// ("expected last sequence"), and it has the sum of that one, so that members notice a log that
// was rewritten. So a leader that others have deposed, however late it learns of that, can add
// nothing: the first message of the next reign has taken the place of its next one. No clock has a
// part in that.
//
// Changes that do not fit into a message of the servers are several messages, parts, one behind the
// other. They are in the log once the last part is. Parts behind which another message stands, of
// which the next reign's is one, count for nothing.
package changelog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
)

// A Position is a message of the log, and the sum of all up to it.
type Position struct{ Seq, Sum uint64 }

// Errors of a log.
var (
	// ErrBehind: the log has a message behind the position. The entry is not in the log.
	ErrBehind = errors.New("another member has written to the log")
	// ErrEnd: there is no message behind the position yet.
	ErrEnd = errors.New("the end of the log")
	// ErrTrimmed: the message behind the position has given way to a snapshot.
	ErrTrimmed = errors.New("the log begins later")
	// ErrRewritten: the log does not have what it had, or not all of it.
	ErrRewritten = errors.New("the log has lost messages, or has others in their place")
)

// A RefusedError says that the server has refused a message. The entry is not in the log, although
// parts of it may have been stored before, see [Log.Append].
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return "the log takes no changes: " + e.Err.Error() }

// Unwrap returns the error of the server.
func (e *RefusedError) Unwrap() error { return e.Err }

// Full reports whether a limit of the stream, or of its account, was reached.
func (e *RefusedError) Full() bool {
	var api *jetstream.APIError
	if !errors.As(e.Err, &api) {
		return false
	}
	switch api.ErrorCode {
	case 10077, 10002, 10023, 10028, 10047: // a limit of the stream, account or server
		return true
	}
	return false
}

// A LayoutError says that a stream or bucket of the name has another configuration than a group
// needs.
type LayoutError struct {
	Name  string // of the stream
	Field string
	Have  any
	Want  any
	Cure  string // "" if nothing but another stream helps
	// Whole says that the stream is of another group, so that its other streams are, too.
	Whole bool
}

func (e *LayoutError) Error() string {
	text := fmt.Sprintf("the stream %s is not that of this group: its %s is %v, and must be %v",
		e.Name, e.Field, e.Have, e.Want)
	if e.Cure != "" {
		text += "; " + e.Cure
	}
	return text
}

// A Config describes the streams of a log.
type Config struct {
	Stream   string            // the name; that of the snapshots is [SnapshotsOf] it
	Subject  string            // that of the snapshots begins with it
	Replicas int               // of each
	MaxBytes int64             // of the changes; 0 for no limit
	Metadata map[string]string // which an existing stream must have
	About    string            // shown to people
	// Settle is the time for which the servers may seem to have lost messages, as one does that has
	// just become the leader of the stream; 5 s when 0. It is counted in questions to them.
	Settle time.Duration
	// Patience is how long a message is tried in vain; 20 s when 0. It is more than the servers
	// need to elect one of them as the leader of the stream. It is counted in attempts, too.
	Patience time.Duration
}

// A Log is a log of changes.
type Log struct {
	js        jetstream.JetStream
	cfg       Config
	changes   jetstream.Stream
	snapshots jetstream.Stream
	maxSize   int // of a message that the servers take
}

// What a follower has of the log that it has not executed yet, in bytes and messages.
const (
	ahead     = 64 << 20
	mostAhead = 500
)

// leastPayload is the least max_payload of servers that a log works with.
const leastPayload = 4096

// LeastMaxBytes is the least limit of a log that makes sense. Parts of a change, of half of that,
// stay until the next reign has begun, for whose message there is as much room.
const LeastMaxBytes = 2 * leastPayload

// Open opens a log, and makes its streams if there are none. The error is a [*LayoutError] if a
// stream has the name that is not one of such a log.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Log, error) {
	if cfg.Settle == 0 {
		cfg.Settle = ask.Settle
	}
	if cfg.Patience == 0 {
		cfg.Patience = 20 * time.Second
	}
	most := int(js.Conn().MaxPayload())
	if most < leastPayload {
		return nil, fmt.Errorf("the NATS servers take messages of %d bytes, and a group needs %d; "+
			"raise their max_payload", most, leastPayload)
	}
	l := &Log{js: js, cfg: cfg, maxSize: most - 1024}
	var err error
	if l.changes, err = openStream(ctx, js, cfg.stream(cfg.Stream, cfg.MaxBytes,
		cfg.Subject)); err != nil {
		return nil, err
	}
	l.snapshots, err = openStream(ctx, js, cfg.stream(SnapshotsOf(cfg.Stream), 0,
		cfg.pieces(), cfg.done()))
	if err != nil {
		return nil, err
	}
	return l, nil
}

// SnapshotsOf returns the name of the stream that has the snapshots of a log.
func SnapshotsOf(stream string) string { return stream + "_SNAP" }

func (cfg *Config) pieces() string { return cfg.Subject + ".snapshot.piece" }
func (cfg *Config) done() string   { return cfg.Subject + ".snapshot.done" }

// stream returns the configuration of a stream from which nothing is ever lost by itself.
func (cfg *Config) stream(name string, maxBytes int64, subjects ...string) jetstream.StreamConfig {
	if maxBytes == 0 {
		maxBytes = -1
	}
	return jetstream.StreamConfig{Name: name, Subjects: subjects, Replicas: cfg.Replicas,
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, MaxBytes: maxBytes, MaxMsgs: -1, MaxMsgsPerSubject: -1,
		MaxConsumers: -1, MaxMsgSize: -1, DenyDelete: true, Metadata: cfg.Metadata,
		Description: cfg.About}
}

// openStream opens a stream of a log, or makes it. It returns a [*LayoutError] if the stream exists
// in another form, or with fewer replicas. The limit of bytes is the operator's business.
func openStream(ctx context.Context, js jetstream.JetStream,
	want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := Ensure(ctx, js, want)
	if err != nil {
		return nil, err
	}
	return s, Same(s.CachedInfo().Config, want)
}

// Ensure returns the stream that has the name of want, in whatever form, and makes it as want says
// if there is none. It asks as [ask.Until] does.
func Ensure(ctx context.Context, js jetstream.JetStream,
	want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := ask.Until(ctx, js.Conn(), func(ctx context.Context) (jetstream.Stream, error) {
		s, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s, err = js.CreateStream(ctx, want)
		}
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", want.Name, err)
	}
	return s, nil
}

// Same compares a stream, or that of a bucket, with what a group needs: everything by which servers
// could forget, move or refuse what they have confirmed, or confirm what they do not have yet. The
// error is a [*LayoutError].
func Same(have, want jetstream.StreamConfig) error {
	for _, f := range []struct {
		name       string
		have, want any
	}{
		{"subjects", fmt.Sprint(have.Subjects), fmt.Sprint(want.Subjects)},
		{"retention", have.Retention, want.Retention},
		{"storage", have.Storage, want.Storage},
		{"persist mode", have.PersistMode, want.PersistMode},
		{"discard policy", have.Discard, want.Discard},
		{"maximum age (TTL)", have.MaxAge, want.MaxAge},
		{"maximum number of messages", have.MaxMsgs, want.MaxMsgs},
		{"maximum number of messages of a subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"maximum size of a message", have.MaxMsgSize, want.MaxMsgSize},
		{"maximum number of consumers", have.MaxConsumers, want.MaxConsumers},
		{"no_ack", have.NoAck, want.NoAck},
		{"sealed", have.Sealed, want.Sealed},
		{"deny_purge", have.DenyPurge, want.DenyPurge},
		{"direct access", have.AllowDirect, want.AllowDirect},
		{"mirror", have.Mirror != nil, false},
		{"number of sources", len(have.Sources), 0},
		{"subject transform", have.SubjectTransform != nil, false},
	} {
		if f.have != f.want {
			return &LayoutError{Name: want.Name, Field: f.name, Have: f.have, Want: f.want}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want.Metadata)) {
		if have.Metadata[key] != want.Metadata[key] {
			return &LayoutError{Name: want.Name, Field: "metadata " + key,
				Have: have.Metadata[key], Want: want.Metadata[key], Whole: true}
		}
	}
	if have.Replicas < want.Replicas {
		return &LayoutError{Name: want.Name, Field: "number of replicas", Have: have.Replicas,
			Want: want.Replicas, Cure: fmt.Sprintf("run \"nats stream edit --replicas=%d %s\", or "+
				"be content with fewer", want.Replicas, want.Name)}
	}
	return nil
}

// MaxSize returns how many bytes of changes fit into one message.
func (l *Log) MaxSize() int { return l.longestMessage() - entryHead }

// longestMessage returns how long a message of the log may be. Like a change of many messages, it
// has half of the room of the stream, so that one limit is that of all changes.
func (l *Log) longestMessage() int {
	if most := l.changes.CachedInfo().Config.MaxBytes; most > 0 {
		return max(int(min(most/2, int64(l.maxSize))), leastPayload-1024)
	}
	return l.maxSize
}

// Append stores e behind at, and returns the position of its message, or its last part. It tries
// until ctx ends, or there is no hope: see [Config] Settle and Patience.
//
// The error is [ErrBehind] if another message has the place, a [*RefusedError], or [ErrUnsent];
// then the entry is not in the log. With any other error, it may be in the log, or come into it
// later. The position beside an error is that of the last part that was stored. Another entry may
// follow it, which takes the place of the parts.
func (l *Log) Append(ctx context.Context, at Position, e *Entry) (Position, error) {
	size := e.size()
	if size > l.longest() {
		_, _ = l.changes.Info(ctx) // the limit may have been raised meanwhile
	}
	if most := l.longest(); size > most {
		return at, &RefusedError{fmt.Errorf("%w: %d bytes, and the limit is %d", ErrTooLong, size,
			most)}
	}
	whole := e.encode(at)
	if size <= l.MaxSize() {
		if err := l.store(ctx, l.changes, l.cfg.Subject, at.Seq, whole); err != nil {
			return at, err
		}
		return Position{at.Seq + 1, sum(whole)}, nil
	}
	changes := whole[entryHead:]
	for offset := 0; offset < len(changes); {
		data, n := e.encodePart(at, changes, offset, l.longestMessage())
		offset += n
		if err := l.store(ctx, l.changes, l.cfg.Subject, at.Seq, data); err != nil {
			var refused *RefusedError
			if offset < len(changes) && !errors.Is(err, ErrBehind) && !errors.As(err, &refused) {
				err = fmt.Errorf("%w behind a part: %w", ErrUnsent, err) // the last part
			}
			return at, err
		}
		at = Position{at.Seq + 1, sum(data)}
	}
	return at, nil
}

// ErrTooLong says that changes are longer than [LongestEntry], or than half of the stream's limit.
var ErrTooLong = errors.New("the changes are too long")

// longest returns how long changes may be. Parts without their end stay until the next reign has
// begun, so there must be room for that beside them, or none could begin.
func (l *Log) longest() int {
	if most := l.changes.CachedInfo().Config.MaxBytes; most > 0 {
		return int(min(most/2, LongestEntry))
	}
	return LongestEntry
}

// ErrUnsent says that no server has had the message, or the last part.
var ErrUnsent = errors.New("no server takes messages of the log")

// store stores a message as the one behind last of a stream.
func (l *Log) store(ctx context.Context, s jetstream.Stream, subject string, last uint64,
	data []byte) error {
	unsent, cause := true, error(nil)
	// said is how often in a row the servers have refused the message, or have said that there is
	// no such stream. An earlier attempt without an answer may be in the log all the same, or come.
	said := 0
	left := l.cfg.Patience
	for {
		if unsent && ctx.Err() != nil { // as when this process stood still
			return fmt.Errorf("%w: %w", ErrUnsent, cmp.Or(cause, context.Cause(ctx)))
		}
		err := l.storeOnce(ctx, s, subject, last, data)
		var api *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case wrongLast(err):
			if unsent {
				return ErrBehind
			}
			if there, err := l.find(ctx, s, last+1); err == nil {
				if bytes.Equal(there, data) {
					return nil
				}
				return ErrBehind
			}
		case errors.Is(err, errMisplaced):
			return err
		case errors.Is(err, nats.ErrMaxPayload): // that of another server may be smaller
			return &RefusedError{err}
		case errors.As(err, &api):
			if unsent {
				return &RefusedError{err}
			}
		case errors.Is(err, jetstream.ErrNoStreamResponse), // no server has heard it
			errors.Is(err, nats.ErrReconnectBufExceeded): // the connection is down
		default:
			unsent = false
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) && l.deleted(ctx, s) {
			err = streamDeleted(s)
		}
		cause = err
		switch left -= ask.Pause; {
		case errors.As(err, &api), errors.Is(err, ErrRewritten):
			said++
		case errors.Is(err, context.DeadlineExceeded): // it was silent for that long
			left -= ask.Attempt
			fallthrough
		default:
			said = 0
		}
		if l.settled(said) || left <= 0 {
			// Who waits on does so for as long as the leader has its lease, although another member
			// may reach the servers of the log.
			if unsent {
				return fmt.Errorf("%w: %w", ErrUnsent, cause)
			}
			return unconfirmed(cause)
		}
		select {
		case <-time.After(ask.Pause):
		case <-ctx.Done():
			if !unsent {
				return unconfirmed(cause)
			}
		}
	}
}

func unconfirmed(cause error) error {
	return fmt.Errorf("the log has not confirmed a message: %w", cause)
}

// settled is [ask.Settled] with the patience of this log.
func (l *Log) settled(times int) bool { return ask.Settled(times, l.cfg.Settle) }

// deleted reports whether the servers say that a stream does not exist. One that has just begun to
// lead the others may be wrong.
func (l *Log) deleted(ctx context.Context, s jetstream.Stream) bool {
	ctx, cancel := context.WithTimeout(ctx, ask.Attempt)
	defer cancel()
	_, err := s.Info(ctx)
	return errors.Is(err, jetstream.ErrStreamNotFound)
}

func streamDeleted(s jetstream.Stream) error {
	return fmt.Errorf("%w: the stream %s was deleted", ErrRewritten, s.CachedInfo().Config.Name)
}

var errMisplaced = errors.New("the server has stored a message in another place than it was told")

// storeOnce makes one attempt.
func (l *Log) storeOnce(ctx context.Context, s jetstream.Stream, subject string, last uint64,
	data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, ask.Attempt)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data},
		jetstream.WithExpectStream(s.CachedInfo().Config.Name),
		jetstream.WithExpectLastSequence(last), jetstream.WithRetryAttempts(0))
	if err == nil && ack.Sequence != last+1 {
		return fmt.Errorf("%w: %d, not %d", errMisplaced, ack.Sequence, last+1)
	}
	return err
}

// wrongLast reports whether the server has found another last sequence.
func wrongLast(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// find returns a message of a stream, from the stream's leader.
func (l *Log) find(ctx context.Context, s jetstream.Stream, seq uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ask.Attempt)
	defer cancel()
	m, err := s.GetMsg(ctx, seq)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// A reader puts the entries of a log together.
type reader struct {
	at    Position // of the last message
	parts []byte   // of an entry that is not whole yet
	total int      // size of that entry
	epoch uint64   // of that entry
}

// take takes the next message. ok is false for a part behind which others must come.
func (r *reader) take(seq uint64, data []byte) (e Entry, ok bool, err error) {
	if seq != r.at.Seq+1 {
		return e, false, fmt.Errorf("%w: message %d follows message %d", ErrRewritten, seq,
			r.at.Seq)
	}
	m, err := parse(data)
	switch {
	case err != nil || m.follows.Seq != r.at.Seq:
		r.parts = nil
		r.at = Position{seq, sum(data)}
		return Entry{Void: true}, true, nil
	case m.follows.Sum != r.at.Sum:
		return e, false, fmt.Errorf("%w: message %d follows another message %d than this "+
			"member has executed", ErrRewritten, seq, r.at.Seq)
	}
	r.at = Position{seq, sum(data)}
	if m.kind == kindPart {
		err = r.join(&m)
	} else {
		r.parts = nil
	}
	if err == errPart {
		return e, false, nil
	}
	if err == nil {
		e, err = m.entry()
	}
	if err != nil {
		e = Entry{Void: true}
	}
	return e, true, nil
}

// errPart says that an entry is not whole yet.
var errPart = errors.New("parts of the entry are missing")

// join adds a part to those before it, and makes the last one the whole of them.
func (r *reader) join(m *message) error {
	if m.offset == 0 { // what was not finished counts for nothing
		r.parts = make([]byte, 0, min(m.total, 1<<20))
		r.total, r.epoch = m.total, m.epoch
	}
	if m.offset != len(r.parts) || m.total != r.total || m.epoch != r.epoch {
		r.parts, r.total = nil, 0
		return errMalformed
	}
	if r.parts = append(r.parts, m.body...); len(r.parts) < r.total {
		return errPart
	}
	m.kind, m.body, r.parts = kindChanges, r.parts, nil
	return nil
}

// read takes the message behind the last one. It asks the leader of the stream.
func (l *Log) read(ctx context.Context, r *reader) (e Entry, ok bool, err error) {
	for times := 1; ; times++ {
		data, err := l.find(ctx, l.changes, r.at.Seq+1)
		if err == nil {
			return r.take(r.at.Seq+1, data)
		}
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			err = l.missing(ctx, r.at)
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = streamDeleted(l.changes)
		}
		if !errors.Is(err, ErrRewritten) || l.settled(times) {
			return e, false, err
		}
		select { // the message may have come between the two questions
		case <-time.After(ask.Pause):
		case <-ctx.Done():
			return e, false, context.Cause(ctx)
		}
	}
}

// missing says why there is no message behind at. Only the first two answers are certain: what has
// come, or what a server has not taken in yet, seems to be lost for a moment.
func (l *Log) missing(ctx context.Context, at Position) error {
	ctx, cancel := context.WithTimeout(ctx, ask.Attempt)
	defer cancel()
	info, err := l.changes.Info(ctx)
	switch {
	case err != nil:
		return err
	case info.State.LastSeq == at.Seq:
		return ErrEnd
	case at.Seq+1 < info.State.FirstSeq:
		return ErrTrimmed
	case info.State.LastSeq < at.Seq:
		return fmt.Errorf("%w: the last message is %d, and this member has executed message %d",
			ErrRewritten, info.State.LastSeq, at.Seq)
	}
	return fmt.Errorf("%w: message %d is missing", ErrRewritten, at.Seq+1)
}

// CatchUp passes the entries behind at to f, with the position of each, up to the end of the log.
// It returns the position of the end, which may be behind the last entry: parts of another one may
// lie there, whose leader has not stored all.
func (l *Log) CatchUp(ctx context.Context, at Position, f func(Entry, Position)) (Position, error) {
	r := reader{at: at}
	err := l.catchUp(ctx, &r, f)
	return r.at, err
}

func (l *Log) catchUp(ctx context.Context, r *reader, f func(Entry, Position)) error {
	for {
		e, ok, err := l.read(ctx, r)
		switch {
		case errors.Is(err, ErrEnd):
			return nil
		case err != nil:
			return err
		case ok:
			f(e, r.at)
		}
	}
}

// Follow passes the entries behind at to f, until ctx ends. It goes on after errors of the servers.
// Its error is that of ctx, or [ErrTrimmed] or [ErrRewritten].
func (l *Log) Follow(ctx context.Context, at Position, f func(Entry, Position)) error {
	r := reader{at: at}
	for ctx.Err() == nil {
		if err := l.follow(ctx, &r, f); err != nil {
			return err
		}
		select {
		case <-time.After(ask.Pause):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// follow is Follow with one consumer. Its error is final.
func (l *Log) follow(ctx context.Context, r *reader, f func(Entry, Position)) error {
	// What is there already, and what a consumer has missed. It also finds a log that was
	// rewritten, which a consumer of messages behind its end would wait for.
	err := l.catchUp(ctx, r, f)
	switch {
	case errors.Is(err, ErrTrimmed), errors.Is(err, ErrRewritten):
		return err
	case err != nil:
		return nil
	}
	started, cancel := context.WithTimeout(ctx, ask.Attempt)
	defer cancel()
	c, err := l.js.OrderedConsumer(started, l.cfg.Stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.at.Seq + 1,
		InactiveThreshold: time.Minute, MaxResetAttempts: 1})
	if err != nil {
		return nil
	}
	msgs, err := c.Messages(jetstream.PullExpiry(2*time.Second),
		jetstream.PullHeartbeat(time.Second),
		jetstream.PullMaxMessages(min(max(ahead/l.maxSize, 2), mostAhead)))
	if err != nil {
		return nil
	}
	defer msgs.Stop()
	for ctx.Err() == nil {
		m, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil
		}
		about, err := m.Metadata()
		if err != nil {
			return nil
		}
		if about.Sequence.Stream <= r.at.Seq {
			continue
		}
		if about.Sequence.Stream > r.at.Seq+1 {
			return nil // catchUp knows why
		}
		e, ok, err := r.take(about.Sequence.Stream, m.Data())
		if err != nil {
			return err
		}
		if ok {
			f(e, r.at)
		}
	}
	return nil
}

// Trim removes the messages up to seq.
func (l *Log) Trim(ctx context.Context, seq uint64) error {
	if seq == 0 {
		return nil
	}
	return l.changes.Purge(ctx, jetstream.WithPurgeSequence(seq+1))
}
