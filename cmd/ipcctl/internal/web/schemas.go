package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/forms"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A schema is that of a server, under the name by which a page refers to it.
type schema struct {
	mu      sync.Mutex // a dynamic.Schema is for one goroutine
	dynamic *dynamic.Schema
}

func (s *schema) method(name string) (*dynamic.Method, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dynamic.Method(name)
}

func (s *schema) message(name string) (*dynamic.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dynamic.Message(name)
}

func (s *schema) topic(name string) (*dynamic.Topic, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dynamic.Topic(name)
}

// mostSchemas is how many schemas are kept. A page whose schema was forgotten asks again.
const mostSchemas = 64

// schemas are those that pages use. A schema is named by its content: a page calls with the one
// that its form was made from, and the server refuses it if it is another one by now.
type schemas struct {
	mu    sync.Mutex
	all   map[string]*schema
	order []string // the oldest first
}

// keep keeps the schema of a server, and returns its name.
func (s *schemas) keep(of *dynamic.Server) string {
	sum := sha256.New()
	for _, p := range of.Description.Protocols {
		sum.Write([]byte(p.Name + "\x00"))
	}
	for _, d := range of.Definitions {
		sum.Write(d)
	}
	name := base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string]*schema)
	}
	if s.all[name] == nil {
		s.all[name] = &schema{dynamic: of.Schema}
		if s.order = append(s.order, name); len(s.order) > mostSchemas {
			delete(s.all, s.order[0])
			s.order = s.order[1:]
		}
	}
	return name
}

// get returns a schema, or refuses the request.
func (s *schemas) get(w http.ResponseWriter, name string) *schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[name]
	if one == nil {
		refuse(w, http.StatusGone, "the schema of the form was forgotten; choose the server again")
	}
	return one
}

// describePatience is how long a server may take to tell of itself.
const describePatience = 5 * time.Second

// A served is what a server tells of itself.
type served struct {
	Schema      string       `json:"schema"` // its name
	Forms       *forms.Forms `json:"forms"`
	Description program      `json:"description"`
	Note        string       `json:"note,omitempty"` // why there are no forms
}

type program struct {
	Program string `json:"program"`
	Version string `json:"version"`
	Runtime string `json:"runtime"`
	Go      string `json:"go"`
	PID     uint32 `json:"pid"`
}

// describe answers with the forms of a server.
func (a *api) describe(w http.ResponseWriter, r *http.Request) {
	var req struct{ Name string }
	if !accept(w, r, &req) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), describePatience)
	defer cancel()
	conn, err := a.dial(ctx, req.Name)
	if err != nil {
		unanswered(w, err)
		return
	}
	defer conn.Close()
	server, err := dynamic.Ask(ctx, conn, req.Name)
	if err != nil {
		unanswered(w, err)
		return
	}
	d := server.Description
	told := served{Schema: a.schemas.keep(server), Forms: forms.Of(server.Schema.Protocols()),
		Description: program{d.Program, d.Version, d.Runtime, d.Go, d.Pid}}
	if len(server.Definitions) == 0 && len(d.Protocols) > 0 {
		told.Note = "The server does not tell its schema, since its code was generated before " +
			"it carried one. ipcctl call -schema calls it."
	}
	answer(w, http.StatusOK, told)
}

// unanswered refuses a request because a server does not tell of itself.
func unanswered(w http.ResponseWriter, err error) {
	switch ipc.CodeOf(err) {
	case ipc.CodeUnimplemented, ipc.CodePermissionDenied:
		refuse(w, http.StatusBadGateway, "the server does not tell of itself; ipcctl call -schema "+
			"calls it: %v", err)
	case ipc.CodeDeadlineExceeded:
		refuse(w, http.StatusGatewayTimeout, "the server is stopped, or hangs: %v", err)
	default:
		refuse(w, http.StatusBadGateway, "%v", err)
	}
}

// dial connects to a name. To a group, it waits for the primary, so that a call does not.
func (a *api) dial(ctx context.Context, name string) (reach.Conn, error) {
	conn, err := reach.Dial(ctx, a.domain, name, dialPatience)
	if err != nil {
		return nil, err
	}
	if client, ok := conn.(*group.Client); ok {
		if _, err := client.WaitConnected(ctx); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}
