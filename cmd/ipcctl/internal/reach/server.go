package reach

import (
	"context"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A Server is the server that a name stands for at the moment, which is asked whether it answers:
// of a group, the primary. It is for one goroutine.
type Server struct {
	domain, name string
	conn         *ipc.Conn // nil if there is none
	channel      string    // of conn
	pid          int       // likewise
}

// NewServer returns the server of a name in a domain. Nothing is connected yet.
func NewServer(domain, name string) *Server { return &Server{domain: domain, name: name} }

// Ask asks the server that there is now whether it answers, and returns its process. An error with
// CodeDeadlineExceeded says that it does not, and one with CodeUnavailable that there is none.
func (s *Server) Ask(ctx context.Context) (pid int, err error) {
	path, channel, pid, err := find(s.domain, s.name)
	if err != nil {
		s.Close()
		return 0, err
	}
	if s.conn != nil && (channel != s.channel || pid != s.pid) {
		s.Close()
	}
	if s.conn == nil {
		if s.conn, err = ipc.Dial(ctx, channel, ipc.WithDomain(path)); err != nil {
			return pid, err
		}
		s.channel, s.pid = channel, pid
	}
	_, err = ipc.Describe(ctx, s.conn)
	switch ipc.CodeOf(err) {
	case ipc.CodeUnimplemented, ipc.CodePermissionDenied:
		err = nil // an answer, too
	case ipc.CodeUnavailable:
		s.Close()
	}
	return pid, err
}

// Close ends the connection to the server. It may be asked again.
func (s *Server) Close() {
	if s.conn != nil {
		_ = s.conn.Close() // nothing is lost with it
		s.conn = nil
	}
}

// find returns the domain, the channel and the process of the server that a name stands for.
func find(domain, name string) (path, channel string, pid int, err error) {
	s, kind, channel, err := resolve(domain, name)
	if err != nil {
		return "", "", 0, err
	}
	if kind == survey.GroupName {
		for _, r := range s.Instances {
			if r.Role == registry.RolePrimary && (r.Service == name ||
				survey.GroupOf(r.Name) == name) {
				return s.Domain, r.Control, r.PID, nil
			}
		}
		return "", "", 0, &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent,
			Msg: "the group " + name + " has no primary"}
	}
	for _, c := range s.Channels {
		if c.Name == channel {
			pid = c.PID
		}
	}
	return s.Domain, channel, pid, nil
}
