package natsipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
	"github.com/ipcgen/ipcgen/nats/internal/changelog"
	"github.com/ipcgen/ipcgen/nats/internal/lease"
	"github.com/ipcgen/ipcgen/nats/internal/machine"
)

// A GroupConfig configures a member of a group over machines. Group is required.
type GroupConfig struct {
	// Group is the name of the group, which clients pass to [DialGroup].
	Group string
	// Member names this member in errors and events: the host's name and the process id by default.
	Member string
	// Prefix is the first part of the group's subjects: [DefaultPrefix] by default.
	Prefix string
	// State is the state of the service. The group keeps it equal on all members, and in JetStream,
	// so that it outlives all of them. All members have one, or none has. Before the first change,
	// the states of all members must be equal. Methods change the state unless the schema marks
	// them read_only; see [group.State] for what handlers must observe.
	State group.State
	// Lease is the time after which the others replace a leader that they do not hear, or a little
	// more; 3 s by default, and 300 ms at least. All members should have the same.
	Lease time.Duration
	// Replicas is the number of servers that keep each change: by default 3 on a cluster, and 1
	// otherwise. It has an effect when the group's streams are made. A member that wants more than
	// they have is refused, with [ErrForeign].
	Replicas int
	// MaxLogBytes limits the changes that JetStream keeps. Beyond it a snapshot takes their place.
	// It has an effect when the streams are made, and is 8,192 at least: a log needs room for parts
	// of a change and for what the next leader writes. 0 is no limit but those of the servers. When
	// JetStream has no room for a snapshot either, changes are refused, unexecuted, with
	// [ipc.CodeResourceExhausted]. A change of more than half of it, or of 1 GiB, is refused with
	// [ipc.CodeTooLarge].
	MaxLogBytes int64
	// SnapshotEvery is the number of changes after which the leader takes a snapshot of the state,
	// which replaces changes of the log; 10,000 by default. It does so after 16 MiB of changes,
	// too.
	SnapshotEvery int
	// Options are the options of the member's server besides its services. Interceptors see every
	// call first, and may refuse a call before it is replicated.
	Options []ipc.ServerOption
	// OnRole, if not nil, is called when the role of the member changes, with the epoch of its
	// reign, or that of its last reign. A leader is a [registry.RolePrimary], and a follower a
	// [registry.RoleStandby]. It must return soon.
	OnRole func(role registry.Role, epoch uint64)
	// Logger is [slog.Default] by default.
	Logger *slog.Logger
}

const (
	defaultLease    = 3 * time.Second
	shortestLease   = 300 * time.Millisecond
	snapshotChanges = 10_000
	snapshotBytes   = 16 << 20
	// opening is how long the servers may take to open or make the streams of a group, unless the
	// context says otherwise. A cluster that begins elects its leader for some seconds.
	opening = 30 * time.Second
)

