package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A webPage asks as the script of the page does.
type webPage struct {
	host, token string
	client      *http.Client
}

func newWebPage(t *testing.T, args ...string) *webPage {
	t.Helper()
	u, err := url.Parse(servePage(t, args...))
	if err != nil || len(u.Fragment) < 43 || u.Path != "/" || u.RawQuery != "" {
		t.Fatalf("the address is %v, %v", u, err)
	}
	p := &webPage{u.Host, u.Fragment, &http.Client{Transport: new(http.Transport)}}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// request makes a request, as the page does unless change changes it.
func (p *webPage) request(ctx context.Context, t *testing.T, path, body string,
	change func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.host+path,
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Origin", "http://"+p.host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if change != nil {
		change(r)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// ask returns the status and the answer to a request.
func (p *webPage) ask(t *testing.T, path, body string, change func(*http.Request)) (int, string) {
	t.Helper()
	answer := p.request(t.Context(), t, path, body, change)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// TestWebRefuses asks as those do who shall get nothing.
func TestWebRefuses(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	p := newWebPage(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	const describe, greeter = "/api/describe", `{"name": "greeter"}`
	for _, c := range []struct {
		what   string
		path   string
		body   string
		change func(*http.Request)
		status int
		text   string
	}{
		{"the page itself", describe, greeter, nil, 200, `"greeter.Greeter.Greet"`},
		{"a program without a browser", describe, greeter, func(r *http.Request) {
			r.Header.Del("Origin")
			r.Header.Del("Sec-Fetch-Site")
		}, 200, `"greeter.Greeter.Greet"`},
		{"localhost", describe, greeter, func(r *http.Request) {
			r.Host = strings.Replace(p.host, "127.0.0.1", "localhost", 1)
			r.Header.Set("Origin", "http://"+r.Host)
		}, 200, `"greeter.Greeter.Greet"`},
		{"no token", describe, greeter, func(r *http.Request) {
			r.Header.Del("Authorization")
		}, 401, "token"},
		{"an empty token", describe, greeter, header("Authorization", "Bearer "), 401, "token"},
		{"a wrong token", describe, greeter, header("Authorization", "Bearer "+p.token[1:]+"x"),
			401, "token"},
		{"a name that was bound to this address", describe, greeter,
			func(r *http.Request) { r.Host = "evil.example:80" }, 403, "another host"},
		{"the same for the page", "/", "", func(r *http.Request) {
			r.Method, r.Host = http.MethodGet, "evil.example"
		}, 403, "another host"},
		{"a page of another origin", describe, greeter, header("Origin", "http://evil.example"),
			403, "another origin"},
		{"a page of another port", describe, greeter, header("Origin", "http://127.0.0.1:1"), 403,
			"another origin"},
		{"a page without an origin", describe, greeter, header("Origin", "null"), 403,
			"another origin"},
		{"a form of another site", describe, greeter, func(r *http.Request) {
			r.Header.Del("Origin")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}, 403, "another origin"},
		{"GET", "/api/live", "", func(r *http.Request) { r.Method = http.MethodGet }, 405, ""},
		{"OPTIONS", describe, "", func(r *http.Request) { r.Method = http.MethodOptions }, 405, ""},
		{"an unknown path", "/api/nosuch", "{}", nil, 404, ""},
		{"a path that climbs", "/../web.go", "", func(r *http.Request) {
			r.Method = http.MethodGet
		}, 404, ""},
		{"no JSON", describe, "name=greeter", nil, 400, "invalid character"},
		{"half of it", describe, `{"name": "gre`, nil, 400, "EOF"},
		{"two values", describe, greeter + greeter, nil, 400, "more than one value"},
		{"an unknown member", describe, `{"nome": "x"}`, nil, 400, "unknown field"},
		{"the wrong type", describe, `{"name": {}}`, nil, 400, "cannot unmarshal"},
		{"too deep", describe, `{"name": ` + strings.Repeat("[", 1<<20), nil, 400, "depth"},
		{"too long", describe, `{"name": "` + strings.Repeat("x", 17<<20) + `"}`, nil, 413,
			"longer than"},
		{"an unknown schema", "/api/call", `{"name": "greeter", "schema": "x"}`, nil, 410,
			"forgotten"},
		{"an unknown server", describe, `{"name": "greter"}`, nil, 502, "did you mean greeter"},
		{"an unknown flow", "/api/item", `{"stream": "7"}`, nil, 404, "ended"},
	} {
		status, text := p.ask(t, c.path, c.body, c.change)
		if status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s: status %d, want %d\n%.500s", c.what, status, c.status, text)
		}
	}
	expect(t, 2, "", "no loopback address", "", "web", "-addr", "0.0.0.0:0")
	expect(t, 2, "", "no loopback address", "", "web", "-addr", ":0")
	expect(t, 2, "", "-addr", "", "web", "-addr", "nonsense")
	expect(t, 2, "", "takes no argument", "", "web", "x")
}

// TestWebPageIsSealed checks what the page is allowed to do.
func TestWebPageIsSealed(t *testing.T) {
	newDomain(t)
	p := newWebPage(t)
	answer := p.request(t.Context(), t, "/", "", func(r *http.Request) {
		r.Method = http.MethodGet
		r.Header.Del("Authorization")
	})
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err)
	}
	policy := answer.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-",
		"connect-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy %q lacks %s", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, forbidden := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML",
		"document.write", "eval(", "https://", p.token} {
		if bytes.Contains(text, []byte(forbidden)) {
			t.Errorf("the page has %s", forbidden)
		}
	}
}

