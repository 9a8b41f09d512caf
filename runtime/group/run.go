package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A RunConfig configures [Run]. The zero value is valid for a process that a group supervises.
type RunConfig struct {
	// Join configures how the process joins its group.
	Join JoinConfig
	// Record is the record that the process announces. Control is the channel that it serves; in a
	// group it may be empty, which means the name of the replica. Reply is the reply channel. Name,
	// Protocol and Fingerprint are filled in if they are empty. For the other fields see
	// [Replica.Announce].
	Record registry.Record
	// Options are the options of the server besides its services: limits, interceptors, a logger.
	// They precede those of the replica; so interceptors see every call first, and may refuse a
	// call before it is replicated.
	Options []ipc.ServerOption
	// Grace is the time for calls in flight after the process was told to end. 0 means four fifths
	// of the supervisor's [Config.Grace], after which the supervisor kills the process, or
	// [ipc.DefaultGrace] without a supervisor.
	Grace time.Duration
	// Ready, when set, is called when the process serves and is announced. Run waits for it, and
	// fails if it panics.
	Ready func()
}

// Run runs a replica, or the same service alone, from start to end. It joins the group, listens,
// serves, announces the process, and blocks until ctx is done or the process receives SIGINT or
// SIGTERM, which is also how its supervisor ends it. Then it drains: the replica takes no more
// calls, and answers those that it has taken, as the primary if it is the primary. Only then does
// it give up its reign. So clients lose no call, and send the next ones to the next primary.
//
// Run returns nil after a complete drain. It returns an error if the process could not join, listen
// or announce itself, if calls were still in flight after the grace, or, in a process without a
// supervisor, at a second SIGINT.
//
// A standby of a group that keeps state can be told to end by another process than its supervisor,
// as when all processes of a service are stopped at once. It then stays until its supervisor tells
// it to end, too, or until the grace has passed, because a draining primary may need it to answer.
func Run(ctx context.Context, cfg RunConfig, services ...*ipc.Service) (err error) {
	if ctx == nil {
		return fmt.Errorf("run a replica: %w", errNilContext)
	}
	if slices.Contains(services, nil) {
		return fmt.Errorf("run a replica: %w", errNilService)
	}
	orders := sys.AwaitOrders()
	defer orders.Stop()

	promoted := make(chan struct{}, 1)
	onRole := cfg.Join.OnRole
	cfg.Join.OnRole = func(role registry.Role, epoch uint64) {
		if onRole != nil {
			onRole(role, epoch)
		}
		if role == registry.RolePrimary {
			select {
			case promoted <- struct{}{}:
			default:
			}
		}
	}
	replica, err := Join(cfg.Join)
	if err != nil {
		return err
	}
	defer func() { err = sys.JoinErrors(err, replica.Close()) }()
	rec := cfg.record(replica, services)
	if rec.Control == "" {
		return errors.New("run a replica: no group supervises this process; start it by " +
			"group.Start, or set RunConfig.Record.Control to the channel that it serves alone")
	}
	l, err := ipc.Listen(rec.Control, ipc.WithReplyChannel(rec.Reply),
		ipc.WithDomain(replica.dir.Path()))
	if err != nil {
		return err
	}
	server := ipc.NewServer(append(slices.Clone(cfg.Options),
		replica.ServerOptions(services...)...)...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.WithoutCancel(ctx), l) }()
	if err := replica.Announce(rec); err != nil {
		return sys.JoinErrors(err, server.Close(), closedOrder(<-served))
	}
	if cfg.Ready != nil {
		if err := here(cfg.Join.Logger, "RunConfig.Ready", cfg.Ready); err != nil {
			return sys.JoinErrors(err, server.Close(), closedOrder(<-served))
		}
	}
	var ended error
	select {
	case <-ctx.Done():
	case <-orders.Told:
	case ended = <-served:
		served <- nil
	}
	grace := cfg.grace(replica)
	if ended == nil {
		replica.linger(grace, promoted)
	}
	within := orders.Grace
	if replica.Supervised() { // a supervisor ends replicas that take too long
		within = func(d time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), d)
		}
	}
	end, cancel := within(grace)
	defer cancel()
	err = drain(end, server, grace)
	return sys.JoinErrors(closedOrder(ended), err, closedOrder(<-served))
}

// record returns the record that the replica announces.
func (cfg *RunConfig) record(r *Replica, services []*ipc.Service) registry.Record {
	rec := cfg.Record
	if rec.Control == "" {
		rec.Control = r.Name()
	}
	if rec.Name == "" && !r.Supervised() {
		rec.Name = rec.Control
	}
	if rec.Protocol == "" && len(services) > 0 {
		p := services[0].Protocol()
		rec.Protocol, rec.Fingerprint = p.Name, p.Fingerprint
	}
	return rec
}

func (cfg *RunConfig) grace(r *Replica) time.Duration {
	if cfg.Grace > 0 {
		return cfg.Grace
	}
	if r.Supervised() {
		if d := r.terms.grace; d > 0 {
			return d * 4 / 5
		}
	}
	return ipc.DefaultGrace
}

// linger blocks a standby of a group that keeps state, if the supervisor has not told it to end,
// until the supervisor does, the standby becomes the primary, or the grace has passed.
func (r *Replica) linger(grace time.Duration, promoted <-chan struct{}) {
	if r.replicator == nil || r.displaced.Load() {
		return
	}
	signals := make(chan os.Signal, 1) // each signal may come from the supervisor
	signal.Notify(signals, os.Interrupt, sys.SIGTERM)
	defer signal.Stop(signals)
	told := func() bool {
		// the supervisor cannot say so in a damaged file
		damaged := wordAt(r.page.mem, offMagic).Load() != pageMagic
		return damaged || wordAt(r.place, offTold).Load() == r.incarnation
	}
	if told() {
		return
	}
	select {
	case <-promoted: // it was promoted before
	default:
	}
	if role, _ := r.Role(); role == registry.RolePrimary {
		return
	}
	for over := time.After(grace); ; {
		select {
		case <-signals:
			if told() {
				return
			}
		case <-promoted:
			return
		case <-over:
			return
		}
	}
}

// drain lets a server answer the calls that it has taken, until ctx ends after the grace.
func drain(ctx context.Context, server *ipc.Server, grace time.Duration) error {
	switch err := server.Shutdown(ctx); {
	case err == nil:
		return nil
	case context.Cause(ctx) == sys.ErrUrgent:
		return errors.New("a second SIGINT cut off calls in flight")
	default:
		return fmt.Errorf(
			"calls were still in flight %v after the replica was told to end, and were cut off; "+
				"allow more with RunConfig.Grace and the supervisor's Config.Grace: %w", grace,
			err)
	}
}

// closedOrder returns nil if err is that of a server that was told to end, and err otherwise.
func closedOrder(err error) error {
	if err == ipc.ErrServerClosed {
		return nil
	}
	return err
}