// complete sets the defaults.
func (cfg *GroupConfig) complete(nc *nats.Conn) error {
	if cfg.Member == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "member"
		}
		cfg.Member = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.SnapshotEvery == 0 {
		cfg.SnapshotEvery = snapshotChanges
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
		if nc.ConnectedClusterName() != "" {
			cfg.Replicas = 3
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	switch {
	case cfg.Group == "":
		return invalid("GroupConfig.Group is empty; give the group a name")
	case cfg.Lease < shortestLease:
		return invalid("GroupConfig.Lease is %v; give %v or more", cfg.Lease, shortestLease)
	case cfg.SnapshotEvery < 0 || cfg.MaxLogBytes < 0 || cfg.Replicas < 0:
		return invalid("GroupConfig has a negative number")
	case cfg.MaxLogBytes > 0 && cfg.MaxLogBytes < changelog.LeastMaxBytes:
		return invalid("GroupConfig.MaxLogBytes is %d; give %d or more, and twice as much as the "+
			"longest change, or 0 for no limit but those of the servers", cfg.MaxLogBytes,
			changelog.LeastMaxBytes)
	case len(cfg.Member) > 200:
		return invalid("GroupConfig.Member has %d bytes; give 200 at most", len(cfg.Member))
	}
	if err := checkTokens("prefix", cfg.Prefix); err != nil {
		return err
	}
	set := take(cfg.Options)
	return set.check()
}

// A Member is a process of a group over machines, from [JoinGroup] to [Member.Close].
type Member struct {
	cfg      GroupConfig
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects groupSubjects
	services []*ipc.Service
	channel  string // that this process alone serves
	log      *changelog.Log
	machine  *machine.Machine // nil without State
	bucket   jetstream.KeyValue
	print    uint64 // of the protocols

	server *Server
	asked  *nats.Subscription

	reign     atomic.Pointer[reign] // nil: not the leader
	lastEpoch atomic.Uint64         // of a reign of this member
	saving    atomic.Bool           // a snapshot is being saved
	said      said                  // what goes wrong again and again

	ctx   context.Context
	stop  context.CancelCauseFunc
	tasks sync.WaitGroup // of the member's life
	saves sync.WaitGroup

	done    chan struct{} // closed when the member has ended
	err     error         // why, valid when done is closed
	closing sync.Once
}

// JoinGroup makes this process a member of a group: it serves the services as the leader whenever
// the group has no other one, and otherwise follows the changes of the leader. JoinGroup returns
// when the member takes part in elections, and has restored the state. The caller must close the
// Member. nc must stay open until then, and belongs to the caller. It must have been made as for
// [Dial].
//
// JoinGroup waits for servers that do not answer yet, such as those of a cluster that begins: until
// ctx ends, or for 30 s if it has no deadline.
//
// The errors wrap [ErrNoJetStream], [ErrForeign] or [ErrQuota] for those causes.
func JoinGroup(ctx context.Context, nc *nats.Conn, cfg GroupConfig,
	services ...*ipc.Service) (*Member, error) {
	if err := made(nc); err != nil {
		return nil, at("join group "+cfg.Group, err)
	}
	if err := cfg.complete(nc); err != nil {
		return nil, err
	}
	m := &Member{cfg: cfg, nc: nc, subjects: groupSubjectsOf(cfg.Prefix, cfg.Group),
		services: services, channel: cfg.Group + "." + nuid.Next(), done: make(chan struct{})}
	m.cfg.Logger = m.cfg.Logger.With("group", cfg.Group, "member", cfg.Member)
	m.ctx, m.stop = context.WithCancelCause(context.Background())
	if err := m.open(ctx); err != nil {
		m.stop(err)
		return nil, err
	}
	if err := m.serve(ctx); err != nil {
		m.stop(err)
		return nil, err
	}
	m.tasks.Go(m.live)
	return m, nil
}

// open opens what the group has in JetStream, and restores the state.
func (m *Member) open(ctx context.Context) (err error) {
	ctx, cancel := bounded(ctx, opening)
	defer cancel()
	since := ask.Now(m.nc)
	if m.js, err = jetstream.New(m.nc); err != nil {
		return err
	}
	protocols, err := m.describe()
	if err != nil {
		return err
	}
	metadata := map[string]string{"ipcgen-group": m.cfg.Group, "ipcgen-format": "2",
		"ipcgen-protocols": protocols, "ipcgen-state": "none", "ipcgen-prefix": ""}
	if m.cfg.Prefix != DefaultPrefix {
		metadata["ipcgen-prefix"] = m.cfg.Prefix // the names of streams and buckets are without it
	}
	if m.cfg.State != nil {
		metadata["ipcgen-state"] = "replicated"
		if err := m.openState(ctx, metadata); err != nil {
			return m.explained(ctx, since, err)
		}
	}
	if m.bucket, err = m.openBucket(ctx, metadata); err != nil {
		return m.explained(ctx, since, err)
	}
	return nil
}

// describe returns the names of the protocols.
func (m *Member) describe() (string, error) {
	h := fnv.New64a()
	var names []string
	for _, s := range m.services {
		if s == nil {
			return "", invalid("JoinGroup was given a nil service")
		}
		if m.cfg.State != nil {
			if err := s.Applicable(); err != nil {
				return "", fmt.Errorf("group %s keeps a state, which only calls may change: %w",
					m.cfg.Group, err)
			}
		}
		names = append(names, s.Protocol().Name)
		fmt.Fprintf(h, "%s %x\n", s.Protocol().Name, s.Protocol().Fingerprint)
	}
	m.print = h.Sum64()
	slices.Sort(names)
	return strings.Join(names, " "), nil
}

// openState opens the log, and executes it.
func (m *Member) openState(ctx context.Context, metadata map[string]string) error {
	var err error
	m.machine, err = machine.New(m.services, m.cfg.State, m.print, m.cfg.Logger, m.stop)
	if err != nil {
		return err
	}
	m.log, err = changelog.Open(ctx, m.js, changelog.Config{Stream: m.subjects.stream,
		Subject: m.subjects.log, Replicas: m.cfg.Replicas, MaxBytes: m.cfg.MaxLogBytes,
		Metadata: metadata, About: "changes of the ipcgen group " + m.cfg.Group})
	if err != nil {
		return err
	}
	s, err := m.log.LoadSnapshot(ctx)
	if err != nil || s.At.Seq == 0 {
		return err
	}
	return m.machine.Restore(s)
}

// restore restores the snapshot to which messages behind the machine have given way.
func (m *Member) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	at, _ := m.machine.Position()
	s, err := m.log.LoadLater(ctx, at)
	if err != nil {
		return err
	}
	return m.machine.Restore(s)
}

