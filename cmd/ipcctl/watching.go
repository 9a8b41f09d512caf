package main

import (
	"context"
	"strings"
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
	topics map[string]bool // that the flags name; nil for all
}

// noMethod is what a tap wants that wants no method.
const noMethod = "/"

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
	methods, err := w.choose(c.StringSlice("method"))
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

// choose returns the methods and messages that a tap wants for names of methods, messages and
// topics. It notes the topics.
func (w *watching) choose(names []string) (methods []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	w.topics = make(map[string]bool)
	for _, name := range names {
		full, err := w.server.Schema.Find(name)
		if err != nil {
			top, noTopic := w.server.Schema.Topic(name)
			if name == "" || noTopic != nil {
				return nil, err
			}
			w.topics[top.Name] = true
			continue
		}
		i := strings.LastIndexByte(full, '.')
		methods = append(methods, full[:i]+"/"+full[i+1:])
	}
	if len(methods) == 0 {
		methods = []string{noMethod}
	}
	return methods, nil
}
