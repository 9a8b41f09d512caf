package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// What a connection promises, whatever carries it, is the list behaviours; its
// entries are in the files conformance_*_test.go.
var behaviours = []struct {
	name  string
	check func(*testing.T, ipc.RendezvousOption)
}{
	{"calls of every size", callsOfEverySize},
	{"replies in any order", repliesInAnyOrder},
	{"many callers of one connection", manyCallers},
	{"a slow call delays no other", slowCallDelaysNoOther},
	{"a slow call after fast ones delays no other", slowCallAfterFastOnes},
	{"deadlines reach the server", deadlinesReachTheServer},
	{"deadlines of another century", distantDeadlines},
	{"cancellation reaches the server", cancellationReachesTheServer},
	{"late replies are dropped and counted", lateRepliesAreDropped},
	{"errors of handlers", errorsOfHandlers},
	{"a panic ends its call alone", panicEndsItsCallAlone},
	{"malformed messages", malformedMessages},
	{"sequence numbers", sequenceNumbers},
	{"interceptors", interceptors},
	{"fences", fences},
	{"every kind passes the gate", everyKindPassesTheGate},
	{"callbacks that do not return", callbacksThatDoNotReturn},

	{"a server tells of itself", serverTellsOfItself},
	{"a server counts", serverCounts},
	{"who may ask about a server", whoMayAsk},
	{"taps show what all clients do", tapsShowEverything},
	{"taps lose instead of waiting", tapsLose},
	{"taps of many calls at once", tapsOfMany},
	{"taps of clients that leave", tapsOfTheLeft},
	{"taps and methods that stream", tapsAndStreaming},

	{"messages both ways, in order", messagesBothWays},
	{"messages that nobody knows are dropped and counted", unknownMessages},
	{"a slow message handler delays no call", slowMessageHandler},
	{"a message handler makes calls", messageHandlerMakesCalls},
	{"a message handler ends with its connection", messageHandlerEnds},
	{"peers know each other", peersKnowEachOther},

	{"health", health},
	{"health of a server that drains", healthWhileDraining},
	{"health behind a fence", healthBehindAFence},
	{"health that is wrong", healthThatIsWrong},

	{"metadata both ways", metadataBothWays},
	{"metadata of messages", metadataOfMessages},
	{"metadata that is wrong", metadataThatIsWrong},
	{"metadata over small rings", metadataOfSmallRings},
	{"metadata is not forwarded", metadataIsNotForwarded},
	{"metadata of many callers", metadataOfManyCallers},

	{"calls in place", callsInPlace},
	{"interceptors and calls in place", interceptorsInPlace},
	{"large calls in place", largeInPlace},
	{"calls in place and no room for the reply", inPlaceWithoutRoom},
	{"streaming calls", streamingCalls},
	{"a thousand streaming calls", manyStreamingCalls},
	{"streaming calls begin at the first range", streamingCallsBegin},
	{"leaving a loop ends the call", leavingEndsTheCall},
	{"streaming calls that fail", streamingCallsFail},
	{"streaming calls that are cancelled", streamingCallsAreCancelled},
	{"slow consumers", slowConsumers},
	{"items of every size", itemsOfEverySize},
	{"limits of streaming calls", limitsOfStreamingCalls},
	{"interceptors of streaming calls", interceptorsOfStreamingCalls},
	{"streaming calls and shutdown", streamingCallsAndShutdown},
	{"connections end streaming calls", connectionsEndStreamingCalls},
	{"fences and items", fencesAndItems},
	{"clients make streaming calls again", clientsMakeStreamingCallsAgain},
	{"streaming calls step by step", streamingCallsStepByStep},
	{"metadata of streaming calls", metadataOfStreamingCalls},

	{"streams of blocks", streamsOfBlocks},
	{"streams that overwrite", streamsThatOverwrite},
	{"a stream that nobody reads", streamThatNobodyReads},

	{"limits of messages", limitsOfMessages},
	{"limits of calls", limitsOfCalls},
	{"calls above the limit wait", callsAboveTheLimit},
	{"calls that are answered do not count", answeredCallsDoNotCount},
	{"limits of connections", limitsOfConnections},
	{"a client that does not read", clientThatDoesNotRead},
	{"a server that does not read", serverThatDoesNotRead},
	{"fail fast", failFast},
	{"a large message given up half-way", largeMessageGivenUp},

	{"close of the client", closeOfTheClient},
	{"close delivers what was sent", closeDeliversWhatWasSent},
	{"close of the server", closeOfTheServer},
	{"shutdown lets calls finish", shutdownLetsCallsFinish},
	{"shutdown is bounded", shutdownIsBounded},
	{"the end of Serve's context", endOfServe},

	{"a context that is done", contextThatIsDone},
	{"timeouts reach the server", timeoutsReachTheServer},
	{"timeouts end calls", timeoutsEndCalls},
	{"timeouts without a server", timeoutsWithoutServer},
	{"timeouts that are wrong", timeoutsThatAreWrong},
	{"retries under one number", retriesUnderOneNumber},
	{"retries of what is safe", retriesOfWhatIsSafe},
	{"retries of slow attempts", retriesOfSlowAttempts},
	{"retries and outcomes", retriesAndOutcomes},
	{"retries end in time", retriesEndInTime},
	{"retries have a budget", retriesHaveBudget},
	{"retries do not multiply", retriesDoNotMultiply},
	{"retries without patience", retriesWithoutPatience},
	{"retries for room", retriesForRoom},
	{"policies that are wrong", policiesThatAreWrong},
	{"outcomes of handlers", outcomesOfHandlers},

	{"nobody serves", nobodyServes},
	{"serves nothing", servesNothing},
	{"one server per name", oneServerPerName},
	{"a server that does not answer", serverThatDoesNotAnswer},
	{"protocols are compared", protocolsAreCompared},
	{"reply channels are compared", replyChannelsAreCompared},
	{"who may connect", whoMayConnect},
	{"services that clash", servicesThatClash},

	{"a client waits for its server", clientWaitsForItsServer},
	{"a client outlives servers", clientOutlivesServers},
	{"a client follows during a drain", clientFollowsDuringDrain},
	{"a client without a server", clientWithoutServer},
	{"what a client sends again", clientSendsAgain},
	{"a client that is refused", clientThatIsRefused},
	{"a client of a resolver", clientOfAResolver},
}

