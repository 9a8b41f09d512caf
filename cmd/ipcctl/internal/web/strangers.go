package web

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
)

// mostStrangers is how many connections are kept on which no request has had the token.
const mostStrangers = 256

// strangers are those connections, the oldest first. Any user of the machine can make some, and say
// nothing. Beyond the limit the oldest is closed, so that the page is served however many there
// are.
type strangers struct {
	mu  sync.Mutex
	all []net.Conn
}

// connKey is the key of a connection in the context of its requests.
type connKey struct{}

// watch makes the server keep the list.
func (s *strangers) watch(server *http.Server) {
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	server.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.add(c)
		case http.StateClosed, http.StateHijacked:
			s.remove(c)
		}
	}
}

func (s *strangers) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= mostStrangers {
		s.all[0].Close() // its server notices
		s.all = slices.Delete(s.all, 0, 1)
	}
	s.all = append(s.all, c)
}

func (s *strangers) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, c); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
	}
}

// admit notes that a request with the token has come on its connection.
func (s *strangers) admit(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		s.remove(c)
	}
}