// live returns the lines of the news, and ends with its context.
func (p *webPage) live(ctx context.Context, t *testing.T) *bufio.Scanner {
	t.Helper()
	answer := p.request(ctx, t, "/api/live", "{}", nil)
	context.AfterFunc(ctx, func() { answer.Body.Close() })
	s := bufio.NewScanner(answer.Body)
	s.Buffer(nil, 1<<20)
	return s
}

// TestWebManyPages has ten pages at once, one that does not read, a thousand connections that say
// nothing, and a server that is stopped. Nothing is left when they have gone.
func TestWebManyPages(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	stopped := serve(t, "stopped")
	p := newWebPage(t)
	before := runtime.NumGoroutine()
	var silent []net.Conn
	for range 1000 {
		c, err := net.Dial("tcp", p.host)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	awaitEnd(t, silent[0]) // beyond a limit, the oldest are closed
	if err := stopped.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, closePages := context.WithCancel(t.Context())
	defer closePages()
	p.request(ctx, t, "/api/live", "{}", nil) // it never reads
	for range 10 {
		s := p.live(ctx, t)
		for seen := 0; seen < 3; seen++ {
			if !s.Scan() {
				t.Fatal(s.Err())
			}
			var news struct {
				View struct {
					Servers []struct{ Name, Waiting string }
				}
			}
			if err := json.Unmarshal(s.Bytes(), &news); err != nil {
				t.Fatal(err)
			}
			for _, server := range news.View.Servers {
				if server.Name == "stopped" && strings.Contains(server.Waiting, "does not answer") {
					seen = 3
				}
			}
		}
	}
	status, text := p.ask(t, "/api/describe", `{"name": "stopped"}`, nil)
	if status != http.StatusGatewayTimeout || !strings.Contains(text, "hangs") {
		t.Errorf("a server that is stopped: status %d, %s", status, text)
	}
	if status, text := p.ask(t, "/api/describe", `{"name": "greeter"}`, nil); status != 200 {
		t.Errorf("the other one: status %d, %s", status, text)
	}
	closePages()
	for _, c := range silent {
		c.Close()
	}
	p.client.CloseIdleConnections()
	for deadline := time.Now().Add(tooLong); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, and %d before\n%s", runtime.NumGoroutine(), before,
				stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitEnd waits until the other side has closed a connection.
func awaitEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is open: %d bytes, %v", n, err)
	}
}

