package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// check compares the recording's schema with the server's, before anything is sent. An error says
// that the server lacks a method, or would misread it; with partial, such methods are left out. A
// server that does not tell its schema is asked call by call, by the runtime.
func (r *replay) check(ctx context.Context, c *recording.Contents, name string,
	partial bool) error {
	server, err := ask(ctx, r.to, name, r.timeout)
	switch ipc.CodeOf(err) {
	case ipc.CodeOK:
	case ipc.CodeUnimplemented, ipc.CodePermissionDenied:
		return nil
	default:
		return err
	}
	s := c.Sources[r.from]
	compared := make(map[string]error) // by protocol
	unfit := make(map[string]bool)     // by method
	var first error
	for _, t := range s.Topics {
		if t.Kind == recording.Published || unfit[t.Full()] {
			continue
		}
		tgt, err := r.target(t)
		if err != nil {
			return err
		}
		if tgt.method == nil && tgt.message == nil || slices.ContainsFunc(
			server.Description.Protocols, func(p *introspect.ProtocolT) bool {
				return p.Name == t.Protocol && p.Definition < 0
			}) {
			continue
		}
		why, known := compared[t.Protocol]
		if !known {
			if why, err = r.compare(t, server.Schema); err != nil {
				return err
			}
			compared[t.Protocol] = why
		}
		if why == nil {
			_, why = server.Schema.Find(t.Full())
			if why != nil {
				why = &ipc.Error{Code: ipc.CodeUnimplemented, Outcome: ipc.NotSent, Err: why}
			}
		}
		if why == nil {
			continue
		}
		unfit[t.Full()] = true
		if first == nil {
			first = why
		}
		if partial {
			fmt.Fprintf(r.t.err, "ipcctl: %s is left out: %v\n", t.Full(), why)
			r.leaveOut(t, s)
		}
	}
	switch {
	case first == nil:
		return nil
	case !partial:
		return fmt.Errorf("nothing was sent: %w; -partial leaves out what does not fit: %s", first,
			count(len(unfit), "method"))
	case r.expected == 0:
		return fmt.Errorf("nothing was sent, since no method fits: %w", first)
	}
	return nil
}

// compare compares the protocol of a topic with the server's. It returns why the server would
// misread it. A version that differs and is compatible is told.
func (r *replay) compare(t *recording.Topic, server *dynamic.Schema) (why, err error) {
	schema, err := r.schema(t)
	if err != nil {
		return nil, err
	}
	if why = schema.CheckCompatible(t.Protocol, server); why == nil &&
		!schema.SameVersion(t.Protocol, server) {
		fmt.Fprintf(r.t.err, "ipcctl: the server has another version of %s, which is compatible; "+
			"what only one of the two has is not read by the other\n", t.Protocol)
	}
	return why, nil
}

// leaveOut takes a method out of what is sent.
func (r *replay) leaveOut(t *recording.Topic, s *recording.Source) {
	full := t.Full()
	if r.leftOut == nil {
		r.leftOut = make(map[string]bool)
	}
	r.leftOut[full] = true
	if r.byName[full] != nil {
		r.expected -= s.Methods[full].Requests
		r.omitted += s.Methods[full].Requests
		delete(r.byName, full)
	}
	for other := range r.targets {
		if other.Full() == full {
			r.targets[other] = new(target)
		}
	}
}

// wants reports whether a method is to be sent.
func (r *replay) wants(full string) bool {
	return (r.wanted == nil || r.wanted[full]) && !r.leftOut[full]
}
