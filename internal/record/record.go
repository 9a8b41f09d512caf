// Package record has the tags and lengths of the records that a ring carries. The runtime writes
// and reads them; package ipctest moves them from one ring to another.
//
// A message is one record, or several: a first one with a frame header and the beginning of the
// body, and pieces with the rest. The tag of a record is its kind and flags. docs/protocol.md
// describes all of this for peers in other languages.
package record

// Kinds of records.
const (
	Request uint32 = 1 + iota // client to server: a call
	Reply                     // server to client: its reply
	Error                     // server to client: its error; the body is the text
	Cancel                    // client to server: the caller gave up
	Message                   // either way: a one-way message
	Piece                     // either way: the next bytes of the message under way
	Abort                     // either way: the message under way is given up
	Open                      // client to server: a streaming call
	Item                      // either way: an item of a streaming call
	End                       // either way: the end of a part, or of all, of a streaming call
	Credit                    // either way: how much of a streaming call was taken
)

// Parts of a tag.
const (
	KindMask = 0xff  // the kind
	More     = 0x100 // more pieces follow
	Gap      = 0x200 // built in place: a word with the length of a gap lies in front of the body
	Metadata = 0x400 // a block of metadata lies behind the frame header
)

// Lengths, in bytes.
const (
	HeaderLen        = 24             // of a frame header
	RequestHeaderLen = HeaderLen + 16 // of the frame headers that HeaderOf says
	// TotalLen is the length of the word behind the header of a first record with More. It holds
	// the length of the whole body.
	TotalLen = 8
	// GapLen is the length of the word in front of a body that was built in place. It holds the
	// number of unused bytes between it and the body.
	GapLen = 8
	// MetadataLen is the length of the word at the beginning of a block of metadata. It holds the
	// length of the metadata.
	MetadataLen = 4
)

// MetadataBlockLen returns the length of a block with n bytes of metadata.
func MetadataBlockLen(n int) int { return (MetadataLen + n + 7) &^ 7 }

// HeaderOf returns the length of the frame header of a kind that has one.
func HeaderOf(kind uint32) int {
	switch kind {
	case Request, Open, End, Credit:
		return RequestHeaderLen
	}
	return HeaderLen
}
