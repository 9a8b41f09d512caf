package shm

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocumentedLayout checks the tables of docs/protocol.md, by which peers in other languages are
// written, against the constants.
func TestDocumentedLayout(t *testing.T) {
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), "\r\n", "\n")
	for _, want := range []string{
		fmt.Sprintf("memory layout version %d.", Version),
		fmt.Sprintf("`0x%08x_%08x`, layout version", segmentMagic>>32, segmentMagic&(1<<32-1)),
		fmt.Sprintf("\n| %d | ring to the server: %d bytes of words,", segmentHeader, offData),
		fmt.Sprintf("ring to the client: %d bytes of words,", offData),
		fmt.Sprintf("a record of tag `0x%x` fills", uint32(tagPad)),

		fmt.Sprintf("\n| %d | tail | producer |", offTail),
		fmt.Sprintf("\n| %d | head | consumer |", offHead),
		fmt.Sprintf("\n| %d | taken | consumer |", offTaken),
		fmt.Sprintf("\n| %d | sleep | consumer |", offSleep),
		fmt.Sprintf("\n| %d | starve | producer |", offStarve),
		fmt.Sprintf("\n| %d | revoke | producer |", offRevoke),
		fmt.Sprintf("\n| %d | data | producer |", offData),

		fmt.Sprintf("\n| %d | tail | writer |", offBlockTail),
		fmt.Sprintf("\n| %d | first | writer |", offBlockFirst),
		fmt.Sprintf("\n| %d | head | reader |", offBlockHead),
		fmt.Sprintf("\n| %d | claim | reader |", offBlockClaim),
		fmt.Sprintf("\n| %d, %d | end | writer, reader |", offWriterEnd, offReaderEnd),
		fmt.Sprintf("\n| %d, %d | sleep, starve | reader, writer |", offBlockSleep,
			offBlockStarve),
		fmt.Sprintf("\n| %d, %d | text | writer, reader |", offWriterText, offReaderText),
		fmt.Sprintf("\n| %d | index | writer |", offBlockIndex),
		fmt.Sprintf("`depth` + %d slots of %d + `block` bytes", extraSlots, slotHeader),
		fmt.Sprintf("(number + 1) · %d + slot", 1<<slotBits),

		fmt.Sprintf("\n| %d | constants | six uint64: `0x%08x_%08x`,", offTopicMagic,
			uint64(topicMagic)>>32, uint32(topicMagic&(1<<32-1))),
		fmt.Sprintf("\n| %d | tail | number of messages", offTopicTail),
		fmt.Sprintf("\n| %d | first | number of the oldest message", offTopicFirst),
		fmt.Sprintf("\n| %d | base | number of the first message", offTopicBase),
		fmt.Sprintf("\n| %d | starve | 0, or the number of its wait for loss", offTopicStarve),
		fmt.Sprintf("\n| %d | index | `depth` words; the word", offTopicIndex),
		fmt.Sprintf("slots of %d + `longest` bytes, rounded up to 64", messageHeader),
		fmt.Sprintf("The page, of %d bytes.", TopicPageSize),
		fmt.Sprintf("\n| %d | next | number of the next message", offTopicNext),
		fmt.Sprintf("\n| %d | claim | number + 1 of the message", offTopicClaim),
		fmt.Sprintf("\n| %d | gaps | the numbers that were left out", offTopicGaps),
		fmt.Sprintf("\n| %d | sleep | as in a ring", offTopicSleep),
		fmt.Sprintf("may allow up to %d |", mostClaims),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md does not have %q", want)
		}
	}
}
