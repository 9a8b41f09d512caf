// Package recording writes and reads the recordings of ipcctl: MCAP files that have the calls of
// servers as the servers' taps show them.
//
// A file has a channel for each direction of each method, and two of JSON for each server:
//
//	/NAME/PROTOCOL/METHOD/request   the requests, as FlatBuffers
//	/NAME/PROTOCOL/METHOD/reply     the replies of calls that succeeded
//	/NAME/PROTOCOL/METHOD/request_item, /reply_item
//	                                the items of methods that stream, by their direction
//	/NAME/PROTOCOL/MESSAGE/message  the one-way messages
//	/NAME/TOPIC/published           the messages of a topic
//	/NAME/calls                     a [Call] for each call or message that has ended
//	/NAME/status                    an [Event] for each change of the server, and for losses
//
// A request, its items, its reply and its Call have one sequence number, which no other call of the
// file has. That of a topic's message is its number.
//
// Their order in the file is the order in which they happened: the reply to a client comes before
// any request that the client sent because of the reply.
//
// A [Writer] writes whole records in order, so a file that a killed process has left can be read up
// to its last chunk. A [Reader] trusts nothing that a file says.
package recording

import "encoding/json"

// Kinds of topics.
const (
	Request     = "request"
	Reply       = "reply"
	RequestItem = "request_item"
	ReplyItem   = "reply_item"
	Message     = "message"
	Published   = "published"
	Calls       = "calls"
	Status      = "status"
)

// A Topic is a channel of a file.
type Topic struct {
	Source   string // the name of the server, as the user gave it
	Kind     string
	Protocol string // of a request, reply or message, with its namespace
	Method   string // its method, or the one-way message
	// Table is the root of the buffers, with its namespace.
	Table string
	// Definition is the binary schema (.bfbs) that has the table.
	Definition []byte
	// JSON is true of messages that are structs, which no FlatBuffer has as its root: the file has
	// them as JSON.
	JSON bool
	// Properties are the members of such a message, as a JSON schema has them. A Reader does not
	// return them.
	Properties json.RawMessage
}

// Name returns the name of the topic in the file.
func (t *Topic) Name() string {
	switch {
	case t.Protocol == "":
		return "/" + t.Source + "/" + t.Kind
	case t.Method == "":
		return "/" + t.Source + "/" + t.Protocol + "/" + t.Kind
	}
	return "/" + t.Source + "/" + t.Protocol + "/" + t.Method + "/" + t.Kind
}

// Full returns the full name of the method or message, "namespace.Service.Method", or that of the
// topic that is published.
func (t *Topic) Full() string {
	if t.Method == "" {
		return t.Protocol
	}
	return t.Protocol + "." + t.Method
}

// Kinds of calls.
const (
	KindCall    = "call"
	KindMessage = "message"
	KindStream  = "stream" // a call of a method that streams
	KindTopic   = "topic"  // a topic that is published
)

// A Call describes a call or message that has ended.
type Call struct {
	// Open is true of a call that begins: one of a method to which the client streams. Only client,
	// method, kind and begin are known then.
	Open bool `json:"open,omitempty"`

	Client uint32  `json:"client"` // the process
	Method string  `json:"method"` // with protocol and namespace
	Kind   string  `json:"kind"`
	Seq    uint64  `json:"seq,omitempty"` // the number that the client has given it
	Epoch  uint64  `json:"epoch,omitempty"`
	Begin  int64   `json:"begin"` // in nanoseconds since 1970 (UTC)
	Micros float64 `json:"micros"`

	Code    string `json:"code"`
	Outcome string `json:"outcome,omitempty"` // of a call that failed
	Error   string `json:"error,omitempty"`

	RequestBytes uint32 `json:"request_bytes"`
	ReplyBytes   uint32 `json:"reply_bytes"`
	// NoRequest and NoReply state that the file lacks the request or the reply, or items, because
	// the tap has lost it, or it was too long for the tap, or is no message of the schema.
	NoRequest bool `json:"no_request,omitempty"`
	NoReply   bool `json:"no_reply,omitempty"`
}

// Kinds of events.
const (
	Watching = "watching" // a server is recorded from now on
	Gone     = "gone"     // the server cannot be recorded any more
	Lost     = "lost"     // records were lost
	Ended    = "ended"    // the recording has ended
)

// An Event tells of the server, or of what the recording lacks.
type Event struct {
	Event   string `json:"event"`
	Pid     uint32 `json:"pid,omitempty"`
	Program string `json:"program,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	Text    string `json:"text,omitempty"`
	// Lost is the number of beginnings and ends of calls, items and messages of topics that were
	// lost so far, of all servers that had the name.
	Lost uint64 `json:"lost"`
}

// The JSON schemas of calls and events, for programs that show them.
const (
	callSchema = `{"type":"object","properties":{"open":{"type":"boolean"},` +
		`"client":{"type":"integer"},` +
		`"method":{"type":"string"},"kind":{"type":"string"},"seq":{"type":"integer"},` +
		`"epoch":{"type":"integer"},"begin":{"type":"integer"},"micros":{"type":"number"},` +
		`"code":{"type":"string"},"outcome":{"type":"string"},"error":{"type":"string"},` +
		`"request_bytes":{"type":"integer"},"reply_bytes":{"type":"integer"},` +
		`"no_request":{"type":"boolean"},"no_reply":{"type":"boolean"}}}`
	eventSchema = `{"type":"object","properties":{"event":{"type":"string"},` +
		`"pid":{"type":"integer"},"program":{"type":"string"},"epoch":{"type":"integer"},` +
		`"text":{"type":"string"},"lost":{"type":"integer"}}}`
)

// What MCAP calls the encodings.
const (
	flatbuffer = "flatbuffer" // of messages, and of schemas
	jsonText   = "json"       // of messages
	jsonSchema = "jsonschema" // of schemas
)

// metadataName is the name of the metadata record at the start of each file.
const metadataName = "ipcctl.recording"

// Keys of a channel's metadata.
const (
	keyKind     = "ipcctl.kind"
	keySource   = "ipcctl.name"
	keyProtocol = "ipcctl.protocol"
	keyMethod   = "ipcctl.method"
)

// maxChunk limits the contents of a chunk: what a Writer puts into one, and what a Reader believes.
const maxChunk = 64 << 20
