package natsipc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestGroupPermissions serves a group under the configuration of docs/beyond-one-machine.md: a
// client can follow and call the group, and cannot write to its log.
func TestGroupPermissions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/beyond-one-machine.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "### Permissions of a group")
	_, text, _ = strings.Cut(text, "```hocon\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("the page has no configuration")
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := natstest.Start(t, natstest.Config(t, file), natstest.JetStream(t.TempDir()))
	connect := func(opts ...nats.Option) *nats.Conn {
		nc, err := natsipc.Connect(s.ClientURL(), append(opts, nats.Timeout(groupWatchdog))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	l := &list{}
	cfg := listConfig("a", l)
	cfg.Group = "mixer"
	joinList(t, connect(nats.UserInfo("member", "member-secret")), cfg, l)
	refused := make(chan error, 10)
	nc := connect(nats.UserInfo("client", "client-secret"),
		nats.CustomInboxPrefix("_INBOX.client"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	c, err := natsipc.DialGroup(t.Context(), nc, "mixer", natsipc.GroupDialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if got := appendTo(t, c, 1); got != 1 {
		t.Errorf("the list is %d long", got)
	}
	select {
	case err := <-refused:
		t.Errorf("a client needs more: %v", err)
	default:
	}
	for _, subject := range []string{"ipcgen.mixer.log", "$KV.ipcgen_group_mixer.leader",
		"$JS.API.STREAM.DELETE.ipcgen_group_mixer", "ipcgen.mixer.reign"} {
		if err := nc.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !strings.Contains(err.Error(), "Permissions Violation") {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(groupWatchdog):
			t.Errorf("a client may publish to %s", subject)
		}
	}
	if _, err := ipc.Invoke(t.Context(), c, methodLast, &words{}); err != nil {
		t.Error(err)
	}
}
