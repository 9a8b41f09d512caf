// Package failover measures how long the clients of a group are without an
// answer when its primary dies, beside the time in which the kernel itself
// lets anybody know of a death.
package failover

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

const (
	service = "failover"
	// envReplica makes a process a replica; it holds its ballast in bytes.
	envReplica = "IPCGEN_BENCH_REPLICA"
)

// Main turns the process into a replica if its environment says so, and then
// does not return.
func Main() {
	size, ok := os.LookupEnv(envReplica)
	if !ok {
		return
	}
	if err := replica(size); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// replicaCommand runs this program again as a replica.
func replicaCommand(ballast int) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envReplica+"="+strconv.Itoa(ballast))
	return cmd
}

// replica serves until SIGTERM.
func replica(size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	if err := peer.KeepPlace(); err != nil {
		return err
	}
	memory := load(n)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	m, err := group.Join(group.MemberConfig{})
	if err != nil {
		return err
	}
	defer m.Close()
	l, err := ipc.Listen(m.Name())
	if err != nil {
		return err
	}
	srv := ipc.NewServer(bulk.NewBulkService(who{memory}), ipc.WithFence(m))
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

// load makes the process as large as a service with that much state.
func load(n int) []byte {
	memory := make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory
}

// who tells who answers: its reply is the process id.
type who struct{ memory []byte }

func (who) Put(context.Context, *bulk.BlockT) (*bulk.TakenT, error) {
	return &bulk.TakenT{Size: uint64(os.Getpid())}, nil
}