// openBucket opens the bucket of the lease, and makes it if there is none.
//
// The revisions of a new bucket, and so the epochs, begin with the time, in milliseconds, in which
// leases are not renewed as often. If somebody has deleted the bucket before, they are beyond all
// that clients have seen, which follow no leader of an epoch that is over.
func (m *Member) openBucket(ctx context.Context, metadata map[string]string) (jetstream.KeyValue,
	error) {
	want := jetstream.StreamConfig{Name: "KV_" + m.subjects.bucket,
		Description: "the leader of the ipcgen group " + m.cfg.Group,
		Subjects:    []string{"$KV." + m.subjects.bucket + ".>"}, Replicas: m.cfg.Replicas,
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, MaxMsgs: -1, MaxMsgSize: -1, MaxConsumers: -1, MaxBytes: -1,
		MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true, AllowDirect: true,
		Metadata: metadata, FirstSeq: uint64(time.Now().UnixMilli())}
	s, err := changelog.Ensure(ctx, m.js, want)
	if err != nil {
		return nil, err
	}
	have := s.CachedInfo().Config
	// The lease works with any of these.
	want.MaxMsgsPerSubject, want.AllowDirect = have.MaxMsgsPerSubject, have.AllowDirect
	if err := changelog.Same(have, want); err != nil {
		return nil, err
	}
	return ask.Until(ctx, m.nc, func(ctx context.Context) (jetstream.KeyValue, error) {
		return m.js.KeyValue(ctx, m.subjects.bucket)
	})
}

// live is the member's life: it follows, and leads when it can.
func (m *Member) live() {
	defer close(m.done)
	for m.ctx.Err() == nil {
		if err := m.follow(); err != nil {
			m.stop(err)
		}
	}
	m.saves.Wait()
	m.err = context.Cause(m.ctx)
	if m.err == errMemberClosed {
		m.err = nil
	}
}

var errMemberClosed = errors.New("the member is closed")

// follow executes the log until this member has taken the lease, and then leads. Its error ends the
// member.
func (m *Member) follow() error {
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	followed := make(chan error, 1)
	go func() {
		err := m.executeLog(ctx)
		if err != nil && ctx.Err() == nil {
			cancel(err)
		}
		followed <- err
	}()
	held, err := lease.Acquire(ctx, lease.Config{Bucket: m.bucket, Key: "leader",
		Member: m.cfg.Member, Channel: m.channel, Lease: m.cfg.Lease, Trouble: m.trouble()})
	cancel(nil)
	if held != nil {
		m.said.over(delayed)
	}
	if why := <-followed; why != nil && !errors.Is(why, context.Canceled) {
		err = why
	}
	if err != nil || held == nil {
		if m.ctx.Err() != nil {
			err = nil
		}
	} else {
		err = m.lead(held)
	}
	if held != nil && held.Valid() {
		released, cancel := context.WithTimeout(context.Background(), m.cfg.Lease)
		defer cancel()
		if err := held.Release(released); err != nil {
			m.warn(mustWait, err)
		} else {
			m.said.over(mustWait)
		}
	}
	if errors.Is(err, errUnable) {
		select {
		case <-time.After(m.cfg.Lease / 3):
		case <-m.ctx.Done():
		}
		return nil
	}
	return err
}

// errUnable says that a member with the lease cannot write to the log. It leaves the lease to
// others for a while: they may reach servers that it does not reach.
var errUnable = errors.New("the member cannot write to the log")

// What goes wrong with a member again and again.
const (
	delayed  = "the election is delayed"
	unable   = "cannot begin to lead"
	mustWait = "the next leader must wait for the end of the lease"
	behind   = "cannot restore the snapshot yet"
	fullLog  = "the log of changes is full, and no snapshot can take its place"
	unsaved  = "a snapshot was not saved, so the log of changes grows"
)

// warn logs what goes wrong, and why, once in a row.
func (m *Member) warn(what string, why error, more ...any) {
	m.said.log(m.cfg.Logger, slog.LevelWarn, what, why, more...)
}

