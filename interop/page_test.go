package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
)

// TestPageShowsTheGreeter compares the bytes that docs/protocol.md shows of the greeter with those
// of its generated package. The frames around them are compared in package ipc.
func TestPageShowsTheGreeter(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the page shows the bytes of a machine that is little endian")
	}
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("a description of %d bytes", len(greeter.GreeterProtocol.Schema))
	if !strings.Contains(string(page), want) {
		t.Errorf("docs/protocol.md does not have %q", want)
	}
	var shown []byte
	for _, line := range regexp.MustCompile(`(?m)^[0-9a-f]{4}  ([0-9a-f ]+)$`).FindAllStringSubmatch(
		string(page), -1) {
		b, err := hex.DecodeString(strings.ReplaceAll(line[1], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, b...)
	}
	b := flatbuffers.NewBuilder(0)
	b.Finish((&greeter.HelloT{Name: "moon"}).Pack(b))
	hello := bytes.Clone(b.FinishedBytes())
	b.Reset()
	b.Finish((&greeter.GreetingT{Text: "Hello, moon!"}).Pack(b))
	fingerprint := binary.NativeEndian.AppendUint64(nil, greeter.GreeterProtocol.Fingerprint)
	for what, part := range map[string][]byte{"request": hello, "reply": b.FinishedBytes(),
		"fingerprint": fingerprint} {
		if !bytes.Contains(shown, part) {
			t.Errorf("docs/protocol.md does not show the %s % x", what, part)
		}
	}
}
