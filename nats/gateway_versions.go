package natsipc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file decides what an import announces while servers of its channel have several versions,
// as while they are being updated.

// A holding is what an import announces, and a server that serves that.
type holding struct {
	conn   *Conn
	shape  string
	server string
	all    []*ipc.Service
	worse  map[string]bool // shapes of servers in whose favour it is not given up
}

// announced returns the protocols of a server, and behind them its topics, as an import announces
// them: services whose calls to takes.
func (c *Conn) announced(ctx context.Context, h greeting, to ipc.Carrier) (all []*ipc.Service,
	err error) {
	for _, t := range h.topics {
		h.protocols = append(slices.Clip(h.protocols), t.protocol)
	}
	described, err := c.described(ctx, h)
	if err != nil {
		return nil, err
	}
	for _, p := range described {
		svc, err := ipc.Relay(p, to)
		if err != nil {
			return nil, err
		}
		all = append(all, svc)
	}
	return all, nil
}

// look looks at a server. If what is announced is to be given up, it returns why, and the server to
// go on with, or "" for any one.
func (h *holding) look(ctx context.Context) (next string, err error) {
	now, err := h.conn.greet(ctx)
	if err != nil {
		return "", nil // there is none at the moment
	}
	shape := now.shape()
	if shape == h.shape {
		h.server = now.server
		return "", nil
	}
	if !h.worse[shape] {
		theirs, err := h.conn.announced(ctx, now, carrier{h.conn})
		if err != nil {
			return "", nil // it has gone meanwhile
		}
		if covers(theirs, h.all) && !covers(h.all, theirs) {
			return now.server, errors.New("a server serves more than the others")
		}
		h.worse[shape] = true
	}
	if h.stays(ctx) {
		return "", nil
	}
	return "", errors.New("the servers serve other protocols than before")
}

// looks is how many servers are asked for one that serves what is announced.
const looks = 16

// stays reports whether a server still serves what is announced.
func (h *holding) stays(ctx context.Context) bool {
	at := h.conn.place.own(h.server)
	for range looks {
		if now, err := h.conn.greetAt(ctx, at); err == nil && now.shape() == h.shape {
			h.server = now.server
			return true
		}
		at = h.conn.requests
	}
	return ctx.Err() != nil
}

// covers reports whether all calls that are made by the versions theirs can be made by the versions
// announced.
func covers(announced, theirs []*ipc.Service) bool {
	for _, svc := range theirs {
		p := svc.Protocol()
		if !slices.ContainsFunc(announced, func(svc *ipc.Service) bool {
			own := svc.Protocol()
			return own.Name == p.Name && ipc.CheckCompatible(own, p) == nil
		}) {
			return false
		}
	}
	return true
}

// shape says which versions of which protocols and topics a server has, in an order that does not
// depend on the server.
func (h *greeting) shape() string {
	var all []string
	for _, p := range h.protocols {
		all = append(all, fmt.Sprintf("%s %x", p.Name, p.Fingerprint))
	}
	for _, t := range h.topics {
		all = append(all, fmt.Sprintf("topic %s %x %d %d", t.protocol.Name, t.protocol.Fingerprint,
			t.depth, t.maxMessage))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
