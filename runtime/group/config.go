package group

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/userlog"
)

// A Config configures [Start]. Zero values mean the defaults; Service and Command are required.
type Config struct {
	// Service is the name of the group. Its replicas are called Service.0, Service.1, ...
	Service string
	// Domain is the domain of the group; "" is the default domain.
	Domain string
	// Replicas is the number of replicas; 2 when 0.
	Replicas int
	// Command returns the command of a replica, each time the replica is started, one at a time.
	// The start has failed if Command panics or does not return within ReadyTimeout. The group adds
	// to the command's environment, starts it as the leader of a process group of its own, and
	// takes over its standard error, and its standard output unless the command sets that.
	Command func(index int) *exec.Cmd

	// ReadyTimeout limits the time between the start of a replica and the moment at which it is
	// registered and answers; 10 s when 0. A replica that takes longer is replaced.
	ReadyTimeout time.Duration
	// Grace is the time that a replica has to end after SIGTERM, before it is killed; 5 s when 0.
	Grace time.Duration
	// Heartbeat, when its Period is set, detects replicas that are alive but hang.
	Heartbeat Heartbeat
	// Survive keeps the replicas running when the supervisor dies without [Group.Shutdown]. The
	// next Start with Survive adopts them, and they serve throughout. Stdout and Stderr must then
	// be files, and Prefix must be nil. The replicas write to regular files themselves, also
	// without a supervisor; output to other files is lost while there is none. Without Survive, the
	// kernel kills the replicas with the supervisor.
	Survive bool
	// Replication, when set, keeps the state of the service on all replicas. The replicas must set
	// [JoinConfig.State].
	Replication *Replication
	// Restart limits the rate at which replicas are replaced.
	Restart Restart
	// Quarantine is the time for which the group refuses a request that ended two primaries, one
	// after the other, or all requests of a method of which different ones ended three. Each
	// further death after that doubles the time, up to an hour. It is 1 min when 0; a negative
	// value disables quarantines.
	Quarantine time.Duration

	// Stdout and Stderr receive the replicas' output; nil means those of this process. They need
	// not be safe for concurrent use. A slow or failing writer does not stop a replica: output that
	// the writer does not take in time is dropped. A line in the output and [Status.OutputLost]
	// report that.
	Stdout, Stderr io.Writer
	// Prefix, when set, is called for each start, and its result is put in front of every line of
	// the replica's output. Lines are then written whole; a line of more than 16 KiB is cut into
	// several.
	Prefix func(index int) string

	// Events, when set, is called with every change, one at a time and in order, on a goroutine of
	// its own. A slow function delays later events only.
	Events func(Event)
	// Logger receives a record for each event; nil means no log.
	Logger *slog.Logger
}

// A Heartbeat is the period at which a replica shows that it is not stuck, and the time after which
// a silent replica is killed and replaced.
type Heartbeat struct {
	Period time.Duration // 0 for no heartbeat
	// Grace is five periods when 0. It should exceed the time for which garbage collection or a
	// busy machine may delay a replica. The time during which the supervisor itself did not run, as
	// on a suspended machine, does not count.
	Grace time.Duration
}

func (h *Heartbeat) grace() time.Duration {
	if h.Grace == 0 {
		return 5 * h.Period
	}
	return max(h.Grace, h.Period)
}

// Restart is the policy for replacing replicas that died. The first restart is immediate. A replica
// that dies again before it was ready for Window waits for Delay, then for twice as long each time,
// up to MaxDelay, with jitter.
type Restart struct {
	// Delay is the first wait, 50 ms when 0. MaxDelay is the longest, 5 s when 0.
	Delay, MaxDelay time.Duration
	// Intensity is the number of restarts of the whole group within Window, 10 within 10 s when 0.
	// Further restarts wait until the window permits them, and the group is degraded.
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
	c.Logger = userlog.Contain(c.Logger)
	return c, nil
}

func replicaName(service string, index int) string { return fmt.Sprintf("%s.%d", service, index) }