// trouble returns a function that logs the errors that delay an election.
func (m *Member) trouble() func(error) {
	since := ask.Now(m.nc)
	return func(err error) {
		if refused := m.forbidden(since); refused != nil {
			err = fmt.Errorf("%w: %w", refused, err)
		}
		m.warn(delayed, err)
	}
}

// executeLog executes the changes of other leaders until ctx ends.
func (m *Member) executeLog(ctx context.Context) error {
	if m.machine == nil {
		<-ctx.Done()
		return nil
	}
	for {
		at, _ := m.machine.Position()
		err := m.log.Follow(ctx, at, m.execute)
		if !errors.Is(err, changelog.ErrTrimmed) {
			return err
		}
		switch err := m.restore(ctx); {
		case err == nil:
			m.said.over(behind)
		case errors.Is(err, ErrRewritten):
			return err
		case ctx.Err() == nil:
			m.warn(behind, err)
			select {
			case <-time.After(m.cfg.Lease / 10):
			case <-ctx.Done():
			}
		}
	}
}

func (m *Member) execute(e changelog.Entry, to changelog.Position) { m.machine.Apply(e, to) }

// lead begins a reign, and rules until the lease ends, the log is fenced or the member is closed.
// Its error ends the member.
func (m *Member) lead(held *lease.Held) error {
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	go func() { // so that nothing waits for servers behind the end of the lease
		select {
		case <-held.Lost():
			cancel(held.Err())
		case <-ctx.Done():
		}
	}()
	since := ask.Now(m.nc)
	at, err := m.begin(ctx, held)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrRewritten) || errors.Is(err, errEpoch) {
			return err
		}
		m.warn(unable, m.explained(ctx, since, err), "epoch", held.Epoch())
		return errUnable
	}
	m.said.over(unable)
	r := &reign{member: m, held: held, stirred: make(chan struct{}, 1)}
	m.lastEpoch.Store(held.Epoch())
	m.reign.Store(r)
	m.cfg.Logger.Info("leads", "epoch", held.Epoch())
	m.role(registry.RolePrimary)
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		m.announceAll(ctx, held.Epoch())
	}()
	if m.machine != nil {
		err = r.run(ctx, at)
	} else {
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	m.reign.Store(nil)
	r.end(err)
	cancel(err)
	<-announced
	m.cfg.Logger.Info("leads no more", "epoch", held.Epoch(), "reason", err)
	m.role(registry.RoleStandby)
	m.saves.Wait() // before the next leader, which may be this member, takes a snapshot
	if held.Valid() && !errors.Is(err, changelog.ErrBehind) {
		return errUnable
	}
	return nil
}

// errEpoch: see begin.
var errEpoch = errors.New("the epochs of the group have gone back")

// begin executes what the log has and writes the begin of the reign behind it.
func (m *Member) begin(ctx context.Context, held *lease.Held) (changelog.Position, error) {
	if m.machine == nil {
		return changelog.Position{}, nil
	}
	for {
		at, _ := m.machine.Position()
		end, err := m.log.CatchUp(ctx, at, m.execute)
		if errors.Is(err, changelog.ErrTrimmed) {
			if err := m.restore(ctx); err != nil {
				return at, err
			}
			continue
		}
		if err != nil {
			return at, err
		}
		_, epoch := m.machine.Position()
		if held.Epoch() <= epoch {
			return at, fmt.Errorf("%w: epoch %d follows epoch %d, so the bucket %s was deleted "+
				"and made again by hand, or by a clock that was wrong; delete it, and start a "+
				"member under a clock that is right, or make it with a first sequence beyond %d",
				errEpoch, held.Epoch(), epoch, m.subjects.bucket, epoch)
		}
		e := changelog.Entry{Epoch: held.Epoch(), Reign: &changelog.Reign{Member: m.cfg.Member,
			Fingerprint: m.print}}
		to, err := m.append(ctx, end, &e)
		if errors.Is(err, changelog.ErrBehind) {
			continue
		}
		if err != nil {
			return to, err
		}
		m.machine.Apply(e, to)
		return to, nil
	}
}

// append appends an entry to the log, as [changelog.Log.Append] does. If the log is full, a
// snapshot takes the place of its changes first.
func (m *Member) append(ctx context.Context, at changelog.Position,
	e *changelog.Entry) (changelog.Position, error) {
	to, err := m.appendOnce(ctx, at, e)
	var refused *changelog.RefusedError
	if !errors.As(err, &refused) || !refused.Full() {
		return to, err
	}
	s, failed := m.machine.Snapshot()
	if failed == nil {
		failed = m.log.SaveSnapshot(ctx, s)
	}
	if failed == nil {
		failed = m.log.Trim(ctx, s.At.Seq)
	}
	if failed != nil {
		m.warn(fullLog, failed)
		return to, err
	}
	m.said.over(fullLog)
	return m.appendOnce(ctx, to, e)
}

