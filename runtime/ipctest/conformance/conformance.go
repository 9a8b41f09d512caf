// Package conformance checks what every client of package ipc promises to those who make calls,
// whatever carries the calls: the transports of package ipc, and carriers in other packages, over a
// network say. A carrier's own tests call [TestCaller].
package conformance

import (
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Connect starts what executes calls, with options of [ipc.NewServer] that [ipc.NewHandler] takes
// too, and returns a client of it. Both end when the test does. The client has the interceptors and
// the source of epochs of its options, as those of [ipc.NewCarrierClient] have.
type Connect func(t *testing.T, server []ipc.ServerOption, client ...ipc.DialOption) ipc.Caller

var behaviours = []struct {
	name  string
	check func(*testing.T, *venue)
}{
	{"calls of every size", callsOfEverySize},
	{"replies in any order", repliesInAnyOrder},
	{"many callers of one client", manyCallers},
	{"a slow call delays no other", slowCallDelaysNoOther},
	{"deadlines reach the server", deadlinesReachTheServer},
	{"deadlines of another century", distantDeadlines},
	{"cancellation reaches the server", cancellationReachesTheServer},
	{"errors of handlers", errorsOfHandlers},
	{"a panic ends its call alone", panicEndsItsCallAlone},
	{"malformed messages", malformedMessages},
	{"sequence numbers", sequenceNumbers},
	{"interceptors", interceptors},
	{"fences", fences},

	{"streaming calls", streamingCalls},
	{"a thousand streaming calls", manyStreamingCalls},
	{"streaming calls begin at the first range", streamingCallsBegin},
	{"leaving a loop ends the call", leavingEndsTheCall},
	{"streaming calls that fail", streamingCallsFail},
	{"streaming calls that are cancelled", streamingCallsAreCancelled},
	{"interceptors of streaming calls", interceptorsOfStreamingCalls},
	{"fences and items", fencesAndItems},
	{"streaming calls step by step", streamingCallsStepByStep},
	{"metadata of streaming calls", metadataOfStreamingCalls},
}

// TestCaller checks everything in subtests of t, and that nothing is left behind by any of them.
func TestCaller(t *testing.T, connect Connect) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			echo.ExpectNothingLeft(t)
			b.check(t, &venue{connect: connect})
		})
	}
}

// A venue is where a check takes place.
type venue struct {
	connect Connect
	server  []ipc.ServerOption
}

// host sets what the clients of dial call.
func (v *venue) host(opts ...ipc.ServerOption) { v.server = opts }

func (v *venue) dial(t *testing.T, opts ...ipc.DialOption) ipc.Caller {
	t.Helper()
	return v.connect(t, v.server, opts...)
}

// statsOf returns the counts of a client that counts.
func statsOf(c ipc.Caller) (s ipc.Stats, ok bool) {
	if counts, ok := c.(interface{ Stats() ipc.Stats }); ok {
		return counts.Stats(), true
	}
	return s, false
}
