package natsipc_test

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// heap returns how much memory is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools keep
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestCancellationsCostLittle cancels calls that no server has, by long names. A server remembers
// the cancellation of a call that may come yet, and no subject of a call is so long, or elsewhere.
func TestCancellationsCostLittle(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.Service())
	nc := broker.ConnectInProcess(t)
	c := dial(t, nc)
	echo.Still(t, c)
	before := heap()
	const n, length = 128, 512 << 10
	for i := range n {
		for _, inbox := range []string{"_INBOX.", "elsewhere."} {
			reply := append([]byte(inbox), make([]byte, length)...)
			reply[len(reply)-1] = byte(i)
			m := append(make([]byte, 10), reply...)
			if err := nc.Publish("ipcgen.echo.cancel", m); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 { // behind them all, and the memory of connections has had other messages
		echo.Still(t, c)
	}
	if grown := int64(heap()) - int64(before); grown > n*length/4 {
		t.Errorf("the memory has grown by %d bytes", grown)
	}
}

// lying returns a client of a server that answers by a script, once it has greeted the client.
func lying(t *testing.T, opts ...nats.Option) (*liar, *natsipc.Conn) {
	t.Helper()
	broker := natstest.Start(t)
	l := newLiar(t, broker)
	nc, err := natsipc.Connect(broker.ClientURL(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l.set(texts("l", "", "", honestGreeting))
	return l, dial(t, nc)
}

// TestRefusalBehindItems has a server refuse a call of which it has sent items. The call is not
// made once more, for the items would come twice, and is not said to be not executed.
func TestRefusalBehindItems(t *testing.T) {
	l, c := lying(t)
	l.set(texts("\x04", acceptedAt("ipcgen.echo.at.liar.1"), "\x01", string(encodedText("hi")),
		"a", "3 2 0 0 2 liar", "draining", "", "no", "l", "", "", ""))
	items := 0
	var last error
	for _, err := range echo.CountTo(t.Context(), c, 3) {
		if last = err; err == nil {
			items++
		}
	}
	echo.Want(t, last, ipc.CodeUnavailable, ipc.OutcomeUnknown, "no")
	if l.mu.Lock(); items != 1 || l.asked != 1 {
		t.Errorf("%d items have come of %d calls", items, l.asked)
	}
	l.mu.Unlock()
}

// TestReplyWithoutItsFrames has a server forget the number of frames with the reply.
func TestReplyWithoutItsFrames(t *testing.T) {
	l, c := lying(t)
	l.set(texts("\x04", acceptedAt("ipcgen.echo.at.liar.1"), "l", "", "",
		string(encodedText("hi"))))
	_, err := echo.Call(t.Context(), c, nil)
	echo.Want(t, err, ipc.CodeUnavailable, ipc.OutcomeUnknown, "1 frames came of 0")
}

// TestSubjectOfSeveralLines has a server name a subject for frames that NATS would read as a
// message of the client's to another subject.
func TestSubjectOfSeveralLines(t *testing.T) {
	l, c := lying(t, nats.SkipSubjectValidation())
	stolen, err := l.nc.SubscribeSync("orders")
	if err != nil {
		t.Fatal(err)
	}
	for _, blank := range []string{"\r\n", "\n", "\t"} {
		at := "ipcgen.echo.at.liar.1 0" + blank + blank + "PUB orders 0" + blank + blank + "PUB x"
		l.set(texts("\x04", acceptedAt(strings.ReplaceAll(at, " ", "\t"))))
		_, err = ipc.InvokeClientStream(t.Context(), c, echo.Upload, echo.Counted(3))
		echo.Want(t, err, ipc.CodeCorrupt, ipc.OutcomeUnknown, "wants frames at")
	}
	if n, _, _ := stolen.Pending(); n != 0 {
		t.Errorf("the client has sent %d messages elsewhere", n)
	}
}

// TestFailureWhileItemsWait loses a frame of a client while its handler waits for credit. The call
// ends, though the client cannot give credit any more.
func TestFailureWhileItemsWait(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.StreamingService())
	nc := broker.ConnectInProcess(t)
	text := encodedText(strings.Repeat("x", 1900)) // of which the window takes two
	reply := nc.NewInbox()
	sub, err := nc.SubscribeSync(reply + ".>")
	if err != nil {
		t.Fatal(err)
	}
	r := request(4, echo.ID("test.Echo/Jam"), "test.Echo")
	binary.LittleEndian.PutUint32(r[36:], 4096)
	if err := nc.PublishRequest("ipcgen.echo.call", reply+".1", r); err != nil {
		t.Fatal(err)
	}
	to := ""
	for {
		m, err := sub.NextMsg(time.Minute)
		if err != nil {
			t.Fatalf("the call does not end: %v", err)
		}
		switch {
		case !strings.HasSuffix(m.Subject, ".f"):
			if h := m.Header.Get("Ipcgen"); !strings.HasPrefix(h, "3 0 ") ||
				!strings.Contains(string(m.Data), "NATS has lost a part of the call") {
				t.Errorf("the answer is %q: %q", h, m.Data)
			}
			return
		case m.Data[0] == 4:
			to = string(m.Data[12:])
			for number := range uint32(3) {
				if err := nc.Publish(to, rawFrame(1, 0, number+1, text...)); err != nil {
					t.Fatal(err)
				}
			}
		case m.Data[4] == 3: // the second item
			if err := nc.Publish(to, rawFrame(2, 0, 9)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
