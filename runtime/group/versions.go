package group

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file lets replicas of different versions of a service keep one state. Protocols are compared
// when a session begins, and when the supervisor sees a ready replica. Incompatible versions never
// share a state. Compatible ones do, as in a roll: a standby then gets a change in the form in
// which the primary has understood it, and a change of which a standby would understand less, or
// more, is refused.

// newProtocol returns a protocol with its fingerprint.
func newProtocol(name, description string) *ipc.Protocol {
	sum := sha256.Sum256([]byte(description))
	return &ipc.Protocol{Name: name, Fingerprint: binary.BigEndian.Uint64(sum[:8]),
		Schema: description}
}

// protocols returns the protocols of the services that the replica replicates.
func (r *replicator) protocols() []*ipc.Protocol {
	var all []*ipc.Protocol
	for _, s := range r.services {
		all = append(all, s.Protocol())
	}
	return all
}

// announced returns services without methods, with which the server that listens to the primary
// names the protocols.
func (r *replicator) announced() (opts []ipc.ServerOption) {
	for _, p := range r.protocols() {
		opts = append(opts, ipc.NewService(p))
	}
	return opts
}

// meet compares the version of the standby with that of this process.
func (ses *session) meet() error {
	theirs, err := ses.conn.Protocols()
	if err != nil {
		return err
	}
	theirs = slices.DeleteFunc(theirs, func(p *ipc.Protocol) bool {
		return p.Name == replicaProtocol.Name
	})
	ours := ses.primary.r.protocols()
	if ses.gap, err = ipc.NewGap(ours, theirs); err == nil {
		ses.ahead, err = ipc.NewGap(theirs, ours)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	return nil
}

// adapt prepares a change for standbys of other versions. It refuses a change of which a standby
// would understand less than this process does, or more: numbers of enum values, bits, and nested
// buffers stay in a request although this process does not know what they mean. The caller must
// hold r.order.
func (p *primary) adapt(e *entry, call *ipc.ServerCall) error {
	others := p.otherVersions()
	if len(others) == 0 {
		return nil
	}
	body, err := call.EncodeRequest(p.r.builder)
	if err != nil {
		return &ipc.Error{Code: ipc.CodeInternal, Outcome: ipc.NotExecuted,
			Msg: "encode the request for a standby of another version", Err: err}
	}
	for _, ses := range others {
		err, older := ses.gap.Find(call.Method, body), ses.standby.rec.Name
		if err == nil {
			err, older = ses.ahead.Find(call.Method, body), p.r.replica.Name()
		}
		if err != nil {
			return &ipc.Error{Code: ipc.CodeFailedPrecondition, Outcome: ipc.NotExecuted,
				Msg: fmt.Sprintf("the primary and %s run different versions of the service, "+
					"which would not do the same: in %s %v; such calls are refused until it is "+
					"replaced (Group.Roll)", ses.standby.rec.Name, older, err)}
		}
	}
	e.common = bytes.Clone(body)
	return nil
}

// otherVersions returns the sessions with standbys of other versions.
func (p *primary) otherVersions() (sessions []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.standbys {
		if s.session != nil && s.session.gap != nil {
			sessions = append(sessions, s.session)
		}
	}
	return sessions
}

// agrees reports whether a standby answered a change as this process did. Replies of different
// versions may differ, but not a reply and an error.
func (ses *session) agrees(e *entry, digest uint32) bool {
	return digest == e.digest || ses.gap != nil && digest&e.digest&digestOfReply != 0
}

// compareVersions suspects replicas whose version is incompatible with that of the primary or,
// without a primary, with that of a replica that outranks them. r is ready, or about to be.
func (s *supervisor) compareVersions(r *managedReplica) {
	if s.cfg.Replication == nil {
		return
	}
	primary := s.reign.primary
	for _, other := range s.replicas {
		if other == r || primary != none && primary != other.index && primary != r.index {
			continue
		}
		a, b := other, r // b is the one that is suspected
		if s.rank(b) > s.rank(a) {
			a, b = b, a
		}
		if a.served == nil || b.served == nil || a.suspicion != nil {
			continue
		}
		if _, err := ipc.NewGap(a.served, b.served); err != nil {
			s.condemn(b, "cannot share the state with "+a.name,
				fmt.Errorf("%w: %w", ErrIncompatible, err))
		}
	}
}

// rank orders replicas of incompatible versions: the one with the lower rank is replaced. The
// primary has the highest rank, before a replica that has the state, and before one that served
// earlier than this supervisor.
func (s *supervisor) rank(r *managedReplica) int {
	switch {
	case s.reign.primary == r.index:
		return 3
	case s.page.whole(r.index):
		return 2
	case r.adopted():
		return 1
	}
	return 0
}