// appendOnce is append for a log that has room. If it has room for some parts of the entry alone,
// the machine passes over them, so that a snapshot can take their place as well.
func (m *Member) appendOnce(ctx context.Context, at changelog.Position,
	e *changelog.Entry) (changelog.Position, error) {
	to, err := m.log.Append(ctx, at, e)
	var refused *changelog.RefusedError
	if errors.As(err, &refused) && to != at {
		m.machine.Apply(changelog.Entry{Epoch: e.Epoch}, to)
	}
	return to, err
}

func (m *Member) role(r registry.Role) {
	if m.cfg.OnRole != nil {
		defer func() {
			if p := recover(); p != nil {
				m.cfg.Logger.Error("GroupConfig.OnRole panicked", "panic", p)
			}
		}()
		m.cfg.OnRole(r, m.lastEpoch.Load())
	}
}

// maybeSnapshot takes a snapshot if enough was changed, and saves it beside further changes.
func (m *Member) maybeSnapshot(reign context.Context) {
	since := m.machine.Since()
	if since.Changes < m.cfg.SnapshotEvery && since.Bytes < snapshotBytes {
		return
	}
	if !m.saving.CompareAndSwap(false, true) {
		return
	}
	s, err := m.machine.Snapshot()
	if err != nil {
		m.said.log(m.cfg.Logger, slog.LevelError, unsaved, err)
		m.saving.Store(false)
		return
	}
	m.saves.Go(func() {
		defer m.saving.Store(false)
		ctx, cancel := context.WithTimeout(reign, time.Minute)
		defer cancel()
		if err := m.log.SaveSnapshot(ctx, s); err != nil {
			m.warn(unsaved, err)
			return
		}
		m.said.over(unsaved)
	})
}

// Role returns the role of the member, as [GroupConfig] OnRole has it, and the epoch of its reign,
// or that of its last one.
func (m *Member) Role() (registry.Role, uint64) {
	if m.reign.Load().valid() {
		return registry.RolePrimary, m.lastEpoch.Load()
	}
	return registry.RoleStandby, m.lastEpoch.Load()
}

// Name returns the name of the member.
func (m *Member) Name() string { return m.cfg.Member }

// Done returns a channel that is closed when the member has ended: after [Member.Close], or for a
// reason that [Member.Err] returns.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err returns why the member has ended by itself. It is valid when Done is closed. The error wraps
// [ErrRewritten] if the log has lost what this member has executed: its state is then the only one
// that has it. It wraps [ErrVersion] if the log has a change of a method that this member lacks.
func (m *Member) Err() error { return m.err }

// Epoch implements [ipc.Fence].
func (m *Member) Epoch() uint64 {
	if r := m.reign.Load(); r.valid() {
		return r.held.Epoch()
	}
	return 0
}

// Admit implements [ipc.Fence]: it refuses calls unless the member is the leader, and of the epoch
// that the caller means.
func (m *Member) Admit(epoch uint64) error {
	r := m.reign.Load()
	switch {
	case !r.valid():
		return fmt.Errorf("%s is not the leader of group %s", m.cfg.Member, m.cfg.Group)
	case epoch != 0 && epoch != r.held.Epoch():
		return fmt.Errorf("%s leads in epoch %d, and the caller means epoch %d", m.cfg.Member,
			r.held.Epoch(), epoch)
	}
	return nil
}

// intercept has changes written to the log.
func (m *Member) intercept(ctx context.Context, call *ipc.ServerCall,
	next func(context.Context) error) error {
	if m.machine == nil || call.Kind != ipc.KindCall || call.Method.ReadOnly {
		return next(ctx)
	}
	r := m.reign.Load()
	if !r.valid() {
		return &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted,
			Msg: m.cfg.Member + " is not the leader"}
	}
	client := ipc.MetadataFromContext(ctx).Get(clientKey)
	if len(client) > 255 {
		return ipc.Errorf(ipc.CodeInvalidArgument, "the client has an id of %d bytes", len(client))
	}
	o, err := r.propose(ctx, changelog.Change{Client: client, Number: call.Seq,
		Method: call.Method.ID, Body: bytes.Clone(call.Body)})
	switch {
	case err != nil:
		return err
	case o.Err != nil:
		return o.Err
	}
	return call.DecodeReply(o.Body)
}

// clientKey is the key of metadata that has the id of a client of a group.
const clientKey = "natsipc-client"
