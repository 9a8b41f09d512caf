// Package topic carries messages from one publisher to any number of subscribers.
//
// A [Publisher] is an option of a server, and its topic is found by the channel of that server. The
// publisher writes each message once, into memory that the subscribers map for reading only, so
// that the cost does not grow with their number, and no subscriber can harm another one.
// [Subscribe] makes a [Subscription]. It may be made before the publisher exists, and goes on with
// the next process that publishes under the name.
//
// The subscriber chooses a [Policy]. A lossy subscription never delays the publisher, and is told
// how many messages it has lost. The publisher waits for a lossless one. A subscription to the
// latest message leaves out all others.
//
// Messages are bytes, described by an [Info]. Generated code has publishers and subscriptions for
// the structs and tables that a schema marks with the attribute "topic". The file docs/topics.md is
// a guide.
package topic

import (
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// An Info says what the messages of a topic are.
type Info struct {
	// Protocol describes the messages; its name is the topic's. Both sides must have the same
	// fingerprint, or compatible schemas; see [ipc.CheckCompatible].
	Protocol *ipc.Protocol
	// Verify, if it is not nil, checks the bytes of a message before a subscriber gets them.
	Verify func(message []byte) error
}

// A Policy is what a subscription does when it is slower than the publisher.
type Policy uint8

// The policies.
const (
	// Lossy loses the oldest messages. Arrival.Lost says how many.
	Lossy Policy = iota
	// Lossless makes the publisher wait, as far as that allows it; see [Options].
	Lossless
	// Latest leaves out all messages but the newest. Arrival.Lost counts them.
	Latest
)

// An Arrival is what a subscriber learns of a message beside its bytes.
type Arrival struct {
	// Number is that of the message, from 0 for the first message of a publisher.
	Number uint64
	// Lost is the number of messages of this publisher between the previous one and this one that
	// the subscription did not get.
	Lost uint64
	// Epoch is the one in which the publisher acted; see [Publisher]. 0 for none.
	Epoch uint64
	// Break says that this is the first message of another publisher than that of the message
	// before. How many messages of the former publisher are missing is not known.
	Break bool
	// Published is when the message was published, by the wall clock.
	Published time.Time
}

// inPlaceFlag, in a subscriber's hello, asks for a claim. The policy is in the lower bits.
const inPlaceFlag = 0x100