// TestWebSends sends one-way messages, and calls with metadata and a deadline, as the forms do.
func TestWebSends(t *testing.T) {
	newDomain(t)
	sent := filepath.Join(t.TempDir(), "sent")
	t.Setenv("IPCCTL_TEST_FILE", sent)
	serve(t, "control")
	p := newWebPage(t)
	status, text := p.ask(t, "/api/describe", `{"name": "control"}`, nil)
	var told struct{ Schema string }
	if err := json.Unmarshal([]byte(text), &told); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	ask := func(path, item, text, more, want string) {
		t.Helper()
		body := fmt.Sprintf(`{"name": "control", "schema": %q, "item": %q, "text": %q%s}`,
			told.Schema, item, text, more)
		status, got := p.ask(t, path, body, nil)
		if status != 200 || !strings.Contains(got, want) {
			t.Errorf("%s: status %d, %s, want %s", body, status, got, want)
		}
	}
	const set, greet = "audio.ControlMsg.SetParam", "greeter.Greeter.Greet"
	ask("/api/send", set, `{"param_id": "Pan", "value": 0.5}`, "", `{"end":{"micros":`)
	ask("/api/send", set, `{"vlaue": 1}`, "", `did you mean value?`)
	ask("/api/send", set, `{"value": 2}`, `, "timeout_ms": 60000, "metadata": [["k", "v"]]`,
		`{"end":{"micros":`)
	ask("/api/send", set, `{"value": 3}`, `, "metadata": [["K", "v"]]`,
		`"code":"invalid argument"`)
	ask("/api/call", greet, `{"name": "metadata"}`, `, "metadata": [["a", "1"], ["a", "ü"], ["", ""]]`,
		`"item":"{\"text\":\"a=1;a=ü\"}"`)
	ask("/api/call", greet, `{"name": "metadata"}`, `, "metadata": [["a", "1"]]`,
		`"metadata":[["got-a","1"]]`)
	ask("/api/call", greet, `{"name": "slow"}`, `, "timeout_ms": 50`, `"code":"deadline exceeded"`)
	ask("/api/call", greet, `{"name": "x"}`, `, "timeout_ms": 9223372036854775807`, `Hello, x!`)
	ask("/api/call", greet, `{"name": "x"}`, `, "timeout_ms": -1`, `Hello, x!`)
	const want = "Pan 0.5\nGain 2\n"
	expectGot(t, sent, want)
}

// TestWebRolls gives a group the order that the button of the page gives.
func TestWebRolls(t *testing.T) {
	newDomain(t)
	serve(t, "group")
	p := newWebPage(t)
	pids := func() (all []int) {
		_, out, _ := ipcctl(t, "", "ls", "-json")
		var list struct{ Instances []struct{ PID int } }
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err, out)
		}
		for _, i := range list.Instances {
			all = append(all, i.PID)
		}
		return all
	}
	before := pids()
	ask := func(path, body string) (int, string) { return p.ask(t, path, body, nil) }
	status, text := ask("/api/order", `{"what": "roll", "name": "audio_compute"}`)
	var q struct{ Question, Mark string }
	if err := json.Unmarshal([]byte(text), &q); err != nil || status != 200 ||
		!strings.Contains(q.Question, "audio_compute") {
		t.Fatal(status, text)
	}
	carry := func(mark string) string {
		return `{"what": "roll", "name": "audio_compute", "mark": ` + strconv.Quote(mark) + `}`
	}
	if status, text := ask("/api/carry", carry(q.Mark+"x")); status != http.StatusConflict ||
		!strings.Contains(text, "nothing was done") {
		t.Errorf("another mark: status %d, %s", status, text)
	}
	if status, text := ask("/api/carry", carry(q.Mark)); status != 200 ||
		!strings.HasSuffix(text, `{"end":{}}`+"\n") {
		t.Fatal(status, text)
	}
	for _, pid := range pids() {
		if slices.Contains(before, pid) {
			t.Errorf("process %d was not replaced", pid)
		}
	}
	for body, want := range map[string]int{`{"what": "roll", "name": "nosuch"}`: 409,
		`{"what": "dance", "name": "audio_compute"}`: 404} {
		if status, text := ask("/api/order", body); status != want {
			t.Errorf("%s: status %d, %s", body, status, text)
		}
	}
}

// TestWebEndsQuietly ends ipcctl web while pages are open; see servePage for how it ends.
func TestWebEndsQuietly(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	var s *bufio.Scanner
	t.Run("open", func(t *testing.T) {
		p := newWebPage(t)
		s = p.live(context.WithoutCancel(t.Context()), t)
		if !s.Scan() {
			t.Fatal(s.Err())
		}
	})
	for s.Scan() {
	}
}
