package ipc

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// This file decides whether two versions of a protocol can talk, by their
// descriptions; docs/protocol.md has the rules.

// CheckCompatible reports whether a client with one version of a protocol can call a server with
// another. If not, it returns an error with [CodeIncompatible] that names the first difference and
// its remedy.
//
// Two versions are compatible if neither side can read a value of the other as a different value.
// Fields of tables, methods, union members and enum values that only one side has do not matter.
// Everything that both sides have under one number must agree in every respect, including its name,
// unless one of the schemas states by the attribute "was" that the name has changed. The order of
// the arguments matters to one rule only: a method that the client may send again must be one that
// the server may execute again.
//
// If client is the protocol of a [Relay], which stands for clients of other versions, the server
// must have nothing that client has not: then what is compatible with client is with server.
func CheckCompatible(client, server *Protocol) error {
	if client.Name != server.Name {
		return incompatible("protocol %s here is %s there", client.Name, server.Name)
	}
	if client.Fingerprint == server.Fingerprint && client.Schema == server.Schema {
		return nil
	}
	a, err := parseDescription(client.Schema)
	if err != nil {
		return &Error{Code: CodeInvalidArgument, Outcome: NotSent, Msg: "protocol " +
			client.Name, Err: err}
	}
	b, err := parseDescription(server.Schema)
	if err != nil {
		return &Error{Code: CodeIncompatible, Outcome: NotSent, Msg: "the peer's protocol " +
			server.Name, Err: err}
	}
	if err := compareDescriptions(a, b, true); err != nil || !client.relayed {
		return err
	}
	return checkAnnounced(a, b)
}

// errUnannounced is the cause of the error of a gateway whose server has more than the gateway has
// announced.
var errUnannounced = errors.New("a gateway announces what it passes on")

// checkAnnounced returns an error if a server has something that a gateway to it has not announced.
// The clients of the gateway have compared themselves with what that announces, and their messages
// pass as they are: one of them may have under the same number something else.
func checkAnnounced(announced, server *description) error {
	for _, key := range server.order {
		x, y := announced.blocks[key], server.blocks[key]
		if x == nil {
			return unannounced(y.title)
		}
		for _, key := range y.order {
			if x.entries[key] == nil {
				return unannounced(fmt.Sprintf("%s: %s", y.title, y.entries[key]))
			}
		}
	}
	return nil
}

func unannounced(what string) error {
	return &Error{Code: CodeIncompatible, Outcome: NotSent, Err: errUnannounced,
		Msg: shorten(what+" is new at the server, and not announced yet", longestText)}
}

// compareDescriptions compares two versions. With calls set, ours is a client's and theirs its
// server's.
func compareDescriptions(ours, theirs *description, calls bool) error {
	for _, key := range ours.order {
		// A type that one side lacks is new; what refers to it decides.
		if x, y := ours.blocks[key], theirs.blocks[key]; y != nil {
			if err := compareBlocks(x, y, calls); err != nil {
				return err
			}
		}
	}
	return nil
}

// incompatible is the error of descriptions that do not fit. The peer may have written one, so what
// is quoted of it is cut.
func incompatible(format string, args ...any) error {
	return &Error{Code: CodeIncompatible, Outcome: NotSent,
		Msg: shorten(fmt.Sprintf(format, args...), longestText)}
}

func compareBlocks(x, y *block, calls bool) error {
	if x.kind != y.kind {
		return incompatible("%s is a %s there; give the new one another name", x.title, y.kind)
	}
	if a, b := strings.Join(x.rest, " "), strings.Join(y.rest, " "); a != b {
		return incompatible("%s is %q here and %q there", x.title, a, b)
	}
	if x.kind == "struct" && !slices.Equal(x.order, y.order) {
		return incompatible("%s has other fields there; a struct can never change", x.title)
	}
	for _, key := range x.order {
		ours, theirs := x.entries[key], y.entries[key]
		if theirs == nil {
			if err := checkAlone(x, ours, y, "there"); err != nil {
				return err
			}
			continue
		}
		if err := compareEntries(x.title, ours, theirs, calls); err != nil {
			return err
		}
	}
	for _, key := range y.order {
		if x.entries[key] == nil {
			if err := checkAlone(y, y.entries[key], x, "here"); err != nil {
				return err
			}
		}
	}
	if a, b := x.keyField(), y.keyField(); (a == nil) != (b == nil) || a != nil && a.key != b.key {
		return incompatible("%s: its vectors are sorted by %s here and by %s there", x.title,
			keyName(a), keyName(b))
	}
	return nil
}

func keyName(e *entryLine) string {
	if e == nil {
		return "nothing"
	}
	return e.String()
}

// checkAlone checks an entry that the other version of its block lacks: an addition, unless
// the other version has it under another number, or cannot do without it.
func checkAlone(of *block, e *entryLine, other *block, where string) error {
	switch e.kind() {
	case "envelopes":
		return incompatible("%s travels in %s on one side alone, which are missing %s; state "+
			"the service's envelopes in both schemas",
			of.title, e, where)
	case "method":
		return nil
	case "field":
		// A message from a side that does not know the field would never verify.
		if e.has("required") {
			return incompatible("%s: required %s is missing %s; a field that is added must not "+
				"be required", of.title, e, where)
		}
	}
	for _, twin := range other.named(e.name()) {
		mine := of.entries[twin.key]
		if twin.name() == e.name() && (mine == nil || mine.name() == twin.name()) || mine == nil &&
			twin.was(e.name()) {
			return incompatible("%s: %s has another number %s, %s; numbers must stay", of.title,
				e, where, twin)
		}
	}
	return nil
}

