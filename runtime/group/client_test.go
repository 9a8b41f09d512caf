package group_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

func dialGroup(t testing.TB, domain string, cfg group.DialConfig) *group.Client {
	t.Helper()
	cfg.Domain = domain
	c, err := group.Dial(t.Context(), "audio_compute", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestClientFollowsThePrimary(t *testing.T) {
	d := newDomain(t)
	g := startGroup(t, audioConfig(d))
	c := dialGroup(t, d, group.DialConfig{})
	control := audio.NewAudioControlClient(c)
	for round := range uint32(4) {
		before := g.Status()
		conn, err := c.WaitConnected(t.Context())
		primary := before.Instances[before.Primary]
		if err != nil || conn.Name != primary.Name || conn.PID != primary.PID || conn.Control != primary.Control ||
			conn.Reply != primary.Reply || conn.Epoch != before.Epoch || conn.Receivers != 1 {
			t.Fatalf("connection %+v, %v; the primary is %+v", conn, err, primary)
		}
		ack, err := control.StartStream(t.Context(), &audio.StartStreamT{SampleRate: 48000, Channels: 2, BufferFrames: 256})
		if err != nil || ack.RefSeq != uint64(2*round+1) {
			t.Fatalf("round %d: StartStream = %+v, %v", round, ack, err)
		}
		syscall.Kill(primary.PID, syscall.SIGKILL)
		// An idempotent call gets through whatever happens.
		v, err := control.GetParam(t.Context(), &audio.GetParamT{ParamId: audio.ParamTypeGain})
		if err != nil || v.Value != 1 {
			t.Fatalf("round %d: GetParam = %+v, %v", round, v, err)
		}
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
}

// Under load, a death of the primary ends calls only with a stated outcome,
// and only those that are not idempotent.
func TestOutcomesUnderLoad(t *testing.T) {
	d := newDomain(t)
	g := startGroup(t, audioConfig(d))
	c := dialGroup(t, d, group.DialConfig{})
	control := audio.NewAudioControlClient(c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var good, unknown atomic.Int64
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if _, err := control.GetParam(t.Context(), &audio.GetParamT{}); err != nil {
					t.Errorf("idempotent call: %v", err)
				}
				_, err := control.StartStream(t.Context(), &audio.StartStreamT{SampleRate: 48000, Channels: 2, BufferFrames: 256})
				switch {
				case err == nil:
					good.Add(1)
				case ipc.OutcomeOf(err) == ipc.OutcomeUnknown:
					unknown.Add(1)
				default:
					t.Errorf("call that could have been sent again: %v", err)
				}
			}
		})
	}
	for range 8 {
		before := g.Status()
		syscall.Kill(before.Instances[before.Primary].PID, syscall.SIGKILL)
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Error(err)
		}
	}
	cancel()
	load.Wait()
	t.Logf("%d good calls, %d of unknown outcome", good.Load(), unknown.Load())
	if good.Load() == 0 {
		t.Error("no call succeeded")
	}
}

func TestCallWithoutGroup(t *testing.T) {
	c := dialGroup(t, newDomain(t), group.DialConfig{Patience: 10 * time.Millisecond})
	control := audio.NewAudioControlClient(c)
	_, err := control.StopStream(t.Context(), &audio.StopStreamT{})
	if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("out of patience: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	control = audio.NewAudioControlClient(dialGroup(t, newDomain(t), group.DialConfig{}))
	_, err = control.StopStream(ctx, &audio.StopStreamT{})
	if !errors.Is(err, context.DeadlineExceeded) || ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("deadline: %v", err)
	}
}

func TestCallWaitsForGroup(t *testing.T) {
	d := newDomain(t)
	c := dialGroup(t, d, group.DialConfig{})
	answered := make(chan error)
	go func() {
		_, err := audio.NewAudioControlClient(c).StopStream(t.Context(), &audio.StopStreamT{})
		answered <- err
	}()
	startGroup(t, audioConfig(d))
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
