package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/cluster"
)

// A machine is a NATS server and a member of the group.
type machine struct {
	name   string
	config cluster.Config
	server *child
	member *child
}

func (m *machine) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", m.config.Client) }

// start starts the processes of the machine.
func (m *machine) start(ctx context.Context, lease time.Duration) (err error) {
	if m.server, err = startProcess(ctx, serverRole, m.config); err != nil {
		return err
	}
	m.member, err = startProcess(ctx, memberRole, memberConfig{m.name, m.url(), lease})
	return err
}

// kill kills them.
func (m *machine) kill() {
	m.server.kill()
	m.member.kill()
}

// A demo is one run: three machines, and a client that follows the leader.
type demo struct {
	out, errOut io.Writer
	lease       time.Duration
	sync        bool

	machines []*machine
	group    *natsipc.GroupClient
	client   *audio.AudioControlClient

	outputErr error // the first failure to print
}

// printf prints a line of the demo. The demo goes on if that fails; run reports the first failure.
func (d *demo) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil && d.outputErr == nil {
		d.outputErr = fmt.Errorf("the output is incomplete: %w", err)
	}
}

// run runs the demo, and ends every process in any case.
func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "audio_cluster")
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range d.machines {
			m.kill()
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := d.startMachines(ctx, dir); err != nil {
		return err
	}
	nc, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer func() { err = errors.Join(err, d.group.Close()) }()
	leader, err := d.drive(ctx)
	if err != nil {
		return err
	}
	if err := d.resume(ctx, leader); err != nil {
		return err
	}
	d.printf("cluster: done\n")
	return d.outputErr
}

// startMachines starts three machines at once: their servers need each other.
func (d *demo) startMachines(ctx context.Context, dir string) error {
	const n = 3
	ports, err := cluster.Ports(2 * n)
	if err != nil {
		return err
	}
	d.printf("cluster: starting 3 machines, with a NATS server and a member of the group on each\n")
	for i := range n {
		m := &machine{name: fmt.Sprint("machine", i+1)}
		m.config = cluster.Config{Name: m.name, Client: ports[i], Peer: ports[n+i], Sync: d.sync,
			Dir: filepath.Join(dir, m.name)}
		for j := range n {
			if j != i {
				m.config.Routes = append(m.config.Routes, fmt.Sprintf("127.0.0.1:%d", ports[n+j]))
			}
		}
		d.machines = append(d.machines, m)
	}
	started := make(chan error, n)
	for _, m := range d.machines {
		go func() { started <- m.start(ctx, d.lease) }()
	}
	for range n {
		err = errors.Join(err, <-started)
	}
	if err != nil {
		return err
	}
	for _, m := range d.machines {
		d.printf("cluster:   %s: server pid=%d, member pid=%d\n", m.name, m.server.cmd.Process.Pid,
			m.member.cmd.Process.Pid)
	}
	return nil
}

// dial makes the client. It knows all servers, and is connected to one of them at a time.
func (d *demo) dial(ctx context.Context) (*nats.Conn, error) {
	var urls []string
	for _, m := range d.machines {
		urls = append(urls, m.url())
	}
	nc, err := natsipc.Connect(strings.Join(urls, ","), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	d.group, err = natsipc.DialGroup(ctx, nc, audioservice.Service,
		natsipc.GroupDialConfig{Patience: time.Minute})
	if err != nil {
		nc.Close()
		return nil, err
	}
	d.client = audio.NewAudioControlClient(d.group)
	return nc, nil
}

// drive drives the first leader, and returns it.
func (d *demo) drive(ctx context.Context) (natsipc.Leader, error) {
	leader, err := d.group.WaitLeader(ctx)
	if err != nil {
		return leader, err
	}
	d.printf("cluster: %s leads the group %s (epoch %d)\n", leader.Member, audioservice.Service,
		leader.Epoch)
	ack, err := d.client.StartStream(ctx,
		&audio.StartStreamT{SampleRate: 48_000, Channels: 2, BufferFrames: 256})
	if err != nil {
		return leader, err
	}
	d.printf("cluster: StartStream(48kHz, 2ch, 256): status=%d\n", ack.Status)
	return leader, d.setGain(ctx, 0.75)
}

func (d *demo) setGain(ctx context.Context, gain float32) error {
	ack, err := d.client.SetParam(ctx,
		&audio.SetParamT{ParamId: audio.ParamTypeGain, Value: gain})
	if err != nil {
		return err
	}
	d.printf("cluster: SetParam(Gain, %v): status=%d\n", gain, ack.Status)
	return nil
}

// getGain reads the gain at the leader, and fails if it is another one.
func (d *demo) getGain(ctx context.Context, want float32) error {
	v, err := d.client.GetParam(ctx, &audio.GetParamT{ParamId: audio.ParamTypeGain})
	if err != nil {
		return err
	}
	d.printf("cluster: GetParam(Gain) = %v\n", v.Value)
	if v.Value != want {
		return fmt.Errorf("the gain is %v, and was set to %v", v.Value, want)
	}
	return nil
}

// resume kills the machine of the leader, goes on with the next one, and brings the machine back.
func (d *demo) resume(ctx context.Context, leader natsipc.Leader) error {
	var lost *machine
	for _, m := range d.machines {
		if m.name == leader.Member {
			lost = m
		}
	}
	if lost == nil {
		return fmt.Errorf("%s leads, and is none of the machines", leader.Member)
	}
	d.printf("\n*** KILLING %s: its server and its member ***\n\n", lost.name)
	began := time.Now()
	lost.kill()
	if err := d.getGain(ctx, 0.75); err != nil { // waits for the next leader
		return err
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	next, err := d.group.WaitLeader(ctx)
	if err != nil {
		return err
	}
	d.printf("cluster: %s leads the group now (epoch %d); the answer came %v after the loss\n",
		next.Member, next.Epoch, took)
	if err := d.setGain(ctx, 0.5); err != nil {
		return err
	}
	d.printf("cluster: %s comes back\n", lost.name)
	if err := lost.start(ctx, d.lease); err != nil {
		return err
	}
	return d.getGain(ctx, 0.5)
}
