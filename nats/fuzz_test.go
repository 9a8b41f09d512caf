package natsipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// This file plays clients and servers that lie.

// encodedText returns an encoded message of package echo.
func encodedText(text string) []byte {
	b := []byte{4, 0, 0, 0}
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	return append(b, make([]byte, -len(text)&3)...)
}

// piece takes the first piece off a script. Each has its length in the byte before it.
func piece(script []byte) (first, rest []byte) {
	if len(script) == 0 {
		return nil, nil
	}
	n := min(int(script[0]), len(script)-1)
	return script[1:][:n], script[1:][n:]
}

// rawFrame returns a frame.
func rawFrame(kind, more byte, number uint32, body ...byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{kind, more, 0, 0}, number), body...)
}

// script returns a script for piece.
func script(pieces ...[]byte) (s []byte) {
	for _, p := range pieces {
		s = append(append(s, byte(len(p))), p...)
	}
	return s
}

// texts is script, of texts.
func texts(pieces ...string) (s []byte) {
	for _, p := range pieces {
		s = append(s, script([]byte(p))...)
	}
	return s
}

// acceptedAt is the body of a frame with which a server takes a call.
func acceptedAt(subject string) string { return "\x00\x00\x01\x00" + subject }

// refusal returns the code with which a server refuses a request for its head alone, by what the
// documentation of the package says of the head, or 0.
func refusal(b []byte) ipc.Code {
	switch {
	case len(b) < 4 || string(b[:3]) != "ipc":
		return ipc.CodeInvalidArgument
	case b[3] != 2:
		return ipc.CodeIncompatible
	case len(b) < 52 || b[4] < 1 || b[4] > 10 ||
		uint64(len(b)) < 52+8*uint64(b[5])+uint64(binary.LittleEndian.Uint32(b[48:])):
		return ipc.CodeCorrupt
	}
	return 0
}

// counting returns a service with methods of all kinds, which counts how often it is executed.
func counting(runs *atomic.Int64) *ipc.Service {
	unary := func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
		runs.Add(1)
		return m, nil
	}
	return echo.Of(ipc.Handle(echo.Echo, unary),
		ipc.Handle(echo.Fail, func(context.Context, *echo.Blob) (*echo.Blob, error) {
			runs.Add(1)
			return nil, ipc.Errorf(ipc.CodeNotFound, "on purpose")
		}),
		ipc.HandleServerStream(echo.Count, func(context.Context,
			*echo.Blob) iter.Seq2[*echo.Blob, error] {
			runs.Add(1)
			return echo.Counted(3)
		}),
		ipc.HandleClientStream(echo.Upload, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) (*echo.Blob, error) {
			runs.Add(1)
			for _, err := range in {
				if err != nil {
					return nil, err
				}
			}
			return &echo.Blob{}, nil
		}),
		ipc.HandleBidiStream(echo.Jam, func(_ context.Context,
			in iter.Seq2[*echo.Blob, error]) iter.Seq2[*echo.Blob, error] {
			runs.Add(1)
			return in
		}),
		ipc.Receive(echo.Note, func(context.Context, *echo.Blob) error { return nil }))
}

