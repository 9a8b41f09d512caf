package ipc_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A faultyCarrier carries to a Handler, and has a fault in what it implements.
type faultyCarrier struct {
	*ipc.Handler
	of    string
	fault func()
}

func (c *faultyCarrier) Handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
	faulty := *in
	switch c.of {
	case "ipc.Carrier.Handle":
		c.fault()
	case "ipc.Inbound.In":
		if in.In != nil {
			faulty.In = func(func([]byte, error) bool) { c.fault() }
		}
	case "ipc.Inbound.Out":
		if in.Out != nil {
			faulty.Out = func([]byte) bool { c.fault(); return false }
		}
	}
	return c.Handler.Handle(ctx, &faulty)
}

// errEnded stands for the end of the goroutine that makes a call.
var errEnded = errors.New("the goroutine has ended")

// TestFaultyCarriers has what a carrier implements panic, and end its goroutine. The call of the
// client ends with a typed error, or with the goroutine that the carrier has ended, and the next
// one succeeds.
func TestFaultyCarriers(t *testing.T) {
	h, err := ipc.NewHandler(streamingService(ipc.Handle(methodEcho,
		func(_ context.Context, m *blob) (*blob, error) { return m, nil })))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(context.Context, ipc.Caller) error{
		"unary": func(ctx context.Context, c ipc.Caller) error {
			_, err := echo(ctx, c, nil)
			return err
		},
		"client": func(ctx context.Context, c ipc.Caller) error {
			_, err := ipc.InvokeClientStream(ctx, c, methodUpload, counted(3))
			return err
		},
		"bidi": func(ctx context.Context, c ipc.Caller) error {
			return last(ipc.InvokeBidiStream(ctx, c, methodJam, counted(3)))
		},
	}
	for _, of := range []string{"ipc.Carrier.Handle", "ipc.Inbound.In", "ipc.Inbound.Out"} {
		for fault, f := range map[string]func(){
			"panics": func() { panic("on purpose") }, "exits": runtime.Goexit,
		} {
			for kind, call := range calls {
				t.Run(of+"/"+fault+"/"+kind, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					carrier := &faultyCarrier{h, of, f}
					c, err := ipc.NewCarrierClient(carrier)
					if err != nil {
						t.Fatal(err)
					}
					ended := make(chan error, 1)
					go func() {
						err := errEnded
						defer func() { ended <- err }()
						err = call(ctx, c)
					}()
					err = <-ended
					touched := of == "ipc.Carrier.Handle" || kind == "bidi" ||
						of == "ipc.Inbound.In" && kind == "client"
					switch code := ipc.CodeOf(err); {
					case !touched && err != nil:
						t.Errorf("a call without the fault: %v", err)
					case touched && err != errEnded && code != ipc.CodeInternal:
						t.Errorf("a faulty carrier: %v (code %v)", err, code)
					}
					carrier.of = ""
					if err := call(ctx, c); err != nil {
						t.Errorf("the next call: %v", err)
					}
				})
			}
		}
	}
}

// last ranges over a sequence, and returns its error.
func last(seq iter.Seq2[*blob, error]) (err error) {
	for _, e := range seq {
		err = e
	}
	return err
}

// TestNilInbound hands a Handler nothing to handle.
func TestNilInbound(t *testing.T) {
	h, err := ipc.NewHandler(echoService())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Handle(t.Context(), nil); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("a nil Inbound: %v", err)
	}
	if _, err := (*ipc.Handler)(nil).Handle(t.Context(), &ipc.Inbound{}); ipc.CodeOf(err) !=
		ipc.CodeInvalidArgument {
		t.Errorf("a nil Handler: %v", err)
	}
}
