package ipc_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func nobodyServes(t *testing.T, v ipc.RendezvousOption) {
	_, err := ipc.Dial(t.Context(), "echo", v)
	want(t, err, ipc.CodeUnavailable, ipc.NotSent, "dial echo", "start the server first")
	for _, name := range []string{"", "a/b", ".."} {
		_, err := ipc.Dial(t.Context(), name, v)
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
		_, err = ipc.Listen(name, v)
		want(t, err, ipc.CodeInvalidArgument, ipc.NotSent)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ipc.Dial(ctx, "echo", v); ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("dial with a context that is over: %v", err)
	}
}

func servesNothing(t *testing.T, v ipc.RendezvousOption) {
	host(t, v)
	_, err := ipc.Dial(t.Context(), "echo", v, ipc.WithProtocol(echoProtocol))
	want(t, err, ipc.CodeUnimplemented, ipc.NotSent, "test.Echo", "NewServer")
}

func oneServerPerName(t *testing.T, v ipc.RendezvousOption) {
	l, err := ipc.Listen("echo", v)
	if err != nil {
		t.Fatal(err)
	}
	if l.Channel() != "echo" {
		t.Errorf("channel %q", l.Channel())
	}
	_, err = ipc.Listen("echo", v)
	want(t, err, ipc.CodeAlreadyExists, ipc.OutcomeUnknown, "echo")
	other, err := ipc.Listen("other", v)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(l.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	}
	if l, err = ipc.Listen("echo", v); err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func serverThatDoesNotAnswer(t *testing.T, v ipc.RendezvousOption) {
	l, err := ipc.Listen("echo", v) // and never Serve
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = ipc.Dial(t.Context(), "echo", v, ipc.WithHandshakeTimeout(10*time.Millisecond))
	want(t, err, ipc.CodeDeadlineExceeded, ipc.NotSent, "does not answer")
	dials := func(ctx context.Context) error {
		_, err := ipc.Dial(ctx, "echo", v)
		return err
	}
	ended(t, ipc.CodeDeadlineExceeded, "does not answer", dials)
	ended(t, ipc.CodeCanceled, "does not answer", dials)
}

// ended makes attempts whose contexts end while they wait, and that are certain not to have been
// sent then, until one says what it has waited for: on a slow machine, a context may end before the
// attempt has come there. Each has twice as much time as the one before.
func ended(t *testing.T, code ipc.Code, waited string, attempt func(context.Context) error) {
	t.Helper()
	for limit := 10 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithCancel(t.Context())
		if code == ipc.CodeDeadlineExceeded {
			ctx, cancel = context.WithTimeout(ctx, limit)
		} else {
			time.AfterFunc(limit, cancel)
		}
		err := attempt(ctx)
		cancel()
		if limit > 10*time.Second || err == nil || strings.Contains(err.Error(), waited) {
			want(t, err, code, ipc.NotSent, waited)
			return
		}
		want(t, err, code, ipc.NotSent)
	}
}

// A lockedLog collects what a server logs.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedLog) option() ipc.Option {
	return ipc.WithLogger(slog.New(slog.NewTextHandler(l, nil)))
}

