package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// watchTap starts ipcctl tap in a process of its own, and waits until it watches. The function that
// it returns waits for the end, and returns what was printed.
func watchTap(t *testing.T, args ...string) (wait func() []tapLine) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"tap"}, args...)...)
	cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
	var out bytes.Buffer
	cmd.Stdout = &out
	errOut, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(errOut).ReadString('\n')
	if err != nil || !strings.Contains(line, "watching") {
		t.Fatalf("%q, %v", line, err)
	}
	return func() (lines []tapLine) {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for text := range strings.Lines(out.String()) {
			var line tapLine
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			lines = append(lines, line)
		}
		return lines
	}
}

// TestTap watches the calls and messages of other processes.
func TestTap(t *testing.T) {
	newDomain(t)
	t.Setenv("IPCCTL_TEST_FILE", filepath.Join(t.TempDir(), "sent"))
	control := serve(t, "control")
	serve(t, "audio", "0")
	all := watchTap(t, "-n", "3", "-max-body", "1000", "control")
	some := watchTap(t, "-n", "1", "-method", "SetParam", "control")
	expect(t, 0, "Hello, x!", "", "", "call", "control", "Greet", `{"name": "x"}`)
	expect(t, 69, "", "whom", "", "call", "control", "Greet", "{}")
	expect(t, 0, "", "", "", "send", "control", "SetParam", `{"param_id": "Pan", "value": 1}`)
	lines := all()
	for i, want := range []tapLine{
		{Method: "greeter.Greeter.Greet", Kind: "call", Code: "ok",
			Request: json.RawMessage(`{"name":"x"}`), Reply: json.RawMessage(`{"text":"Hello, x!"}`)},
		{Method: "greeter.Greeter.Greet", Kind: "call", Code: "invalid argument",
			Outcome: "executed", Error: "whom shall I greet?", Request: json.RawMessage(`{}`)},
		{Method: "audio.ControlMsg.SetParam", Kind: "message", Code: "ok",
			Request: json.RawMessage(`{"param_id":"Pan","value":1}`)},
	} {
		got := lines[i]
		if got.Method != want.Method || got.Kind != want.Kind || got.Code != want.Code ||
			got.Outcome != want.Outcome || got.Error != want.Error ||
			string(got.Request) != string(want.Request) ||
			string(got.Reply) != string(want.Reply) ||
			got.Client == 0 || *got.Micros <= 0 || *got.RequestBytes == 0 || got.At.IsZero() {
			t.Errorf("line %d: %+v", i, got)
		}
	}
	if lines := some(); len(lines) != 1 || lines[0].Kind != "message" {
		t.Errorf("of one message: %+v", lines)
	}

	// In envelopes; a long request shows its length alone.
	group := watchTap(t, "-n", "1", "audio_compute")
	expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": 0.5}`)
	if lines := group(); string(lines[0].Request) != `{"value":0.5}` ||
		!strings.Contains(string(lines[0].Reply), `"status":"Ok"`) {
		t.Errorf("in envelopes: %+v", lines)
	}
	long := watchTap(t, "-n", "1", "-max-body", "100", "control")
	expect(t, 0, "Hello, ", "", "", "call", "control", "Greet",
		`{"name": "`+strings.Repeat("x", 1000)+`"}`)
	if lines := long(); lines[0].Request != nil || *lines[0].RequestBytes <= 1000 {
		t.Errorf("a long request: %+v", lines)
	}

	expect(t, 1, "", "did you mean greeter.Greeter.Greet?", "", "tap", "-method", "Greer",
		"control")
	expect(t, 67, "", "nothing called no lives", "", "tap", "no")
	dying := exec.Command(os.Args[0], "tap", "control")
	dying.Env = append(os.Environ(), childEnv+"=ipcctl")
	errOut, err := dying.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	lines2 := bufio.NewReader(errOut)
	if _, err := lines2.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	control.Kill()
	text, _ := lines2.ReadString('\n')
	dying.Wait()
	if code := dying.ProcessState.ExitCode(); code != 67 || !strings.Contains(text, "unavailable") {
		t.Errorf("the server dies: status %d, %q", code, text)
	}
}

