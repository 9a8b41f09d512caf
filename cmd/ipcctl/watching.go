package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A watching is a connection to a server, and a tap there.
type watching struct {
	conn   reach.Conn
	server *dynamic.Server
	tap    *ipc.Tap
}

// watch connects to the server that has a name now, and opens the tap that the flags of a command
// describe.
func watch(ctx context.Context, c *cli.Command, name string) (_ *watching, err error) {
	w := new(watching)
	if w.conn, w.server, err = meet(ctx, c, name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.conn.Close()
		}
	}()
	methods, err := tapped(w.server.Schema, c.StringSlice("method"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	w.tap, err = ipc.OpenTap(ctx, w.conn, ipc.TapOptions{Methods: methods,
		MaxBody: int(c.Int("max-body")), Items: true})
	if err != nil {
		return nil, failedCall(err)
	}
	// A group can have another primary by now, of another version.
	d, err := ipc.Describe(ctx, w.conn)
	if err == nil && (d.Pid != w.server.Description.Pid ||
		d.Started != w.server.Description.Started) {
		err = &ipc.Error{Code: ipc.CodeUnavailable, Msg: "the primary has changed"}
	}
	if err != nil {
		return nil, failedCall(err)
	}
	return w, nil
}

// watchNext is like watch, and waits until the name has a server.
func watchNext(ctx context.Context, c *cli.Command, name string) (*watching, error) {
	for {
		w, err := watch(ctx, c, name)
		switch ipc.CodeOf(err) {
		case ipc.CodeOK, ipc.CodePermissionDenied, ipc.CodeUnimplemented, ipc.CodeUnknown:
			return w, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
