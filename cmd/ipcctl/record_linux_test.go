package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/foxglove/mcap/go/mcap"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/recording"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A recorderProcess is ipcctl record in a process of its own.
type recorderProcess struct {
	*exec.Cmd
	t     *testing.T
	lines *bufio.Reader // standard error
	said  strings.Builder
}

// startRecorder starts ipcctl record, and waits until it records.
func startRecorder(t *testing.T, args ...string) *recorderProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"record"}, args...)...)
	cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
	return startRecording(t, cmd)
}

func startRecording(t *testing.T, cmd *exec.Cmd) *recorderProcess {
	t.Helper()
	errOut, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	p := &recorderProcess{Cmd: cmd, t: t, lines: bufio.NewReader(errOut)}
	p.await("ipcctl: recording ")
	return p
}

// await waits for a line of standard error that has a text.
func (p *recorderProcess) await(text string) {
	p.t.Helper()
	watchdog := time.AfterFunc(tooLong, func() { p.Process.Kill() })
	defer watchdog.Stop()
	for {
		line, err := p.lines.ReadString('\n')
		p.said.WriteString(line)
		if err != nil {
			p.t.Fatalf("record said %q, and not %q", p.said.String(), text)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// end waits for the end of the process, and returns its status and what it has said.
func (p *recorderProcess) end() (code int, said string) {
	p.t.Helper()
	watchdog := time.AfterFunc(tooLong, func() { p.Process.Kill() })
	defer watchdog.Stop()
	rest, _ := io.ReadAll(p.lines)
	p.Wait()
	return p.ProcessState.ExitCode(), p.said.String() + string(rest)
}

// interrupt ends the recording as Ctrl-C does.
func (p *recorderProcess) interrupt(want string) {
	p.t.Helper()
	p.Process.Signal(os.Interrupt)
	if code, said := p.end(); code != 0 || !strings.Contains(said, want) {
		p.t.Fatalf("status %d, said %q, want %q", code, said, want)
	}
}

// finish ends the recording as Ctrl-C does, as soon as the file has the ends of so many calls and
// messages: a server has them a little after its clients have.
func (p *recorderProcess) finish(file string, calls, messages int64) {
	p.t.Helper()
	for deadline := time.Now().Add(tooLong); ; time.Sleep(10 * time.Millisecond) {
		c, err := recording.Scan(file)
		if err == nil {
			done, sent := ended(c)
			if done == calls && sent == messages {
				break
			}
			err = fmt.Errorf("it has %d calls and %d messages", done, sent)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the recording is not whole: %v", err)
		}
	}
	count := func(n int64, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprint(n, " ", what, "s")
	}
	p.interrupt(count(calls, "call") + ", " + count(messages, "message") + ", ")
}

// ended counts the calls and messages whose ends a recording has.
func ended(c *recording.Contents) (calls, messages int64) {
	for _, s := range c.Sources {
		for _, m := range s.Methods {
			switch m.Kind {
			case recording.KindMessage:
				messages += m.Ended
			case recording.KindTopic:
				messages += m.Requests
			default:
				calls += m.Ended
			}
		}
	}
	return calls, messages
}

// A foundMessage is a message of a file, as a reader of MCAP finds it.
type foundMessage struct {
	Topic, Encoding, Schema, SchemaEncoding string

	Seq  uint32
	Data []byte
	Bfbs []byte
}

// readMCAP reads a file by the reader of the mcap module, by its index if it has one.
func readMCAP(t *testing.T, path string, indexed bool) (all []foundMessage, info *mcap.Info) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := mcap.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if indexed {
		if info, err = r.Info(); err != nil {
			t.Fatal(err)
		}
	}
	it, err := r.Messages(mcap.UsingIndex(indexed))
	if err != nil {
		t.Fatal(err)
	}
	for {
		s, c, m, err := it.NextInto(nil)
		if err != nil {
			if err != io.EOF && indexed {
				t.Fatal(err)
			}
			return all, info
		}
		all = append(all, foundMessage{Topic: c.Topic, Encoding: c.MessageEncoding, Schema: s.Name,
			SchemaEncoding: s.Encoding, Seq: m.Sequence, Data: bytes.Clone(m.Data), Bfbs: s.Data})
	}
}

// TestRecord records two servers in one file, and reads it as a program does that knows MCAP and
// FlatBuffers, and nothing of ipcctl.
func TestRecord(t *testing.T) {
	newDomain(t)
	dir := t.TempDir()
	t.Setenv("IPCCTL_TEST_FILE", filepath.Join(dir, "sent"))
	serve(t, "control")
	serve(t, "audio", "0")
	file := filepath.Join(dir, "f.mcap")
	rec := startRecorder(t, "-o", file, "control", "audio_compute")
	expect(t, 0, "Hello, x!", "", "", "call", "control", "Greet", `{"name": "x"}`)
	expect(t, 69, "", "whom", "", "call", "control", "Greet", "{}")
	expect(t, 0, "", "", "", "send", "control", "SetParam", `{"param_id": "Pan", "value": 1}`)
	expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": 0.5}`)
	rec.finish(file, 3, 1)

	all, info := readMCAP(t, file, true)
	if info.Statistics.MessageCount != uint64(len(all)) || info.Footer == nil {
		t.Errorf("the index has %d messages, the file %d", info.Statistics.MessageCount, len(all))
	}
	texts := make(map[string][]string) // JSON, by topic
	for _, m := range all {
		if m.Encoding == "json" {
			if m.SchemaEncoding != "jsonschema" || !json.Valid(m.Data) {
				t.Errorf("%s: %s %q", m.Topic, m.SchemaEncoding, m.Data)
			}
			texts[m.Topic] = append(texts[m.Topic], string(m.Data))
			continue
		}
		types, err := fbjson.Load(m.Bfbs)
		if err != nil || m.Encoding != "flatbuffer" || m.SchemaEncoding != "flatbuffer" {
			t.Fatalf("%s: %s, %s, %v", m.Topic, m.Encoding, m.SchemaEncoding, err)
		}
		root, err := types.Table(m.Schema)
		if err != nil {
			t.Fatal(err)
		}
		text, err := root.AppendJSON(nil, m.Data, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts[m.Topic] = append(texts[m.Topic], fmt.Sprint(m.Seq, " ", string(text)))
	}
	for topic, want := range map[string]string{
		"/control/greeter.Greeter/Greet/request": `1 {"name":"x"}; 2 {}`,
		"/control/greeter.Greeter/Greet/reply":   `1 {"text":"Hello, x!"}`,
		// Without envelopes.
		"/control/audio.ControlMsg/SetParam/message":         `3 {"param_id":"Pan","value":1}`,
		"/audio_compute/audio.AudioControl/SetParam/request": `4 {"value":0.5}`,
	} {
		if got := strings.Join(texts[topic], "; "); got != want {
			t.Errorf("%s: %s, want %s", topic, got, want)
		}
	}
	if got := texts["/audio_compute/audio.AudioControl/SetParam/reply"]; len(got) != 1 ||
		!strings.Contains(got[0], `"status":"Ok"`) || !strings.HasPrefix(got[0], "4 ") {
		t.Errorf("a reply in an envelope: %s", got)
	}
	var calls []recording.Call
	for _, text := range texts["/control/calls"] {
		var c recording.Call
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	if len(calls) != 3 || calls[0].Code != "ok" || calls[0].Client == 0 || calls[0].Micros <= 0 ||
		calls[0].Begin == 0 || calls[0].Method != "greeter.Greeter.Greet" ||
		calls[1].Code != "invalid argument" || calls[1].Outcome != "executed" ||
		calls[1].Error != "whom shall I greet?" || calls[2].Kind != "message" {
		t.Errorf("calls: %+v", calls)
	}
	if s := strings.Join(texts["/control/status"], "; "); !strings.Contains(s, `"watching","pid":`) ||
		!strings.Contains(s, `{"event":"ended","lost":0}`) {
		t.Errorf("status: %s", s)
	}

	expect(t, 0, "control: servers 1, lost 0\n"+
		"  audio.ControlMsg.SetParam: message, 1 ended\n"+
		"  greeter.Greeter.Greet: call, 2 ended, 1 invalid argument\n", "", "",
		"replay", "-list", file)
	expect(t, 0, `"complete":true`, "", "", "replay", "-list", "-json", file)

	// The recording is replayed to the same servers.
	expect(t, 2, "", "-from chooses: audio_compute, control", "", "replay", file, "audio_ctrl_0")
	code, out, errOut := ipcctl(t, "", "replay", "-speed", "max", file, "control")
	if code != 0 || out != "" || !strings.Contains(errOut, "3 of 3 sent; 2 replies are as "+
		"recorded, 0 differ") {
		t.Errorf("replay: status %d, printed %q and %q", code, out, errOut)
	}
	for deadline := time.Now().Add(tooLong); ; { // the message is handled at some time
		sent, err := os.ReadFile(filepath.Join(dir, "sent"))
		if string(sent) == "Pan 1\nPan 1\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the message was sent again: %q, %v", sent, err)
		}
		time.Sleep(time.Millisecond)
	}
	code, out, errOut = ipcctl(t, "\n", "replay", "-step", "-from", "audio_compute", file,
		"audio_ctrl_0")
	if code != 0 || !strings.HasPrefix(out, `4 audio.AudioControl.SetParam {"value":0.5}`+"\n  {") ||
		!strings.Contains(errOut, "[Enter]") {
		t.Errorf("in steps: status %d, printed %q and %q", code, out, errOut)
	}
	expect(t, 0, "", "0 of 3 sent", "", "replay", "-step", file, "control") // no line comes
	expect(t, 67, "", "did you mean control?", "", "replay", "-from", "control", file, "controll")

	// What exists is not touched.
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, 1, "", "f.mcap exists, and no file is overwritten", "", "record", "-o", file,
		"control")
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("an existing file was changed: %v", err)
	}
	none := filepath.Join(dir, "none.mcap")
	expect(t, 67, "", "nothing called no lives", "", "record", "-o", none, "control", "no")
	expect(t, 1, "", "did you mean greeter.Greeter.Greet?", "", "record", "-o", none, "-method",
		"Greer", "control")
	if _, err := os.Stat(none); err == nil {
		t.Error("a recording that could not begin has left a file")
	}
}

