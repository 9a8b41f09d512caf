package natsipc_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/cluster"
)

// TestGroupServerKilledBehindAnswer kills the only server right after an answer, again and again.
// The server passes each change to the disk before it confirms it, so every answer is kept, for
// members that live on as for one that begins anew.
func TestGroupServerKilledBehindAnswer(t *testing.T) {
	t.Parallel()
	ports, err := cluster.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Config{Name: "s", Client: ports[0], Dir: filepath.Join(t.TempDir(), "store"),
		Sync: true}
	start := func() *process {
		p, err := spawn("server", cfg, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		return p
	}
	server := start()
	url := (&machine{cfg: cfg}).url()
	connect := func() *nats.Conn {
		nc, err := natsipc.Connect(url, nats.ReconnectWait(20*time.Millisecond),
			nats.Timeout(groupWatchdog))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	join := func(member string) *list {
		l := &list{}
		joinList(t, connect(), natsipc.GroupConfig{Group: "test.list", Member: member, State: l,
			Lease: 2 * time.Second, SnapshotEvery: 10, Logger: slog.New(slog.DiscardHandler)}, l)
		return l
	}
	join("a")
	c := dialList(t, connect())
	var answered words
	for range 4 {
		for range 7 {
			n := uint64(len(answered) + 1)
			if got := appendTo(t, c, n); got != n {
				t.Fatalf("change %d made the list %d long", n, got)
			}
			answered = append(answered, n)
		}
		server.kill()
		server = start()
	}
	late := join("b")
	eventually(t, "a new member has what was answered", func() bool {
		return len(late.copy()) == len(answered)
	})
	for i, x := range late.copy() {
		if x != answered[i] {
			t.Fatalf("the list is %v", late.copy())
		}
	}
}
