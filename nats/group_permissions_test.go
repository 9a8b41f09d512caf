package natsipc_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
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

// TestGroupForbidden has users who lack a permission of a member. NATS does not answer what they
// send, and tells them of that beside; the errors say which permission is missing.
func TestGroupForbidden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, deny string }{
		{"the API of JetStream", "$JS.API.>"},
		{"the bucket", "$KV.ipcgen_group_test_2Elist.>"},
		{"the log", "ipcgen.test=2Elist.log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conf := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(conf, []byte(`authorization { users = [ { user: all, password: all },
				{ user: m, password: m, permissions: { publish: { deny: "`+c.deny+`" } } } ] }`),
				0o600); err != nil {
				t.Fatal(err)
			}
			s := natstest.Start(t, natstest.Config(t, conf), natstest.JetStream(t.TempDir()))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			told := make(chan string, 1)
			nc, err := natsipc.Connect(s.ClientURL(), nats.UserInfo("m", "m"),
				nats.Timeout(groupWatchdog),
				nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {
					if c.deny == "$JS.API.>" {
						cancel() // there would be no answer
					}
				}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			l := &list{}
			cfg := listConfig("a", l)
			cfg.Lease = time.Second // for attempts that are not answered
			cfg.Logger = slog.New(slog.NewTextHandler(toldOf(told, "may not do"), nil))
			m, err := natsipc.JoinGroup(ctx, nc, cfg, l.service())
			text := ""
			if err == nil {
				defer closeMember(t, m)
				select {
				case text = <-told:
				case <-time.After(groupWatchdog):
					t.Fatal("no member says what is missing")
				}
			} else {
				text = err.Error()
			}
			if !strings.Contains(text, "docs/beyond-one-machine.md") ||
				!strings.Contains(text, strings.TrimSuffix(c.deny, ">")) {
				t.Errorf("error %v", text)
			}
			// It does not stand in the way of one that has all permissions.
			nc, err = natsipc.Connect(s.ClientURL(), nats.UserInfo("all", "all"),
				nats.Timeout(groupWatchdog))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			other := &list{}
			joinList(t, nc, listConfig("b", other), other)
			if got := appendTo(t, dialList(t, nc), 1); got != 1 {
				t.Errorf("the list is %d long", got)
			}
		})
	}
}

// toldOf returns a writer that passes the first line with a text to a channel.
func toldOf(told chan<- string, text string) io.Writer {
	return writerFunc(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte(text)) {
			select {
			case told <- string(line):
			default:
			}
		}
		return len(line), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
