package ipc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestHostileLinks lets one of the two servers to which a client keeps warm links be one that
// breaks every rule, as the server and as the one that could be next. Calls end by their deadlines,
// and those to the honest server are answered.
func TestHostileLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	l, err := ipc.Listen("honest", ipc.WithDomain(path))
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(everything()...)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	defer func() {
		srv.Close()
		<-done
	}()
	rounds := 200
	if testing.Short() {
		rounds = 60
	}
	startChild(t, "hostile", path, sideEnv+"=server", "IPC_TEST_SEED="+
		itoa(int(rand.Uint32())))
	p := startChild(t, "link prey", path, callsEnv+"="+itoa(rounds))
	p.succeeds(t)
}

// A turnstile is a resolver whose server is the hostile one in odd rounds, and the honest one in
// even ones. Links are kept to both.
type turnstile struct {
	round   atomic.Int64
	changed chan struct{}
}

func (s *turnstile) Resolve() ipc.Target {
	honest, hostile := ipc.Endpoint{Channel: "honest"}, ipc.Endpoint{Channel: "echo"}
	n := s.round.Load()
	t := ipc.Target{Endpoint: honest, Warm: []ipc.Endpoint{honest, hostile}, Epoch: uint64(n)}
	if n%2 == 1 {
		t.Endpoint = hostile
	}
	return t
}

func (s *turnstile) Watch(ctx context.Context, changed func()) error {
	for {
		changed()
		select {
		case <-s.changed:
		case <-time.After(5 * time.Millisecond): // the hostile server ends its links
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// linkPreyRole is a client that makes calls while its server changes, and one that only receives.
func linkPreyRole(domain ipc.RendezvousOption) error {
	rounds, err := strconv.Atoi(os.Getenv(callsEnv))
	if err != nil {
		return err
	}
	s := &turnstile{changed: make(chan struct{}, 1)}
	c, err := ipc.NewClient(s, domain, ignoreNotes())
	if err != nil {
		return err
	}
	idle, err := ipc.NewClient(s, domain, ignoreNotes())
	if err != nil {
		return err
	}
	before := runtime.NumGoroutine()
	fmt.Println("ready")
	for n := range 2 * rounds {
		s.round.Store(int64(n))
		s.changed <- struct{}{}
		limit := 20 * time.Millisecond
		if n%2 == 0 {
			limit = 30 * time.Second
		}
		for range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			err := watch(func() error {
				_, err := ipc.Invoke(ctx, c, methodEcho, &blob{Data: make([]byte, 100)})
				return err
			})
			if err == nil && n%2 == 1 {
				_ = ipc.Send(ctx, c, messageNote, &blob{Data: make([]byte, 50)})
			}
			cancel()
			if err := typed(err); err != nil {
				return err
			}
			// A call that began before the client had learnt of the change may go to the other.
			if ipc.CodeOf(err) == ipc.CodeDeadlineExceeded && n%2 == 0 {
				return fmt.Errorf("round %d, the honest server: %w", n, err)
			}
		}
	}
	s.round.Store(int64(2 * rounds))
	s.changed <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if _, err = ipc.Invoke(ctx, c, methodEcho, &blob{Data: []byte("x")}); err == nil {
			break
		} else if ctx.Err() != nil {
			return fmt.Errorf("the honest server, at the end: %w", err)
		}
	}
	if n := runtime.NumGoroutine(); n > before+100 {
		return fmt.Errorf("%d goroutines, and %d before", n, before)
	}
	if err := c.Close(); err != nil {
		return err
	}
	if err := idle.Close(); err != nil {
		return err
	}
	return standing()
}
