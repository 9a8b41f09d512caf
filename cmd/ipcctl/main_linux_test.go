package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// childEnv makes the test binary a server, of the demo or of the greeter on a channel, the
// supervisor of a group of the demo, or ipcctl.
const childEnv = "IPCCTL_TEST_CHILD"

func TestMain(m *testing.M) {
	switch child := os.Getenv(childEnv); {
	case child == "":
		os.Exit(m.Run())
	case child == "ipcctl":
		main()
	case child == "ipcctl of one signal":
		sameSignal = time.Hour
		main()
	case strings.HasPrefix(child, "control"):
		serveControl(child)
	case strings.HasPrefix(child, "topic"):
		serveStatus(child)
	case strings.HasPrefix(child, "lies:"):
		serveLies(strings.TrimPrefix(child, "lies:"))
	case child == "besiege":
		besiege(os.Args[1], os.Args[2])
	case child == "everything":
		serveEverything(child)
	case child == "signals":
		serveSignals(child)
	case child == "mixer":
		serveMixer(child)
	case child == "group":
		superviseAudio()
	case child == "crowd":
		serveCrowd()
	case child == "audio":
		os.Exit(audioservice.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	case child == "orderly":
		fmt.Println("ready")
		if err := ipc.NewServer(greeter.NewGreeterService(polite{})).Run(context.Background(),
			child); err != nil {
			panic(err)
		}
	default:
		if child == "deaf" {
			signal.Ignore(syscall.SIGTERM)
		}
		l, err := ipc.Listen(child)
		if err != nil {
			panic(err)
		}
		fmt.Println("ready")
		panic(ipc.NewServer(greeter.NewGreeterService(polite{})).Serve(context.Background(), l))
	}
}

type polite struct{}

var pairs = make(chan bool)

func (polite) Greet(ctx context.Context, req *greeter.HelloT) (*greeter.GreetingT, error) {
	switch req.Name {
	case "":
		return nil, ipc.Errorf(ipc.CodeInvalidArgument, "whom shall I greet?")
	case "until the drain":
		<-ipc.DrainingFromContext(ctx)
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "metadata": // what came goes back, in the text and as metadata
		var all []string
		for key, value := range ipc.MetadataFromContext(ctx).All() {
			all = append(all, key+"="+value)
			if err := ipc.SetReplyMetadata(ctx, "got-"+key, value); err != nil {
				return nil, err
			}
		}
		return &greeter.GreetingT{Text: strings.Join(all, ";")}, nil
	case "pair": // such a call ends with another one
		select {
		case pairs <- true:
		case <-pairs:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &greeter.GreetingT{Text: "Hello, " + req.Name + "!"}, nil
}

// The schemas of the servers.
var (
	audioSchema   = filepath.Join("..", "..", "schema", "audio_protocol.fbs")
	greeterSchema = filepath.Join("..", "..", "examples", "greeter", "greeter.fbs")
)

// newDomain makes an empty domain the one of the test.
func newDomain(t *testing.T) string {
	t.Helper()
	d := filepath.Join(t.TempDir(), "domain")
	t.Setenv("IPCGEN_DOMAIN", d)
	return d
}

// serve starts a server in a process of its own, and waits until it serves.
func serve(t *testing.T, child string, args ...string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+child)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	said := ""
	for !strings.Contains(said, "ready\n") && !strings.Contains(said, "registered") {
		b := make([]byte, 256)
		n, err := out.Read(b)
		if said += string(b[:n]); err != nil {
			t.Fatalf("the server: %v\n%s", err, said)
		}
	}
	return cmd.Process
}

// ipcctl runs the command.
func ipcctl(t *testing.T, in string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	defer cancel()
	code = run(ctx, append([]string{"ipcctl"}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), hesitations.ReplaceAllString(e.String(), "")
}

// hesitations are what is said of a server that does not answer at once, on a busy machine.
var hesitations = regexp.MustCompile(`(?m)^ipcctl: \S+ has not answered yet\n`)

// expect runs the command, and compares its status and, in part, what it prints.
func expect(t *testing.T, code int, out, errOut string, in string, args ...string) {
	t.Helper()
	c, o, e := ipcctl(t, in, args...)
	if c != code || !strings.Contains(o, out) || out == "" && o != "" ||
		!strings.Contains(e, errOut) {
		t.Errorf("ipcctl %s\nstatus %d, want %d\nprinted %q, want %q\nand %q, want %q",
			strings.Join(args, " "), c, code, o, out, e, errOut)
	}
}

// TestHelp checks that the help of each command fits a screen, has two examples, and names every
// flag.
func TestHelp(t *testing.T) {
	for _, c := range new(terminal).app().Commands {
		if c.Hidden {
			continue
		}
		code, out, errOut := ipcctl(t, "", c.Name, "-h")
		if code != 0 || errOut != "" || out != c.CustomHelpTemplate {
			t.Errorf("%s -h: status %d, printed %q and %q", c.Name, code, out, errOut)
		}
		if n := strings.Count(out, "\n"); n > screenHeight {
			t.Errorf("%s -h has %d lines", c.Name, n)
		}
		if n := strings.Count(out, "\n  ipcctl "+c.Name); n < 2 {
			t.Errorf("%s -h has %d examples", c.Name, n)
		}
		for line := range strings.Lines(out) {
			if len(line) > 81 {
				t.Errorf("%s -h has a line of %d bytes: %s", c.Name, len(line), line)
			}
		}
		for _, f := range c.Flags {
			if name := f.Names()[0]; !strings.Contains(out, "\n  -"+name+" ") {
				t.Errorf("%s -h does not name -%s", c.Name, name)
			}
		}
		if !strings.Contains(rootHelp, "\n  "+c.Name+" ") {
			t.Errorf("-h does not name %s", c.Name)
		}
	}
	statuses := strings.Join(strings.Fields(callHelp), " ") // without line breaks
	for code := ipc.CodeCanceled; !strings.HasPrefix(code.String(), "code "); code++ {
		name := strings.TrimSuffix(code.String(), " error") // internal, unknown
		if want := fmt.Sprintf("%d %s", statusOf(&ipc.Error{Code: code}), name); !strings.Contains(
			statuses, want) {
			t.Errorf("call -h does not have %q", want)
		}
	}
	if code, out, _ := ipcctl(t, "", "-h"); code != 0 || out != rootHelp ||
		strings.Count(out, "\n") > screenHeight {
		t.Errorf("-h: status %d, printed %q", code, out)
	}
}

// screenHeight is the least number of lines that a terminal has.
const screenHeight = 24

func TestWrongUsage(t *testing.T) {
	newDomain(t)
	for _, args := range [][]string{{}, {"nosuch"}, {"ls", "x"}, {"ls", "-nosuch"}, {"gc", "x"},
		{"doctor", "x"}, {"doctor", "-timeout", "0s"}, {"doctor", "-timeout", "x"},
		{"call", "-schema", greeterSchema, "x"}, {"send", "a"}, {"send", "a", "b", "{}", "c"},
		{"send", "-timeout", "0s", "a", "b"}, {"describe"}, {"describe", "a", "b"},
		{"ls", "-watch", "-rates"}, {"tap"}, {"tap", "-n", "-1", "a"},
		{"tap", "-max-body", "0", "a"},
		{"describe", "-timeout", "0s", "a"}, {"describe", "-protocol", "x", "a"},
		{"call", "-schema", greeterSchema, "-timeout", "-1s", "a", "b", "{}"},
		{"call", "-schema", greeterSchema, "a", "b", "{}", "c"},
		{"convert", "a", "b"}, {"convert", "-schema", greeterSchema, "a"},
		{"convert", "-schema", greeterSchema, "-to", "x", "a", "b"},
		{"convert", "-schema", greeterSchema, "-indent", "-1", "a", "b"},
		{"convert", "-schema", greeterSchema, "-max-size", "0", "a", "b"},
		{"subscribe"}, {"subscribe", "-n", "-1", "a"}, {"subscribe", "-latest", "-lossless", "a"},
		{"publish", "a"}, {"publish", "-schema", greeterSchema, "-depth", "1", "a"},
		{"failover"}, {"roll", "a", "b"}, {"roll", "-timeout", "0s", "a"}, {"drain"},
		{"drain", "-timeout", "-1s", "a"}} {
		code, out, errOut := ipcctl(t, "", args...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errOut, "ipcctl: ") ||
			!strings.Contains(errOut, "for usage") {
			t.Errorf("%q: status %d, printed %q and %q", args, code, out, errOut)
		}
	}
	expect(t, exitUsage, "", "there is no command tpo; did you mean top?\n", "", "tpo")
}

// brokenWriter takes nothing, as a full disk does.
type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestOutputCannotBeWritten(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	for _, args := range [][]string{{"ls"}, {"ls", "-json"}, {"ls", "-watch"}, {"doctor"},
		{"doctor", "-json"},
		{"call", "-schema", greeterSchema, "greeter", "Greet", `{"name": "x"}`},
		{"convert", "-schema", greeterSchema, "-type", "greeter.Hello", "-", "-"}} {
		for _, w := range []error{errors.New("no space left"), syscall.EPIPE} {
			var e bytes.Buffer
			code := run(t.Context(), append([]string{"ipcctl"}, args...), strings.NewReader("{}"),
				brokenWriter{w}, &e)
			if quiet := w == syscall.EPIPE; code != exitFailed || quiet != (e.Len() == 0) {
				t.Errorf("%q, output fails with %v: status %d, printed %q", args, w, code, &e)
			}
		}
	}
}

func TestCall(t *testing.T) {
	d := newDomain(t)
	call := func(args ...string) []string { return append([]string{"call", "-schema"}, args...) }
	expect(t, 67, "", "no process has used this domain", "",
		call(greeterSchema, "greeter", "Greet", "{}")...)
	serve(t, "greeter")
	serve(t, "audio", "0")

	// In the runtime's frame, and in envelopes.
	expect(t, 0, `{"text":"Hello, world!"}`+"\n", "", "",
		call(greeterSchema, "greeter", "Greet", `{name: "world"} // by name`)...)
	expect(t, 0, `{"text":"Hello, world!"}`+"\n", "", "",
		call(greeterSchema, "greeter", "greeter.Greeter/Greet", `{"name": "world"}`)...)
	expect(t, 0, `"status":"Ok"`, "", "", call(audioSchema, "audio_ctrl_0", "SetParam",
		`{"param_id": "Pan", "value": 0.25}`)...)
	for _, name := range []string{"audio_ctrl_0", "audio_compute.0", "audio_compute"} {
		expect(t, 0, `"param_id":"Pan","value":0.25`, "", "",
			call(audioSchema, name, "GetParam", `{"param_id": "Pan"}`)...)
	}

	// A long request travels in pieces.
	long := strings.Repeat("x", 1<<20)
	expect(t, 0, "Hello, "+long, "", "",
		call(greeterSchema, "greeter", "Greet", `{"name": "`+long+`"}`)...)

	// Lines.
	code, out, errOut := ipcctl(t, "{\"name\": \"a\"}\n\n{}\n{\"nmae\": \"b\"}\n{\"name\": \"c\"}",
		call(greeterSchema, "greeter", "Greet")...)
	if code != 1 || out != "{\"text\":\"Hello, a!\"}\n{\"text\":\"Hello, c!\"}\n" ||
		!strings.Contains(errOut, "whom shall I greet?") ||
		!strings.Contains(
			errOut,
			"line 4: 1:2:",
		) || !strings.Contains(errOut, "did you mean name?") {
		t.Errorf("lines: status %d, printed %q and %q", code, out, errOut)
	}

	// Errors, each by its kind.
	expect(t, 69, "", "whom shall I greet?", "", call(greeterSchema, "greeter", "Greet", "{}")...)
	expect(t, 66, "", "deadline exceeded", "", call(greeterSchema, "-timeout", "50ms", "greeter",
		"Greet", `{"name": "slow"}`)...)
	limited := filepath.Join(t.TempDir(), "limited.fbs")
	write(t, limited, `namespace greeter; attribute "timeout"; table Hello { name: string; }
		table Greeting { text: string; }
		rpc_service Greeter { Greet(Hello): Greeting (idempotent, timeout: "50ms"); }`)
	expect(t, 66, "", "deadline exceeded", "", call(limited, "greeter", "Greet",
		`{"name": "slow"}`)...)
	expect(t, 1, "", `request:1:2: the table greeter.Hello has no field "nmae"; did you mean name?`,
		"", call(greeterSchema, "greeter", "Greet", `{"nmae": "x"}`)...)
	expect(t, 67, "", "did you mean greeter?", "", call(greeterSchema, "greter", "Greet", "{}")...)
	expect(t, 1, "", "did you mean greeter.Greeter.Greet?", "",
		call(greeterSchema, "greeter", "Greer", "{}")...)
	expect(t, 68, "", "unimplemented", "", call(audioSchema, "greeter", "StopStream", "{}")...)
	expect(t, 1, "", "no_such.fbs", "", call("no_such.fbs", "greeter", "Greet", "{}")...)
	expect(t, 67, "", "no process has used this domain", "", append(call(greeterSchema), "-domain",
		d+"/no", "greeter", "Greet", "{}")...)

	// A version of the schema that would be misread.
	other := filepath.Join(t.TempDir(), "other.fbs")
	write(t, other, `namespace greeter; table Hello { name: int; } table Greeting { text: string; }
		rpc_service Greeter { Greet(Hello): Greeting (idempotent); }`)
	expect(t, 72, "", "incompatible", "", call(other, "greeter", "Greet", "{}")...)
	write(t, other, `namespace greeter; table Hello { name: string; }
		rpc_service Greeter { Follow(Hello): Hello (streaming: "server"); }`)
	expect(t, 68, "", "unimplemented", "", call(other, "greeter", "Follow", "{}")...)
	write(t, other, "table A { x: int }")
	expect(t, 1, "", "^", "", call(other, "greeter", "Greet", "{}")...)
}

func TestBench(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	serve(t, "audio", "0")
	t.Chdir(t.TempDir())
	write(t, "greeter.fbs", `namespace greeter; table Hello { name: string; }
		table Greeting { text: string; } rpc_service Greeter { Greet(Hello): Greeting (idempotent); }`)
	bench := func(args ...string) []string {
		return append([]string{"bench", "-schema", "greeter.fbs"}, args...)
	}
	expect(
		t,
		0,
		"\n500 calls in ",
		"",
		"",
		bench("-n", "250", "-n", "500", "-c", "4", "-conns", "2",
			"-svg", "t.svg", "greeter", "Greet", `{"name": "x"}`)...)
	if svg, err := os.ReadFile("t.svg"); err != nil || !bytes.Contains(svg, []byte("</svg>")) {
		t.Errorf("the picture: %v", err)
	}
	expect(t, 0, `"calls":100,`, "", "", bench("-n", "100", "-rate", "1000", "-json", "greeter",
		"Greet", `{"name": "x"}`)...)
	expect(t, 0, " calls in ", "", "", bench("-duration", "50ms", "greeter", "Greet",
		`{"name": "x"}`)...)
	long := `{"name": "` + strings.Repeat("x", 1<<20) + `"}` // in pieces
	expect(t, 0, "\n10 calls in ", "", "", bench("-n", "10", "greeter", "Greet", long)...)
	// Every call is refused.
	expect(t, 69, "20 failed: invalid argument\nthe first error: ", "whom shall I greet?", "",
		bench("-n", "20", "greeter", "Greet", "{}")...)
	expect(t, 1, "", "did you mean name?", "", bench("greeter", "Greet", `{"nmae": 1}`)...)
	expect(t, 67, "", "did you mean greeter?", "", bench("greter", "Greet", "{}")...)
	for _, wrong := range [][]string{{"-c", "0"}, {"-c", "2", "-conns", "3"}, {"-rate", "-1"},
		{"-n", "-1"}, {"-timeout", "0s"}, {"-duration", "x"}} {
		expect(
			t,
			exitUsage,
			"",
			"for usage",
			"",
			bench(append(wrong, "greeter", "Greet", "{}")...)...)
	}

	// Ctrl-C ends a run with its report.
	s := start(t, strings.NewReader(""), bench("-duration", "1h", "greeter", "Greet",
		`{"name": "x"}`)...)
	expect(t, 0, "Hello, x!", "", "", "tap", "-n", "5", "greeter") // the calls have begun
	s.cancel()
	s.ends(t, 0, " calls in ", "")
}

// TestCallInterrupted ends a call by the signal of Ctrl-C.
func TestCallInterrupted(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	ctx, cancel := context.WithCancel(t.Context())
	var o, e bytes.Buffer
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, "{\"name\": \"slow\"}\n")
		cancel()
		w.Close()
	}()
	code := run(
		ctx,
		[]string{"ipcctl", "call", "-schema", greeterSchema, "greeter", "Greet"},
		r,
		&o,
		&e,
	)
	if code != exitInterrupted || o.Len() > 0 {
		t.Errorf("status %d, printed %q and %q", code, &o, &e)
	}
}

// TestReadInterrupted ends commands that wait for their input.
func TestReadInterrupted(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	for _, args := range [][]string{{"call", "-schema", greeterSchema, "greeter", "Greet"},
		{"convert", "-schema", greeterSchema, "-type", "greeter.Hello", "-", "-"}} {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		go func() {
			io.WriteString(w, "{") // is read; more does not come
			cancel()
		}()
		code := run(ctx, append([]string{"ipcctl"}, args...), r, io.Discard, io.Discard)
		if w.Close(); code != exitInterrupted {
			t.Errorf("%q: status %d", args, code)
		}
	}
}

func TestList(t *testing.T) {
	d := newDomain(t)
	expect(t, 1, "", "no process has used this domain", "", "ls")
	serve(t, "greeter")
	serve(t, "audio", "0")
	code, out, errOut := ipcctl(t, "", "ls")
	lines := strings.Split(out, "\n")
	if code != 0 || errOut != "" || len(lines) != 4 || !strings.HasPrefix(lines[0], "NAME") ||
		!strings.HasPrefix(
			lines[1],
			"audio_compute.0 ",
		) || !strings.Contains(lines[2], " greeter ") {
		t.Errorf("status %d, printed %q and %q", code, out, errOut)
	}
	expect(t, 0, `"name":"audio_compute.0","service":"audio_compute","role":"NONE"`, "", "", "ls",
		"-json")
	expect(
		t,
		0,
		`"channels":[{"name":"greeter","live":true,"pid":`,
		"",
		"",
		"ls",
		"-json",
		"-domain",
		d,
	)
}

// A lineWriter passes on what is written.
type lineWriter struct {
	mu   sync.Mutex
	text string
	more chan bool
}

func newLineWriter() *lineWriter { return &lineWriter{more: make(chan bool, 1)} }

func (w *lineWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	w.text += string(b)
	w.mu.Unlock()
	select {
	case w.more <- true:
	default:
	}
	return len(b), nil
}

func (w *lineWriter) await(t *testing.T, want string) {
	t.Helper()
	timeout := time.After(tooLong)
	for {
		text := w.String()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-w.more:
		case <-timeout:
			t.Fatalf("printed %q, and not %q", text, want)
		}
	}
}