// TestConformance checks every behaviour over every transport, and that
// nothing is left behind.
func TestConformance(t *testing.T) {
	venues := map[string]func(*testing.T) ipc.RendezvousOption{
		"in memory": func(*testing.T) ipc.RendezvousOption { return ipctest.NewNetwork() },
		"through a relay": func(*testing.T) ipc.RendezvousOption {
			return ipctest.NewNetwork().Faulty()
		},
		"shared memory": func(t *testing.T) ipc.RendezvousOption {
			return ipc.WithDomain(filepath.Join(t.TempDir(), "domain"))
		},
	}
	for name, open := range venues {
		t.Run(name, func(t *testing.T) {
			l, err := ipc.Listen("probe", open(t))
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			for _, b := range behaviours {
				t.Run(b.name, func(t *testing.T) {
					expectNothingLeft(t)
					b.check(t, open(t))
				})
			}
		})
	}
}

// expectNothingLeft fails the test if, after everything that it cleans up, it
// has more goroutines or files than now.
func expectNothingLeft(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), openFiles()
	t.Cleanup(func() {
		// What ends by itself needs a processor for that; the limit is for what
		// does not.
		for limit := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			g, f := runtime.NumGoroutine(), openFiles()
			if g <= goroutines && f <= files {
				return
			}
			if time.Now().After(limit) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines and %d files, before %d and %d\n%s", g, f, goroutines,
					files, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
}

// openFiles is the number of this process's open files, or 0 where nothing
// tells.
func openFiles() int {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(dir)
}

// host runs a server of channel "echo" with these services until the test ends.
func host(t *testing.T, v ipc.RendezvousOption, opts ...ipc.ServerOption) *ipc.Server {
	t.Helper()
	return ipctest.Serve(t, v, "echo", opts...)
}

// echoes makes a service of the echo protocol.
func echoes(routes ...ipc.Route) *ipc.Service { return ipc.NewService(echoProtocol, routes...) }

// want checks an error's code and outcome, and that its text holds all of parts.
func want(t *testing.T, err error, code ipc.Code, outcome ipc.Outcome, parts ...string) {
	t.Helper()
	if ipc.CodeOf(err) != code || ipc.OutcomeOf(err) != outcome {
		t.Errorf("error %v: %v, %v; want %v, %v", err, ipc.CodeOf(err), ipc.OutcomeOf(err),
			code, outcome)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

// invoke calls a method in the background.
func invoke(ctx context.Context, c ipc.Caller, m *ipc.Method[blob, blob],
	data string) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(ctx, c, m, &blob{[]byte(data)})
		result <- err
	}()
	return result
}

// still checks that the connection works.
func still(t *testing.T, c *ipc.Conn) {
	t.Helper()
	if got, err := echo(t.Context(), c, []byte("still here")); err != nil ||
		string(got) != "still here" {
		t.Errorf("the connection does not work any more: %q, %v", got, err)
	}
}

// elsewhere is a transport of a platform that has none.
type elsewhere struct{}

func (elsewhere) Listen(string) (ipc.LinkListener, error) {
	return nil, fmt.Errorf("listen: %w", errors.ErrUnsupported)
}

func (elsewhere) Dial(context.Context, string) (ipc.Link, error) {
	return nil, fmt.Errorf("dial: %w", errors.ErrUnsupported)
}

// TestUnsupportedPlatform shows what a platform without shared memory says.
func TestUnsupportedPlatform(t *testing.T) {
	_, lerr := ipc.Listen("echo", ipc.WithTransport(elsewhere{}))
	_, derr := ipc.Dial(t.Context(), "echo", ipc.WithTransport(elsewhere{}))
	for _, err := range []error{lerr, derr} {
		want(t, err, ipc.CodeUnsupported, ipc.NotSent, "echo: unsupported")
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v is no ErrUnsupported", err)
		}
	}
}