// TestReplayDiffers replays to a server that answers otherwise.
func TestReplayDiffers(t *testing.T) {
	newDomain(t)
	serve(t, "audio", "0")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "audio_compute")
	expect(t, 0, `"value":1`, "", "", "call", "audio_compute", "GetParam", "{}")
	expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": 0.25}`)
	expect(t, 0, `"value":0.25`, "", "", "call", "audio_compute", "GetParam", "{}")
	rec.finish(file, 3, 0)
	code, out, errOut := ipcctl(t, "", "replay", "-speed", "2", file, "audio_compute")
	if want := "1 audio.AudioControl.GetParam {}\n  value: 1, now 0.25\n"; code != 1 ||
		out != want || !strings.Contains(errOut, "3 of 3 sent; 2 replies are as recorded, "+
		"1 differs\n") {
		t.Errorf("status %d, printed %q and %q", code, out, errOut)
	}
	expect(t, 0, "", "1 of 1 sent; 1 reply is as recorded, 0 differ", "", "replay", "-method",
		"SetParam", file, "audio_compute")
	expect(t, 2, "", "did you mean audio.AudioControl.SetParam?", "", "replay", "-method",
		"SetParm", file, "audio_compute")
	expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": 0.5}`)
	code, out, _ = ipcctl(t, "", "replay", "-json", "-method", "GetParam", file, "audio_compute")
	if !strings.Contains(out, `"differences":[{"path":"value","before":1,"after":0.5}]`) ||
		code != 1 || strings.Count(out, "\n") != 2 {
		t.Errorf("JSON: status %d, printed %q", code, out)
	}

	// A server that lacks the service is sent nothing.
	serve(t, "greeter")
	expect(t, 68, "", "nothing was sent: unimplemented: the server greeter has no protocol "+
		"audio.AudioControl", "", "replay", file, "greeter")
}

