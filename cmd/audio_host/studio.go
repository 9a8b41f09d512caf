package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audiomirror"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/internal/wave"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// replicas is how many processes compute the sound.
const replicas = 2

// A studio is a group of replicas through which sound flows.
type studio struct {
	group  *group.Group
	conn   *group.Client
	client *audio.AudioControlClient
	mirror *audiomirror.Mirror

	mu     sync.Mutex
	kills  []kill
	deaths sync.WaitGroup // of goroutines that wait for the kernel's notice
}

// A kill is a primary that was killed.
type kill struct {
	pid     int
	at      time.Time
	kernel  time.Time // when the kernel told this process of the death; zero if it cannot
	noticed time.Time // when the group reported it
}

// A studioConfig says how a studio is made.
type studioConfig struct {
	command      func(index int) *exec.Cmd
	readyTimeout time.Duration
	errOut       io.Writer
	format       wave.Format
	frames       int // of a block
	window       int
	params       map[dsp.Param]float32 // those that are set before the sound begins
}

// openStudio starts the replicas and sets the parameters. The caller must close the studio.
func openStudio(ctx context.Context, cfg studioConfig) (_ *studio, err error) {
	s := &studio{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	s.group, err = group.Start(ctx, group.Config{
		Service: audioservice.Service, Replicas: replicas, Command: cfg.command,
		ReadyTimeout: cfg.readyTimeout, Replication: &group.Replication{},
		// Primaries are killed on purpose here, and more often than they ever die elsewhere.
		Restart: group.Restart{Delay: time.Millisecond, MaxDelay: 20 * time.Millisecond,
			Intensity: 1_000_000, Window: time.Second},
		Stdout: io.Discard, Stderr: cfg.errOut, Events: s.event,
	})
	if err != nil {
		return nil, err
	}
	s.conn, err = group.Dial(ctx, audioservice.Service, group.DialConfig{})
	if err != nil {
		return nil, err
	}
	s.client = audio.NewAudioControlClient(s.conn)
	values := dsp.InitialValues()
	for p, v := range cfg.params {
		ack, err := s.client.SetParam(ctx,
			&audio.SetParamT{ParamId: audio.ParamType(p), Value: v})
		if err == nil && ack.Status != audio.StatusOk {
			err = fmt.Errorf("the service answered %v", ack.Status)
		}
		if err != nil {
			return nil, fmt.Errorf("set %v to %v: %w", p, v, err)
		}
		values[p] = v
	}
	ack, err := s.client.StartStream(ctx, &audio.StartStreamT{SampleRate: cfg.format.Rate,
		Channels: uint16(cfg.format.Channels), BufferFrames: uint32(cfg.frames)})
	if err == nil && ack.Status != audio.StatusOk {
		err = fmt.Errorf("%v with blocks of %d frames: the service answered %v", cfg.format,
			cfg.frames, ack.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("start the stream: %w", err)
	}
	s.mirror, err = audiomirror.New(audiomirror.Config{Rate: cfg.format.Rate,
		Channels: cfg.format.Channels, Frames: cfg.frames, Window: cfg.window, Values: values,
		Replicas: replicas, Find: s.find})
	return s, err
}

// close ends the stream and the replicas.
func (s *studio) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if s.mirror != nil {
		s.mirror.Close()
	}
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.group != nil {
		errs = append(errs, s.group.Shutdown(ctx))
	}
	s.deaths.Wait() // each killed process is dead
	return errors.Join(errs...)
}

// find waits until a replica has a process other than the one that failed.
func (s *studio) find(ctx context.Context, replica int,
	failed audiomirror.Process) (audiomirror.Process, error) {
	status, err := s.group.Wait(ctx, func(now group.Status) bool {
		r := now.Replicas[replica]
		return r.Ready && r.Alive && r.Control != "" && r.PID != failed.PID
	})
	if err != nil {
		return audiomirror.Process{}, err
	}
	r := status.Replicas[replica]
	return audiomirror.Process{PID: r.PID, Channel: r.Control}, nil
}

// killPrimary waits for a primary that was not killed yet, and kills it.
func (s *studio) killPrimary(ctx context.Context) error {
	primary := func(now group.Status) (group.ReplicaStatus, bool) {
		if now.Primary < 0 {
			return group.ReplicaStatus{}, false
		}
		r := now.Replicas[now.Primary]
		s.mu.Lock()
		defer s.mu.Unlock()
		again := len(s.kills) > 0 && s.kills[len(s.kills)-1].pid == r.PID
		return r, r.Alive && r.PID != 0 && !again
	}
	status, err := s.group.Wait(ctx, func(now group.Status) bool {
		_, ok := primary(now)
		return ok
	})
	if err != nil {
		return fmt.Errorf("there is no primary to kill: %w", err)
	}
	r, _ := primary(status)
	process, err := os.FindProcess(r.PID)
	if err != nil {
		return fmt.Errorf("kill %s: %w", r.Name, err)
	}
	handle, noHandle := sys.OpenProcess(r.PID) // fails if it is dead, or the kernel has no pidfds
	s.mu.Lock()
	n := len(s.kills)
	s.kills = append(s.kills, kill{pid: r.PID, at: time.Now()})
	s.mu.Unlock()
	if noHandle == nil {
		s.deaths.Go(func() { s.awaitDeath(handle, n) })
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		if noHandle == nil {
			_ = handle.Close() // ends the wait
		}
		return fmt.Errorf("kill %s: %w", r.Name, err)
	}
	return nil
}

// awaitDeath notes when the kernel tells of the death of a process, which is kill number n.
func (s *studio) awaitDeath(process *sys.Process, n int) {
	err := process.Wait()
	now := time.Now()
	_ = process.Close() // nothing is lost with it
	if err != nil {
		return // the group's notice is there
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills[n].kernel = now
}

// event notes when the group reports the death of a process that was killed.
func (s *studio) event(ev group.Event) {
	if ev.Kind != group.Died {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.kills {
		if k := &s.kills[i]; k.pid == ev.PID && k.noticed.IsZero() {
			k.noticed = ev.Time
		}
	}
}

// killed returns the kills so far, when all that were killed are dead.
func (s *studio) killed() []kill {
	s.deaths.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]kill(nil), s.kills...)
}
