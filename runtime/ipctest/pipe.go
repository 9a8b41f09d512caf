package ipctest

import (
	"context"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// pipeChannel is the channel in the network of Pipe.
const pipeChannel = "pipe"

// Pipe starts a server with the given options, among them its services, and returns a client's
// connection to it. Both are closed at the end of the test, which cancels the contexts of handlers
// that still run and waits for them. A failure fails the test.
func Pipe(t testing.TB, opts ...ipc.ServerOption) *ipc.Conn {
	t.Helper()
	n := NewNetwork()
	Serve(t, n, pipeChannel, opts...)
	return Dial(t, n, pipeChannel)
}

// Serve starts a server of a channel. where is a [Network] or another option for [ipc.Listen]. The
// server is closed at the end of the test, as by [Pipe].
func Serve(t testing.TB, where ipc.ListenOption, channel string,
	opts ...ipc.ServerOption) *ipc.Server {
	t.Helper()
	l, err := ipc.Listen(channel, where)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(opts...)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Errorf("shut the server of %s down: %v", channel, err)
		}
		if err := <-served; err != ipc.ErrServerClosed {
			t.Errorf("serve %s: %v", channel, err)
		}
	})
	return srv
}

// Dial connects to a channel. where is a [Network], [Faults], or another option for [ipc.Dial]. The
// connection is closed at the end of the test. A failure ends the test.
func Dial(t testing.TB, where ipc.DialOption, channel string, opts ...ipc.DialOption) *ipc.Conn {
	t.Helper()
	c, err := ipc.Dial(context.Background(), channel, append(opts[:len(opts):len(opts)], where)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the connection to %s: %v", channel, err)
		}
	})
	return c
}
