package ipc

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/runtime/shm"
)

// TestDocumentedFrames checks the numbers of docs/protocol.md, by which peers in other languages
// are written, against the constants.
func TestDocumentedFrames(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), "\r\n", "\n")
	for _, want := range []string{
		fmt.Sprintf("protocol version %d ", helloVersion),
		fmt.Sprintf("magic number `0x%x`", helloMagic),
		fmt.Sprintf("**Client hello**, at most %d KiB", maxHello>>10),
		fmt.Sprintf("**Server hello**, at most %d MiB", maxHelloReply>>20),
		fmt.Sprintf("more byte at most: `%c`", goAway),
		fmt.Sprintf("1 to %d ASCII letters", domain.MaxNameLen),
		fmt.Sprintf("Every %d ms, a server checks", domain.CheckPeriod.Milliseconds()),

		fmt.Sprintf("\n| %d request | to the server |", record.Request),
		fmt.Sprintf("\n| %d reply | to the client |", record.Reply),
		fmt.Sprintf("\n| %d error | to the client |", record.Error),
		fmt.Sprintf("\n| %d cancel | to the server |", record.Cancel),
		fmt.Sprintf("\n| %d message | either |", record.Message),
		fmt.Sprintf("\n| %d piece | either |", record.Piece),
		fmt.Sprintf("\n| %d abort | either |", record.Abort),
		fmt.Sprintf("\n| %d open | to the server |", record.Open),
		fmt.Sprintf("\n| %d item | either |", record.Item),
		fmt.Sprintf("\n| %d end | either |", record.End),
		fmt.Sprintf("\n| %d credit | either |", record.Credit),
		fmt.Sprintf("An item costs %d bytes more", itemCost),
		fmt.Sprintf("`0x%x` for \"more pieces follow\"", record.More),
		fmt.Sprintf("`0x%x` for \"built in place\"", record.Gap),
		fmt.Sprintf("a frame header of %d bytes", record.HeaderLen),
		fmt.Sprintf("A request has %d bytes more", record.RequestHeaderLen-record.HeaderLen),

		fmt.Sprintf("\n| capacity of a ring | %d KiB each |", DefaultRingCapacity>>10),
		fmt.Sprintf("\n| body of a message | %d MiB,", DefaultMaxMessage>>20),
		fmt.Sprintf("\n| descriptions of a server's protocols | %d MiB |", maxText>>20),
		fmt.Sprintf("\n| names of a server's protocols | %d MiB |", maxHelloReply>>20),
		fmt.Sprintf("\n| calls in flight of a connection | %d |", DefaultMaxCalls),
		fmt.Sprintf("\n| streaming calls of a connection | %d |", DefaultMaxStreamingCalls),
		fmt.Sprintf("\n| items of a streaming call that were not taken | %d KiB a window, with %d "+
			"bytes",
			DefaultStreamingWindow>>10, itemCost),
		fmt.Sprintf("\n| connections of a server | %d,", DefaultMaxConns),
		fmt.Sprintf("\n| handshake | %.0f s, %d KiB |", DefaultHandshakeTimeout.Seconds(),
			maxHello>>10),
		fmt.Sprintf("connections, from 8 to %d |", maxHandshakes),
		fmt.Sprintf("\n| memory of a stream | %d MiB |", maxStreamMemory>>20),
		fmt.Sprintf("\n| text of an error | %d KiB |", longestText>>10),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md does not have %q", want)
		}
	}
}

// dump writes bytes as the page does: 16 in a line, in groups of four.
func dump(b []byte) string {
	var s strings.Builder
	for at := 0; at < len(b); at += 16 {
		fmt.Fprintf(&s, "%04x ", at)
		for i, c := range b[at:min(at+16, len(b))] {
			if i%4 == 0 {
				s.WriteByte(' ')
			}
			fmt.Fprintf(&s, "%02x", c)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// TestDocumentedNumbers checks the numbers of codes and outcomes, and the bytes of the handshake
// and the call that the page shows.
func TestDocumentedNumbers(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the page shows the bytes of a machine that is little endian")
	}
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), "\r\n", "\n")
	for code := range len(codeNames) {
		if want := fmt.Sprintf("| %d | %s |", code, Code(code)); !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md does not have %q", want)
		}
	}
	for o := OutcomeUnknown; o <= Executed; o++ {
		if want := fmt.Sprintf("%d %s", o, o); !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md does not have the outcome %q", want)
		}
	}

	hello := clientHello{version: helloVersion, layout: shm.Version, channel: "greeter",
		protocols: []protocolID{{name: "greeter.Greeter", fingerprint: 0xe894f0f79048fe5c}}}
	// The message of examples/greeter, {"name": "moon"}.
	body := []byte("\x0c\x00\x00\x00\x06\x00\x08\x00\x04\x00\x00\x00\x08\x00\x00\x00" +
		"\x04\x00\x00\x00\x04\x00\x00\x00moon\x00\x00\x00\x00")
	request := frame{kind: record.Request, id: 1, seq: 1, method: 0x3a01e06f}
	const described = 166 // bytes, by the generated package
	answer := serverHello{version: helloVersion, layout: shm.Version, geo: shm.Geometry{
		ToServer: DefaultRingCapacity, ToClient: DefaultRingCapacity, Text: described},
		maxMessage: DefaultMaxMessage, maxCalls: DefaultMaxCalls,
		protocols: []protocolID{{name: "greeter.Greeter", fingerprint: 0xe894f0f79048fe5c,
			len: described}},
		window: DefaultStreamingWindow, maxStreaming: DefaultMaxStreamingCalls}
	greeting := []byte("\x0c\x00\x00\x00\x06\x00\x08\x00\x04\x00\x00\x00\x08\x00\x00\x00" +
		"\x04\x00\x00\x00\x0c\x00\x00\x00Hello, moon!\x00\x00\x00\x00")
	written := func(f frame, header int, body []byte) []byte {
		rec := make([]byte, 8+header+len(body))
		binary.NativeEndian.PutUint64(rec, uint64(header+len(body))|uint64(f.kind)<<32)
		f.put(rec[8:])
		copy(rec[8+header:], body)
		return rec
	}
	for what, b := range map[string][]byte{"client hello": hello.encode(),
		"server hello": answer.encode(), "verdict": verdict{}.encode(),
		"request": written(request, record.RequestHeaderLen, body),
		"reply":   written(frame{kind: record.Reply, id: 1}, record.HeaderLen, greeting)} {
		if !strings.Contains(page, dump(b)) {
			t.Errorf("docs/protocol.md does not have the %s:\n%s", what, dump(b))
		}
	}
	h := fnv.New32a()
	h.Write([]byte("greeter.Greeter/Greet"))
	if h.Sum32() != request.method {
		t.Errorf("greeter.Greeter/Greet has the number %#x", h.Sum32())
	}
}
