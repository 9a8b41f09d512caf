package ipc

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// A Guard is asked before a server executes a call or a one-way message, and told when the
// execution has ended. It can record which requests a process was executing when it died. Its
// methods are called for every request and must be safe for concurrent use.
type Guard interface {
	// Enter is called before the request is decoded. request is a sum over the method and the body:
	// equal requests have equal sums. An error refuses the request, and should be an [*Error] with
	// outcome [NotExecuted]; a refused message is dropped and counted. Enter may block, as a
	// handler may.
	Enter(request uint64) (place int, err error)
	// Leave is called with the place that Enter returned, after the handler and, unless the call is
	// handled in place, before the reply is sent.
	Leave(place int)
}

// WithGuard makes a server ask g before it executes a call or a one-way message. Streams and
// streaming calls are not guarded: an endless one would keep its place for ever.
func WithGuard(g Guard) ServerOption { return serverOption(func(c *serverConfig) { c.guard = g }) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum returns the sum of a request: the id of its method in the upper half, and a checksum of its
// body in the lower half. The sequence number in the envelope is left out, so that equal requests
// have equal sums, from all clients. The body may be invalid, and may change while it is read.
func (r *boundRoute) sum(body []byte) uint64 {
	var crc uint32
	if at := scalarAt(body, r.seqField); at > 0 {
		crc = crc32.Update(crc32.Checksum(body[:at], castagnoli), castagnoli, body[at+8:])
	} else {
		crc = crc32.Checksum(body, castagnoli)
	}
	return uint64(r.id)<<32 | uint64(crc^uint32(len(body))*0x9e3779b1)
}

// scalarAt returns where the eight bytes of a field of a buffer's root table lie, or 0. No
// field has a negative id.
func scalarAt(body []byte, id int) int {
	if id < 0 || len(body) < 8 {
		return 0
	}
	n := int64(len(body))
	root := int64(binary.LittleEndian.Uint32(body))
	if root > n-4 {
		return 0
	}
	vtable := root - int64(int32(binary.LittleEndian.Uint32(body[root:])))
	slot := vtable + 4 + 2*int64(id)
	if vtable < 0 || slot > n-2 ||
		slot+2 > vtable+int64(binary.LittleEndian.Uint16(body[vtable:])) {
		return 0
	}
	offset := int64(binary.LittleEndian.Uint16(body[slot:]))
	if offset == 0 || root+offset > n-8 {
		return 0
	}
	return int(root + offset)
}

// numberRoutes finds the fields in which the messages of routes carry their numbers.
func (t routeTable) numberRoutes() {
	fields := make(map[*Protocol]int)
	for _, r := range t.places {
		if r == nil {
			continue
		}
		id, known := fields[r.protocol]
		if !known {
			id = seqField(r.protocol)
			fields[r.protocol] = id
		}
		r.seqField = id
	}
}

// seqField returns the id of the field in which requests or messages of a protocol carry their
// numbers, or -1.
func seqField(p *Protocol) int {
	d, err := parseDescription(p.Schema)
	if err != nil {
		return -1
	}
	envelope := p.Name
	if b := d.blocks["protocol "+p.Name]; b != nil && b.kind == "service" {
		e := b.entries["envelopes"]
		if e == nil {
			return -1
		}
		envelope = e.words[0]
	}
	table := d.typ(envelope)
	if table == nil {
		return -1
	}
	i := slices.IndexFunc(table.order, func(key string) bool {
		e := table.entries[key]
		return e.kind() == "field" && e.name() == "seq" && e.typ() == "uint64"
	})
	if i < 0 {
		return -1
	}
	id, err := strconv.Atoi(strings.TrimPrefix(table.order[i], "field "))
	if err != nil {
		return -1
	}
	return id
}
