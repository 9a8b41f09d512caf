package natsipc_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// medians times round trips, in turn, and returns the median of each kind. Turns keep what else the
// machine does from deciding.
func medians(b *testing.B, kinds ...func() error) []time.Duration {
	b.Helper()
	times := make([][]time.Duration, len(kinds))
	for b.Loop() {
		for k, f := range kinds {
			begun := time.Now()
			if err := f(); err != nil {
				b.Fatal(err)
			}
			times[k] = append(times[k], time.Since(begun))
		}
	}
	all := make([]time.Duration, len(kinds))
	for k := range times {
		slices.Sort(times[k])
		all[k] = times[k][len(times[k])/2]
	}
	return all
}

// answer has a connection answer the bare requests of some subjects.
func answer(b *testing.B, nc *nats.Conn, takes map[string]nats.MsgHandler) {
	b.Helper()
	for subject, take := range takes {
		if _, err := nc.Subscribe(subject, take); err != nil {
			b.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		b.Fatal(err)
	}
}

// respond sends back what comes.
func respond(m *nats.Msg) { _ = m.Respond(m.Data) }

// dialEcho returns a client of an echo service. Each has a connection of its own.
func dialEcho(b *testing.B, broker *natstest.Server) *natsipc.Conn {
	b.Helper()
	srv, err := natsipc.Serve(b.Context(), broker.Connect(b), "echo", echo.Service())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { srv.Close() })
	c, err := natsipc.Dial(b.Context(), broker.Connect(b), "echo")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkCall compares a call over NATS, of 64 bytes, 4 KiB and 64 KiB, with a bare request of
// NATS. Each has connections of its own to one server, over the loopback interface.
func BenchmarkCall(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"64B", 64}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}} {
		b.Run(size.name, func(b *testing.B) {
			broker := natstest.Start(b)
			request, answers := broker.Connect(b), broker.Connect(b)
			answer(b, answers, map[string]nats.MsgHandler{"bare": respond})
			c := dialEcho(b, broker)
			data := make([]byte, size.n)
			m := medians(b, func() error {
				_, err := request.Request("bare", data, time.Minute)
				return err
			}, func() error {
				_, err := echo.Call(b.Context(), c, data)
				return err
			})
			b.ReportMetric(float64(m[0].Microseconds()), "µs/request")
			b.ReportMetric(float64(m[1].Microseconds()), "µs/call")
			b.ReportMetric(float64(m[1])/float64(m[0]), "ratio")
		})
	}
}

// BenchmarkCallParts compares a bare request of 64 bytes with a call, and with requests that do a
// part of what a call does beside: the service is one that NATS users see (micro), the callback
// hands the request to a goroutine that waits (worker), both sides encode and decode (codec), and
// both leave as many objects as a call does beside its messages (garbage).
func BenchmarkCallParts(b *testing.B) {
	broker := natstest.Start(b)
	answers := broker.Connect(b)
	waiting := make(chan *nats.Msg)
	defer close(waiting)
	go func() {
		for m := range waiting {
			respond(m)
		}
	}()
	var left [6]any
	leave := func() {
		for i := range left {
			left[i] = new([16]uint64)
		}
	}
	builders := [2]*flatbuffers.Builder{flatbuffers.NewBuilder(256), flatbuffers.NewBuilder(256)}
	recode := func(b *flatbuffers.Builder, data []byte) []byte {
		var m echo.Blob
		if _, err := echo.Decode(data, &m); err != nil {
			return nil
		}
		b.Reset()
		if err := echo.Encode(b, 0, &m); err != nil {
			return nil
		}
		return b.FinishedBytes()
	}
	answer(b, answers, map[string]nats.MsgHandler{
		"bare":    respond,
		"worker":  func(m *nats.Msg) { waiting <- m },
		"garbage": func(m *nats.Msg) { leave(); respond(m) },
		"codec":   func(m *nats.Msg) { _ = m.Respond(recode(builders[0], m.Data)) },
	})
	service, err := micro.AddService(answers, micro.Config{Name: "bare", Version: "0.0.0"})
	if err != nil {
		b.Fatal(err)
	}
	if err := service.AddEndpoint("micro", micro.HandlerFunc(func(r micro.Request) {
		_ = r.Respond(r.Data())
	})); err != nil {
		b.Fatal(err)
	}
	if err := answers.Flush(); err != nil {
		b.Fatal(err)
	}
	c := dialEcho(b, broker)
	data, message := make([]byte, 64), encodedBlob(64)
	nc := broker.Connect(b)
	request := func(subject string, data []byte) error {
		_, err := nc.Request(subject, data, time.Minute)
		return err
	}
	m := medians(b,
		func() error { return request("bare", data) },
		func() error { return request("micro", data) },
		func() error { return request("worker", data) },
		func() error {
			m, err := nc.Request("codec", recode(builders[1], message), time.Minute)
			if err == nil {
				recode(builders[1], m.Data)
			}
			return err
		},
		func() error { leave(); return request("garbage", data) },
		func() error { _, err := echo.Call(b.Context(), c, data); return err })
	for i, part := range []string{"bare", "micro", "worker", "codec", "garbage", "call"} {
		b.ReportMetric(float64(m[i].Nanoseconds())/1e3, "µs/"+part)
	}
}

// encodedBlob returns an encoded message with n bytes.
func encodedBlob(n int) []byte {
	b := flatbuffers.NewBuilder(256)
	_ = echo.Encode(b, 0, &echo.Blob{Data: make([]byte, n)})
	return b.FinishedBytes()
}

// BenchmarkGateway compares a call through both sides of a gateway with a call over NATS.
func BenchmarkGateway(b *testing.B) {
	broker := natstest.Start(b)
	there, here := filepath.Join(b.TempDir(), "d"), filepath.Join(b.TempDir(), "d")
	l, err := ipc.Listen("echo", ipc.WithDomain(there))
	if err != nil {
		b.Skip(err)
	}
	svc := ipc.NewService(relayed, ipc.Handle(relayedEcho, func(_ context.Context,
		m *echo.Blob) (*echo.Blob, error) {
		return m, nil
	}))
	origin := ipc.NewServer(svc)
	go func() { _ = origin.Serve(context.Background(), l) }()
	defer origin.Close()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 2)
	defer func() {
		cancel()
		<-ended
		<-ended
	}()
	out := natsipc.Gateway{Channel: "echo", Domain: there}
	in := natsipc.Gateway{Channel: "echo", Domain: here}
	for _, side := range []func(context.Context, *nats.Conn) error{out.Export, in.Import} {
		nc := broker.Connect(b)
		go func() { ended <- side(ctx, nc) }()
	}
	var far *ipc.Conn
	for far == nil {
		far, _ = ipc.Dial(ctx, "echo", ipc.WithDomain(here))
		time.Sleep(time.Millisecond)
	}
	defer far.Close()
	if _, err := natsipc.Serve(ctx, broker.Connect(b), "direct", svc); err != nil {
		b.Fatal(err)
	}
	c, err := natsipc.Dial(ctx, broker.Connect(b), "direct")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, 64)
	call := func(to ipc.Caller) func() error {
		return func() error {
			_, err := ipc.Invoke(ctx, to, relayedEcho, &echo.Blob{Data: data})
			return err
		}
	}
	m := medians(b, call(c), call(far))
	b.ReportMetric(float64(m[0].Microseconds()), "µs/call")
	b.ReportMetric(float64(m[1].Microseconds()), "µs/gateway")
}
