package ipc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// TestNil gives nil wherever the API takes a value. The first operation that can fail
// does, with a code and with a text that names what is missing.
func TestNil(t *testing.T) {
	serve := func(opts ...ipc.ServerOption) error {
		l, err := ipc.Listen("audio", ipctest.NewNetwork())
		if err != nil {
			return err
		}
		return ipc.NewServer(opts...).Serve(t.Context(), l)
	}
	dial := func(opts ...ipc.DialOption) error {
		network, server := newServer()
		defer server.Close()
		c, err := ipc.Dial(t.Context(), "audio", append(opts, network)...)
		if err == nil {
			c.Close()
		}
		return err
	}
	ctx := t.Context()
	setParam := func(c ipc.Caller) error {
		_, err := audio.NewAudioControlClient(c).SetParam(ctx, &audio.SetParamT{})
		return err
	}
	send := func(s ipc.Sender) error {
		return audio.NewControlMsgSender(s).SendSetParam(ctx, &audio.SetParamT{})
	}
	for name, test := range map[string]struct {
		does func() error
		says string
	}{
		"implementation": {
			func() error { return serve(audio.NewAudioControlService(nil)) },
			"audio.NewAudioControlService was given nil; give it a value that implements " +
				"audio.AudioControl"},
		"implementation, in place": {
			func() error {
				return serve(audio.NewAudioControlInPlaceService(nil,
					audio.AudioControlInPlaceHandlers{}))
			},
			"audio.NewAudioControlInPlaceService was given nil"},
		"handler of messages": {
			func() error { return serve(audio.NewControlMsgService(nil)) },
			"audio.NewControlMsgService was given nil; give it a value that implements " +
				"audio.ControlMsgHandler"},
		"handler of a client's messages": {
			func() error { return dial(audio.NewControlMsgService(nil)) },
			"audio.NewControlMsgService was given nil"},
		"handler of a stream that is read": {
			func() error { return serve(ipc.HandleStreamReader(blockStream, nil)) },
			"nil handler for streams of"},
		"handler of a stream that is written": {
			func() error { return serve(ipc.HandleStreamWriter(blockStream, nil)) },
			"nil handler for streams of"},
		"service":         {func() error { return serve((*ipc.Service)(nil)) }, "NewXService"},
		"empty service":   {func() error { return serve(new(ipc.Service)) }, "NewXService"},
		"server's option": {func() error { return serve(ipc.WithMaxCalls(1), nil) }, "option 2"},
		"client's option": {func() error { return dial(nil) }, "option 1"},
		"listener's option": {
			func() error { _, err := ipc.Listen("audio", nil); return err }, "option 1"},
		"server's interceptor": {
			func() error { return serve(ipc.WithServerInterceptor(nil)) }, "WithServerInterceptor"},
		"client's interceptor": {
			func() error { return dial(ipc.WithClientInterceptor(nil)) }, "WithClientInterceptor"},
		"protocol": {func() error { return dial(ipc.WithProtocol(nil)) }, "WithProtocol"},
		"listener": {
			func() error { return ipc.NewServer().Serve(ctx, nil) }, "error of Listen"},
		"caller":       {func() error { return setParam(nil) }, "nil connection"},
		"connection":   {func() error { return setParam((*ipc.Conn)(nil)) }, "nil connection"},
		"group client": {func() error { return setParam((*group.Client)(nil)) }, "group.Client"},
		"client":       {func() error { return setParam((*ipc.Client)(nil)) }, "nil connection"},
		"resolver": {
			func() error { _, err := ipc.NewClient(nil); return err }, "the resolver is nil"},
		"option of Connect": {
			func() error { _, err := ipc.Connect("audio", nil); return err }, "option 1"},
		"sender":        {func() error { return send(nil) }, "nil connection"},
		"client's send": {func() error { return send((*ipc.Client)(nil)) }, "nil connection"},
		"connection that sends": {
			func() error { return send((*ipc.Conn)(nil)) }, "nil connection"},
		"peer":         {func() error { return send((*ipc.Peer)(nil)) }, "no connection"},
		"group sender": {func() error { return send((*group.Client)(nil)) }, "group.Client"},
		"connection of a call in place": {
			func() error {
				return audio.NewAudioControlInPlaceClient(nil).SetParam(ctx, 8,
					func(*flatbuffers.Builder) flatbuffers.UOffsetT { return 0 },
					func(audio.Ack) error { return nil })
			},
			"nil connection"},
		"context of a call that waits for a server": {
			func() error {
				c, err := ipc.Connect("audio", ipctest.NewNetwork())
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = audio.NewAudioControlClient(c).SetParam(nilContext, &audio.SetParamT{})
				return err
			},
			"the context is nil"},
		"context of a wait for a server": {
			func() error {
				c, err := ipc.Connect("audio", ipctest.NewNetwork())
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.WaitConnected(nilContext)
				return err
			},
			"the context is nil"},
		"context of Dial": {
			func() error {
				_, err := ipc.Dial(nilContext, "audio", ipctest.NewNetwork())
				return err
			},
			"the context is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.does()
			var e *ipc.Error
			if !errors.As(err, &e) || e.Outcome != ipc.NotSent ||
				!strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an *ipc.Error that says %q", err, test.says)
			}
			// Only a call, a message and a block have an outcome that means something.
			if text := err.Error(); strings.Contains(text, "(not sent)") &&
				!strings.HasPrefix(e.Op, "call ") && !strings.HasPrefix(e.Op, "send ") &&
				!strings.HasPrefix(e.Op, "stream ") {
				t.Errorf("%q has an outcome", text)
			}
		})
	}
}

// TestNilOptionsThatAreDefaults gives nil to the options for which it is the default.
func TestNilOptionsThatAreDefaults(t *testing.T) {
	network, server := newServer(ipc.WithLogger(nil), ipc.WithAuthorize(nil), ipc.WithFence(nil),
		ipc.WithGuard(nil), audio.NewAudioControlService(&mixer{}))
	defer server.Close()
	c, err := ipc.Dial(t.Context(), "audio", network, ipc.WithLogger(nil),
		ipc.WithAuthorize(nil), ipc.WithEpoch(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := audio.NewAudioControlClient(c).SetParam(t.Context(),
		&audio.SetParamT{}); err != nil {
		t.Error(err)
	}
}

// nilContext is nil where linters do not see it.
var nilContext context.Context
