// Package replica is this program as a replica of a group.
package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// envReplica makes a process a replica: whether it counts or tells its process
// id, and its Ballast.
const envReplica = "IPCGEN_BENCH_REPLICA"

// Main turns the process into a replica if its environment says so, and then
// does not return.
func Main() {
	what, ok := os.LookupEnv(envReplica)
	if !ok {
		return
	}
	if err := run(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A Ballast is memory that a process holds.
type Ballast struct {
	Bytes int
	Huge  bool // in huge pages
}

// Teller makes the configuration of a group whose replicas answer Put with what
// Told reads, and hold the ballast each.
func Teller(service string, b Ballast) group.Config { return config(service, "tell", b) }

// Counter makes the configuration of a group whose replicas answer Put with the
// number of calls so far. That is their state, which a group may replicate.
func Counter(service string) group.Config { return config(service, "count", Ballast{}) }

func config(service, kind string, b Ballast) group.Config {
	return group.Config{
		Service: service, Stdout: io.Discard, Stderr: io.Discard,
		Command: func(int) *exec.Cmd {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), fmt.Sprint(envReplica, "=", kind, " ", b.Bytes, " ",
				b.Huge))
			return cmd
		},
	}
}

// run serves until SIGTERM.
func run(what string) error {
	var kind string
	var b Ballast
	if _, err := fmt.Sscan(what, &kind, &b.Bytes, &b.Huge); err != nil {
		return fmt.Errorf("%s=%q: %w", envReplica, what, err)
	}
	if err := peer.KeepPlace(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	memory, err := b.Load()
	if err != nil {
		return err
	}
	var service bulk.Bulk = teller{memory}
	var cfg group.JoinConfig
	if kind == "count" {
		c := new(counter)
		service, cfg.State = c, c
	}
	m, err := group.Join(cfg)
	if err != nil {
		return err
	}
	defer m.Close()
	l, err := ipc.Listen(m.Name())
	if err != nil {
		return err
	}
	srv := ipc.NewServer(m.ServerOptions(bulk.NewBulkService(service))...)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	if err := m.Announce(registry.Record{Control: m.Name()}); err != nil {
		return err
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		return srv.Shutdown(context.Background())
	}
}

// HugePages reports whether the kernel gives a process that asks for it memory in huge pages.
func HugePages() bool {
	enabled, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	return err == nil && !bytes.Contains(enabled, []byte("[never]"))
}

// Load makes the process as large as a service that holds so much, as long as
// the result is kept.
func (b Ballast) Load() ([]byte, error) {
	memory := make([]byte, b.Bytes)
	if b.Huge && b.Bytes > 0 {
		// Before the first touch: the kernel chooses the size of a page then.
		if err := unix.Madvise(memory, unix.MADV_HUGEPAGE); err != nil {
			return nil, fmt.Errorf("advise huge pages: %w", err)
		}
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory, nil
}

// A teller tells who answers, and when.
type teller struct{ memory []byte }

// pidBits is the length of a process id: the kernel's limit is 1<<22.
const pidBits = 22

func (teller) Put(context.Context, *bulk.BlockT) (*bulk.TakenT, error) {
	return &bulk.TakenT{Size: uint64(sys.Monotonic())<<pidBits | uint64(os.Getpid())}, nil
}

// Told reads the answer of a replica of a Teller: which process has handled the
// call, and how long ago.
func Told(answer *bulk.TakenT) (pid int, ago time.Duration) {
	now := uint64(sys.Monotonic()) << pidBits
	return int(answer.Size & (1<<pidBits - 1)),
		time.Duration((now - answer.Size>>pidBits<<pidBits) >> pidBits)
}

// A counter counts calls.
type counter struct{ calls atomic.Uint64 }

func (c *counter) Put(context.Context, *bulk.BlockT) (*bulk.TakenT, error) {
	return &bulk.TakenT{Size: c.calls.Add(1)}, nil
}

// Snapshot implements group.State.
func (c *counter) Snapshot() ([]byte, error) {
	return binary.NativeEndian.AppendUint64(nil, c.calls.Load()), nil
}

// Restore implements group.State.
func (c *counter) Restore(snapshot []byte) error {
	if len(snapshot) != 8 {
		return fmt.Errorf("a snapshot of %d bytes", len(snapshot))
	}
	c.calls.Store(binary.NativeEndian.Uint64(snapshot))
	return nil
}
