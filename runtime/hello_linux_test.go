package ipc_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestOfferOfAServer lets a server claim more of its client than the client has asked for, or
// than the limits allow: the client refuses it, in a text that has a limit itself.
func TestOfferOfAServer(t *testing.T) {
	const ring = 4096
	honest := ipc.RawHello{ToServer: ring, ToClient: ring, MaxMessage: 1000, MaxCalls: 1}
	with := func(change func(h *ipc.RawHello)) ipc.RawHello {
		h := honest
		change(&h)
		return h
	}
	named := func(name string) *ipc.Protocol {
		return &ipc.Protocol{Name: name, Fingerprint: 0xbad}
	}
	const corrupt, incompatible, unimplemented = ipc.CodeCorrupt, ipc.CodeIncompatible,
		ipc.CodeUnimplemented
	for name, tt := range map[string]struct {
		offer ipc.RawHello
		serve *ipc.Protocol
		opts  []ipc.DialOption
		code  ipc.Code
		want  string
	}{
		"messages longer than the default": {with(func(h *ipc.RawHello) {
			h.MaxMessage = ipc.DefaultMaxMessage + 1
		}),
			echoProtocol, nil, corrupt, "longest message"},
		"messages longer than asked for": {with(func(h *ipc.RawHello) { h.MaxMessage = 5001 }),
			echoProtocol, []ipc.DialOption{ipc.WithMaxMessage(5000)}, corrupt, "longest message"},
		"messages as long as asked for": {with(func(h *ipc.RawHello) { h.MaxMessage = 64 << 20 }),
			echoProtocol, []ipc.DialOption{ipc.WithMaxMessage(64 << 20)}, ipc.CodeOK, ""},
		"a larger ring to the server": {with(func(h *ipc.RawHello) { h.ToServer = 4 * ring }),
			echoProtocol, []ipc.DialOption{ipc.WithRings(ring+1, 0)}, corrupt,
			"ring to the server"},
		"a larger ring to the client": {with(func(h *ipc.RawHello) { h.ToClient = 4 * ring }),
			echoProtocol, []ipc.DialOption{ipc.WithRings(0, ring+1)}, corrupt,
			"ring to the client"},
		"long descriptions": {with(func(h *ipc.RawHello) {
			h.Text = strings.Repeat("x", 16<<20+1)
		}),
			echoProtocol, nil, corrupt, "descriptions"},
		"a description of one long line": {with(func(h *ipc.RawHello) {
			h.Text = strings.Repeat("\x00", 1<<20)
		}),
			named(echoProtocol.Name), []ipc.DialOption{ipc.WithProtocol(echoProtocol)},
			incompatible, "malformed"},
		"long names": {honest, named(strings.Repeat("n", 900<<10)),
			[]ipc.DialOption{ipc.WithProtocol(echoProtocol)}, unimplemented, "does not serve"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			l, err := ipc.Listen("echo", d)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan error, 1)
			go func() {
				raw, err := ipc.RawAccept(l, tt.offer, tt.serve)
				if err == nil {
					defer raw.End()
				}
				done <- err
			}()
			c, err := ipc.Dial(t.Context(), "echo", append(tt.opts, d)...)
			if err == nil {
				c.Close()
			}
			if ipc.CodeOf(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the client says: %.1000v", err)
			}
			if err != nil && len(err.Error()) > 10_000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if told := <-done; told != nil && ipc.CodeOf(told) == ipc.CodeUnknown &&
				strings.Contains(told.Error(), "malformed") {
				t.Errorf("the server cannot read the client's verdict: %v", told)
			}
		})
	}
}

// TestTooMuchToSay serves and names more protocols than a handshake has room for. Each side
// learns it from its own error.
func TestTooMuchToSay(t *testing.T) {
	d := newDomain(t)
	for name, tt := range map[string]struct {
		protocol *ipc.Protocol
		want     string
	}{
		"names": {&ipc.Protocol{Name: strings.Repeat("n", 1<<20)}, "names"},
		"descriptions": {&ipc.Protocol{Name: "test.Long",
			Schema: string(bytes.Repeat([]byte("x"), 16<<20+1))}, "descriptions"},
	} {
		l, err := ipc.Listen("echo", d)
		if err != nil {
			t.Fatal(err)
		}
		err = ipc.NewServer(ipc.NewService(tt.protocol)).Serve(t.Context(), l)
		if ipc.CodeOf(err) != ipc.CodeInvalidArgument ||
			!strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: Serve returns %.1000v", name, err)
		}
	}
	serve(t, d)
	_, err := ipc.Dial(t.Context(), "echo", d,
		ipc.WithProtocol(&ipc.Protocol{Name: strings.Repeat("n", 64<<10)}))
	if ipc.CodeOf(err) != ipc.CodeInvalidArgument ||
		!strings.Contains(fmt.Sprint(err), "WithProtocol") {
		t.Errorf("Dial returns %.1000v", err)
	}
}
