package ipc_test

import (
	"context"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// TestRelayAnnouncesWhatItPassesOn has three versions of a protocol: of a client, a gateway and a
// server. The gateway's goes with either of the others, which do not go with each other, so what
// the server has more than the gateway must keep calls away from it.
func TestRelayAnnouncesWhatItPassesOn(t *testing.T) {
	version := func(fingerprint uint64, fields string) *ipc.Protocol {
		return &ipc.Protocol{Name: "test.Echo", Fingerprint: fingerprint, Schema: "service " +
			"test.Echo\nmethod Echo test.Blob test.Blob\ntable test.Blob\n" + fields}
	}
	const data = "field 0 data [uint8] -\n"
	client, between := version(1, data+"field 1 gain float32 0\n"), version(2, data)
	server := version(3, data+"field 1 mute bool 0\n")
	svc, err := ipc.Relay(between, none{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		client, server *ipc.Protocol
		code           ipc.Code
	}{
		{client, between, ipc.CodeOK}, {between, server, ipc.CodeOK},
		{client, server, ipc.CodeIncompatible}, {svc.Protocol(), between, ipc.CodeOK},
		{svc.Protocol(), server, ipc.CodeIncompatible},
	} {
		if err := ipc.CheckCompatible(tt.client, tt.server); ipc.CodeOf(err) != tt.code {
			t.Errorf("%x with %x: %v", tt.client.Fingerprint, tt.server.Fingerprint, err)
		}
	}
	executed := false
	for _, p := range []*ipc.Protocol{between, server} {
		network := ipctest.NewNetwork()
		ipctest.Serve(t, network, "echo", ipc.NewService(p, ipc.Handle(
			ipc.NewMethod(p, echoSpec("Echo")), func(_ context.Context, b *blob) (*blob,
				error) {
				executed = p == server
				return b, nil
			})))
		c, err := ipc.Dial(t.Context(), "echo", network)
		if err != nil {
			t.Fatal(err)
		}
		to, err := ipc.CarryTo(c, between)
		if err != nil {
			t.Fatal(err)
		}
		_, err = to.Handle(t.Context(), &ipc.Inbound{Protocol: between,
			Method: idOf("test.Echo/Echo"), Body: encoded(t)})
		if p == between && err != nil {
			t.Error(err)
		}
		if p == server {
			want(t, err, ipc.CodeUnavailable, ipc.NotSent, "mute", "not announced yet")
		}
		c.Close()
	}
	if executed {
		t.Error("the call has come to the server")
	}
}

// encoded is a message of the test.
func encoded(t *testing.T) []byte {
	t.Helper()
	b := flatbuffers.NewBuilder(0)
	if err := encodeBlob(b, 0, &blob{}); err != nil {
		t.Fatal(err)
	}
	return b.FinishedBytes()
}

// none is a carrier that has no server.
type none struct{}

// Handle implements ipc.Carrier.
func (none) Handle(context.Context, *ipc.Inbound) (ipc.Outbound, error) {
	return ipc.Outbound{}, &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent}
}
