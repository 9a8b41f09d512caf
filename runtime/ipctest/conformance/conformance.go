// Package conformance checks what every client of package ipc promises to those who make calls,
// whatever carries the calls: the transports of package ipc, and carriers in other packages, over a
// network say. A carrier's own tests call [TestCaller], and those of an [ipc.Transport]
// [TestTransport].
package conformance

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Subject is what [TestCaller] checks: a way to carry calls.
type Subject struct {
	// Connect starts what executes calls, with options of [ipc.NewServer] that [ipc.NewHandler]
	// takes too, and returns a client of it. Both end when the test does. The client has the
	// interceptors, the timeouts and the source of epochs of its options, as those of
	// [ipc.NewCarrierClient] have.
	Connect func(t *testing.T, server []ipc.ServerOption, client ...ipc.DialOption) Connection
	// Lacks is what the subject cannot do. TestCaller does not skip that: it checks that the
	// subject refuses it, or does without it, as the [Ability] says.
	Lacks Ability
	// Longest is the length of the longest encoded request, reply or one-way message, at least
	// 64 KiB. 0 says that there is no limit.
	Longest int
}

// A Connection is a client, and its server.
type Connection struct {
	// Client makes calls. It is an [ipc.Sender], unless the subject lacks [OneWay], and has a
	// method Health as [ipc.Conn] does, unless the subject lacks [Health].
	Client ipc.Caller
	// Close, Shutdown and Abort end the connection. They are nil if the subject lacks [Ends]. Close
	// ends the client's side. Shutdown ends the server as [ipc.Server.Shutdown] does. Abort ends it
	// in the middle of what it does, as its death would.
	Close    func() error
	Shutdown func(context.Context) error
	Abort    func() error
}

// A behaviour is one promise.
type behaviour struct {
	name  string
	needs Ability
	check func(*testing.T, *venue)
}

var behaviours = []behaviour{
	{"calls of every size", 0, callsOfEverySize},
	{"replies in any order", 0, repliesInAnyOrder},
	{"many callers of one client", 0, manyCallers},
	{"a slow call delays no other", 0, slowCallDelaysNoOther},
	{"errors of handlers", 0, errorsOfHandlers},
	{"outcomes of handlers", 0, outcomesOfHandlers},
	{"a panic ends its call alone", 0, panicEndsItsCallAlone},
	{"malformed messages", 0, malformedMessages},
	{"sequence numbers", 0, sequenceNumbers},
	{"interceptors", 0, interceptors},
	{"fences", Epochs, fences},

	{"the longest message", 0, longestMessage},
	{"contexts that are done", 0, doneContexts},
	{"the end of a context ends the call", Leaving, endedContexts},
	{"deadlines reach the server", Deadlines, deadlinesReachTheServer},
	{"deadlines of another century", Deadlines, distantDeadlines},
	{"timeouts", Deadlines, timeouts},
	{"cancellation reaches the server", Cancellation, cancellationReachesTheServer},

	{"one-way messages in order", OneWay, messagesInOrder},
	{"one-way messages of many senders", OneWay, messagesOfMany},
	{"a slow message handler delays no call", OneWay, slowMessageHandler},
	{"one-way messages that are not handled", OneWay, messagesNotHandled},
	{"interceptors of one-way messages", OneWay, interceptorsOfMessages},

	{"recycled requests", 0, recycledRequests},
	{"recycled replies", 0, recycledReplies},
	{"recycled replies of late calls", Leaving | Cancellation, recycledRepliesOfLateCalls},
	{"recycled items", Streaming | Cancellation, recycledItems},
	{"recycled one-way messages", OneWay, recycledMessages},

	{"metadata both ways", Metadata, metadataBothWays},
	{"metadata of one-way messages", Metadata | OneWay, metadataOfMessages},
	{"metadata that is wrong", Metadata, metadataThatIsWrong},
	{"metadata of many callers", Metadata, metadataOfMany},
	{"metadata is not forwarded", Metadata, metadataIsNotForwarded},

	{"streaming calls", Streaming, streamingCalls},
	{"a thousand streaming calls", Streaming, manyStreamingCalls},
	{"items of every size", Streaming, itemsOfEverySize},
	{"slow consumers", Streaming | Cancellation, slowConsumers},
	{"streaming calls begin at the first range", Streaming, streamingCallsBegin},
	{"sequences that nobody ranges over", Streaming, sequencesLeftAlone},
	{"goroutines of streaming calls", Streaming, goroutinesOfStreamingCalls},
	{"leaving a loop ends the call", Streaming | Cancellation, leavingEndsTheCall},
	{"streaming calls that fail", Streaming, streamingCallsFail},
	{"streaming calls that are cancelled", Streaming | Cancellation | Deadlines,
		streamingCallsAreCancelled},
	{"interceptors of streaming calls", Streaming, interceptorsOfStreamingCalls},
	{"fences and items", Streaming | Epochs, fencesAndItems},
	{"streaming calls step by step", Streaming | Cancellation, streamingCallsStepByStep},
	{"metadata of streaming calls", Streaming | Metadata, metadataOfStreamingCalls},

	{"close of the client", Ends | Cancellation, closeOfTheClient},
	{"close delivers one-way messages", Ends | OneWay, closeDeliversMessages},
	{"the server's end in the middle", Ends | Cancellation, abortOfTheServer},
	{"shutdown lets calls finish", Ends, shutdownLetsCallsFinish},
	{"shutdown is bounded", Ends | Cancellation, shutdownIsBounded},
	{"ends of streaming calls", Ends | Streaming | Cancellation, endsOfStreamingCalls},
	{"shutdown and streaming calls", Ends | Streaming, shutdownOfStreamingCalls},

	{"health", Health, health},
	{"health of a server that drains", Health | Ends, healthWhileDraining},
}

