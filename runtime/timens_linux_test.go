package ipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// clockEnv is how far the monotonic clock of the processes that a test starts is ahead of the
// machine's.
const clockEnv = "IPC_TEST_CLOCK"

// keeperRole serves calls that return how long their contexts have left, in nanoseconds.
func keeperRole(domain ipc.RendezvousOption) error {
	left := func(ctx context.Context) *blob {
		deadline, ok := ctx.Deadline()
		if !ok {
			return &blob{}
		}
		return &blob{Data: binary.LittleEndian.AppendUint64(nil, uint64(time.Until(deadline)))}
	}
	srv := ipc.NewServer(ipc.WithTrustedClients(), ipc.NewService(echoProtocol,
		ipc.Handle(methodEcho, func(ctx context.Context, _ *blob) (*blob, error) {
			return left(ctx), nil
		}),
		ipc.Handle(methodBlock, func(ctx context.Context, _ *blob) (*blob, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}),
		ipc.HandleInPlace(methodAside,
			func(ctx context.Context, _ []byte, reply *ipc.ReplyBuilder) error {
				return reply.Build(64, func(b *flatbuffers.Builder, _, _ uint64) {
					_ = encodeBlob(b, 0, left(ctx))
				})
			}),
	))
	return readyOnce(domain, func() error { return srv.Run(context.Background(), "echo", domain) })
}

// TestDeadlinesOfHandlers compares the deadlines of calls with those that their handlers see in
// another process.
func TestDeadlinesOfHandlers(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "d")
	startChild(t, "keeper", domain)
	c := dial(t, ipc.WithDomain(domain))
	for name, call := range map[string]func(context.Context) (*blob, error){
		"plain": func(ctx context.Context) (*blob, error) {
			return ipc.Invoke(ctx, c, methodEcho, &blob{})
		},
		"in pieces": func(ctx context.Context) (*blob, error) {
			return ipc.Invoke(ctx, c, methodEcho, &blob{Data: make([]byte, 600_000)})
		},
		"in place": func(ctx context.Context) (*blob, error) {
			m := new(blob)
			return m, c.InvokeInPlace(ctx, &ipc.InPlaceCall{
				Method: methodAside.Info(), Size: 64,
				Build: func(b *flatbuffers.Builder, _ uint64) { _ = encodeBlob(b, 0, &blob{}) },
				Read: func(reply []byte) error {
					_, err := decodeBlob(reply, m)
					m.Data = bytes.Clone(m.Data)
					return err
				},
			})
		},
	} {
		const limit = time.Hour
		deadline := time.Now().Add(limit)
		ctx, cancel := context.WithDeadline(t.Context(), deadline)
		m, err := call(ctx)
		cancel()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		left := time.Duration(binary.LittleEndian.Uint64(m.Data))
		// The handler's deadline is the earlier one, by what the handshake could not measure.
		if left > limit || left < time.Until(deadline)-limit/2 {
			t.Errorf("%s: the handler has %v left, the caller %v", name, left, time.Until(deadline))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := ipc.Invoke(ctx, c, methodBlock, &blob{})
	want(t, err, ipc.CodeDeadlineExceeded, ipc.OutcomeOf(err))
}

// TestTimeNamespaces runs the tests of deadlines, and of what is said when they pass, with the two
// sides in different time namespaces.
func TestTimeNamespaces(t *testing.T) {
	if os.Getenv(clockEnv) != "" {
		t.Skip("this is one of the runs")
	}
	if err := systest.TimeNamespaces(); err != nil {
		t.Skip(err)
	}
	for name, at := range map[string]struct{ client, server time.Duration }{
		"the server is a day ahead": {0, 24 * time.Hour},
		"the client is a day ahead": {24 * time.Hour, 0},
		"both are ahead":            {25*time.Hour + 1, 24*time.Hour + time.Second - 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.v",
				"-test.run=^(TestDeadlinesOfHandlers|TestOutcomes)$/^(|.*deadlines.*)$")
			cmd.Env = append(os.Environ(), systest.ClockVar+"="+at.client.String(),
				clockEnv+"="+at.server.String())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, ran := range []string{"TestDeadlinesOfHandlers",
				"TestOutcomes/a_stop_of_the_server,_and_deadlines"} {
				if !bytes.Contains(out, fmt.Appendf(nil, "--- PASS: %s ", ran)) {
					t.Errorf("%s did not run:\n%s", ran, out)
				}
			}
		})
	}
}