// TestTapWhere shows lines by what is in them.
func TestTapWhere(t *testing.T) {
	newDomain(t)
	serve(t, "audio", "0")
	serve(t, "mixer")
	loud := watchTap(t, "-n", "1", "-where", "request.value>0.5", "-where", "code=ok",
		"audio_compute")
	quiet := watchTap(t, "-n", "1", "-where", "request.value=0", "-method", "SetParam",
		"audio_compute")
	notes := watchTap(t, "-n", "2", "-where", "kind=reply_item", "-where", "item.pitch!=73",
		"mixer")
	for _, value := range []string{"0.25", "0.75", "0"} {
		expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": `+value+`}`)
	}
	expect(t, 0, `{"pitch":74}`, "", "{\"pitch\": 60}\n{\"pitch\": 61}\n{\"pitch\": 62}", "call",
		"mixer", "Jam")
	if lines := loud(); string(lines[0].Request) != `{"value":0.75}` {
		t.Errorf("loud: %+v", lines)
	}
	// A scalar that is absent has its default.
	if lines := quiet(); string(lines[0].Request) != `{}` {
		t.Errorf("quiet: %s", lines[0].Request)
	}
	lines := notes()
	if string(lines[0].Item) != `{"pitch":72}` || string(lines[1].Item) != `{"pitch":74}` ||
		lines[0].Call == 0 || lines[0].Call != lines[1].Call || lines[1].Seq != 2 ||
		lines[0].Method != "mixing.Mixer.Jam" || *lines[0].ItemBytes == 0 || lines[0].Code != "" {
		t.Errorf("items: %+v", lines)
	}
	tap := func(where, want string) {
		t.Helper()
		expect(t, 2, "", want, "", "tap", "-where", where, "audio_compute")
	}
	tap("request.vlaue>1", `has no field "vlaue"; did you mean value?`)
	tap("requst.value>1", "a line has no requst; did you mean request?")
	expect(t, 2, "", "there is no field x in what is no table", "", "tap", "-method", "SetParam",
		"-where", "request.value.x>1", "audio_compute")
	tap("code", "a condition is a path, one of")
	tap("micros>fast", "fast is none")
}

// TestTapFollows watches a group over a failover.
func TestTapFollows(t *testing.T) {
	newDomain(t)
	serve(t, "group")
	s := start(t, strings.NewReader(""), "tap", "-n", "2", "-method", "GetParam", "audio_compute")
	s.err.await(t, "watching audio_compute, process ")
	expect(t, 0, `"value":1`, "", "", "call", "audio_compute", "GetParam", "{}")
	expect(t, 0, "PRIMARY  2", "", "", "failover", "-yes", "audio_compute")
	s.err.await(t, "is no longer the primary of audio_compute, and 0 calls were open")
	s.err.await(t, "\nipcctl: watching audio_compute, process ")
	expect(t, 0, `"value":1`, "", "", "call", "audio_compute", "GetParam", "{}")
	s.ends(t, 0, `"method":"audio.AudioControl.GetParam"`, "")
	if n := strings.Count(s.out.String(), "\n"); n != 2 {
		t.Errorf("%d lines: %s", n, s.out)
	}
}

// TestOpenCallsAreBounded notes the beginnings of calls that never end, or have numbers that come
// again.
func TestOpenCallsAreBounded(t *testing.T) {
	var o openCalls[int]
	forgotten := 0
	for call := range uint64(1000) {
		forgotten += o.begin(call, int(call), 1<<20)
		if o.bytes > mostOpenBytes {
			t.Fatalf("%d bytes are kept", o.bytes)
		}
	}
	if forgotten != 1000-o.len() || o.len() > 64 {
		t.Errorf("%d calls are kept, and %d were forgotten", o.len(), forgotten)
	}
	if begin, ok := o.end(999); !ok || begin != 999 || o.get(998) != 998 {
		t.Errorf("the last calls: %d, %v, %d", begin, ok, o.get(998))
	}
	if _, ok := o.end(999); ok {
		t.Error("a call ends twice")
	}
	for range 10 {
		o.begin(998, 7, 1<<20)
	}
	before := o.bytes
	if begin, _ := o.end(998); begin != 7 || o.bytes != before-1<<20 {
		t.Errorf("a number that comes again: %d, %d bytes of %d", begin, o.bytes, before)
	}
	for call := range uint64(mostOpen) {
		o.begin(call, 0, 0)
	}
	if o.begin(mostOpen, 0, 0) == 0 || o.len() != 1 {
		t.Errorf("%d calls without bodies are kept", o.len())
	}
}
