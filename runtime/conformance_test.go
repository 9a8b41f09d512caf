package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// What the connections of this package promise beyond what every client does, over each transport,
// is the list behaviours; its entries are in the files conformance_*_test.go. What every client
// promises, whatever carries its calls, is in package conformance, whose tests run it over the same
// transports.
var behaviours = []struct {
	name  string
	check func(*testing.T, ipc.RendezvousOption)
}{
	{"a slow call after fast ones delays no other", slowCallAfterFastOnes},
	{"late replies are dropped and counted", lateRepliesAreDropped},
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
	{"taps of items", tapsOfItems},
	{"counts omit the calls of tools", countsOmitTools},

	{"messages both ways, in order", messagesBothWays},
	{"messages that nobody knows are dropped and counted", unknownMessages},
	{"a slow message handler delays no call", slowMessageHandler},
	{"a message handler makes calls", messageHandlerMakesCalls},
	{"a message handler ends with its connection", messageHandlerEnds},
	{"peers know each other", peersKnowEachOther},

	{"health behind a fence", healthBehindAFence},
	{"health that is wrong", healthThatIsWrong},

	{"metadata of calls in place", metadataInPlace},
	{"metadata of messages", metadataOfMessages},
	{"metadata that is wrong", metadataThatIsWrong},
	{"metadata over small rings", metadataOfSmallRings},

	{"calls in place", callsInPlace},
	{"interceptors and calls in place", interceptorsInPlace},
	{"large calls in place", largeInPlace},
	{"calls in place and no room for the reply", inPlaceWithoutRoom},
	{"calls in place end with their connection", inPlaceEnds},
	{"calls in place delay no end of a connection", inPlaceDelaysNoEnd},
	{"calls in place that are cancelled", inPlaceCancelled},
	{"slow consumers", slowConsumers},
	{"items of every size", itemsOfEverySize},
	{"cancelled streaming calls are counted", cancelledCallsAreCounted},
	{"a reign that ends with an answer", reignThatEndsWithAnAnswer},
	{"credits of servers", creditsOfServers},
	{"credits of clients", creditsOfClients},
	{"end in a full ring", endInAFullRing},
	{"limits of streaming calls", limitsOfStreamingCalls},
	{"clients make streaming calls again", clientsMakeStreamingCallsAgain},

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
	{"outcomes of calls in place", outcomeInPlace},

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
			skipWithout(t, open(t))
			for _, b := range behaviours {
				t.Run(b.name, func(t *testing.T) {
					expectNothingLeft(t)
					b.check(t, open(t))
				})
			}
		})
	}
}

// skipWithout skips the test on a platform that has no place such as v.
func skipWithout(t *testing.T, v ipc.RendezvousOption) {
	t.Helper()
	l, err := ipc.Listen("probe", v)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// host runs a server of channel "echo" with these services until the test ends.
func host(t *testing.T, v ipc.RendezvousOption, opts ...ipc.ServerOption) *ipc.Server {
	t.Helper()
	return ipctest.Serve(t, v, "echo", opts...)
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
