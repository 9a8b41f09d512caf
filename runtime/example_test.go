package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
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

// The code says what went wrong, the outcome whether the call was executed. No server has
// the channel "radio", so the first call was never sent and can be made again; the error of the
// second is the handler's answer.
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

// New objects hold zeros. The defaults of the schema are those of fields that a message lacks.
func Example_defaults() {
	b := flatbuffers.NewBuilder(0)
	audio.StartStreamStart(b)
	b.Finish(audio.StartStreamEnd(b))
	start := audio.GetRootAsStartStream(b.FinishedBytes(), 0).UnPack()
	fmt.Println(start.SampleRate, new(audio.StartStreamT).SampleRate)
	// Output: 48000 0
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

// A client that must not execute a call twice sends it again only when the error says that the call
// was not executed. Here the connection is cut before the server has taken the first call.
func ExampleOutcome() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	faults := network.Faulty()
	faults.At(ipctest.ToServer, 1, ipctest.Cut)

	setGain := func(ctx context.Context, gain float32) error {
		for {
			err := setGainOnce(ctx, gain, faults)
			switch ipc.OutcomeOf(err) {
			case ipc.NotSent, ipc.NotExecuted:
				if ipc.CodeOf(err) == ipc.CodeUnavailable && ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond) // the server may be about to start again
					continue
				}
			}
			return err
		}
	}
	fmt.Println(setGain(context.Background(), 0.5))
	// Output: <nil>
}

func setGainOnce(ctx context.Context, gain float32, opts ...ipc.DialOption) error {
	conn, err := ipc.Dial(ctx, "audio", opts...)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = audio.NewAudioControlClient(conn).SetParam(ctx, &audio.SetParamT{Value: gain})
	return err
}

// A connection ends with the process of its server. Done tells when, and Err why.
func ExampleConn_Done() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	server.Close()
	<-conn.Done()
	fmt.Println(ipc.CodeOf(conn.Err()))
	// Output: unavailable
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

