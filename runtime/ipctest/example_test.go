package ipctest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A mixer is the service under test.
type mixer struct {
	audio.UnimplementedAudioControl
	sets chan float32
}

func (m *mixer) SetParam(_ context.Context, req *audio.SetParamT) (*audio.AckT, error) {
	m.sets <- req.Value
	return &audio.AckT{Status: audio.StatusOk}, nil
}

// start serves a mixer on channel "audio". In a test, [ipctest.Serve] does that, and stops the
// server at the end.
func start(n *ipctest.Network) (*mixer, *ipc.Server) {
	m := &mixer{sets: make(chan float32, 10)}
	srv := ipc.NewServer(audio.NewAudioControlService(m))
	l, err := n.Listen("audio")
	if err != nil {
		panic(err)
	}
	go srv.Serve(context.Background(), l)
	return m, srv
}

// setGain is the code under test: it connects with the given options, and makes a call.
func setGain(ctx context.Context, gain float32, opts ...ipc.DialOption) error {
	conn, err := ipc.Dial(ctx, "audio", opts...)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = audio.NewAudioControlClient(conn).SetParam(ctx, &audio.SetParamT{Value: gain})
	return err
}

// A network is an option of ipc.Dial, so the code under test needs no change.
func ExampleNetwork() {
	network := ipctest.NewNetwork()
	mixer, srv := start(network)
	defer srv.Close()

	fmt.Println(setGain(context.Background(), 0.5, network))
	fmt.Println(<-mixer.sets)
	// Output:
	// <nil>
	// 0.5
}

// The server dies before it reads the first call, and after it has handled the second one. The
// outcomes of the two calls differ.
func ExampleFaults_At() {
	network := ipctest.NewNetwork()
	mixer, srv := start(network)
	defer srv.Close()
	faults := network.Faulty()

	faults.At(ipctest.ToServer, 1, ipctest.Cut)
	err := setGain(context.Background(), 1, faults)
	fmt.Println(ipc.CodeOf(err), "-", ipc.OutcomeOf(err))

	faults.At(ipctest.ToClient, 1, ipctest.Cut)
	err = setGain(context.Background(), 2, faults)
	fmt.Println(ipc.CodeOf(err), "-", ipc.OutcomeOf(err))
	fmt.Println("set to", <-mixer.sets)
	// Output:
	// unavailable - not executed
	// unavailable - outcome unknown
	// set to 2
}

// A server that does not read lets a call run into its deadline, and can handle other calls
// afterwards.
func ExampleFaults_Hold() {
	network := ipctest.NewNetwork()
	mixer, srv := start(network)
	defer srv.Close()
	faults := network.Faulty()

	faults.Hold(ipctest.ToServer)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	err := setGain(ctx, 1, faults)
	o := ipc.OutcomeOf(err)
	safe := o == ipc.NotSent || o == ipc.NotExecuted
	fmt.Println(errors.Is(err, context.DeadlineExceeded), "- safe to call again:", safe)

	faults.Release(ipctest.ToServer)
	fmt.Println(setGain(context.Background(), 2, faults))
	fmt.Println("set to", <-mixer.sets)
	// Output:
	// true - safe to call again: true
	// <nil>
	// set to 2
}

func ExampleFaults_Refuse() {
	network := ipctest.NewNetwork()
	_, srv := start(network)
	defer srv.Close()
	faults := network.Faulty()

	faults.Refuse(errors.New("too many open files"))
	fmt.Println(setGain(context.Background(), 1, faults))
	faults.Refuse(nil)
	fmt.Println(setGain(context.Background(), 1, faults))
	// Output:
	// dial audio: unavailable: too many open files
	// <nil>
}