// TestReplayConcurrent replays calls that end only if they are in flight at once.
func TestReplayConcurrent(t *testing.T) {
	newDomain(t)
	serve(t, "pairs")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "pairs")
	expect(t, 0, "calls in", "", "", "bench", "-n", "100", "-c", "2", "pairs", "Greet",
		`{"name": "pair"}`)
	rec.finish(file, 100, 0)
	expect(t, 0, "", "100 of 100 sent; 100 replies are as recorded", "", "replay", "-speed", "max",
		"-timeout", "1m", file, "pairs")
	expect(t, 0, "", "100 of 100 sent; 100 replies are as recorded", "", "replay", "-timeout", "1m",
		file, "pairs")
}

// TestRecordKilled kills the recorder without a warning while it records.
func TestRecordKilled(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "greeter")
	first, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 500)
	deadline := time.Now().Add(tooLong)
	for { // until a chunk is in the file
		expect(t, 0, "calls in", "", "", "bench", "-n", "500", "greeter", "Greet",
			`{"name": "`+long+`"}`)
		if info, err := os.Stat(file); err != nil || time.Now().After(deadline) {
			t.Fatalf("nothing was written: %v", err)
		} else if info.Size() > first.Size() {
			break
		}
	}
	rec.Process.Kill()
	rec.end()

	code, out, errOut := ipcctl(t, "", "replay", "-list", file)
	if code != 0 || !strings.Contains(out, "greeter.Greeter.Greet: call, ") ||
		!strings.Contains(errOut, "the recording is cut off at byte ") {
		t.Errorf("status %d, printed %q and %q", code, out, errOut)
	}
	all, _ := readMCAP(t, file, false)
	if len(all) < 500 || all[0].Topic != "/greeter/status" {
		t.Errorf("the reader of mcap finds %d messages", len(all))
	}
	expect(t, 0, "", "what comes before was replayed", "", "replay", "-speed", "max", file,
		"greeter")

	// And at any other moment.
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.mcap")
	for n := 0; n < len(whole); n += 1 + n/7 {
		write(t, cut, string(whole[:n]))
		c, err := recording.Scan(cut)
		if n == 0 {
			if err == nil || !strings.Contains(err.Error(), "an empty file") {
				t.Errorf("an empty file: %v", err)
			}
			continue
		}
		if n < len(mcap.Magic) {
			if err == nil || !strings.Contains(err.Error(), "cut off at byte") {
				t.Errorf("%d bytes: %v", n, err)
			}
			continue
		}
		if err != nil || c.Cut == nil {
			t.Fatalf("%d bytes: %+v, %v", n, c, err)
		}
	}
	write(t, cut, string(whole[:5]))
	expect(t, 2, "", "cut.mcap: the recording is cut off at byte 5", "", "replay", cut, "greeter")
}

