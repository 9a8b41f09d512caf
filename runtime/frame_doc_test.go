package ipc

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/record"
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
		fmt.Sprintf("`0x%x` for \"more pieces follow\"", record.More),
		fmt.Sprintf("`0x%x` for \"built in place\"", record.Gap),
		fmt.Sprintf("a frame header of %d bytes", record.HeaderLen),
		fmt.Sprintf("A request has %d bytes more", record.RequestHeaderLen-record.HeaderLen),

		fmt.Sprintf("\n| capacity of a ring | %d KiB each |", DefaultRingCapacity>>10),
		fmt.Sprintf("\n| body of a message | %d MiB,", DefaultMaxMessage>>20),
		fmt.Sprintf("\n| descriptions of a server's protocols | %d MiB |", maxText>>20),
		fmt.Sprintf("\n| names of a server's protocols | %d MiB |", maxHelloReply>>20),
		fmt.Sprintf("\n| calls in flight of a connection | %d |", DefaultMaxCalls),
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
