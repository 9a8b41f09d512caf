package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"slices"
	"strings"
)

// A gate admits the requests of one page. Any process of the machine, of any user, can connect to
// a loopback address, and so can any page of another origin in the user's browser:
//
//   - A request of the API needs the token, in a header. A cookie would not do: a browser sends
//     the cookies of 127.0.0.1 to every port of it, hence to the server of another user.
//   - The Host header must be that of the listener, so that a foreign name which resolves to a
//     loopback address (DNS rebinding) gets nothing.
//   - A request that comes from another origin is refused even with the token.
type gate struct {
	token [sha256.Size]byte // its hash: what is compared has one length
	hosts []string          // the values of the Host header that stand for the listener

	strangers strangers
}

// newToken returns 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func newGate(token string, addr net.Addr) *gate {
	g := &gate{token: sha256.Sum256([]byte(token)), hosts: []string{addr.String()}}
	if _, port, err := net.SplitHostPort(addr.String()); err == nil {
		g.hosts = append(g.hosts, net.JoinHostPort("localhost", port))
	}
	return g
}

// wrap returns a handler that admits only what may reach next.
func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !slices.Contains(g.hosts, r.Host) {
			refuse(w, http.StatusForbidden, "this is %s, and the request is for another host",
				g.hosts[0])
			return
		}
		if !g.ownOrigin(r) {
			refuse(w, http.StatusForbidden, "the request comes from a page of another origin")
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/") && !g.knows(r) {
			refuse(w, http.StatusUnauthorized,
				"the token is missing, or of another run; open the address that ipcctl web prints")
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/") {
			g.strangers.admit(r)
		}
		next.ServeHTTP(w, r)
	})
}

// ownOrigin reports whether a request comes from the page itself, or from no page.
func (g *gate) ownOrigin(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return false
	}
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return true // a link may lead to the page, which shows nothing without the token
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "" || site == "same-origin"
}

// knows reports whether a request has the token.
func (g *gate) knows(r *http.Request) bool {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}
