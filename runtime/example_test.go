package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// The examples run within one process, on a network of package ipctest, so that they run on every
// platform. Between processes, leave the option network out.

// A mixer implements the service audio.AudioControl.
type mixer struct {
	audio.UnimplementedAudioControl
	gain float32
}

func (m *mixer) SetParam(_ context.Context, req *audio.SetParamT) (*audio.AckT, error) {
	if req.ParamId != audio.ParamTypeGain {
		return nil, ipc.Errorf(ipc.CodeInvalidArgument, "no parameter %v here", req.ParamId)
	}
	m.gain = req.Value
	return &audio.AckT{Status: audio.StatusOk}, nil
}

func (m *mixer) GetParam(ctx context.Context, _ *audio.GetParamT) (*audio.ParamValueT, error) {
	<-ctx.Done() // as slow as can be: it ends when the client gives up
	return nil, ctx.Err()
}

// newServer starts a server with these options on the channel "audio" of a new network.
func newServer(opts ...ipc.ServerOption) (*ipctest.Network, *ipc.Server) {
	network := ipctest.NewNetwork()
	listener, err := ipc.Listen("audio", network)
	if err != nil {
		log.Fatal(err)
	}
	server := ipc.NewServer(opts...)
	go server.Serve(context.Background(), listener)
	return network, server
}

// A service is implemented by a type with the generated interface, and called through the generated
// client.
func Example() {
	network := ipctest.NewNetwork()
	listener, err := ipc.Listen("audio", network)
	if err != nil {
		log.Fatal(err)
	}
	server := ipc.NewServer(audio.NewAudioControlService(&mixer{}))
	go server.Serve(context.Background(), listener)
	defer server.Close()

	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)
	reply, err := client.SetParam(context.Background(), &audio.SetParamT{Value: 0.5})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Status)
	// Output: Ok
}

// The code says what went wrong, the outcome whether the call was executed. Nobody serves the
// channel "radio", so the first call was never sent and can be made again; the error of the second
// is the handler's answer.
func ExampleOutcomeOf() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()

	_, err := ipc.Dial(context.Background(), "radio", network)
	fmt.Println(ipc.CodeOf(err), "-", ipc.OutcomeOf(err))

	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)
	_, err = client.SetParam(context.Background(), &audio.SetParamT{ParamId: audio.ParamTypePan})
	fmt.Println(ipc.CodeOf(err), "-", ipc.OutcomeOf(err))
	// Output:
	// unavailable - not sent
	// invalid argument - executed
}

// The deadline of a call's context travels with the call: the handler's context ends at the same
// moment. Cancelling the context cancels the handler's.
func ExampleConn_deadline() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = audio.NewAudioControlClient(conn).GetParam(ctx, &audio.GetParamT{})
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// A receiver handles one-way messages.
type receiver struct {
	audio.UnimplementedControlMsgHandler
	got chan float32
}

func (l receiver) HandleSetParam(_ context.Context, m *audio.SetParamT) error {
	l.got <- m.Value
	return nil
}

// A table with a union is an envelope of one-way messages. Send returns when the message is in the
// ring, without waiting for its handler.
func ExampleSend() {
	l := receiver{got: make(chan float32)}
	network, server := newServer(audio.NewControlMsgService(l))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	sender := audio.NewControlMsgSender(conn)
	if err := sender.SendSetParam(context.Background(), &audio.SetParamT{Value: 0.5}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-l.got)
	// Output: 0.5
}

// A struct marked "stream" travels in blocks that are written and read in place. Here the server
// writes three readings to each client that opens the stream.
func ExampleOpenStreamReader() {
	network, server := newServer(robot.HandleReadingWriter(
		func(ctx context.Context, w *robot.ReadingWriter) error {
			for i := range 3 {
				err := w.Write(ctx, 0, func(r *robot.Reading, _ []byte) error {
					r.MutateDistance(float64(i) / 2)
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
	defer server.Close()

	ctx := context.Background()
	o := ipc.StreamOptions{Depth: 8, Policy: ipc.StreamBlock}
	r, err := robot.OpenReadingReader(ctx, "audio", o, network)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for {
		err := r.Read(ctx, func(r *robot.Reading, _ []byte, _ uint64) error {
			fmt.Println(r.Distance())
			return nil
		})
		if err == io.EOF { // the writer ended the stream on purpose
			break
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 0
	// 0.5
	// 1
}

// A call in place builds the request where the server reads it, and reads the reply where the
// server wrote it.
func ExampleInvokeInPlace() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := audio.NewAudioControlInPlaceClient(conn)
	err = client.SetParam(context.Background(), 64,
		func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
			audio.SetParamStart(b)
			audio.SetParamAddValue(b, 0.5)
			return audio.SetParamEnd(b)
		},
		func(reply audio.Ack) error {
			fmt.Println(reply.Status())
			return nil
		})
	if err != nil {
		log.Fatal(err)
	}
	// Output: Ok
}

// A server's interceptor sees everything that a client can start. This one keeps a record, and
// admits calls alone.
func ExampleWithServerInterceptor() {
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}),
		ipc.WithServerInterceptor(func(
			ctx context.Context, call *ipc.ServerCall, next func(context.Context) error,
		) error {
			if call.Kind != ipc.KindCall {
				return ipc.Errorf(ipc.CodePermissionDenied, "calls alone, please")
			}
			err := next(ctx)
			fmt.Println(call.Name, ipc.CodeOf(err))
			return err
		}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)
	client.SetParam(context.Background(), &audio.SetParamT{})
	client.SetParam(context.Background(), &audio.SetParamT{ParamId: audio.ParamTypePan})
	// Output:
	// SetParam ok
	// SetParam invalid argument
}

// Both sides decide who may be at the other end. By default that is the user of the process; this
// server admits one more.
func ExampleWithAuthorize() {
	const operator = 1234
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}),
		ipc.WithAuthorize(func(p ipc.Peer) error {
			if p.UID != operator {
				return ipc.Errorf(ipc.CodePermissionDenied, "user %d may not use this service", p.UID)
			}
			return nil
		}))
	defer server.Close()

	for _, uid := range []int{operator, 99} {
		// The network lets the example choose for whom the server takes the client.
		conn, err := ipc.Dial(context.Background(), "audio", network.As(ipc.Peer{UID: uid}))
		fmt.Println(uid, ipc.CodeOf(err))
		if err == nil {
			conn.Close()
		}
	}
	// Output:
	// 1234 ok
	// 99 permission denied
}

// Run is the whole life of a server. It answers what it has taken before it returns.
func ExampleServer_Run() {
	ctx, cancel := context.WithCancel(context.Background())
	network := ipctest.NewNetwork()
	server := ipc.NewServer(audio.NewAudioControlService(&mixer{}))
	done := make(chan error)
	go func() { done <- server.Run(ctx, "audio", network) }()

	cancel() // or a signal: SIGINT, SIGTERM
	fmt.Println(<-done)
	// Output: <nil>
}
