package group_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
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
)

func TestHungPrimaryIsKilledThenReplaced(t *testing.T) {
	t.Parallel()
	cfg := bareConfig(newDomain(t))
	// On a busy machine, the other one must not be taken for hung, too.
	cfg.Heartbeat = group.Heartbeat{Period: 5 * time.Millisecond, Grace: 5 * time.Second}
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	old := before.Replicas[0].PID
	syscall.Kill(old, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	after, err := g.WaitHealthy(ctx, before.Epoch)
	if err != nil {
		syscall.Kill(old, syscall.SIGKILL) // or the shutdown would wait for it
		t.Fatalf("the hung primary was not replaced: %v; status %+v\nevents:\n%v", err,
			after, &events)
	}
	if after.Primary != 1 || running(old) {
		t.Errorf("status %+v; the old primary runs: %v", after, running(old))
	}
	shutdown(t, g)
	if log := events.String(); !strings.Contains(log, "suspected svc.0: hangs: no heartbeat") {
		t.Errorf("events:\n%s", log)
	}
}

// crashy is a bare replica for as long as the file in its argument is missing.
func childCrashy(args []string) error {
	if _, err := os.Stat(args[0]); err == nil {
		return fmt.Errorf("%s exists", args[0])
	}
	return childBare(nil)
}

func TestLimitOfRestartsDegradesUntilHealthy(t *testing.T) {
	t.Parallel()
	cfg := bareConfig(newDomain(t))
	trap := filepath.Join(t.TempDir(), "trap")
	cfg.Command = func(int) *exec.Cmd { return childCommand("crashy", trap) }
	cfg.Restart = group.Restart{Delay: time.Millisecond, MaxDelay: 2 * time.Millisecond,
		Intensity: 5, Window: 5 * time.Second} // in which five starts must fail
	cfg.Stderr = new(strings.Builder)
	var events eventLog
	cfg.Events = events.add
	g := startGroup(t, cfg)
	before := g.Status()
	if err := os.WriteFile(trap, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range before.Replicas {
		syscall.Kill(r.PID, syscall.SIGKILL)
	}
	s, err := g.Wait(t.Context(), func(s group.Status) bool {
		return s.Degraded && s.Primary == -1
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := group.Dial(t.Context(), "svc", group.DialConfig{Domain: cfg.Domain})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = audio.NewAudioControlClient(c).StopStream(t.Context(), &audio.StopStreamT{})
	if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.NotSent ||
		!strings.Contains(err.Error(), "degraded") {
		t.Errorf("call to a degraded group: %v", err)
	}
	if err := os.Remove(trap); err != nil {
		t.Fatal(err)
	}
	s, err = g.WaitHealthy(t.Context(), before.Epoch)
	if err != nil || s.Degraded {
		t.Errorf("%+v, %v", s, err)
	}
	shutdown(t, g)
	if !events.has(group.Degraded) || !events.has(group.Delayed) || !events.has(group.Recovered) {
		t.Errorf("events:\n%v", &events)
	}
}

// A primary that was stopped, and continues when another replica is the primary, answers nothing:
// neither new calls nor those that waited for it.
func TestStoppedPrimaryIsFenced(t *testing.T) {
	cycles := 1000
	if testing.Short() {
		cycles = 50
	}
	d := newDomain(t)
	g := startGroup(t, audioConfig(d))
	direct := make([]*audio.AudioControlClient, 2)
	for i := range direct {
		conn, err := ipc.Dial(t.Context(), fmt.Sprintf("audio_ctrl_%d", i), ipc.WithDomain(d),
			ipc.WithReplyChannel(fmt.Sprintf("audio_reply_%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		direct[i] = audio.NewAudioControlClient(conn)
	}
	for cycle := range cycles {
		s := g.Status()
		old := s.Replicas[s.Primary]
		// It is the primary until here.
		if _, err := direct[old.Index].SetParam(t.Context(),
			&audio.SetParamT{ParamId: audio.ParamTypePan, Value: 0.5}); err != nil {
			t.Fatalf("cycle %d: the primary: %v", cycle, err)
		}
		syscall.Kill(old.PID, syscall.SIGSTOP)
		var waiting sync.WaitGroup
		var sent atomic.Int32
		for range 2 {
			waiting.Go(func() {
				sent.Add(1)
				_, err := direct[old.Index].SetParam(t.Context(),
					&audio.SetParamT{ParamId: audio.ParamTypePan, Value: -0.5})
				// The signal takes a while; a call that was answered was answered before the stop.
				if err != nil &&
					(ipc.CodeOf(err) != ipc.CodeFenced || ipc.OutcomeOf(err) == ipc.Executed) {
					t.Errorf("cycle %d: waiting call: %v", cycle, err)
				}
			})
		}
		g.Depose()
		syscall.Kill(old.PID, syscall.SIGCONT)
		_, err := direct[old.Index].SetParam(t.Context(),
			&audio.SetParamT{ParamId: audio.ParamTypePan, Value: -0.5})
		if ipc.CodeOf(err) != ipc.CodeFenced || ipc.OutcomeOf(err) != ipc.NotExecuted {
			t.Fatalf("cycle %d: the old primary answered: %v", cycle, err)
		}
		waiting.Wait()
		if _, err := g.WaitHealthy(t.Context(), s.Epoch); err != nil {
			t.Fatal(err)
		}
	}
}

// underLoad keeps calls of every kind going until the returned function is called. That function
// returns the number of calls that succeeded, and fails the test for every call that did not.
func underLoad(t *testing.T, d string) (stop func() int64) {
	control := audio.NewAudioControlClient(dialGroup(t, d, group.DialConfig{}))
	var good atomic.Int64
	var load sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := control.StartStream(context.Background(),
					&audio.StartStreamT{SampleRate: 48000, Channels: 2,
						BufferFrames: 256}); err != nil {
					t.Errorf("call: %v", err)
				}
				good.Add(1)
			}
		})
	}
	return func() int64 { close(done); load.Wait(); return good.Load() }
}

func TestFailoverFailsNoCall(t *testing.T) {
	d := newDomain(t)
	g := startGroup(t, audioConfig(d))
	stop := underLoad(t, d)
	for range 5 {
		before := g.Status()
		after, err := g.Failover(t.Context())
		if err != nil || after.Primary == before.Primary {
			t.Errorf("%+v, %v", after, err)
		}
	}
	if stop() == 0 {
		t.Error("no call at all")
	}
}

func TestRollFailsNoCall(t *testing.T) {
	d := newDomain(t)
	g := startGroup(t, audioConfig(d))
	stop := underLoad(t, d)
	before := g.Status()
	marker := func(i int) *exec.Cmd {
		cmd := childCommand("audio", strconv.Itoa(i))
		cmd.Env = append(cmd.Env, "GROUP_TEST_ROLLED=1")
		return cmd
	}
	if err := g.Roll(t.Context(), marker); err != nil {
		t.Error(err)
	}
	if stop() == 0 {
		t.Error("no call at all")
	}
	for _, r := range g.Replicas() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.PID))
		if err != nil || !strings.Contains(string(env), "GROUP_TEST_ROLLED=1") {
			t.Errorf("%+v does not run the new command (%v)", r, err)
		}
		if r.PID == before.Replicas[r.Index].PID {
			t.Errorf("%+v was not replaced", r)
		}
	}
}