// TestListWatch follows a domain from before its first process to after its last.
func TestListWatch(t *testing.T) {
	newDomain(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := newLineWriter()
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"ipcctl", "ls", "-watch"}, strings.NewReader(""), w, io.Discard)
	}()
	w.await(t, "NAME")
	p := serve(t, "greeter")
	w.await(t, "greeter")
	p.Kill()
	w.await(t, "PROTOCOL\n\nNAME") // again an empty list
	cancel()
	if code := <-done; code != exitInterrupted {
		t.Errorf("status %d", code)
	}
}

func TestDoctor(t *testing.T) {
	newDomain(t)
	expect(t, 0, "warn  domain: ", "", "", "doctor")
	hung := serve(t, "greeter")
	serve(t, "audio", "0")
	expect(t, 0, fmt.Sprintf("ok    channel greeter: pid %d answers", hung.Pid), "", "", "doctor")
	expect(t, 0, `"level": "ok"`, "", "", "doctor", "-json")
	hung.Signal(syscall.SIGSTOP)
	expect(t, 1, fmt.Sprintf("fail  channel greeter: pid %d has the channel, and does not answer",
		hung.Pid), "", "", "doctor", "-timeout", "300ms")
	hung.Kill()
}

func TestGC(t *testing.T) {
	d := newDomain(t)
	expect(t, 1, "", "no process has used this domain", "", "gc")
	live, dead, gone := serve(t, "live"), serve(t, "dead"), serve(t, "audio", "0")
	expect(t, 0, "", "there is nothing to remove", "", "gc", "-yes")
	for _, p := range []*os.Process{dead, gone} {
		p.Kill()
		p.Wait()
	}
	expect(t, 0, "live", "files of 2 channels", "", "ls")
	expect(t, 1, "channel dead", "-yes", "", "gc") // standard input is no terminal
	expect(
		t,
		0,
		"channel audio_ctrl_0\nchannel dead\ninstance audio_compute.0\n",
		"",
		"",
		"gc",
		"-yes",
	)
	expect(t, 0, "", "there is nothing to remove", "", "gc", "-yes")
	expect(t, 0, fmt.Sprint(live.Pid), "", "", "ls")
	if left, _ := filepath.Glob(filepath.Join(d, "dead*")); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
