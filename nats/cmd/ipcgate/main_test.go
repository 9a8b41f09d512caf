package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// engine is a service that generated code serves and calls.
type engine struct {
	audio.UnimplementedAudioControl
}

// SetParam implements audio.AudioControl.
func (engine) SetParam(_ context.Context, m *audio.SetParamT) (*audio.AckT, error) {
	return nil, ipc.Errorf(ipc.CodeNotFound, "no parameter %d", m.ParamId)
}

// TestGates runs both commands: generated code of one machine calls that of another.
func TestGates(t *testing.T) {
	broker := natstest.Start(t)
	there, here := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "d")
	if l, err := ipc.Listen("probe", ipc.WithDomain(here)); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	} else {
		l.Close()
	}
	ipctest.Serve(t, ipc.WithDomain(there), "engine", audio.NewAudioControlService(engine{}))
	ctx, cancel := context.WithCancel(t.Context())
	var stderr [2]bytes.Buffer
	ended := make(chan int, 2)
	for i, args := range [][]string{
		{"export", "-nats", broker.ClientURL(), "-domain", there, "-beat", "1s", "-max-calls", "7",
			"-max-message", "65536", "-version", "1.2.3", "-about", "the engine",
			"-inbox", "_INBOX.gate,_INBOX", "audio=engine"},
		{"import", "-nats", broker.ClientURL(), "-domain", here, "-beat", "1s",
			"-inbox", "_INBOX.near", "audio=far"}} {
		go func() { ended <- run(ctx, args, new(bytes.Buffer), &stderr[i]) }()
	}
	for limit := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := ipc.Dial(ctx, "far", ipc.WithDomain(here))
		if err == nil {
			_, err = audio.NewAudioControlClient(c).SetParam(ctx, &audio.SetParamT{ParamId: 7})
			c.Close()
		}
		if ipc.CodeOf(err) == ipc.CodeNotFound && strings.Contains(err.Error(), "no parameter 7") {
			break
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	nc := broker.Connect(t)
	info, err := nc.Request("$SRV.INFO.audio", nil, time.Minute)
	if err != nil || !strings.Contains(string(info.Data), `"version":"1.2.3"`) ||
		!strings.Contains(string(info.Data), `"description":"the engine"`) {
		t.Errorf("NATS is told %+v, %v", info, err)
	}
	cancel()
	for range 2 {
		if status := <-ended; status != 0 {
			t.Errorf("status %d: %s%s", status, &stderr[0], &stderr[1])
		}
	}
}

// TestCommandLines are those that are wrong, and a NATS server that is not there.
func TestCommandLines(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "nats://" + l.Addr().String()
	l.Close()
	for _, tt := range []struct {
		args   []string
		status int
		text   string
	}{
		{nil, 2, "usage"},
		{[]string{"both", "x"}, 2, `"both" is not a command`},
		{[]string{"export"}, 2, "export needs a channel"},
		{[]string{"export", "-no"}, 2, "-no"},
		{[]string{"export", "-beat", "0s", "x"}, 2, "-beat and -max-calls must be above 0"},
		{[]string{"export", "-max-calls", "-1", "x"}, 2, "-beat and -max-calls must be above 0"},
		{[]string{"export", "x", "=y"}, 2, `"=y" has no channel`},
		{[]string{"export", "x="}, 2, `"x=" has no name at its end`},
		{[]string{"export", "x=group:"}, 2, `"x=group:" has no name at its end`},
		{[]string{"import", "far=group:x"}, 2, "groups are for export"},
		{[]string{"export", "-prefix", "a b", "x"}, 2, `the prefix "a b"`},
		{[]string{"import", "-prefix", "a..b", "x"}, 2, `the prefix "a..b"`},
		{[]string{"export", "-version", "abc", "x"}, 2, `the version "abc"`},
		{[]string{"export", "-inbox", "_INBOX,a b", "x"}, 2, `the inbox "a b"`},
		{[]string{"export", "x", "y=a/b"}, 2, "a/b"},
		{[]string{"import", strings.Repeat("x", 300)}, 2, "give it a shorter name"},
		{[]string{"export", "group:x"}, 2, "give NAME=group:x"},
		{[]string{"export", "x=group:a b"}, 2, "a b"},
		{[]string{"export", "x", "-nats", nobody}, 2, `"-nats" is behind a channel; give flags`},
		{[]string{"export", "x=a", "x=b"}, 2, `"x=a" and "x=b" are both to be channel x`},
		{[]string{"import", "a=x", "x"}, 2, `"a=x" and "x" are both to be channel x`},
		{[]string{"export", "-nats", " ,", "x"}, 1, "there is no URL"},
		{[]string{"--help"}, 0, "-creds"},
		{[]string{"export", "-nats", nobody, "x"}, 1, "no server at " + nobody},
	} {
		var out bytes.Buffer
		if status := run(t.Context(), tt.args, &out, &out); status != tt.status ||
			!strings.Contains(out.String(), tt.text) {
			t.Errorf("%q: status %d, %s", tt.args, status, &out)
		}
	}
}