func TestRollBack(t *testing.T) {
	d := newDomain(t)
	cfg := audioConfig(d)
	cfg.Stderr = new(strings.Builder)
	g := startGroup(t, cfg)
	stop := underLoad(t, d)
	err := g.Roll(t.Context(), func(int) *exec.Cmd { return childCommand("exit", "1") })
	if err == nil || !strings.Contains(err.Error(), "went 1") ||
		!strings.Contains(err.Error(), "former command") {
		t.Errorf("error %v", err)
	}
	if stop() == 0 {
		t.Error("no call at all")
	}
	if s := g.Status(); !s.Healthy() {
		t.Errorf("status %+v", s)
	}
}

// Replicas are killed, stopped and told to end at random, under load. The group becomes healthy
// again, and no idempotent call fails.
func TestChaos(t *testing.T) {
	blows := 60
	if testing.Short() {
		blows = 20
	}
	d := newDomain(t)
	cfg := audioConfig(d)
	cfg.Replicas = 3
	cfg.Heartbeat = group.Heartbeat{Period: 10 * time.Millisecond, Grace: time.Second}
	cfg.Restart = group.Restart{Delay: time.Millisecond, MaxDelay: 10 * time.Millisecond,
		Intensity: 1 << 20, Window: time.Second}
	cfg.Stderr = io.Discard // the tracebacks of the aborted
	g := startGroup(t, cfg)
	control := audio.NewAudioControlClient(dialGroup(t, d, group.DialConfig{}))
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := control.GetParam(context.Background(),
					&audio.GetParamT{}); err != nil {
					t.Errorf("idempotent call: %v", err)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGABRT, syscall.SIGSEGV}
	for blow := range blows {
		s, err := g.Wait(t.Context(), func(s group.Status) bool {
			return len(readyOnes(s)) > 1 && s.Primary >= 0
		})
		if err != nil {
			t.Fatal(err)
		}
		victims := readyOnes(s)
		victim := victims[rng.IntN(len(victims))]
		sig := signals[rng.IntN(len(signals))]
		if blow%50 == 0 {
			sig = syscall.SIGSTOP // detected by the heartbeat
		}
		syscall.Kill(victim.PID, sig)
		if blow%3 > 0 { // the others come before the group has noticed
			if _, err := g.Wait(t.Context(), func(s group.Status) bool {
				return s.Replicas[victim.Index].PID != victim.PID
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := g.WaitHealthy(t.Context(), 0); err != nil {
		t.Error(err)
	}
	close(done)
	load.Wait()
}

func readyOnes(s group.Status) (ready []group.ReplicaStatus) {
	for _, r := range s.Replicas {
		if r.Ready {
			ready = append(ready, r)
		}
	}
	return ready
}

// Supervisors are killed again and again. Each time the next one adopts the replicas, and calls
// succeed throughout.
func TestSupervisorsAreKilled(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	d := newDomain(t)
	control := audio.NewAudioControlClient(dialGroup(t, d, group.DialConfig{}))
	for range rounds {
		killedHost(t, d, "audio", "survive")
		if _, err := control.SetParam(t.Context(),
			&audio.SetParamT{ParamId: audio.ParamTypePan, Value: 0.5}); err != nil {
			t.Errorf("call: %v", err)
		}
	}
	cfg := audioConfig(d)
	cfg.Survive = true
	g := startGroup(t, cfg)
	if s := g.Status(); s.Epoch != 1 || !s.Healthy() {
		t.Errorf("status %+v", s)
	}
}