// FuzzRequest sends a server requests with any head, metadata and frames. Each is answered, by an
// answer whose outcome is what has happened.
func FuzzRequest(f *testing.F) {
	text := encodedText("hi")
	for kind, method := range map[byte]string{1: "Echo", 2: "Upload", 3: "Count", 4: "Jam",
		5: "Note"} {
		whole := request(kind, echo.ID("test.Echo/"+method), "test.Echo", text...)
		items := script(rawFrame(1, 0, 1, text...), rawFrame(1, 1, 2, text[:6]...),
			rawFrame(1, 0, 3, text[6:]...), rawFrame(3, 0, 4, make([]byte, 16)...))
		f.Add(byte(0), whole, "", items)
		f.Add(byte(0), whole, "key=%20value", items[:1])
		inPieces := request(kind, echo.ID("test.Echo/"+method), "test.Echo")
		binary.LittleEndian.PutUint32(inPieces[44:], uint32(len(text)))
		f.Add(byte(0), inPieces, "", items)
		late := append([]byte(nil), whole...)
		binary.LittleEndian.PutUint64(late[16:], 0)
		f.Add(byte(0), late, "", items)
		binary.LittleEndian.PutUint64(late[16:], math.MaxInt64)
		f.Add(byte(1), late, "", items)
		large := append([]byte(nil), whole...)
		binary.LittleEndian.PutUint32(large[44:], math.MaxUint32)
		f.Add(byte(0), large, "", items)
		binary.LittleEndian.PutUint32(large[48:], math.MaxUint32)
		f.Add(byte(0), large, "", items)
		f.Add(byte(0), whole[:51], "", items)
	}
	f.Add(byte(0), request(6, 0, ""), "", []byte(nil))
	for kind := byte(7); kind <= 9; kind++ {
		f.Add(byte(1), request(kind, 0, "test.Echo", []byte("test.Echo")...), "", []byte(nil))
	}
	levels := audio.LevelsTopic.Protocol
	for _, most := range []string{"2", "-1", "99999999999999999999", "9223372036854775807"} {
		b := request(10, 0, levels.Name, []byte(most)...)
		binary.LittleEndian.PutUint64(b[52:], levels.Fingerprint)
		f.Add(byte(2), b, "", []byte(nil))
	}
	f.Add(byte(0), []byte("ipc"), "=", []byte(nil))
	f.Add(byte(0), append([]byte("ipc\x03"), make([]byte, 60)...), "%", []byte(nil))

	broker := natstest.Start(f)
	var runs atomic.Int64
	p := audio.NewLevelsPublisher(topic.Options{})
	f.Cleanup(func() { p.Close() })
	for i := range 3 {
		if err := p.Publish(f.Context(), &audio.LevelsT{Position: uint64(i)}); err != nil {
			f.Fatal(err)
		}
	}
	srv, err := natsipc.Serve(f.Context(), broker.ConnectInProcess(f), "echo", counting(&runs), p,
		quiet, ipc.WithStreamingWindow(4096), ipc.WithMaxMessage(1<<16))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { // all calls have ended
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		if err := srv.Shutdown(ctx); err != nil {
			f.Error(err)
		}
	})
	nc := broker.ConnectInProcess(f)
	honest, err := natsipc.Dial(f.Context(), broker.ConnectInProcess(f), "echo")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { honest.Close() })
	subjects := []string{"ipcgen.echo.call", "ipcgen.echo.health",
		"ipcgen.echo.at.topic." + natsipc.Token(levels.Name)}
	f.Fuzz(func(t *testing.T, to byte, head []byte, metadata string, frames []byte) {
		before := runs.Load()
		reply := nc.NewInbox() + ".1"
		sub, err := nc.SubscribeSync(reply + ".>")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		m := &nats.Msg{Subject: subjects[int(to)%len(subjects)], Reply: reply + ".1", Data: head}
		if metadata != "" {
			m.Header = nats.Header{"Ipcgen-Meta": {metadata}}
		}
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		a := answerOf(t, nc, sub, frames)
		executed := runs.Load() - before
		if want := refusal(head); want != 0 && (a.code != want || a.outcome != ipc.NotExecuted) {
			t.Errorf("the answer is %v, %v; want %v", a.code, a.outcome, want)
		}
		if call := len(head) > 4 && head[4] >= 1 && head[4] <= 4; call &&
			(executed > 1 || executed == 1 && a.outcome == ipc.NotExecuted ||
				executed == 0 && (a.code == 0 || a.outcome == ipc.Executed)) {
			t.Errorf("a call that was executed %d times has ended with %v, %v: %s", executed,
				a.code, a.outcome, a.text)
		}
		echo.Still(t, honest)
	})
}

// A rawAnswer is the last message of a call.
type rawAnswer struct {
	code    ipc.Code
	outcome ipc.Outcome
	text    []byte
}