// compareEntries compares what both sides have under one key.
func compareEntries(title string, x, y *entryLine, calls bool) error {
	differ := func(advice string) error {
		return incompatible("%s: %s here, %s there; %s", title, x, y, advice)
	}
	if kind := x.kind(); kind == "field" || kind == "value" || kind == "member" {
		if x.name() != y.name() && !renamed(x, y) {
			return differ(renameAdvice(x, y))
		}
	}
	switch x.kind() {
	case "method":
		if x.words[0] != y.words[0] || x.words[1] != y.words[1] {
			return differ("a method with other types needs another name")
		}
		if calls && resendable(x) && !resendable(y) {
			return differ(
				"the client would send calls again that the server must not execute twice; " +
					"first update the servers, then the clients, or rename the method")
		}
	case "envelopes", "member":
		if !slices.Equal(x.words, y.words) {
			return differ("what is new needs another number or name")
		}
	case "field":
		if x.typ() != y.typ() || x.words[2] != y.words[2] {
			return differ("a field with another type or default needs another id")
		}
		if x.has("required") != y.has("required") {
			return differ("required must stay as it was")
		}
		if x.has("required") && x.has("deprecated") != y.has("deprecated") {
			return differ("a required field cannot be deprecated")
		}
	}
	if a, b := strictFlags(x), strictFlags(y); a != b {
		return differ(fmt.Sprintf("%q must stay as it was", strings.TrimSpace(a+" "+b)))
	}
	return nil
}

// renamed reports whether one side states that the entry of the other is its own under a former
// name. The names seq and ref_seq have a meaning of their own, and members of unions travel by
// name where they are messages.
func renamed(x, y *entryLine) bool {
	if x.kind() == "member" {
		return false
	}
	for _, e := range []*entryLine{x, y} {
		if e.kind() == "field" && e.typ() == "uint64" &&
			(e.name() == "seq" || e.name() == "ref_seq") {
			return false
		}
	}
	return x.was(y.name()) || y.was(x.name())
}

func renameAdvice(x, y *entryLine) string {
	switch x.kind() {
	case "field":
		return fmt.Sprintf(`another field needs another id; a field that was renamed states it: (was: %q) or (was: %q)`, x.name(), y.name())
	case "value":
		return fmt.Sprintf(`another value needs another number; a value that was renamed states it: (was: %q) or (was: %q)`, x.name(), y.name())
	}
	return "another member needs another number, and a member cannot be renamed"
}

// resendable reports whether a client may send calls of a method again whose outcome is unknown.
func resendable(method *entryLine) bool {
	return method.has("idempotent") || method.has("read_only")
}

// strictFlags returns the flags of an entry for which there is no rule but that they must agree.
func strictFlags(e *entryLine) string {
	var strict []string
	for _, flag := range e.flags() {
		switch {
		case flag == "required", flag == "deprecated", flag == "key",
			strings.HasPrefix(flag, "was:"):
		case e.kind() == "method" && (flag == "idempotent" || flag == "read_only"):
		default:
			strict = append(strict, flag)
		}
	}
	slices.Sort(strict)
	return strings.Join(strict, " ")
}

// compare compares a protocol with what the server announced under its name.
func (h *serverHello) compare(p *Protocol) *Error {
	if p == introspection {
		return nil // a server without it has no such method
	}
	for _, id := range h.protocols {
		if id.name != p.Name {
			continue
		}
		if id.fingerprint == p.Fingerprint {
			return nil
		}
		theirs, outside := h.protocol(id)
		if outside != nil {
			return outside
		}
		if err := CheckCompatible(p, theirs); err != nil {
			return err.(*Error)
		}
		return nil
	}
	if len(h.protocols) == 0 {
		return &Error{Code: CodeUnimplemented, Outcome: NotSent,
			Msg: fmt.Sprintf("the server does not serve protocol %s, and has no other service; "+
				"pass the service to NewServer", p.Name)}
	}
	names := make([]string, len(h.protocols))
	for i, id := range h.protocols {
		names[i] = id.name
	}
	return &Error{Code: CodeUnimplemented, Outcome: NotSent,
		Msg: fmt.Sprintf("the server does not serve protocol %s; it serves %s", p.Name,
			shorten(strings.Join(names, ", "), longestText))}
}

// protocol returns what the server announced of one of its protocols.
func (h *serverHello) protocol(id protocolID) (*Protocol, *Error) {
	end := uint64(id.at) + uint64(id.len)
	if end > uint64(len(h.text)) {
		return nil, &Error{Code: CodeCorrupt, Outcome: NotSent,
			Msg: "the server's description of " + id.name + " lies outside of its text"}
	}
	return &Protocol{Name: id.name, Fingerprint: id.fingerprint, Schema: h.text[id.at:end]}, nil
}

// Protocols returns the protocols that the server serves, as it announced them when the client
// connected.
func (c *Conn) Protocols() ([]*Protocol, error) {
	all := make([]*Protocol, len(c.hello.protocols))
	for i, id := range c.hello.protocols {
		p, err := c.hello.protocol(id)
		if err != nil {
			return nil, err
		}
		all[i] = p
	}
	return all, nil
}

// wireID returns the number of a method or message of p on the wire, as generated code has it.
func wireID(p *Protocol, name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(p.Name + "/" + name))
	return h.Sum32()
}
