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
			got.Client == 0 || got.Micros <= 0 || got.RequestBytes == 0 || got.At.IsZero() {
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
	if lines := long(); lines[0].Request != nil || lines[0].RequestBytes <= 1000 {
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