// answerOf waits for the last message of a call, and sends frames to a server that takes them, and
// their end.
func answerOf(t *testing.T, nc *nats.Conn, sub *nats.Subscription, frames []byte) (a rawAnswer) {
	t.Helper()
	number, to, cost := uint32(1), "", uint64(0)
	for got := 0; ; {
		m, err := sub.NextMsg(time.Minute)
		if err != nil {
			t.Fatalf("the call does not end: %v", err)
		}
		if !strings.HasSuffix(m.Subject, ".f") {
			told := 0
			if h := m.Header.Get("Ipcgen"); h != "" {
				var taken, epoch uint64
				if _, err := fmt.Sscan(h, &a.code, &a.outcome, &taken, &epoch, &told); err != nil {
					t.Fatalf("the answer is %q: %v", h, err)
				}
			}
			if told != got {
				t.Errorf("the answer tells of %d frames, of %d", told, got)
			}
			a.text = m.Data
			return a
		}
		if binary.LittleEndian.Uint32(m.Data[4:]) == 0 {
			continue // a beat
		}
		switch got++; m.Data[0] {
		case 1: // what the server has sent is taken
			cost += uint64(len(m.Data)) - 8 + 64
			body := append(binary.LittleEndian.AppendUint64(nil, cost), make([]byte, 8)...)
			err = nc.Publish(to, rawFrame(3, 0, number, body...))
			number++
		case 4:
			to = string(m.Data[12:])
			for rest := frames; err == nil && len(rest) > 0; number++ {
				var f []byte
				f, rest = piece(rest)
				err = nc.Publish(to, f)
			}
			if err == nil {
				err = nc.Publish(to, rawFrame(2, 0, number))
			}
			number++
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A liar is a server that answers requests by a script.
type liar struct {
	nc *nats.Conn

	mu     sync.Mutex
	script []byte // that is left
	asked  int
}

// newLiar returns one that serves the channel "echo".
func newLiar(t testing.TB, broker *natstest.Server) *liar {
	t.Helper()
	l := &liar{nc: broker.ConnectInProcess(t)}
	for _, subject := range []string{"ipcgen.echo.call", "ipcgen.echo.at.>", "ipcgen.echo.health"} {
		if _, err := l.nc.Subscribe(subject, l.take); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return l
}

// set begins a script.
func (l *liar) set(script []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.script, l.asked = script, 0
}

// next takes the next piece of the script.
func (l *liar) next() (p []byte) {
	p, l.script = piece(l.script)
	return p
}

// take answers a request. The pieces of a script come in groups: what to send, and its parts.
func (l *liar) take(m *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !bytes.HasPrefix(m.Data, []byte("ipc")) {
		return // a frame of the client
	}
	l.asked++
	number := uint32(0)
	for len(l.script) > 0 {
		what := l.next()
		switch {
		case len(what) == 0:
			continue
		case what[0] == 'l', what[0] == 'a': // the last message
			out := &nats.Msg{Subject: m.Reply, Header: nats.Header{}}
			if h := string(l.next()); h != "" {
				out.Header["Ipcgen"] = []string{h}
			}
			if what[0] == 'a' {
				out.Header["Ipcgen-Again"] = []string{string(l.next())}
			}
			if meta := string(l.next()); meta != "" {
				out.Header["Ipcgen-Meta"] = []string{meta}
			}
			if out.Data = l.next(); len(what) > 1 {
				out.Header["Status"] = []string{"503"}
			}
			_ = l.nc.PublishMsg(out)
			return
		case what[0] == 'r': // a frame as it is
			_ = l.nc.Publish(m.Reply+".f", l.next())
		default: // the kind of a frame, and whether more follow
			number++
			f := rawFrame(what[0]&7, what[0]>>7, number, l.next()...)
			_ = l.nc.Publish(m.Reply+".f", f)
		}
	}
	out := &nats.Msg{Subject: m.Reply, Data: []byte("the script is over")}
	out.Header = nats.Header{"Ipcgen": {fmt.Sprintf("7 0 0 0 %d ", number)}}
	_ = l.nc.PublishMsg(out)
}

// honestGreeting is what an honest server says of itself.
const honestGreeting = "65536 liar\n1 test.Echo\n"

// FuzzAnswer makes calls of all kinds to a server that answers with anything. Each ends, and not by
// a panic.
func FuzzAnswer(f *testing.F) {
	s, text := texts, string(encodedText("hi"))
	accept := acceptedAt("ipcgen.echo.at.liar.1")
	f.Add(s("l", "", "", text))
	f.Add(s("l", "0 0 0 0 0 liar", "", text))
	f.Add(s("l", "0 0 0 0 0 liar", "k=%20", text))
	f.Add(s("l", "0 0 0 0 0 liar", "k=%2", text))
	f.Add(s("l", "5 2 0 0 0 liar", "", "no"))
	f.Add(s("l", "65535 255 18446744073709551615 18446744073709551615 0 ", "", "no"))
	f.Add(s("l", "0 0 0 0 9 liar", "", text))
	f.Add(s("l", "", "", honestGreeting))
	f.Add(s("l", "", "", "2147483647 liar\nffffffffffffffff x 2147483647 2147483647\n"))
	f.Add(s("l5", "", "", ""))
	f.Add(s("a", "8 2 0 0 0 liar", "schema 2", "", "", "l", "", "", "a schema", "l", "", "", text))
	f.Add(s("a", "8 2 0 0 0 liar", "schema x", "", "", "l", "", "", echo.Protocol.Schema))
	f.Add(s("a", "8 2 0 0 0 ", "schema 2", "", ""))
	f.Add(s("a", "3 2 0 0 0 liar", "draining", "", "", "a", "3 2 0 0 0 liar", "draining", "", ""))
	f.Add(s("\x04", accept, "\x01", text, "\x01", text, "l", "0 0 0 0 3 liar", "", ""))
	f.Add(s("\x04", accept, "\x81", text[:5], "\x01", text[5:], "l", "0 0 0 0 3 ", "", ""))
	f.Add(s("\x04", accept, "\x03", strings.Repeat("\xff", 16), "l", "7 0 9 0 2 ", "", ""))
	f.Add(s("\x04", accept, "\x02", "", "l", "0 0 0 0 2 ", "", text))
	f.Add(s("\x04", acceptedAt("ipcgen.echo.at.x\r\nPUB y 0\r\n"), "l5", "", "", ""))
	f.Add(s("\x04", acceptedAt("ipcgen.echo.at."), "\x04", accept, "l5", "", "", ""))
	f.Add(s("\x04", accept, "\x01", text, "a", "3 2 0 0 2 liar", "draining", "", ""))
	f.Add(s("r", "\x01\x00\x00\x00\xff\xff\xff\xff", "r", "\x05", "l", "x", "", ""))

	broker := natstest.Start(f)
	l := newLiar(f, broker)
	nc := broker.ConnectInProcess(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		check := func(what string, err error) {
			t.Helper()
			if err == nil {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("%s does not end: %v", what, err)
			}
			if strings.Contains(err.Error(), "panic") {
				t.Errorf("%s: %v", what, err)
			}
		}
		l.set(script)
		c, err := natsipc.Dial(ctx, nc, "echo", ipc.WithStreamingWindow(4096))
		check("Dial", err)
		if err == nil {
			c.Close()
		}
		l.set(texts("l", "", "", honestGreeting))
		if c, err = natsipc.Dial(ctx, nc, "echo", ipc.WithStreamingWindow(4096)); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for what, f := range map[string]func() error{
			"a call": func() error { _, err := echo.Call(ctx, c, []byte("hi")); return err },
			"a note": func() error { return echo.SendNote(ctx, c, "hi") },
			"health": func() error { _, err := c.Health(ctx, "test.Echo"); return err },
			"items out": func() (err error) {
				for _, err = range echo.CountTo(ctx, c, 3) {
				}
				return err
			},
			"items in": func() error {
				_, err := ipc.InvokeClientStream(ctx, c, echo.Upload, echo.Counted(3))
				return err
			},
			"items both ways": func() (err error) {
				for _, err = range ipc.InvokeBidiStream(ctx, c, echo.Jam, echo.Counted(3)) {
				}
				return err
			},
		} {
			l.set(script)
			check(what, f())
		}
	})
}
