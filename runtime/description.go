package ipc

import (
	"fmt"
	"slices"
	"strings"
)

// A description is the text of a protocol, parsed; docs/protocol.md has its grammar.
type description struct {
	order  []string          // keys of blocks, in order
	blocks map[string]*block // a service or envelope by "protocol <name>", a type by "type <name>"
}

// A block is a service, an envelope or a type with its entries.
type block struct {
	title   string // kind and name, such as "table audio.Ack"
	kind    string
	rest    []string // of its first line, after kind and name
	order   []string // keys of entries, in order
	entries map[string]*entryLine
	names   map[string][]*entryLine // the entries by present and former names; see named
}

// An entryLine is one entry of a block, such as a field.
type entryLine struct {
	// kind and number, such as "field 0"; of a method, its kind and name; or "envelopes"
	key   string
	words []string // behind the key
}

// entryWords is how many words an entry of a kind has behind its key before its flags.
var entryWords = map[string]int{"method": 2, "envelopes": 2, "field": 3, "value": 1, "member": 2}

func parseDescription(text string) (*description, error) {
	d := &description{blocks: map[string]*block{}}
	var b *block
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		malformed := func(how string) error {
			return fmt.Errorf("line %d of its description %s: %q", i+1, how, shorten(line, 200))
		}
		w := strings.Split(line, " ")
		if len(w) < 2 {
			return nil, malformed("is malformed")
		}
		switch kind := w[0]; kind {
		case "service", "envelope", "table", "struct", "enum", "union":
			b = &block{title: kind + " " + w[1], kind: kind, rest: w[2:],
				entries: map[string]*entryLine{}}
			key := "type " + w[1]
			if kind == "service" || kind == "envelope" {
				key = "protocol " + w[1]
			}
			if d.blocks[key] != nil {
				return nil, malformed("describes something again")
			}
			d.blocks[key] = b
			d.order = append(d.order, key)
		case "method", "envelopes", "field", "value", "member":
			if b == nil {
				return nil, malformed("belongs to nothing")
			}
			e := &entryLine{key: kind + " " + w[1], words: w[2:]}
			if kind == "envelopes" {
				e.key, e.words = kind, w[1:]
			}
			if len(e.words) < entryWords[kind] {
				return nil, malformed("is too short")
			}
			if b.entries[e.key] != nil {
				return nil, malformed("describes something again")
			}
			b.entries[e.key] = e
			b.order = append(b.order, e.key)
		default:
			return nil, malformed("begins with an unknown word")
		}
	}
	return d, nil
}

// named returns the entries that have a name, or had it formerly. The first call makes an index:
// the peer can describe millions of entries, each of which would otherwise be compared with each of
// this side.
func (b *block) named(name string) []*entryLine {
	if b.names == nil {
		b.names = make(map[string][]*entryLine, len(b.order))
		for _, key := range b.order {
			e := b.entries[key]
			b.names[e.name()] = append(b.names[e.name()], e)
			for _, flag := range e.flags() {
				if was, ok := strings.CutPrefix(flag, "was:"); ok && was != e.name() {
					b.names[was] = append(b.names[was], e)
				}
			}
		}
	}
	return b.names[name]
}

// typ returns the block of a type, or nil.
func (d *description) typ(name string) *block { return d.blocks["type "+name] }

// keyField returns the field that vectors of the table or struct are sorted by, or nil.
func (b *block) keyField() *entryLine {
	for _, key := range b.order {
		if e := b.entries[key]; e.has("key") {
			return e
		}
	}
	return nil
}

func (e *entryLine) kind() string { kind, _, _ := strings.Cut(e.key, " "); return kind }

// name is the present name of a field, value or member.
func (e *entryLine) name() string { return e.words[0] }

// typ is the type of a field or member.
func (e *entryLine) typ() string { return e.words[1] }

// flags are the words behind those that every entry of the kind has.
func (e *entryLine) flags() []string { return e.words[entryWords[e.kind()]:] }

func (e *entryLine) has(flag string) bool { return slices.Contains(e.flags(), flag) }

// was reports whether the entry had a name formerly, as its schema states.
func (e *entryLine) was(name string) bool { return e.has("was:" + name) }

// String names an entry for people.
func (e *entryLine) String() string { return e.key + " (" + strings.Join(e.words, " ") + ")" }
