package ipc_test

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A recorder is a guard that notes what enters and leaves, and refuses one request.
type recorder struct {
	mu      sync.Mutex
	entered []uint64
	left    int
	refuse  uint64
}

func (r *recorder) Enter(request uint64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if request == r.refuse {
		return 0, &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotExecuted,
			Msg: "refused by the guard"}
	}
	r.entered = append(r.entered, request)
	return len(r.entered), nil
}

func (r *recorder) Leave(place int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left++
}

// saw returns which requests have entered so far, and how many have left.
func (r *recorder) saw() (entered []uint64, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entered), r.left
}

// refuseNext makes the guard refuse a request from now on.
func (r *recorder) refuseNext(request uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = request
}

// TestGuardRecognisesRequests has equal requests, whose numbers differ, sum up alike, and
// different ones not; a guard refuses calls before they are executed.
func TestGuardRecognisesRequests(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connects processes")
	}
	domain := ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
	l, err := ipc.Listen("guarded", domain)
	if err != nil {
		t.Fatal(err)
	}
	guard := new(recorder)
	srv := ipc.NewServer(audio.NewAudioControlService(audio.UnimplementedAudioControl{}),
		ipc.WithGuard(guard))
	go srv.Serve(context.Background(), l)
	defer srv.Close()
	c, err := ipc.Dial(t.Context(), "guarded", domain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := audio.NewAudioControlClient(c)
	set := func(value float32) error {
		_, err := client.SetParam(t.Context(), &audio.SetParamT{Value: value})
		return err
	}
	for _, value := range []float32{1, 2, 1, 1} {
		want(t, set(value), ipc.CodeUnimplemented, ipc.NotExecuted, "SetParam")
	}
	e, left := guard.saw()
	if len(e) != 4 || e[0] != e[2] || e[0] != e[3] || e[0] == e[1] || uint32(e[0]) == 0 ||
		e[0]>>32 != e[1]>>32 {
		t.Errorf("the guard saw %x", e)
	}
	if left != 4 {
		t.Errorf("%d requests left", left)
	}
	guard.refuseNext(e[0])
	want(t, set(1), ipc.CodeFailedPrecondition, ipc.NotExecuted, "refused by the guard")
	want(t, set(2), ipc.CodeUnimplemented, ipc.NotExecuted, "SetParam")
}

// TestGuardLeavesStreamingCallsOut makes a streaming call, of which the guard is not told, and a
// call that it is told of.
func TestGuardLeavesStreamingCallsOut(t *testing.T) {
	network := ipctest.NewNetwork()
	guard := new(recorder)
	host(t, network, streamingService(), echoService(), ipc.WithGuard(guard))
	c := dial(t, network)
	expectCounted(t, count(t.Context(), c, 3), 3)
	if e, left := guard.saw(); len(e) != 0 || left != 0 {
		t.Errorf("the guard saw %x of a streaming call; %d left", e, left)
	}
	still(t, c)
	if e, _ := guard.saw(); len(e) != 1 {
		t.Errorf("the guard saw %x of one call", e)
	}
}
