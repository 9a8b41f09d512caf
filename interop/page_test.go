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
	// Other builders than that of Go may lay a table out like this.
	const table = "\x0c\x00\x00\x00\x06\x00\x08\x00\x04\x00\x00\x00\x08\x00\x00\x00\x04\x00\x00\x00"
	hello := []byte(table + "\x04\x00\x00\x00moon\x00\x00\x00\x00")
	greeting := []byte(table + "\x0c\x00\x00\x00Hello, moon!\x00\x00\x00\x00")
	if err := greeter.VerifyHello(hello); err != nil {
		t.Error(err)
	} else if name := greeter.GetRootAsHello(hello, 0).Name(); string(name) != "moon" {
		t.Errorf("the request greets %q", name)
	}
	if err := greeter.VerifyGreeting(greeting); err != nil {
		t.Error(err)
	} else if text := greeter.GetRootAsGreeting(greeting, 0).Text(); string(text) !=
		"Hello, moon!" {
		t.Errorf("the reply says %q", text)
	}
	fingerprint := binary.NativeEndian.AppendUint64(nil, greeter.GreeterProtocol.Fingerprint)
	for what, part := range map[string][]byte{"request": hello, "reply": greeting,
		"fingerprint": fingerprint} {
		if !bytes.Contains(shown, part) {
			t.Errorf("docs/protocol.md does not show the %s % x", what, part)
		}
	}
}
