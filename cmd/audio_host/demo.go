package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// shutdownGrace is the time that the replicas have to end, whatever the result of the demo.
const shutdownGrace = 5 * time.Second

// A demo is one run: a group of two replicas, and a client that follows its primary.
type demo struct {
	out, errOut  io.Writer
	command      func(index int) *exec.Cmd
	readyTimeout time.Duration
	replicate    bool

	group  *group.Group
	conn   *group.Client
	client *audio.AudioControlClient

	outputErr error // the first failure to print
}

// printf prints a line of the demo. The demo goes on if that fails; run reports the first failure.
func (d *demo) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil && d.outputErr == nil {
		d.outputErr = fmt.Errorf("the output is incomplete: %w", err)
	}
}

// run runs the demo, and ends every replica in any case. It fails if its output cannot be written.
func (d *demo) run(ctx context.Context) (err error) {
	d.printf("host: starting service group (2 replicas)...\n")
	cfg := group.Config{
		Service: audioservice.Service, Replicas: 2, Command: d.command,
		ReadyTimeout: d.readyTimeout,
		Stdout:       d.out, Stderr: d.errOut,
	}
	if d.replicate {
		cfg.Replication = &group.Replication{}
	}
	d.group, err = group.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		err = errors.Join(err, d.group.Shutdown(graceful))
	}()
	d.conn, err = group.Dial(ctx, audioservice.Service, group.DialConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.conn.Close()) }()
	d.client = audio.NewAudioControlClient(d.conn)

	status := d.group.Status()
	d.printf("host: %d instances alive\n", status.Alive())
	if err := d.drive(ctx, status); err != nil {
		return err
	}
	d.showReplicas("before crash", status)
	if status, err = d.crash(ctx, status); err != nil {
		return err
	}
	d.showReplicas("after failover", status)
	if err := d.resume(ctx, status); err != nil {
		return err
	}
	d.printf("\nhost: shutting down all instances...\n")
	if err := d.group.Shutdown(ctx); err != nil {
		return err
	}
	d.printf("host: done\n")
	return d.outputErr
}

// drive starts a stream on the first primary and sets its gain.
func (d *demo) drive(ctx context.Context, s group.Status) error {
	if err := d.connect(ctx, s); err != nil {
		return err
	}
	if err := d.startStream(ctx, "48kHz, 2ch, 256"); err != nil {
		return err
	}
	d.printf("host: sending SetParam(Gain, 0.75)\n")
	ack, err := d.client.SetParam(ctx, &audio.SetParamT{ParamId: audio.ParamTypeGain, Value: 0.75})
	if err != nil {
		return err
	}
	d.printAck(ack)
	return nil
}

// crash kills the primary as a crash would, and waits until another replica is the primary and the
// dead one is replaced.
func (d *demo) crash(ctx context.Context, s group.Status) (group.Status, error) {
	d.printf("\n*** SIMULATING PRIMARY CRASH ***\n")
	primary := s.Replicas[s.Primary]
	process, err := os.FindProcess(primary.PID)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		return s, fmt.Errorf("kill %s: %w", primary.Name, err)
	}
	return d.group.WaitHealthy(ctx, s.Epoch)
}

// resume continues with the new primary, which has the state of the first one only if the state is
// replicated.
func (d *demo) resume(ctx context.Context, s group.Status) error {
	if err := d.connect(ctx, s); err != nil {
		return err
	}
	if err := d.startStream(ctx, "re-sent after failover"); err != nil {
		return err
	}
	d.printf("host: sending GetParam(Gain) on new primary\n")
	value, err := d.client.GetParam(ctx, &audio.GetParamT{ParamId: audio.ParamTypeGain})
	if err != nil {
		return err
	}
	d.printf("host:   param %d = %f\n", value.ParamId, value.Value)
	return nil
}

// connect waits until the client has a connection to the primary.
func (d *demo) connect(ctx context.Context, s group.Status) error {
	p := s.Replicas[s.Primary]
	d.printf("host: connecting to %s (pid=%d) ctrl='%s' reply='%s'\n", p.Name, p.PID,
		p.Control, p.Reply)
	c, err := d.conn.WaitConnected(ctx)
	if err != nil {
		return err
	}
	d.printf("host: connected (recv_count=%d)\n", receivers(d.group.Status(), c.Control))
	return nil
}

// receivers counts the live replicas that serve a control channel, by the evidence of the
// supervisor.
func receivers(s group.Status, control string) (n int) {
	for _, r := range s.Replicas {
		if r.Alive && r.Control == control {
			n++
		}
	}
	return n
}

func (d *demo) startStream(ctx context.Context, what string) error {
	d.printf("host: sending StartStream (%s)\n", what)
	ack, err := d.client.StartStream(ctx,
		&audio.StartStreamT{SampleRate: 48_000, Channels: 2, BufferFrames: 256})
	if err != nil {
		return err
	}
	d.printAck(ack)
	return nil
}

func (d *demo) printAck(ack *audio.AckT) {
	d.printf("host:   ack ref_seq=%d status=%d\n", ack.RefSeq, ack.Status)
}

// showReplicas prints the group as its replicas describe themselves in the
// registry.
func (d *demo) showReplicas(when string, s group.Status) {
	d.printf("\nhost: --- instances %s ---\n", when)
	for _, r := range s.Replicas {
		alive := 0
		if r.Alive {
			alive = 1
		}
		d.printf("  [%d] %-24s  role=%-7v   pid=%d  alive=%d\n", r.Index, r.Name,
			r.Role, r.PID, alive)
	}
}