// A client of a channel outlives the server.
func ExampleConnect() {
	network := ipctest.NewNetwork()
	conn, err := ipc.Connect("audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)

	for range 2 {
		listener, err := ipc.Listen("audio", network)
		if err != nil {
			log.Fatal(err)
		}
		server := ipc.NewServer(audio.NewAudioControlService(&mixer{}))
		go server.Serve(context.Background(), listener)
		reply, err := client.SetParam(context.Background(), &audio.SetParamT{Value: 0.5})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(reply.Status)
		server.Shutdown(context.Background())
	}
	// Output:
	// Ok
	// Ok
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

// A publisher sends every new gain to all clients that have called GetParam.
type publisher struct {
	audio.UnimplementedAudioControl

	mu          sync.Mutex
	subscribers map[*ipc.Peer]bool
}

func (p *publisher) GetParam(ctx context.Context, _ *audio.GetParamT) (*audio.ParamValueT, error) {
	peer, ok := ipc.PeerFromContext(ctx)
	if !ok {
		return nil, ipc.Errorf(ipc.CodeFailedPrecondition, "subscribe through a connection")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribers[peer] = true
	return &audio.ParamValueT{}, nil
}

func (p *publisher) publish(ctx context.Context, gain float32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for peer := range p.subscribers {
		err := audio.NewControlMsgSender(peer).SendSetParam(ctx, &audio.SetParamT{Value: gain})
		if err != nil { // the client has closed the connection, or has died
			delete(p.subscribers, peer)
		}
	}
}

// A server sends one-way messages to the clients whose calls it has handled. A client that wants
// them is dialled with the service that handles them.
func ExamplePeer_Send() {
	p := &publisher{subscribers: make(map[*ipc.Peer]bool)}
	network, server := newServer(audio.NewAudioControlService(p))
	defer server.Close()

	ctx := context.Background()
	l := receiver{got: make(chan float32)}
	conn, err := ipc.Dial(ctx, "audio", audio.NewControlMsgService(l), network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if _, err := audio.NewAudioControlClient(conn).GetParam(ctx, &audio.GetParamT{}); err != nil {
		log.Fatal(err)
	}

	p.publish(ctx, 0.25)
	fmt.Println(<-l.got)
	// Output: 0.25
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

// A client may write a stream as well. Close says that the stream is complete, and the server's
// handler then reads io.EOF.
func ExampleOpenStreamWriter() {
	sum := make(chan float64)
	network, server := newServer(robot.HandleReadingReader(
		func(ctx context.Context, r *robot.ReadingReader) error {
			total := 0.0
			for {
				err := r.Read(ctx, func(r *robot.Reading, _ []byte, _ uint64) error {
					total += r.Distance()
					return nil
				})
				if err == io.EOF {
					sum <- total
					return nil
				}
				if err != nil {
					return err
				}
			}
		}))
	defer server.Close()

	ctx := context.Background()
	w, err := robot.OpenReadingWriter(ctx, "audio", ipc.StreamOptions{}, network)
	if err != nil {
		log.Fatal(err)
	}
	for range 4 {
		err := w.Write(ctx, 0, func(r *robot.Reading, _ []byte) error {
			r.MutateDistance(0.5)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-sum)
	// Output: 2
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

// A handler in place reads the request and builds the reply where they lie. Methods without one are
// handled by the service as usual.
func ExampleHandleInPlace() {
	network, server := newServer(
		audio.NewAudioControlInPlaceService(&mixer{}, audio.AudioControlInPlaceHandlers{
			SetParam: func(
				_ context.Context, req audio.SetParam, reply ipc.InPlaceReply[audio.Ack],
			) error {
				fmt.Println("gain", req.Value())
				return reply.Build(64,
					func(b *flatbuffers.Builder, refSeq uint64) flatbuffers.UOffsetT {
						audio.AckStart(b)
						audio.AckAddRefSeq(b, refSeq)
						return audio.AckEnd(b)
					})
			},
		}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	// The client need not know: a plain call reaches the handler in place, too.
	client := audio.NewAudioControlClient(conn)
	if _, err := client.SetParam(context.Background(), &audio.SetParamT{Value: 0.5}); err != nil {
		log.Fatal(err)
	}
	// Output: gain 0.5
}

// A timeout is a deadline for calls whose contexts have a later one, or none. The timeout of a
// method takes precedence over that of the connection.
func ExampleWithTimeout() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network,
		ipc.WithTimeout(2*time.Second),
		ipc.WithMethodTimeout("audio.AudioControl/GetParam", 10*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	_, err = audio.NewAudioControlClient(conn).GetParam(context.Background(), &audio.GetParamT{})
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	_, err = ipc.Dial(context.Background(), "audio", network,
		ipc.WithMethodTimeout("audio.AudioControl/GetParm", time.Second))
	fmt.Println(ipc.CodeOf(err))
	// Output:
	// true
	// invalid argument
}

// A policy has calls tried again that failed for a reason that passes. This handler is busy at
// first, and says that it has done nothing.
func ExampleWithRetry() {
	network, server := newServer(audio.NewAudioControlService(&busy{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network,
		ipc.WithRetry(ipc.RetryPolicy{Attempts: 5, Backoff: time.Millisecond}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := audio.NewAudioControlClient(conn)
	_, err = client.SetParam(context.Background(), &audio.SetParamT{Value: 0.5})
	fmt.Println(err, "after", conn.Stats().Retries, "retries")
	// Output: <nil> after 2 retries
}

// busy refuses the first two calls.
type busy struct {
	audio.UnimplementedAudioControl
	calls atomic.Int64
}

func (b *busy) SetParam(context.Context, *audio.SetParamT) (*audio.AckT, error) {
	if b.calls.Add(1) <= 2 {
		return nil, &ipc.Error{Code: ipc.CodeResourceExhausted, Outcome: ipc.NotExecuted,
			Msg: "all engines are busy"}
	}
	return &audio.AckT{Status: audio.StatusOk}, nil
}

// A client's interceptor sees the calls of its connection.
func ExampleWithClientInterceptor() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network,
		ipc.WithClientInterceptor(func(ctx context.Context, call ipc.Call, next ipc.Caller) error {
			err := next.Invoke(ctx, call)
			fmt.Println(call.Method.Name, "-", ipc.CodeOf(err))
			return err
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := audio.NewAudioControlClient(conn)
	if _, err := client.SetParam(context.Background(), &audio.SetParamT{Value: 0.5}); err != nil {
		log.Fatal(err)
	}
	// Output: SetParam - ok
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

// A server says that it does not serve until it has loaded its data.
func ExampleWithHealth() {
	var health ipc.HealthState
	if err := health.Set("", ipc.HealthNotServing); err != nil {
		log.Fatal(err)
	}
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}), ipc.WithHealth(&health))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	fmt.Println(conn.Health(context.Background(), ""))
	if err := health.Set("", ipc.HealthServing); err != nil { // the data is there
		log.Fatal(err)
	}
	fmt.Println(conn.Health(context.Background(), "audio.AudioControl"))
	// Output:
	// not serving <nil>
	// serving <nil>
}

// A trace ID travels beside a call, and the server's name beside its reply.
func ExampleWithMetadata() {
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}),
		ipc.WithServerInterceptor(func(
			ctx context.Context, call *ipc.ServerCall, next func(context.Context) error,
		) error {
			trace := ipc.MetadataFromContext(ctx).Get("traceparent")
			fmt.Println(call.Name, "in trace", trace)
			if err := ipc.SetReplyMetadata(ctx, "server", "mixer-1"); err != nil {
				return err
			}
			return next(ctx)
		}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)

	var reply ipc.Metadata
	ctx := ipc.WithMetadata(context.Background(), "traceparent", "00-4bf92f35-00f067aa-01")
	ctx = ipc.WithReplyMetadata(ctx, &reply)
	if _, err := client.SetParam(ctx, &audio.SetParamT{Value: 0.5}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("answered by", reply.Get("server"))
	// Output:
	// SetParam in trace 00-4bf92f35-00f067aa-01
	// answered by mixer-1
}

// Both sides decide who may be at the other end. By default that is the user of the process; this
// server admits one more.
func ExampleWithAuthorize() {
	const operator = 1234
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}),
		ipc.WithAuthorize(func(p ipc.Peer) error {
			if p.UID != operator {
				return ipc.Errorf(ipc.CodePermissionDenied,
					"user %d may not use this service", p.UID)
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

// Listen, Serve and Shutdown are the steps of Run, for a process that has its own signals or serves
// several channels.
func ExampleServer_Shutdown() {
	network := ipctest.NewNetwork()
	server := ipc.NewServer(audio.NewAudioControlService(&mixer{}))
	served := make(chan error)
	for _, channel := range []string{"audio", "audio.debug"} {
		listener, err := ipc.Listen(channel, network)
		if err != nil {
			log.Fatal(err)
		}
		go func() { served <- server.Serve(context.Background(), listener) }()
	}

	// Later: let calls in progress finish, for five seconds at most.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		log.Print("calls were cut off: ", err)
	}
	fmt.Println(<-served == ipc.ErrServerClosed, <-served == ipc.ErrServerClosed)
	// Output: true true
}

// A server logs which clients it refuses and what it drops, at the levels of package slog.
func ExampleWithLogger() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}),
		ipc.WithLogger(logger.With("component", "mixer")))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	conn.Close()
}

// The counters of a connection are read at any time, on either side.
func ExampleConn_Stats() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)
	for range 3 {
		if _, err := client.SetParam(context.Background(), &audio.SetParamT{}); err != nil {
			log.Fatal(err)
		}
	}
	stats := conn.Stats()
	fmt.Println(stats.Sent, "requests,", stats.Received, "replies")
	// Output: 3 requests, 3 replies
}

// A tool reads what a server counts, without its schema.
func ExampleReadCounters() {
	network, server := newServer(audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	ctx := context.Background()
	conn, err := ipc.Dial(ctx, "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := audio.NewAudioControlClient(conn)
	if _, err := ipc.ReadCounters(ctx, conn); err != nil { // begins to count
		log.Fatal(err)
	}
	for range 3 {
		if _, err := client.SetParam(ctx, &audio.SetParamT{}); err != nil {
			log.Fatal(err)
		}
	}
	counters, err := ipc.ReadCounters(ctx, conn)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range counters.Methods {
		if m.Done > 0 {
			fmt.Println(m.Protocol, m.Name, m.Done, "calls")
		}
	}
	// Output: audio.AudioControl SetParam 3 calls
}

// Programs that share a machine without knowing each other choose domains of their own.
func ExampleWithDomain() {
	conn, err := ipc.Dial(context.Background(), "audio", ipc.WithDomain("studio"))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

// A server can limit its clients, and sizes that its clients ask for are capped at the server's.
func ExampleNewServer() {
	network, server := newServer(
		audio.NewAudioControlService(&mixer{}),
		ipc.WithMaxConns(8),
		ipc.WithMaxCalls(16),
		ipc.WithMaxMessage(1<<20),
		ipc.WithRings(1<<20, 1<<20))
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.Peer().PID == os.Getpid())
	// Output: true
}
