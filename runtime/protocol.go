package ipc

import (
	"fmt"
	"strings"
)

// This file decides whether two versions of a protocol can talk, by their
// canonical descriptions; docs/protocol.md has the grammar and the rules.

// CheckCompatible reports whether two versions of one protocol can talk. The
// error, with CodeIncompatible, names the first difference that keeps them
// from it. Fields added to tables, and methods, union members and enum values added, keep
// versions compatible; all that would make one side misread the other's
// bytes does not.
func CheckCompatible(ours, theirs *Protocol) error {
	if ours.Name != theirs.Name {
		return incompatible("protocol", ours.Name, "here", theirs.Name, "there")
	}
	if ours.Fingerprint == theirs.Fingerprint && ours.Schema == theirs.Schema {
		return nil
	}
	a, err := parseDescription(ours.Schema)
	if err != nil {
		return &Error{Code: CodeInvalidArgument, Outcome: NotSent, Msg: "protocol " + ours.Name, Err: err}
	}
	b, err := parseDescription(theirs.Schema)
	if err != nil {
		return &Error{Code: CodeIncompatible, Outcome: NotSent, Msg: "the peer's protocol " + theirs.Name, Err: err}
	}
	return compareDescriptions(a, b)
}

func incompatible(what ...string) *Error {
	return &Error{Code: CodeIncompatible, Outcome: NotSent, Msg: strings.Join(what, " ")}
}

// A description is a protocol's text, taken apart: blocks by their first two
// words ("table audio.Ack"), in order.
type description struct {
	order  []string
	blocks map[string]*block
}

// A block is a service, envelope or type with its numbered or named entries.
type block struct {
	rest    []string            // of its first line, after kind and name
	order   []string            // keys of entries, in order
	entries map[string][]string // by kind and number or name ("field 0"), the words behind
}

func parseDescription(text string) (*description, error) {
	d := &description{blocks: map[string]*block{}}
	var b *block
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		w := strings.Split(line, " ")
		if len(w) < 2 {
			return nil, fmt.Errorf("line %d of its description is malformed: %q", i+1, line)
		}
		key := w[0] + " " + w[1]
		switch w[0] {
		case "service", "envelope", "table", "struct", "enum", "union":
			b = &block{rest: w[2:], entries: map[string][]string{}}
			d.blocks[key] = b
			d.order = append(d.order, key)
		case "method", "envelopes", "field", "value", "member":
			if b == nil {
				return nil, fmt.Errorf("line %d of its description belongs to nothing: %q", i+1, line)
			}
			if w[0] == "envelopes" {
				key, w = "envelopes", append([]string{"", ""}, w[1:]...)
			}
			b.entries[key] = w[2:]
			b.order = append(b.order, key)
		default:
			return nil, fmt.Errorf("line %d of its description begins with an unknown word: %q", i+1, line)
		}
	}
	return d, nil
}

func compareDescriptions(a, b *description) error {
	for _, key := range a.order {
		x, y := a.blocks[key], b.blocks[key]
		if y == nil {
			continue // the one side lacks a new type; whatever refers to it decides
		}
		if err := compareBlocks(key, x, y); err != nil {
			return err
		}
	}
	return nil
}

func compareBlocks(name string, x, y *block) error {
	if strings.Join(x.rest, " ") != strings.Join(y.rest, " ") {
		return incompatible(fmt.Sprintf("%s is %q here and %q there", name, strings.Join(x.rest, " "), strings.Join(y.rest, " ")))
	}
	kind, _, _ := strings.Cut(name, " ")
	if kind == "struct" && strings.Join(x.order, ",") != strings.Join(y.order, ",") {
		return incompatible(name + " has other fields there; a struct can never change")
	}
	for _, key := range x.order {
		theirs, ok := y.entries[key]
		if !ok {
			if kind == "table" {
				if moved := y.find(x.entries[key]); moved != "" {
					return incompatible(fmt.Sprintf("%s: %s here is %s there", name, describe(key, x.entries[key]), moved))
				}
			}
			if required(kind, x.entries[key]) {
				return incompatible(name + ": required " + describe(key, x.entries[key]) + " is missing there")
			}
			continue
		}
		if err := compareEntries(kind, name, key, x.entries[key], theirs); err != nil {
			return err
		}
	}
	for _, key := range y.order {
		if _, ok := x.entries[key]; !ok && required(kind, y.entries[key]) {
			return incompatible(name + ": required " + describe(key, y.entries[key]) + " is missing here")
		}
	}
	return nil
}

// find returns the key under which the block has an entry with the name and
// type of words, or "": a field that one side has under another id was moved, not added.
func (b *block) find(words []string) string {
	for _, key := range b.order {
		if w := b.entries[key]; len(w) >= 2 && len(words) >= 2 && w[0] == words[0] && w[1] == words[1] {
			return key
		}
	}
	return ""
}

// required reports whether a table's field must be there: a message from a side that
// does not know it would never verify.
func required(kind string, words []string) bool {
	if kind != "table" {
		return false
	}
	for _, w := range words[min(3, len(words)):] {
		if w == "required" {
			return true
		}
	}
	return false
}

// compareEntries compares what both sides have under one key.
func compareEntries(kind, name, key string, x, y []string) error {
	var same bool
	switch kind {
	case "table", "struct":
		// <id> <name> <type> <default or offset>: a name may change, the
		// bytes' meaning not. "required" must agree, "deprecated" need not.
		same = len(x) >= 3 && len(y) >= 3 && x[1] == y[1] && x[2] == y[2] && required(kind, x) == required(kind, y)
	case "enum":
		same = true // a value's name may change
	case "union":
		same = len(x) >= 2 && len(y) >= 2 && x[1] == y[1]
	default:
		same = strings.Join(x, " ") == strings.Join(y, " ")
	}
	if same {
		return nil
	}
	return incompatible(fmt.Sprintf("%s: %s here, %s there", name, describe(key, x), describe(key, y)))
}

// describe names an entry for people.
func describe(key string, words []string) string {
	return key + " (" + strings.Join(words, " ") + ")"
}

// compare compares a protocol with what the server announced under its name.
func (h *serverHello) compare(p *Protocol) *Error {
	for _, id := range h.protocols {
		if id.name != p.Name {
			continue
		}
		if id.fingerprint == p.Fingerprint {
			return nil
		}
		end := uint64(id.at) + uint64(id.len)
		if end > uint64(len(h.text)) {
			return &Error{Code: CodeCorrupt, Outcome: NotSent, Msg: "the server's description of " + p.Name + " lies outside of its text"}
		}
		theirs := &Protocol{Name: id.name, Fingerprint: id.fingerprint, Schema: h.text[id.at:end]}
		if err := CheckCompatible(p, theirs); err != nil {
			return err.(*Error)
		}
		return nil
	}
	names := make([]string, len(h.protocols))
	for i, id := range h.protocols {
		names[i] = id.name
	}
	return &Error{Code: CodeUnimplemented, Outcome: NotSent,
		Msg: fmt.Sprintf("the server does not serve protocol %s, but: %s", p.Name, strings.Join(names, ", "))}
}
