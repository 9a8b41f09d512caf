package group_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

func dialGroup(t testing.TB, domain string, cfg group.DialConfig) *group.Client {
	t.Helper()
	cfg.Domain, cfg.Patience = domain, cmp.Or(cfg.Patience, patience)
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
		primary := before.Replicas[before.Primary]
		if err != nil || conn.Name != primary.Name || conn.PID != primary.PID ||
			conn.Control != primary.Control ||
			conn.Reply != primary.Reply || conn.Epoch != before.Epoch {
			t.Fatalf("connection %+v, %v; the primary is %+v", conn, err, primary)
		}
		ack, err := control.StartStream(t.Context(),
			&audio.StartStreamT{SampleRate: 48000, Channels: 2, BufferFrames: 256})
		if err != nil || ack.RefSeq != uint64(2*round+1) {
			t.Fatalf("round %d: StartStream = %+v, %v", round, ack, err)
		}
		syscall.Kill(primary.PID, syscall.SIGKILL)
		// An idempotent call succeeds in any case.
		v, err := control.GetParam(t.Context(), &audio.GetParamT{ParamId: audio.ParamTypeGain})
		if err != nil || v.Value != 1 {
			t.Fatalf("round %d: GetParam = %+v, %v", round, v, err)
		}
		if _, err := g.WaitHealthy(t.Context(), before.Epoch); err != nil {
			t.Fatal(err)
		}
	}
}

// Under load, the death of a primary fails only calls that are not idempotent, each with a stated
// outcome.
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
				_, err := control.StartStream(t.Context(),
					&audio.StartStreamT{SampleRate: 48000, Channels: 2, BufferFrames: 256})
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
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
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

// slowEngine reports that it executes a call, and does not finish.
type slowEngine struct {
	audio.UnimplementedAudioControl
}

func (slowEngine) StartStream(ctx context.Context, _ *audio.StartStreamT) (*audio.AckT, error) {
	fmt.Println("executing", os.Getpid())
	<-ctx.Done()
	return nil, ctx.Err()
}

func (slowEngine) SetParam(ctx context.Context, _ *audio.SetParamT) (*audio.AckT, error) {
	return slowEngine{}.StartStream(ctx, nil)
}

func childSlow(args []string) error {
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	ln, err := ipc.Listen("slow_" + args[0])
	if err != nil {
		return err
	}
	srv := ipc.NewServer(audio.NewAudioControlService(slowEngine{}), ipc.WithFence(r))
	if err := r.Announce(registry.Record{Control: "slow_" + args[0]}); err != nil {
		return err
	}
	return srv.Serve(context.Background(), ln)
}

// A call that was in execution when the primary died is sent again if it is idempotent, and
// otherwise fails with an outcome that says so.
func TestOutcomeOfCallInExecution(t *testing.T) {
	cfg := audioConfig(newDomain(t))
	cfg.Command = func(i int) *exec.Cmd { return childCommand("slow", strconv.Itoa(i)) }
	r, w := io.Pipe()
	defer r.Close()
	cfg.Stdout = w
	startGroup(t, cfg)
	control := audio.NewAudioControlClient(dialGroup(t, cfg.Domain, group.DialConfig{}))
	lines := bufio.NewScanner(r)
	killExecutor := func() (pid int) {
		t.Helper()
		var err error
		if lines.Scan() {
			_, err = fmt.Sscanf(lines.Text(), "executing %d", &pid)
		}
		if err != nil || pid == 0 {
			t.Fatalf("the service said %q", lines.Text())
		}
		syscall.Kill(pid, syscall.SIGKILL)
		return pid
	}
	failed := make(chan error, 1)
	go func() {
		_, err := control.StartStream(t.Context(), &audio.StartStreamT{})
		failed <- err
	}()
	killExecutor()
	if err := <-failed; ipc.CodeOf(err) != ipc.CodeUnavailable ||
		ipc.OutcomeOf(err) != ipc.OutcomeUnknown ||
		strings.Contains(err.Error(), "closed by this") {
		t.Errorf("call that is not idempotent: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := control.SetParam(ctx, &audio.SetParamT{})
		failed <- err
	}()
	killExecutor()
	if !lines.Scan() {
		t.Error("there is no second execution")
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) ||
		ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
		t.Errorf("idempotent call: %v", err)
	}
	// When the second primary dies while it executes the call, the call fails, although this
	// service does not publish which calls it executes.
	go func() {
		_, err := control.SetParam(t.Context(), &audio.SetParamT{Value: 1})
		failed <- err
	}()
	first, second := killExecutor(), killExecutor()
	err := <-failed
	if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
		t.Errorf("call that two primaries were lost to: %v", err)
	}
	for _, part := range []string{"audio.AudioControl/SetParam", "2 servers were lost",
		fmt.Sprintf("pid %d", first), fmt.Sprintf("pid %d", second)} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
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
	if text := err.Error(); !strings.Contains(text, "no process supervises group") ||
		!strings.Contains(text, "start its supervisor") ||
		strings.Contains(text, "\n") {
		t.Errorf("the error is not one line that says why: %q", text)
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
