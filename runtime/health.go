package ipc

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// Health is what a server says of itself, or of one of its protocols, when it is asked.
type Health uint8

// The states of health. Their numbers are those of the wire.
const (
	// HealthServing is the state unless another one was set.
	HealthServing Health = iota
	// HealthNotServing means that calls will fail or wait, as while a server still loads its data.
	// The runtime refuses no call for it.
	HealthNotServing
	// HealthDraining means that the server shuts down and takes no more calls.
	HealthDraining
)

func (h Health) String() string {
	switch h {
	case HealthServing:
		return "serving"
	case HealthNotServing:
		return "not serving"
	case HealthDraining:
		return "draining"
	}
	return fmt.Sprintf("health %d", uint8(h))
}

// A HealthState is what servers answer to health checks ([Conn.Health]); pass it to [WithHealth].
// The zero HealthState says that everything serves. It is safe for concurrent use.
type HealthState struct {
	mu  sync.Mutex
	set map[string]Health
	// served has the names of the protocols, once a server has the state.
	served map[string]bool
}

// WithHealth makes the server answer health checks from h, which several servers of a process may
// share. Every server answers health checks: without the option, it serves until it shuts down.
func WithHealth(h *HealthState) ServerOption {
	return serverOption(func(c *serverConfig) {
		if h == nil {
			c.refuse(invalid("WithHealth: the HealthState is nil; give a pointer to one"))
			return
		}
		c.health = h
	})
}

// Set sets the health of a protocol, by its full name, or with "" that of the server as a whole,
// which holds for all protocols for which nothing was set. The error is an [*Error]: with
// [CodeNotFound] if no server with the state serves such a protocol, and with [CodeInvalidArgument]
// for a state other than HealthServing and HealthNotServing. Draining is what Shutdown does.
func (h *HealthState) Set(protocol string, health Health) error {
	if health != HealthServing && health != HealthNotServing {
		return invalid("set the health of %q: %v is no state to set; give HealthServing or "+
			"HealthNotServing", protocol, health)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if protocol != "" && h.served != nil && !h.served[protocol] {
		return unservedHealth(protocol, NotSent)
	}
	if h.set == nil {
		h.set = make(map[string]Health)
	}
	h.set[protocol] = health
	return nil
}

func unservedHealth(protocol string, o Outcome) *Error {
	return &Error{Code: CodeNotFound, Outcome: o,
		Msg: fmt.Sprintf("the server does not serve protocol %.200q", protocol)}
}

// serve adds the protocols of a server.
func (h *HealthState) serve(protocols []servedProtocol) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.served == nil {
		h.served = make(map[string]bool)
	}
	for _, p := range protocols {
		h.served[p.Name] = true
	}
	for name := range h.set {
		if name != "" && !h.served[name] {
			return invalid("WithHealth: the health of %q was set, and no server with this "+
				"HealthState serves it", name)
		}
	}
	return nil
}

func (h *HealthState) of(protocol string) Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	if health, ok := h.set[protocol]; ok {
		return health
	}
	return h.set[""]
}

var methodCheckHealth = introspectionMethod("CheckHealth",
	messageOf((*introspect.CheckHealthT).Pack, introspect.VerifyCheckHealth,
		introspect.GetRootAsCheckHealth),
	messageOf((*introspect.HealthReportT).Pack, introspect.VerifyHealthReport,
		introspect.GetRootAsHealthReport))

// Health asks the server for its health, or for that of one of its protocols, by its full name. A
// server that has said that it shuts down is draining; it is not asked. The error is that of a
// call: with [CodeNotFound] if the server does not serve the protocol. With an error, the health is
// HealthNotServing: a server that cannot be asked is not known to serve. A standby of a group
// answers too.
func (c *Conn) Health(ctx context.Context, protocol string) (Health, error) {
	if c == nil {
		return HealthNotServing, methodCheckHealth.info.callFailed(errNilCaller)
	}
	rep, err := Invoke(ctx, c, methodCheckHealth, &introspect.CheckHealthT{Protocol: protocol})
	select {
	case <-c.leaving:
		if c.Err() == nil {
			return HealthDraining, nil
		}
	default:
	}
	if err != nil {
		return HealthNotServing, err
	}
	return Health(rep.Health), nil
}

// checkHealth answers a health check.
func (c *serverConn) checkHealth(_ context.Context,
	req *introspect.CheckHealthT) (*introspect.HealthReportT, error) {
	s := c.srv
	if req.Protocol != "" && !s.serves(req.Protocol) {
		return nil, unservedHealth(req.Protocol, Executed)
	}
	health := s.cfg.health.of(req.Protocol)
	if c.draining.Load() {
		health = HealthDraining
	}
	return &introspect.HealthReportT{Health: uint8(health)}, nil
}

// serves reports whether the server serves a protocol of that name.
func (s *Server) serves(protocol string) bool {
	return slices.ContainsFunc(s.allProtocols(), func(p servedProtocol) bool {
		return p.Name == protocol
	})
}
