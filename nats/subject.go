package natsipc

import (
	"fmt"
	"strings"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is the only place that makes subjects; doc.go lists them.

// DefaultPrefix is the first part of all subjects, unless [WithPrefix] sets another one.
const DefaultPrefix = "ipcgen"

// queue is the name of the queue group of the servers of a channel.
const queue = "ipcgen"

// longestSubject is how long NATS advises subjects to be.
const longestSubject = 256

// A place is where the servers of a channel are: the first tokens of its subjects.
type place string

// placeOf returns the place of a channel.
func placeOf(prefix, channel string) (place, error) {
	if channel == "" {
		return "", invalid("the channel has no name")
	}
	if err := checkTokens("prefix", prefix); err != nil {
		return "", err
	}
	p := place(prefix + "." + Token(channel))
	if n := len(p.instance(strings.Repeat("x", 22), 1<<63)); n > longestSubject {
		return "", invalid("the channel %q makes subjects of %d bytes, and NATS advises %d at "+
			"most; give it a shorter name", channel, n, longestSubject)
	}
	return p, nil
}

// checkTokens returns an error for a text that is not tokens with dots between them, or has
// wildcards.
func checkTokens(what, text string) error {
	for token := range strings.SplitSeq(text, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return invalid("the %s %q; give tokens separated by dots, without * and >", what, text)
		}
	}
	return nil
}

// Token returns the one token of a subject that stands for a name of a channel or topic. The bytes
// A-Z, a-z, 0-9, '_' and '-' stand for themselves, and each other one is '=' and two hexadecimal
// digits, so that different names have different tokens.
func Token(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// calls is where any of the servers takes requests.
func (p place) calls() string { return string(p) + ".call" }

// cancels is where all servers learn of calls that have been cancelled.
func (p place) cancels() string { return string(p) + ".cancel" }

// at is where one server takes what is for it alone, with a token behind.
func (p place) at(server string) string { return string(p) + ".at." + server }

// own is where one server takes requests.
func (p place) own(server string) string { return p.at(server) + ".call" }

// instance is where one server takes the frames of a call.
func (p place) instance(server string, call uint64) string {
	return fmt.Sprintf("%s.%d", p.at(server), call)
}

func invalid(format string, args ...any) *ipc.Error {
	return &ipc.Error{Code: ipc.CodeInvalidArgument, Outcome: ipc.NotSent,
		Msg: fmt.Sprintf(format, args...)}
}

// health is where any of the servers, also one that shuts down, says how it is.
func (p place) health() string { return string(p) + ".health" }

// topic is where messages of a topic are published.
func (p place) topic(name string) string { return string(p) + ".topic." + Token(name) }

// recent is where a server that publishes a topic says what its publisher keeps. No server has the
// name "topic".
func (p place) recent(name string) string { return p.at("topic") + "." + Token(name) }

// isServer reports whether a text that another machine has sent may be the name of a server, which
// is a token of subjects.
func isServer(name string) bool { return name != "" && Token(name) == name }
