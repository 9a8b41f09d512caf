// Package web shows a domain on a page, for a browser of the same machine and user: what lives and
// what it does, a form for every method, and orders to groups.
//
// The page is one file without anything from a network. Its script asks the API under /api/, whose
// requests are POST with JSON; what goes on for longer is answered with lines of JSON.
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"slices"
	"time"
)

//go:embed page
var sources embed.FS

// page is the page in one piece: a browser asks for nothing else. The scripts share one scope, so
// their order matters only for what they do at once.
var page = func() []byte {
	text := func(names ...string) (all []byte) {
		for _, name := range names {
			b, err := sources.ReadFile("page/" + name)
			if err != nil {
				panic(err) // it is not in the binary
			}
			all = append(all, b...)
		}
		return all
	}
	script := slices.Concat([]byte("'use strict';\n"), text("elements.js", "api.js", "json.js",
		"live.js", "server.js", "panel.js", "form.js", "orders.js"), []byte("live();\n"))
	html := text("index.html")
	html = bytes.Replace(html, []byte("<style></style>"),
		slices.Concat([]byte("<style>\n"), text("style.css"), []byte("</style>")), 1)
	return bytes.Replace(html, []byte("<script></script>"),
		slices.Concat([]byte("<script>\n"), script, []byte("</script>")), 1)
}()

// inline matches the script and the style of the page.
var inline = regexp.MustCompile(`(?s)<(script|style)>(.*?)</(?:script|style)>`)

// policy is the Content-Security-Policy of the page: its own script and style, by their hashes, and
// requests to its own server. Trusted types forbid the script to make markup out of text.
var policy = func() string {
	p := "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; " +
		"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
	for _, part := range inline.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(part[2])
		p += fmt.Sprintf("; %s-src 'sha256-%s'", part[1], base64.StdEncoding.EncodeToString(sum[:]))
	}
	return p
}()

// A Server serves the page of one domain.
type Server struct {
	domain string
	token  string
}

// New returns a Server of a domain; the empty name is the default one. Its token is a new one.
func New(domain string) *Server { return &Server{domain: domain, token: newToken()} }

// Address returns the address of the page, with the token. The token is in the fragment, which a
// browser does not send: it gets into no log and no Referer.
func (s *Server) Address(l net.Listener) string {
	return "http://" + l.Addr().String() + "/#" + s.token
}

// The limits of a connection. An answer that goes on has no limit in all, and writeLimit for each
// line.
const (
	headerLimit = 10 * time.Second
	idleLimit   = time.Minute
	writeLimit  = 10 * time.Second
	maxHeader   = 16 << 10
	maxBody     = 16 << 20
)

// Serve serves until ctx is done, or l fails. l is that of [Listen].
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hub := newHub(ctx, s.domain)
	gate := newGate(s.token, l.Addr())
	server := &http.Server{
		Handler:           gate.wrap(s.routes(hub)),
		ReadHeaderTimeout: headerLimit,
		ReadTimeout:       time.Minute,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // a broken connection is no news
	}
	gate.strangers.watch(server)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.Serve(l)
	cancel()
	hub.looking.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) routes(h *hub) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(page) // the browser has gone
	})
	a := &api{domain: s.domain}
	for path, handle := range map[string]http.HandlerFunc{
		"live": h.live, "describe": a.describe, "check": a.check, "call": a.call, "send": a.send,
		"item": a.item, "subscribe": a.subscribe, "publish": a.publish,
		"order": a.question, "carry": a.carry,
	} {
		mux.Handle("POST /api/"+path, handle)
	}
	return mux
}

// live answers with the news for as long as the page listens.
func (h *hub) live(w http.ResponseWriter, r *http.Request) {
	if !accept(w, r, &struct{}{}) { // net/http notices that the page has gone once it is read
		return
	}
	f := h.follow()
	defer f.leave()
	out := newLines(w)
	for {
		n, err := f.next(r.Context())
		if err != nil || out.write(n) != nil {
			return
		}
	}
}

// lines is an answer of lines of JSON.
type lines struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &lines{w, http.NewResponseController(w)}
}

// write writes a line. A page that does not read it in time has its connection closed.
func (l *lines) write(v any) error {
	if err := l.ctrl.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	if err := json.NewEncoder(l.w).Encode(v); err != nil {
		return err
	}
	return l.ctrl.Flush()
}

// A refusal is the answer to a request that is wrong.
type refusal struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, refusal{fmt.Sprintf(format, args...)})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the browser has gone
}

// accept reads the body of a request into v, and reports whether it is one.
func accept(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more than one value")
		}
	}
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		refuse(w, http.StatusRequestEntityTooLarge,
			"the request is longer than %d bytes; ipcctl call takes longer ones", maxBody)
	case err != nil:
		refuse(w, http.StatusBadRequest, "the request is not the JSON that it should be: %v", err)
	}
	return err == nil
}

// Listen listens on an address of the loopback interface; it refuses any other.
func Listen(addr string) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("%s is no loopback address: the page has no encryption, and who "+
			"reads its token on the network can call what this user can; ssh -L brings the page "+
			"to another machine", addr)
	}
	return net.ListenTCP("tcp", a)
}