func protocolsAreCompared(t *testing.T, v ipc.RendezvousOption) {
	const name, base = "test.Shape", "table test.Shape\nfield 0 size int 0\n"
	version := func(fingerprint uint64, schema string) *ipc.Protocol {
		return &ipc.Protocol{Name: name, Fingerprint: fingerprint, Schema: schema}
	}
	var log lockedLog
	srv := host(t, v, echoService(), ipc.NewService(version(1, base)), log.option())
	for _, tt := range []struct {
		what     string
		protocol *ipc.Protocol
		code     ipc.Code
		says     string
	}{
		{"the same", version(1, base), ipc.CodeOK, ""},
		{"one more field", version(2, base+"field 1 color int 0\n"), ipc.CodeOK, ""},
		{"one field less", version(3, "table test.Shape\n"), ipc.CodeOK, ""},
		{"another type", version(4, "table test.Shape\nfield 0 size float 0\n"),
			ipc.CodeIncompatible, "size float 0"},
		{"a required field", version(5, base+"field 1 name string - required\n"),
			ipc.CodeIncompatible, "name"},
		{"not served", &ipc.Protocol{Name: "test.Other"}, ipc.CodeUnimplemented,
			"test.Echo, test.Shape"},
	} {
		c, err := ipc.Dial(t.Context(), "echo", v, ipc.WithProtocol(tt.protocol))
		if ipc.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", tt.what, err)
		}
		if err == nil {
			still(t, c)
			c.Close()
			continue
		}
		want(t, err, tt.code, ipc.NotSent, tt.says)

		// Without WithProtocol the first use tells.
		c = dial(t, v)
		m := ipc.NewMessage(tt.protocol,
			ipc.MessageSpec[blob]{Name: "Note", ID: 1, Encode: encodeBlob, Decode: decodeBlob})
		want(t, ipc.Send(t.Context(), c, m, &blob{}), tt.code, ipc.NotSent, tt.says)
		still(t, c)
		c.Close()
	}
	srv.Close()
	srv.Shutdown(t.Context()) // so that it has logged all
	for _, says := range []string{"size float 0", "client refused"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the server does not log %q but\n%s", says, log.String())
		}
	}
}

func replyChannelsAreCompared(t *testing.T, v ipc.RendezvousOption) {
	l, err := ipc.Listen("echo", v, ipc.WithReplyChannel("reply"))
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(echoService())
	served := make(chan error)
	go func() { served <- srv.Serve(context.Background(), l) }()
	still(t, dial(t, v))
	still(t, dial(t, v, ipc.WithReplyChannel("reply")))
	_, err = ipc.Dial(t.Context(), "echo", v, ipc.WithReplyChannel("other"))
	want(t, err, ipc.CodeIncompatible, ipc.NotSent, `"other"`, `"reply"`)
	srv.Close()
	if err := <-served; err != ipc.ErrServerClosed {
		t.Error(err)
	}
}

func whoMayConnect(t *testing.T, v ipc.RendezvousOption) {
	asked := make(chan ipc.Peer, 10)
	var log lockedLog
	refuse := ipc.WithAuthorize(func(p ipc.Peer) error {
		asked <- p
		return errors.New("not on the list")
	})
	srv := host(t, v, echoService(), refuse, log.option())
	_, err := ipc.Dial(t.Context(), "echo", v)
	want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "not on the list")
	var e *ipc.Error
	if !errors.As(err, &e) || !e.Remote {
		t.Errorf("%#v does not come from the server", err)
	}
	_, err = ipc.Dial(t.Context(), "echo", v, refuse)
	want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "not on the list")
	if errors.As(err, &e) && e.Remote {
		t.Errorf("%#v comes from the server", err)
	}
	srv.Close()
	srv.Shutdown(t.Context())
	close(asked)
	for p := range asked {
		if p.PID != os.Getpid() || p.UID != os.Geteuid() {
			t.Errorf("asked about peer %d of user %d", p.PID, p.UID)
		}
	}
	if !strings.Contains(log.String(), "not on the list") {
		t.Errorf("the server logs %q", log.String())
	}
}

func servicesThatClash(t *testing.T, v ipc.RendezvousOption) {
	l, err := ipc.Listen("echo", v)
	if err != nil {
		t.Fatal(err)
	}
	err = ipc.NewServer(echoService(), echoService()).Serve(t.Context(), l)
	want(t, err, ipc.CodeInvalidArgument, ipc.OutcomeUnknown, "test.Echo/", "same id")
	host(t, v, echoService()) // the name is free
	_, err = ipc.Dial(t.Context(), "echo", v, echoes(notes(nil)), echoes(notes(nil)))
	want(t, err, ipc.CodeInvalidArgument, ipc.OutcomeUnknown, "test.Echo/Note", "same id")
}
