package group

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
)

// A Config says what a group runs and how it is kept running. Zero values mean
// the defaults.
type Config struct {
	// Service names the group. Its replicas are called Service.0, Service.1, ...
	Service string
	// Domain is where they meet; "" is the default domain.
	Domain string
	// Replicas is the number of processes; 2 when 0.
	Replicas int
	// Command makes the command of a replica, each time it is started. The
	// group adds to its environment, starts it as the leader of a process group
	// of its own, and takes over its standard error, and its standard output
	// unless the command sets it.
	Command func(index int) *exec.Cmd

	// ReadyTimeout is how long a replica may take from its start until it is
	// registered and answers; 10 s when 0.
	ReadyTimeout time.Duration
	// Grace is how long a replica may take to end after SIGTERM before it is
	// killed; 5 s when 0.
	Grace time.Duration
	// Heartbeat, when its Period is set, finds replicas that live but hang.
	Heartbeat Heartbeat
	// Survive keeps the replicas running when the supervisor dies without
	// Shutdown; the next Start with Survive adopts them, and they serve
	// throughout. Stdout and Stderr must then be files, and Prefix is not to be
	// had. Regular files the replicas write to themselves, also without a
	// supervisor; what they write to others meanwhile is lost. Without Survive the
	// kernel kills the replicas with the supervisor.
	Survive bool
	// Replication, when set, keeps the state of the service: the replicas must
	// set JoinConfig.State.
	Replication *Replication
	// Restart limits how often replicas are replaced.
	Restart Restart
	// Quarantine is how long a request is refused that ended two primaries, one after
	// the other, or all requests of a method of which different ones ended three; each
	// further death after that doubles it, up to an hour. 1 min
	// when 0; none is refused when it is negative.
	Quarantine time.Duration

	// Stdout and Stderr receive the replicas' output; this process's own when
	// nil. They need not be safe for concurrent use. No replica waits for them for
	// long, or dies of their end: output that they fail to take, or not in time, is
	// dropped, which a line in the output says, and Status.OutputLost.
	Stdout, Stderr io.Writer
	// Prefix, when set, is called for each start and put before every line of
	// the replica's output, whose lines are then written whole. A line of more
	// than 16 KiB is cut into several.
	Prefix func(index int) string

	// Events, when set, is called with every change, one at a time and in
	// order, on a goroutine of its own: a slow one delays only itself.
	Events func(Event)
	// Logger receives what Events does; silent when nil.
	Logger *slog.Logger
}

// Heartbeat is how often a replica shows that it is not stuck, and how long it
// may fail to before it is killed and replaced.
type Heartbeat struct {
	Period time.Duration // 0: no heartbeat
	// Grace is five periods when 0. It should exceed what a garbage collection or
	// a busy machine may take from a replica. The time during which the supervisor
	// itself did not run, as in a suspended machine, does not count.
	Grace time.Duration
}

func (h *Heartbeat) grace() time.Duration {
	if h.Grace == 0 {
		return 5 * h.Period
	}
	return max(h.Grace, h.Period)
}

// Restart is the policy for replicas that died. The first restart is
// immediate. A replica that dies again before it was ready for Window waits
// Delay, then twice as long each time up to MaxDelay, with jitter.
type Restart struct {
	// Delay is the first wait, 50 ms when 0; MaxDelay the longest, 5 s when 0.
	Delay, MaxDelay time.Duration
	// Intensity is the number of restarts of the whole group in Window, 10 and
	// 10 s when 0, after which further ones wait until the window allows them
	// and the group is degraded.
	Intensity int
	Window    time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if err := domain.CheckName("service", c.Service); err != nil {
		return c, err
	}
	if c.Command == nil {
		return c, fmt.Errorf("group %s: Config.Command is not set", c.Service)
	}
	if c.Replicas == 0 {
		c.Replicas = 2
	}
	if c.Replicas < 1 || c.Replicas > maxReplicas {
		return c, fmt.Errorf("group %s: %d replicas; choose 1 to %d", c.Service,
			c.Replicas, maxReplicas)
	}
	if err := domain.CheckName("replica", replicaName(c.Service, c.Replicas-1)); err != nil {
		return c, err
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.ReadyTimeout, 10 * time.Second},
		{&c.Grace, 5 * time.Second},
		{&c.Restart.Delay, 50 * time.Millisecond},
		{&c.Restart.MaxDelay, 5 * time.Second},
		{&c.Restart.Window, 10 * time.Second},
		{&c.Heartbeat.Period, 0},
		{&c.Heartbeat.Grace, 0},
	} {
		if *d.value < 0 {
			return c, fmt.Errorf("group %s: a duration of %v", c.Service, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if c.Replication != nil {
		r, err := c.Replication.withDefaults(c.Replicas)
		if err == nil {
			err = domain.CheckName("state's channel",
				replicaChannel(replicaName(c.Service, c.Replicas-1)))
		}
		if err != nil {
			return c, fmt.Errorf("group %s: %w", c.Service, err)
		}
		c.Replication = r
	}
	if c.Quarantine == 0 {
		c.Quarantine = time.Minute
	}
	if c.Restart.Intensity <= 0 {
		c.Restart.Intensity = 10
	}
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.Survive {
		_, file1 := c.Stdout.(*os.File)
		_, file2 := c.Stderr.(*os.File)
		if !file1 || !file2 || c.Prefix != nil {
			return c, fmt.Errorf(
				"group %s: with Survive the output must go to files, without a prefix", c.Service)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func replicaName(service string, index int) string { return fmt.Sprintf("%s.%d", service, index) }
