package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// serveControl serves what the tests of one-way messages and of refusals need, on a channel.
func serveControl(channel string) {
	l, err := ipc.Listen(channel)
	if err != nil {
		panic(err)
	}
	opts := []ipc.ServerOption{audio.NewControlMsgService(new(control)),
		greeter.NewGreeterService(polite{})}
	switch channel {
	case "control.silent":
		opts = append(opts, ipc.WithIntrospection(nil))
	case "control.closed":
		opts = append(opts, ipc.WithIntrospection(func(ipc.Peer) error {
			return errors.New("ask my owner")
		}))
	case "control.plain":
		opts = []ipc.ServerOption{ipc.NewService(&ipc.Protocol{Name: "test.Plain"})}
	}
	fmt.Println("ready")
	panic(ipc.NewServer(opts...).Serve(context.Background(), l))
}

// A control appends the values that it is sent to a file.
type control struct {
	audio.UnimplementedControlMsgHandler
}

func (*control) HandleSetParam(_ context.Context, m *audio.SetParamT) error {
	f, err := os.OpenFile(os.Getenv("IPCCTL_TEST_FILE"), os.O_APPEND|os.O_CREATE|os.O_WRONLY,
		0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, m.ParamId, m.Value)
	return err
}

// TestWithoutSchema calls and describes servers by what they tell of themselves.
func TestWithoutSchema(t *testing.T) {
	newDomain(t)
	t.Setenv("IPCCTL_TEST_FILE", filepath.Join(t.TempDir(), "sent"))
	serve(t, "greeter")
	serve(t, "audio", "0")
	for _, child := range []string{"control", "control.silent", "control.closed", "control.plain"} {
		serve(t, child)
	}

	expect(t, 0, `{"text":"Hello, world!"}`+"\n", "", "", "call", "greeter", "Greet",
		`{name: "world"}`)
	for _, name := range []string{"audio_ctrl_0", "audio_compute.0", "audio_compute"} {
		expect(t, 0, `"status":"Ok"`, "", "", "call", name, "SetParam",
			`{"param_id": "Pan", "value": 0.25}`)
	}
	expect(t, 1, "", "did you mean greeter.Greeter.Greet?", "", "call", "greeter", "Greer", "{}")
	expect(t, 1, "", "did you mean name?", "", "call", "greeter", "Greet", `{"nmae": ""}`)
	expect(t, 67, "", "did you mean greeter?", "", "call", "greter", "Greet", "{}")
	expect(t, 0, "calls in ", "", "", "bench", "-n", "10", "greeter", "Greet", `{"name": "x"}`)

	// Those that do not tell.
	expect(t, 68, "", "-schema", "", "call", "control.silent", "Greet", "{}")
	expect(t, 75, "", "ask my owner", "", "call", "control.closed", "Greet", "{}")
	expect(t, 75, "", "ask my owner", "", "describe", "control.closed")
	expect(t, 1, "", "does not tell its schema", "", "call", "control.plain", "Greet", "{}")
	expect(t, 0, "without a schema", "", "", "describe", "control.plain")

	// What they do.
	busy := exec.Command(os.Args[0], "call", "greeter", "Greet", `{"name": "slow"}`)
	busy.Env = append(os.Environ(), childEnv+"=ipcctl")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer busy.Wait()
	defer busy.Process.Kill()
	for end := time.Now().Add(tooLong); ; {
		_, out, _ := ipcctl(t, "", "ls", "-rates", "-json")
		var all struct {
			Channels []struct {
				Name     string
				Clients  *int
				InFlight int `json:"in_flight"`
			}
		}
		if err := json.Unmarshal([]byte(out), &all); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		seen := make(map[string]int)
		for _, c := range all.Channels {
			seen[c.Name] = -1
			if c.Clients != nil {
				seen[c.Name] = *c.Clients + 10*c.InFlight
			}
		}
		if seen["greeter"] == 11 && seen["control.closed"] == -1 && seen["control"] == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("ls -rates prints %s", out)
		}
	}
	expect(t, 0, "IN FLIGHT", "", "", "ls", "-rates")

	// What describe prints is a schema.
	dir := t.TempDir()
	text, binary := filepath.Join(dir, "got.fbs"), filepath.Join(dir, "got.bfbs")
	code, out, errOut := ipcctl(t, "", "describe", "audio_compute")
	if code != 0 || errOut != "" || !strings.Contains(out, "/// Controls an audio service.") ||
		!strings.Contains(out, "// serves      audio.AudioControl, fingerprint") {
		t.Errorf("describe: status %d, printed %q and %q", code, out, errOut)
	}
	write(t, text, out)
	expect(t, 0, "", "", "", "describe", "-bfbs", binary, "audio_compute")
	for _, schema := range []string{text, binary} {
		expect(t, 0, `"value":0.25`, "", "", "call", "-schema", schema, "audio_compute", "GetParam",
			`{"param_id": "Pan"}`)
	}
	expect(t, 0, "", "", "", "describe", "-bfbs", binary, "-protocol", "greeter.Greeter", "control")
	expect(t, 0, "Hello, x!", "", "", "call", "-schema", binary, "greeter", "Greet", `{name: "x"}`)
	expect(t, 1, "", "no definition of a protocol x", "", "describe", "-bfbs", binary, "-protocol",
		"x", "control")
	code, out, errOut = ipcctl(t, "", "describe", "-json", "control")
	var all struct {
		Methods, Messages []string
		Description       struct{ Pid int }
	}
	if err := json.Unmarshal([]byte(out), &all); code != 0 || err != nil ||
		all.Description.Pid == 0 || len(all.Methods) != 1 || len(all.Messages) != 4 {
		t.Errorf("describe -json: status %d, %v, printed %q and %q", code, err, out, errOut)
	}
}

// TestSend sends one-way messages, which their server gets in order.
func TestSend(t *testing.T) {
	newDomain(t)
	sent := filepath.Join(t.TempDir(), "sent")
	t.Setenv("IPCCTL_TEST_FILE", sent)
	serve(t, "control")
	expect(t, 0, "", "", "", "send", "control", "SetParam", `{"param_id": "Pan", "value": 1}`)
	code, out, errOut := ipcctl(t, "{\"value\": 2}\n{\"vlaue\": 3}\n{\"value\": 4}\n", "send",
		"-schema", audioSchema, "control", "audio.ControlMsg.SetParam")
	if code != 1 || out != "" || !strings.Contains(errOut, "line 2: 1:2:") {
		t.Errorf("lines: status %d, printed %q and %q", code, out, errOut)
	}
	// What is sent is not called, and the other way round.
	expect(t, 1, "", "no method SetParam, but the one-way message audio.ControlMsg.SetParam; "+
		"ipcctl send sends it", "", "call", "control", "SetParam", "{}")
	expect(t, 1, "", "no message Greet, but the method greeter.Greeter.Greet; "+
		"ipcctl call calls it", "", "send", "control", "Greet", "{}")
	expect(t, 1, "", "did you mean audio.ControlMsg.SetParam?", "", "send", "control", "SetParm",
		"{}")
	expect(t, 1, "", "did you mean value?", "", "send", "control", "SetParam", `{"vlaue": 1}`)
	serve(t, "greeter")
	expect(t, 1, "", "no message that can be sent", "", "send", "greeter", "SetParam", "{}")
	const want = "Pan 1\nGain 2\nGain 4\n"
	for end := time.Now().Add(tooLong); ; time.Sleep(10 * time.Millisecond) {
		got, err := os.ReadFile(sent)
		if err == nil && string(got) == want {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the server got %q, %v", got, err)
		}
	}
}