// TestCaller checks everything in subtests of t, and that nothing is left behind by any of them. A
// check that takes minutes ends the process, and names itself.
func TestCaller(t *testing.T, s Subject) {
	for _, b := range behaviours {
		if b.needs&s.Lacks == 0 {
			run(t, &s, &b)
		}
	}
	for _, a := range abilities {
		if a.ability&s.Lacks != 0 {
			run(t, &s, &behaviour{name: "without " + a.ability.String(), check: a.without})
		}
	}
}

// patience is how long a check may take.
var patience = 3 * time.Minute

func run(t *testing.T, s *Subject, b *behaviour) {
	t.Run(b.name, func(t *testing.T) {
		defer time.AfterFunc(patience, func() {
			debug.SetTraceback("all")
			panic(fmt.Sprintf("%s has not ended after %v", t.Name(), patience))
		}).Stop()
		echo.ExpectNothingLeft(t)
		b.check(t, &venue{subject: s})
	})
}

// A venue is where a check takes place.
type venue struct {
	subject *Subject
	server  []ipc.ServerOption
}

// host sets what the clients of dial call.
func (v *venue) host(opts ...ipc.ServerOption) { v.server = opts }

// connect returns a client with its ends.
func (v *venue) connect(t *testing.T, opts ...ipc.DialOption) Connection {
	t.Helper()
	return v.subject.Connect(t, v.server, opts...)
}

func (v *venue) dial(t *testing.T, opts ...ipc.DialOption) ipc.Caller {
	t.Helper()
	return v.connect(t, opts...).Client
}

// longest returns the most bytes that a blob may have, but no more than n.
func (v *venue) longest(n int) int {
	if v.subject.Longest == 0 {
		return n
	}
	return min(n, v.subject.Longest-overhead)
}

// overhead is more than what the encoding of a blob adds.
const overhead = 64

// A client makes calls and sends one-way messages.
type client interface {
	ipc.Caller
	ipc.Sender
}

// dialSender is dial for a subject with one-way messages.
func (v *venue) dialSender(t *testing.T, opts ...ipc.DialOption) client {
	t.Helper()
	c, ok := v.dial(t, opts...).(client)
	if !ok {
		t.Fatal("the client is no ipc.Sender; the subject lacks OneWay")
	}
	return c
}

// waiting is a service whose Block waits for release, whatever its context says, or for the end of
// the test.
func waiting(t *testing.T) (svc *ipc.Service, entered <-chan struct{}, release func()) {
	calls, gate := make(chan struct{}, 10), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	context.AfterFunc(t.Context(), release)
	return echo.Of(
		ipc.Handle(echo.Echo, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			return m, nil
		}),
		ipc.Handle(echo.Block, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			calls <- struct{}{}
			<-gate
			return m, nil
		})), calls, release
}

// await waits until the handler of a call has begun. The end of the call before that ends the test.
func await(t *testing.T, entered <-chan struct{}, result <-chan error) {
	t.Helper()
	select {
	case <-entered:
	case err := <-result:
		t.Fatalf("the call has ended, and its handler has not begun: %v", err)
	}
}

// statsOf returns the counts of a client that counts.
func statsOf(c ipc.Caller) (s ipc.Stats, ok bool) {
	if counts, ok := c.(interface{ Stats() ipc.Stats }); ok {
		return counts.Stats(), true
	}
	return s, false
}
