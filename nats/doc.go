// Package natsipc carries the calls, one-way messages and topics of package ipc over NATS, to other
// machines. Generated clients and services are those that talk over shared memory, and do not
// change: [Dial] returns an [ipc.Caller] and [ipc.Sender], and [Serve] takes the [*ipc.Service]
// values that [ipc.NewServer] takes.
//
// The file docs/beyond-one-machine.md says when to use it, what is weaker than on one machine, and
// which permissions clients and servers need.
//
// # Wire format
//
// A channel has the subjects that begin with a prefix, "ipcgen" by default, and one token for the
// name of the channel ([Token]):
//
//	ipcgen.CHANNEL.call         requests; the servers are a queue group
//	ipcgen.CHANNEL.cancel       calls that their clients have ended; each server subscribes
//	ipcgen.CHANNEL.health       questions for the health; a queue group
//	ipcgen.CHANNEL.at.SERVER.*  requests and frames for one server
//	ipcgen.CHANNEL.at.topic.*   questions for what publishers keep; NAME behind, a queue group
//	ipcgen.CHANNEL.topic.NAME   messages of a topic
//
// A client has an inbox of its own. The reply subject of a request is the inbox and a token for the
// call. The last message of the call goes there; frames before it go to the subject with ".f"
// behind.
//
// The data of a request is a head and the encoded request. The head has, without gaps, numbers
// being little endian:
//
//	4 bytes  "ipc" and the version of the format, 2
//	1        the kind: 1 call, or 2 in, 3 out, 4 both by the sides that send items; 5 note, a
//	         one-way message; 6 hello, 7 schema, 8 define, 9 health, 10 recent, see below
//	1        how many fingerprints there are below, of at most 4
//	2        zero
//	8        the sequence number
//	8        the microseconds that are left until the deadline; negative if there is none
//	8        the epoch
//	4        the ID of the method
//	4        the client's window
//	4        the length of the longest reply that it takes
//	4        the length of the request if that comes in pieces, otherwise 0
//	4        the length of the protocol's name
//	8 each   the fingerprints of the versions of the protocol that the client can talk to
//	         the name of the protocol
//
// Each pair of metadata is a header "Ipcgen-Meta" of the form key=value, in their order; in values,
// '%', blanks and bytes that are no visible ASCII are written as '%' and two hexadecimal digits. A
// request without metadata has no headers, which would cost more than all else of it. A server
// refuses a request of another version with CodeIncompatible; in version 1, the head was a header
// "Ipcgen".
//
// The last message of a call has the reply as its data, or the text of an error. Its header
// "Ipcgen", which may be missing if all fields are zero, has the code, the outcome, the number of
// the client's items that the handler has taken, the epoch, the number of frames before, and the
// name of the server, which may be empty. With the header "Ipcgen-Again", the server has refused
// the request unexecuted, and the client may send it again: "draining", or "schema" with the
// fingerprint of the server's version, which the client then asks for and compares.
//
// A frame is a message without headers: the kind in one byte, 1 in the next byte if more pieces of
// the same body follow, two bytes of zero, a number that counts the frames of a call in each
// direction from 1 on in four bytes, and a body. Numbers are little endian. Missing frames end the
// call.
//
//	1 item    an item, a request or a reply, or a piece of it
//	2 close   the end of the client's items
//	3 credit  the cost of what was taken so far, and the number of items, in 8 bytes each
//	4 accept  the server's window, in 4 bytes, and its subject for frames of the call
//	5 beat    the server still has the call; with number 0
//
// Items and pieces go under credit: each costs its length and 64 bytes, and what the other side has
// not taken may cost as much as its window. A cancellation has the code in 2 bytes, the number of
// items that the client has taken in 8, and the reply subject of the call.
//
// A server sends a beat, as a request, for each call that takes long. NATS tells the server that
// nobody is there if the client is gone, and a client that hears nothing of its server for five
// beats gives the call up. The client counts only beats during which its process ran.
//
// # Questions
//
// Requests of these kinds ask a server for something of its own:
//
//	hello   what it serves. The answer is lines of text: the length of the longest message that it
//	        takes and its name; then for each protocol the fingerprint and the name, and for each
//	        topic, in addition, how many messages it keeps and the length of the longest
//	schema  the description of the protocol or topic that the data names
//	define  its definition, for tools; see docs/protocol.md for both
//	health  one byte, for the protocol that the data names, or for the server
//	recent  the messages that the publisher of a topic keeps, which is the protocol of the
//	        request, at the subject that the topic has for this; the data is the most that the
//	        client wants, in decimal digits. Each is an item: the number of the publisher, of its
//	        first message, of this message, the epoch and the time, in 8 bytes each, and the
//	        message. The last item has the number of the publisher and that of its next message,
//	        in 8 bytes each
//
// # Topics
//
// A message of a topic is published once, without a reply subject. The value of its header "Ipcgen"
// is the version of the format, the fingerprint, the name of the server, the number of the
// publisher (hexadecimal, random), the number of its first message, the number of this one, the
// epoch, the time in nanoseconds since 1970, where the data begins in the message, and the length
// of the message. A message that is longer than max_payload comes in pieces, in their order; one of
// which a piece is missing is lost.
package natsipc
