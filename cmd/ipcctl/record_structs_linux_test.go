package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// signals is a schema whose envelope has structs and tables as its members.
const signals = `namespace sig;
enum Gait : ubyte { Walk, Run }
struct Point { x: float; y: double; }
struct Move { to: Point; fast: bool; steps: [short:2]; gait: Gait; big: ulong; }
table Stop { why: string; }
union Body { Move, Stop }
table Signal { seq: ulong; body: Body; }
`

// serveSignals appends the JSON of the messages of that schema to a file.
func serveSignals(channel string) {
	l, err := ipc.Listen(channel)
	if err != nil {
		panic(err)
	}
	definition := written(signals)
	s, err := dynamic.Parse("signals", definition, map[string]bool{"sig.Signal": true})
	if err != nil {
		panic(err)
	}
	p := s.Protocols()[0]
	protocol := &ipc.Protocol{Name: p.Name, Fingerprint: p.Fingerprint, Schema: p.Description,
		Definition: string(definition)}
	var routes []ipc.Route
	for _, m := range p.Messages {
		name := m.Decl.Name
		routes = append(routes, ipc.Receive(ipc.NewMessage(protocol, ipc.MessageSpec[[]byte]{
			Name: name, ID: m.ID,
			Decode: func(buf []byte, m *[]byte) (uint64, error) {
				*m = bytes.Clone(buf)
				return 0, nil
			},
			Encode: func(*flatbuffers.Builder, uint64, *[]byte) error {
				return errors.New("a server")
			},
		}), func(_ context.Context, buf *[]byte) error {
			text, err := s.Text(p.Name+"."+name, false, *buf)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(os.Getenv("IPCCTL_TEST_FILE"),
				os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = fmt.Fprintf(f, "%s %s\n", name, text)
			return err
		}))
	}
	fmt.Println("ready")
	panic(ipc.NewServer(ipc.NewService(protocol, routes...)).Serve(context.Background(), l))
}

// TestRecordStructs records messages that are structs in an envelope, reads them as a program does
// that knows MCAP and nothing of ipcctl, and sends them again.
func TestRecordStructs(t *testing.T) {
	newDomain(t)
	dir := t.TempDir()
	sent := filepath.Join(dir, "sent")
	t.Setenv("IPCCTL_TEST_FILE", sent)
	serve(t, "signals")
	file := filepath.Join(dir, "f.mcap")
	rec := startRecorder(t, "-o", file, "signals")
	const move = `{"to":{"x":0.5,"y":-1},"fast":true,"steps":[3,-4],"gait":"Run",` +
		`"big":18446744073709551615}`
	expect(t, 0, "", "", "", "send", "signals", "Move", move)
	expect(t, 0, "", "", "", "send", "signals", "Stop", `{"why": "wall"}`)
	rec.finish(file, 0, 2)

	all, _ := readMCAP(t, file, true)
	found := 0
	for _, m := range all {
		switch m.Topic {
		case "/signals/sig.Signal/Move/message":
			found++
			var s struct {
				Type, Title string
				Properties  map[string]struct {
					Type       string
					Properties map[string]struct{ Type string }
					Items      struct{ Type string }
				}
				Definition []byte
			}
			if err := json.Unmarshal(m.Bfbs, &s); err != nil {
				t.Fatal(err)
			}
			p := s.Properties
			if m.Schema != "sig.Move" || m.SchemaEncoding != "jsonschema" || m.Encoding != "json" ||
				string(m.Data) != move || s.Type != "object" || s.Title != "sig.Move" ||
				p["to"].Properties["y"].Type != "number" || p["fast"].Type != "boolean" ||
				p["steps"].Items.Type != "integer" || p["gait"].Type != "string" || len(p) != 5 {
				t.Errorf("%+v", m)
			}
			if types, err := fbjson.Load(s.Definition); err != nil {
				t.Error(err)
			} else if _, err := types.Struct(m.Schema); err != nil {
				t.Error(err)
			}
		case "/signals/sig.Signal/Stop/message":
			found++
			types, err := fbjson.Load(m.Bfbs)
			if err != nil {
				t.Fatal(err)
			}
			stop, err := types.Table(m.Schema)
			if err != nil || m.Schema != "sig.Stop" {
				t.Fatal(m.Schema, err)
			}
			if text, err := stop.AppendJSON(nil, m.Data, nil); string(text) != `{"why":"wall"}` {
				t.Errorf("%s, %v", text, err)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d messages were found", found)
	}

	expect(t, 0, "", "2 of 2 sent", "", "replay", "-speed", "max", file, "signals")
	expect(t, 0, "", `1 sig.Signal.Move `+move+" [Enter] ", "\n\n", "replay", "-step", "-method",
		"Move", file, "signals")
	want := strings.Repeat("Move "+move+"\nStop {\"why\":\"wall\"}\n", 2) + "Move " + move + "\n"
	expectGot(t, sent, want)
}

// expectGot waits until the file in which a server writes what it gets has the text want.
func expectGot(t *testing.T, file, want string) {
	t.Helper()
	for deadline := time.Now().Add(tooLong); ; time.Sleep(10 * time.Millisecond) {
		got, err := os.ReadFile(file)
		if string(got) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server got %q, %v", got, err)
		}
	}
}
