package natsipc_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// request returns a request as the documentation of the package describes it: without a deadline,
// in one piece, from a client that knows version 1 of the protocol.
func request(kind byte, method uint32, protocol string, body ...byte) []byte {
	b := append([]byte("ipc\x02"), kind, 1, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, 1) // the sequence number
	b = binary.LittleEndian.AppendUint64(b, math.MaxUint64)
	b = binary.LittleEndian.AppendUint64(b, 0) // the epoch
	b = binary.LittleEndian.AppendUint32(b, method)
	b = binary.LittleEndian.AppendUint32(b, 1<<16)
	b = binary.LittleEndian.AppendUint32(b, 9999) // the longest reply
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(protocol)))
	b = binary.LittleEndian.AppendUint64(b, 1) // the fingerprint
	return append(append(b, protocol...), body...)
}

// TestRequestBytes sends requests that are written as the documentation says, and those of clients
// of other versions, and of none.
func TestRequestBytes(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.Service())
	nc := broker.ConnectInProcess(t)
	body := []byte{4, 0, 0, 0, 2, 0, 0, 0, 'h', 'i', 0, 0} // of the codec of package echo
	m, err := nc.Request("ipcgen.echo.call", request(1, echo.ID("test.Echo/Echo"), "test.Echo",
		body...), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Header) != 0 || !strings.Contains(string(m.Data), "hi") {
		t.Errorf("the answer is %q with %v", m.Data, m.Header)
	}
	later := append([]byte("ipc\x03"), make([]byte, 100)...)
	first := &nats.Msg{Header: nats.Header{"Ipcgen": {"1 call 0 0 - 0 1 1 1 0 test.Echo"}}}
	for text, m := range map[string]*nats.Msg{
		"8 2 the client speaks version 3 of the wire": {Data: later},
		"8 2 the client speaks version 1 of the wire": first,
		"5 2 this is no request of natsipc":           {Data: []byte("hello")},
		"9 2 malformed request":                       {Data: request(1, 0, "")[:51]},
	} {
		m.Subject = "ipcgen.echo.call"
		m, err := nc.RequestMsg(m, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if h := m.Header.Get("Ipcgen"); len(h) < 4 ||
			!strings.HasPrefix(h[:4]+string(m.Data), text) {
			t.Errorf("the answer is %q with %q, not %q", m.Data, h, text)
		}
	}
}

// TestServerOfVersion1 dials a server that looks for a header in requests.
func TestServerOfVersion1(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	nc := broker.ConnectInProcess(t)
	if _, err := nc.Subscribe("ipcgen.echo.call", func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Ipcgen": {"5 2 0 0 0 name"}},
			Data: []byte("the request has no header Ipcgen; make it with natsipc")})
	}); err != nil {
		t.Fatal(err)
	}
	_, err := natsipc.Dial(t.Context(), nc, "echo")
	echo.Want(t, err, ipc.CodeIncompatible, ipc.NotExecuted, "the server speaks version 1",
		"the client 2", "build both with the same version of natsipc")
}