// TestReplayForeign gives replay files that are no recordings.
func TestReplayForeign(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	dir := t.TempDir()
	file := filepath.Join(dir, "x.mcap")
	foreign := func(want string) {
		t.Helper()
		expect(t, 2, "", "ipcctl: "+file+": "+want, "", "replay", file, "greeter")
	}
	expect(t, 2, "", "no such file", "", "replay", file, "greeter")
	expect(t, 2, "", ": not a recording of ipcctl: no regular file", "", "replay", dir, "greeter")
	write(t, file, "")
	foreign("not a recording of ipcctl: an empty file")
	write(t, file, "{}")
	foreign("not a recording of ipcctl: no MCAP file")
	var b bytes.Buffer
	w, err := mcap.NewWriter(&b, &mcap.WriterOptions{Chunked: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.WriteHeader(&mcap.Header{Profile: "ros2"}),
		w.WriteSchema(&mcap.Schema{ID: 1, Name: "x"}),
		w.WriteChannel(&mcap.Channel{ID: 1, SchemaID: 1, Topic: "/camera"}),
		w.WriteMessage(&mcap.Message{ChannelID: 1, Data: []byte("x")}), w.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, file, b.String())
	foreign("not a recording of ipcctl: an MCAP file of another program")

	// A recording in which one bit of a chunk is wrong.
	os.Remove(file)
	rec := startRecorder(t, "-o", file, "greeter")
	expect(t, 0, "Hello", "", "", "call", "greeter", "Greet", `{"name": "x"}`)
	rec.finish(file, 1, 0)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(whole, []byte("zstd")) + 200
	whole[at] ^= 4
	write(t, file, string(whole))
	foreign("the recording is damaged at byte ")
}

// recordWith writes a recording of requests by a schema other than the server's.
func recordWith(t *testing.T, text, request string, methods ...string) (file string) {
	t.Helper()
	dir := t.TempDir()
	other := filepath.Join(dir, "other.fbs")
	write(t, other, text)
	models, diags := schema.Load(schema.Options{ReadBinary: bfbs.Read}, other)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	definition := bfbs.WriteExact(models[0], func(f *schema.File) string { return f.Name })
	types, err := fbjson.Load(definition)
	if err != nil {
		t.Fatal(err)
	}
	hello, err := types.Table("greeter.Hello")
	if err != nil {
		t.Fatal(err)
	}
	body, err := hello.AppendBuffer(nil, []byte(request), nil)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "f.mcap")
	w, err := recording.Create(file, recording.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range methods {
		service, name, _ := strings.Cut(method, ".")
		if err := w.WriteBody(&recording.Topic{Source: "greeter", Kind: recording.Request,
			Protocol: "greeter." + service, Method: name, Table: "greeter.Hello",
			Definition: definition}, w.NextCall(), time.Now().UnixNano(), body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestReplayOtherSchema replays recordings whose schemas are not the server's.
func TestReplayOtherSchema(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	const greeting = "table Greeting { text: string; } "
	misread := recordWith(t, "namespace greeter; table Hello { name: int; } "+greeting+
		"rpc_service Greeter { Greet(Hello): Greeting (idempotent); }", `{"name": 7}`,
		"Greeter.Greet")
	expect(t, 72, "", "nothing was sent: incompatible", "", "replay", misread, "greeter")
	expect(t, 72, "", "nothing was sent, since no method fits: incompatible", "", "replay",
		"-partial", misread, "greeter")

	// Methods and services that the server lacks.
	text := "namespace greeter; table Hello { name: string; more: int; } " + greeting +
		"rpc_service Greeter { Greet(Hello): Greeting (idempotent); Greed(Hello): Greeting; } " +
		"rpc_service Other { Greet(Hello): Greeting; }"
	lacks := recordWith(t, text, `{"name": "x", "more": 1}`, "Greeter.Greed", "Greeter.Greet",
		"Other.Greet", "Greeter.Greet")
	const first = "the server greeter has no method or message greeter.Greeter.Greed; " +
		"did you mean greeter.Greeter.Greet?"
	expect(t, 68, "", "nothing was sent: unimplemented: "+first+"; -partial leaves out what "+
		"does not fit: 2 methods\n", "", "replay", "-speed", "max", lacks, "greeter")
	code, out, errOut := ipcctl(t, "", "replay", "-partial", "-speed", "max", lacks, "greeter")
	for _, want := range []string{
		"the server has another version of greeter.Greeter, which is compatible",
		"greeter.Greeter.Greed is left out: unimplemented: " + first,
		"greeter.Other.Greet is left out: unimplemented: the server greeter has no protocol",
		"2 of 2 sent; 0 replies are as recorded, 0 differ, 2 cannot be compared; 2 requests do " +
			"not fit the server\n"} {
		if !strings.Contains(errOut, want) {
			t.Errorf("it is not said: %s", want)
		}
	}
	if code != 0 || out != "" {
		t.Errorf("status %d, printed %q and %q", code, out, errOut)
	}

	// Fields that the server does not know are told before the first call.
	expect(t, 0, "", "the server has another version of greeter.Greeter, which is compatible; "+
		"what only one of the two has is not read by the other\nipcctl: 2 of 2 sent", "", "replay",
		"-method", "greeter.Greeter.Greet", "-speed", "max", lacks, "greeter")
}

// TestRecordLimits ends recordings by their flags.
func TestRecordLimits(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	dir := t.TempDir()
	file := filepath.Join(dir, "f.mcap")
	rec := startRecorder(t, "-o", file, "-max-size", "64K", "greeter")
	ended := make(chan bool)
	var code int
	var said string
	go func() { code, said = rec.end(); close(ended) }()
	for i := 0; ; i++ { // what does not compress
		select {
		case <-ended:
		default:
			expect(t, 0, "calls in", "", "", "bench", "-n", "20", "greeter", "Greet",
				fmt.Sprintf(`{"name": "%s"}`, noise(i, 2000)))
			continue
		}
		break
	}
	if code != 0 || !strings.Contains(said, "the recording has the size that it may have") {
		t.Errorf("status %d, said %q", code, said)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > 64<<10 || info.Size() < 16<<10 {
		t.Errorf("%v bytes, %v", info.Size(), err)
	}
	if all, _ := readMCAP(t, file, true); len(all) < 10 {
		t.Errorf("the file has %d messages", len(all))
	}
	os.Remove(file)
	expect(t, 0, "", "0 calls, 0 messages", "", "record", "-o", file, "-duration", "10ms",
		"greeter")
	expect(t, 0, "MCAP0", "0 calls, 0 messages", "", "record", "-o", "-", "-duration", "10ms",
		"greeter")
	for _, wrong := range [][]string{{"record", "greeter"}, {"record", "-o", "x"},
		{"record", "-o", "x", "-max-size", "x", "greeter"},
		{"record", "-o", "x", "-max-size", "9999999999G", "greeter"},
		{"record", "-o", "x", "-max-size", "10", "greeter"},
		{"record", "-o", "x", "-max-body", "0", "greeter"},
		{"record", "-o", "x", "-duration", "-1s", "greeter"},
		{"record", "-o", "x", "-timeout", "0s", "greeter"}, {"replay"}, {"replay", "x"},
		{"replay", "-list", "x", "y"}, {"replay", "-speed", "0", "x", "y"},
		{"replay", "-speed", "NaN", "x", "y"}, {"replay", "-timeout", "0s", "x", "y"}} {
		expect(t, exitUsage, "", "for usage", "", wrong...)
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("wrong usage has left a file")
	}
}

// noise returns letters that do not compress well.
func noise(seed, n int) string {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = 'a' + byte(x>>24)%26
	}
	return string(b)
}

// TestRecordFull lets a recording reach the end of its disk, and the greatest size of files that
// the process may write.
func TestRecordFull(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	dir := t.TempDir()
	for _, c := range []struct {
		name, prepare, file, want string
	}{
		{"limit", "ulimit -f 128", "f.mcap", "ulimit -f"},
		{"disk", `mkdir -p disk && mount -t tmpfs -o size=128k tmpfs disk`, "disk/f.mcap",
			"no space left on device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			copied := filepath.Join(dir, c.name+".mcap")
			// The disk goes with the process, so the file is copied.
			script := c.prepare + ` || exit 99; "$0" record -o ` + c.file + ` greeter; code=$?; ` +
				`cp ` + c.file + ` "$1"; exit $code`
			cmd := exec.Command("bash", "-c", script, os.Args[0], copied)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
			if c.name == "disk" {
				cmd.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
					UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
					GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
				if err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs",
					dir).Run(); err != nil {
					t.Skip("no disk can be mounted here")
				}
			}
			rec := startRecording(t, cmd)
			ended := make(chan bool)
			var code int
			var said string
			go func() { code, said = rec.end(); close(ended) }()
			for i := 0; ; i++ {
				select {
				case <-ended:
				default:
					expect(t, 0, "calls in", "", "", "bench", "-n", "20", "greeter", "Greet",
						fmt.Sprintf(`{"name": "%s"}`, noise(i, 2000)))
					continue
				}
				break
			}
			if code != 1 || !strings.Contains(said, c.want) || strings.Contains(said, "SIG") {
				t.Errorf("status %d, said %q", code, said)
			}
			// The file is complete, with its index.
			if all, info := readMCAP(t, copied, true); len(all) < 20 || info.Footer == nil {
				t.Errorf("the file has %d messages", len(all))
			}
			expect(t, 0, "greeter.Greeter.Greet: call, ", "", "", "replay", "-list", copied)
		})
	}

	// A disk that is full at the start has no file.
	full := filepath.Join(dir, "small.mcap")
	cmd := exec.Command("bash", "-c", `ulimit -f 0; exec "$0" record -o "$1" greeter`, os.Args[0],
		full)
	cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 1 ||
		!strings.Contains(string(out), "ulimit -f") {
		t.Errorf("status %d, said %q", code, out)
	}
	if _, err := os.Stat(full); err == nil {
		t.Error("a recording that could not begin has left a file")
	}
}

// TestFilesAreWhole lets commands that write a file reach the greatest size of files: the file that
// was there before stays, no other is left, and the error names the file that was meant.
func TestFilesAreWhole(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	dir := t.TempDir()
	t.Chdir(dir)
	for _, args := range [][]string{
		{"top", "-interval", "10ms", "-svg", "f"},
		{"bench", "-n", "1", "-svg", "f", "greeter", "Greet", `{"name": "x"}`},
		{"describe", "-bfbs", "f", "greeter"},
	} {
		write(t, "f", "before")
		cmd := exec.Command("bash", append([]string{"-c", `ulimit -f 0; exec "$0" "$@"`,
			os.Args[0]}, args...)...)
		cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
		var said bytes.Buffer
		cmd.Stderr = &said
		_ = cmd.Run() // its status says it
		if code := cmd.ProcessState.ExitCode(); code != exitFailed ||
			!strings.HasPrefix(said.String(), "ipcctl: write f: file too large") {
			t.Errorf("%q: status %d, said %q", args, code, &said)
		}
		is, err := os.ReadFile("f")
		if left, _ := filepath.Glob("*"); len(left) != 1 || err != nil || string(is) != "before" {
			t.Errorf("%q left %q, and f is %q, %v", args, left, is, err)
		}
	}
}

// TestRecordLoses stops the recorder for as long as it takes to lose calls.
func TestRecordLoses(t *testing.T) {
	newDomain(t)
	serve(t, "greeter")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "greeter")
	rec.Process.Signal(syscall.SIGSTOP)
	long := `{"name": "` + strings.Repeat("x", 64<<10) + `"}`
	expect(t, 0, "\n200 calls in ", "", "", "bench", "-n", "200", "greeter", "Greet", long)
	rec.Process.Signal(syscall.SIGCONT)
	rec.interrupt(" records were lost")
	c, err := recording.Scan(file)
	if err != nil || c.Sources["greeter"].Lost == 0 || c.Sources["greeter"].Lost > 400 {
		t.Fatalf("%+v, %v", c.Sources["greeter"], err)
	}
	expect(t, 0, fmt.Sprintf("greeter: servers 1, lost %d\n", c.Sources["greeter"].Lost), "", "",
		"replay", "-list", file)
}

// TestRecordFailover records a group whose primary is killed, and a channel whose server is.
func TestRecordFailover(t *testing.T) {
	newDomain(t)
	g, err := group.Start(t.Context(), group.Config{Service: audioservice.Service, Replicas: 2,
		Command: func(index int) *exec.Cmd {
			cmd := exec.Command(os.Args[0], fmt.Sprint(index))
			cmd.Env = append(os.Environ(), childEnv+"=audio")
			return cmd
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Shutdown(t.Context())
	plain := serve(t, "greeter")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "audio_compute", "greeter")
	expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": 0.5}`)
	for deadline := time.Now().Add(tooLong); ; { // until the call is in the file
		_, out, _ := ipcctl(t, "", "replay", "-list", file)
		if strings.Contains(out, "SetParam: call, 1 ended") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file has %q", out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	status, err := g.WaitHealthy(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.Replicas[status.Primary].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rec.await("audio_compute: recording again")
	expect(t, 0, `"Ok"`, "", "", "call", "audio_compute", "SetParam", `{"value": 0.25}`)
	plain.Kill()
	plain.Wait()
	rec.await("greeter: the server is gone; waiting for the next one")
	serve(t, "greeter")
	rec.await("greeter: recording again")
	expect(t, 0, "Hello", "", "", "call", "greeter", "Greet", `{"name": "x"}`)
	rec.finish(file, 3, 0)
	expect(t, 0, "audio_compute: servers 2, lost 0\n  audio.AudioControl.SetParam: call, 2 ended\n"+
		"greeter: servers 2, lost 0\n  greeter.Greeter.Greet: call, 1 ended\n", "", "", "replay",
		"-list", file)
	epochs := make(map[uint64]bool)
	r, err := recording.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		record, err := r.Next()
		if err != nil {
			break
		}
		if record.Topic.Kind == recording.Calls && record.Topic.Source == "audio_compute" {
			c, err := record.Call()
			if err != nil {
				t.Fatal(err)
			}
			epochs[c.Epoch] = true
		}
	}
	if len(epochs) != 2 {
		t.Errorf("epochs %v", epochs)
	}
	expect(t, 0, "", "2 of 2 sent; 2 replies are as recorded", "", "replay", "-speed", "max", file,
		"audio_compute")
}

// TestRecordStreams records calls of methods that stream, and replays them.
func TestRecordStreams(t *testing.T) {
	newDomain(t)
	serve(t, "mixer")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "mixer")
	expect(t, 0, `{"pitch":74}`, "", "{\"pitch\": 60}\n{\"pitch\": 62}", "call", "mixer", "Jam")
	expect(t, 70, `{"peak":4}`, "five are enough", "", "call", "mixer", "Levels", `{"count": 9}`)
	expect(t, 0, `{"bytes":3}`, "", "{\"data\": [1, 2]}\n{\"data\": [3]}\n", "call", "mixer",
		"Upload")
	endless := start(t, strings.NewReader(""), "call", "-timeout", "1h", "mixer", "Levels", "{}")
	endless.out.await(t, `{"peak":1}`)
	endless.cancel()
	endless.ends(t, exitInterrupted, "", "")
	rec.finish(file, 4, 0)
	all, _ := readMCAP(t, file, true)
	texts := make(map[string][]string)
	for _, m := range all {
		if m.Encoding != "flatbuffer" {
			continue
		}
		types, err := fbjson.Load(m.Bfbs)
		if err != nil {
			t.Fatal(err)
		}
		root, err := types.Table(m.Schema)
		if err != nil {
			t.Fatal(err)
		}
		text, err := root.AppendJSON(nil, m.Data, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts[m.Topic] = append(texts[m.Topic], fmt.Sprint(m.Seq, " ", string(text)))
	}
	for topic, want := range map[string]string{
		"/mixer/mixing.Mixer/Jam/request_item": `1 {"pitch":60}; 1 {"pitch":62}`,
		"/mixer/mixing.Mixer/Jam/reply_item":   `1 {"pitch":72}; 1 {"pitch":74}`,
		"/mixer/mixing.Mixer/Levels/request":   `2 {"count":9}; 4 {}`,
		"/mixer/mixing.Mixer/Levels/reply_item": `2 {"peak":0}; 2 {"peak":1}; 2 {"peak":2}; ` +
			`2 {"peak":3}; 2 {"peak":4}; 4 {"peak":1}`,
		"/mixer/mixing.Mixer/Upload/request_item": `3 {"data":[1,2]}; 3 {"data":[3]}`,
		"/mixer/mixing.Mixer/Upload/reply":        `3 {"bytes":3}`,
	} {
		if got := strings.Join(texts[topic], "; "); got != want {
			t.Errorf("%s: %s, want %s", topic, got, want)
		}
	}
	expect(t, 0, "  mixing.Mixer.Jam: stream, 1 ended, 4 items\n", "", "", "replay", "-list", file)
	for _, speed := range []string{"max", "2"} {
		expect(t, 0, "", "4 of 4 sent; 3 replies are as recorded, 0 differ, 1 cannot be compared; "+
			"with 4 items", "", "replay", "-speed", speed, file, "mixer")
	}
}

// TestReplayStreamsDiffer replays a recorded call of a method that streams to a server that sends
// other items.
func TestReplayStreamsDiffer(t *testing.T) {
	newDomain(t)
	host := serve(t, "mixer")
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "mixer")
	expect(t, 0, `{"pitch":74}`, "", "{\"pitch\": 60}\n{\"pitch\": 62}", "call", "mixer", "Jam")
	rec.finish(file, 1, 0)
	host.Kill()
	host.Wait()
	serve(t, "mixer", "other")
	expect(t, 1, "  [1].pitch: 74, now 75\n", "0 replies are as recorded, 1 differs", "", "replay",
		"-speed", "max", file, "mixer")
}

// TestRecordTopics records topics, of tables and of structs with raw bytes, and publishes them
// again.
func TestRecordTopics(t *testing.T) {
	for _, topic := range []struct{ name, first, second, schema string }{
		{"robot.Status", `{"speed":0.5}`, `{"speed":0.75}`, "flatbuffer"},
		{"robot.Picture", `{"header":{"time_ns":7,"width":2,"height":1},"payload":"AQI="}`,
			`{"header":{"time_ns":7,"width":1,"height":1},"payload":"AQ=="}`, "jsonschema"},
	} {
		t.Run(topic.name, func(t *testing.T) {
			recordTopic(t, topic.name, topic.first+"\n"+topic.second+"\n", topic.second,
				topic.schema)
		})
	}
}

func recordTopic(t *testing.T, name, lines, last, encoding string) {
	newDomain(t)
	schema := filepath.Join("..", "..", "examples", "robot", "robot.fbs")
	s := start(t, strings.NewReader(lines), "publish", "-wait", "1", "-keep", "-schema", schema,
		"robot_status", name)
	s.err.await(t, "publishing "+name)
	file := filepath.Join(t.TempDir(), "f.mcap")
	rec := startRecorder(t, "-o", file, "robot_status")
	s.err.await(t, "published 2 messages")
	rec.finish(file, 0, 2)
	s.cancel()
	<-s.code
	all, _ := readMCAP(t, file, true)
	for _, m := range all {
		if m.Topic == "/robot_status/"+name+"/published" &&
			(m.Schema != name || m.SchemaEncoding != encoding) {
			t.Errorf("the schema %s is %s", m.Schema, m.SchemaEncoding)
		}
	}
	expect(t, 0, "  "+name+": topic, 2 messages\n", "", "", "replay", "-list", file)
	expect(t, 2, "", "has topics alone of robot_status; -publish publishes them", "", "replay",
		file, "robot_status")
	again := start(t, strings.NewReader(""), "replay", "-publish", "-wait", "1", "-speed", "max",
		file, "robot_status")
	again.err.await(t, "publishing on robot_status")
	expect(t, 0, `"message":`+last+"}\n", "", "", "subscribe", "-n", "2", "robot_status")
	again.ends(t, 0, "", "published 2 messages")
}
