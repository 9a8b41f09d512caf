package ipc

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/ipcgen/ipcgen/internal/record"
)

// MaxMetadata is the largest size of the metadata of a message, in bytes: of its keys and values,
// and 3 bytes for each pair. Over a ring of less than 32 KiB the limit is lower: about an eighth of
// the ring.
const MaxMetadata = 4096

// Metadata is a list of keys and values that travels beside a call, its reply, or a one-way
// message: the ID of a trace, say. A key is 1 to 255 ASCII characters of a-z, 0-9, '-', '_' and
// '.', and does not begin with "ipcgen-". A key may be there more than once. A value may have any
// bytes.
//
// A client attaches metadata with [WithMetadata], and a handler reads it with
// [MetadataFromContext]. For the way back there are [SetReplyMetadata] and [WithReplyMetadata].
//
// The zero Metadata is empty. A Metadata never changes, so that goroutines may share it.
type Metadata struct {
	// The pairs: the length of the key in one byte, the key, the length of the value in two bytes,
	// little endian, the value. It is as on the wire, and was checked.
	pairs string
}

// NewMetadata returns the metadata of keys, each followed by its value. The error is an [*Error]
// with [CodeInvalidArgument] for a key that is not allowed or has no value, or with [CodeTooLarge]
// beyond [MaxMetadata].
func NewMetadata(pairs ...string) (Metadata, error) {
	m, err := Metadata{}.with(pairs)
	if err != nil {
		return Metadata{}, err
	}
	return m, nil
}

// with returns m with more pairs.
func (m Metadata) with(pairs []string) (Metadata, *Error) {
	if len(pairs)%2 != 0 {
		return m, invalidMetadata("key %q has no value; give keys and values in turn",
			pairs[len(pairs)-1])
	}
	b := []byte(m.pairs)
	for ; len(pairs) > 0; pairs = pairs[2:] {
		key, value := pairs[0], pairs[1]
		if !validKey(key) {
			return m, invalidMetadata("key %.300q; a key has 1 to 255 of the characters a-z, 0-9, "+
				`'-', '_' and '.', and does not begin with "ipcgen-"`, key)
		}
		if len(b)+pairOverhead+len(key)+len(value) > MaxMetadata {
			return m, metadataTooLarge(len(b)+pairOverhead+len(key)+len(value), MaxMetadata)
		}
		b = append(append(b, byte(len(key))), key...)
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(value))), value...)
	}
	return Metadata{string(b)}, nil
}

// pairOverhead is the size of the two lengths of a pair.
const pairOverhead = 3

func invalidMetadata(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidArgument, Outcome: NotSent,
		Msg: "metadata: " + fmt.Sprintf(format, args...)}
}

func metadataTooLarge(n, limit int) *Error {
	return &Error{Code: CodeTooLarge, Outcome: NotSent,
		Msg: fmt.Sprintf("metadata of %d bytes; the limit is %d", n, limit)}
}

const reservedKeys = "ipcgen-"

// validKey reports whether a sender may give key.
func validKey(key string) bool {
	return wellFormedKey(key) && !strings.HasPrefix(key, reservedKeys)
}

// wellFormedKey reports whether key has a length and characters that a key may have.
func wellFormedKey(key string) bool {
	if len(key) == 0 || len(key) > 255 {
		return false
	}
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// parseMetadata checks what a peer has sent. Reserved keys pass, for a later version may use them.
func parseMetadata(pairs string) (Metadata, error) {
	for rest := pairs; len(rest) > 0; {
		key, _, behind, ok := cutPair(rest)
		if !ok {
			return Metadata{}, fmt.Errorf("%w: metadata is cut", errBroken)
		}
		if !wellFormedKey(strings.TrimPrefix(key, reservedKeys)) {
			return Metadata{}, fmt.Errorf("%w: metadata has the key %q", errBroken, key)
		}
		rest = behind
	}
	return Metadata{pairs}, nil
}

// cutPair returns the first of pairs, of which there are some, and those behind it. ok is false if
// they end within the first.
func cutPair(pairs string) (key, value, behind string, ok bool) {
	n := 1 + int(pairs[0])
	if len(pairs) < n+2 {
		return "", "", "", false
	}
	end := n + 2 + int(pairs[n]) + int(pairs[n+1])<<8
	if len(pairs) < end {
		return "", "", "", false
	}
	return pairs[1:n], pairs[n+2 : end], pairs[end:], true
}

// All returns the keys and values, in the order in which they were given.
func (m Metadata) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := m.pairs; len(rest) > 0; {
			key, value, behind, _ := cutPair(rest)
			if !yield(key, value) {
				return
			}
			rest = behind
		}
	}
}

// Get returns the first value of a key, or "" if there is none.
func (m Metadata) Get(key string) string {
	for k, v := range m.All() {
		if k == key {
			return v
		}
	}
	return ""
}

// Len returns the number of pairs.
func (m Metadata) Len() (n int) {
	for range m.All() {
		n++
	}
	return n
}

// An outgoing is what a context says about the metadata of calls and messages that are made with
// it.
type outgoing struct {
	metadata Metadata
	err      *Error    // of WithMetadata
	reply    *Metadata // of WithReplyMetadata
}

type outgoingKey struct{}

func outgoingOf(ctx context.Context) *outgoing {
	o, _ := ctx.Value(outgoingKey{}).(*outgoing)
	return o
}

// WithMetadata returns a context whose calls and one-way messages carry metadata: the keys, each
// followed by its value, after those that ctx has already. A key that is not allowed, and metadata
// beyond [MaxMetadata], fail the call or message, with outcome [NotSent].
//
// Metadata goes to the server of the call and no further: a handler that calls another server says
// itself what that one gets.
func WithMetadata(ctx context.Context, pairs ...string) context.Context {
	return withOutgoing(ctx, func(o *outgoing) {
		if o.err == nil {
			o.metadata, o.err = o.metadata.with(pairs)
		}
	})
}

// withOutgoing returns a context that says what ctx says, as change has changed it.
func withOutgoing(ctx context.Context, change func(*outgoing)) context.Context {
	next := new(outgoing)
	if o := outgoingOf(ctx); o != nil {
		*next = *o
	}
	change(next)
	return context.WithValue(ctx, outgoingKey{}, next)
}

// WithReplyMetadata returns a context for one call, which stores the metadata of its reply, or of
// its error if that comes from the server, in into before it returns. Other calls with the context
// store theirs there too, so calls at the same time need contexts of their own.
func WithReplyMetadata(ctx context.Context, into *Metadata) context.Context {
	return withOutgoing(ctx, func(o *outgoing) { o.reply = into })
}

// OutgoingMetadata returns the metadata that calls with ctx carry, for interceptors and for
// carriers other than this package. The error is the one with which such a call fails.
func OutgoingMetadata(ctx context.Context) (Metadata, error) {
	switch o := outgoingOf(ctx); {
	case o == nil:
		return Metadata{}, nil
	case o.err != nil:
		return Metadata{}, o.err
	default:
		return o.metadata, nil
	}
}

// An incoming is the metadata of a call or message that is being handled.
type incoming struct {
	metadata Metadata
	reply    *replyMetadata // nil where there is no reply
}

// A replyMetadata is what a handler has set so far.
type replyMetadata struct {
	limit int

	mu       sync.Mutex
	metadata Metadata
}

func (r *replyMetadata) add(pairs []string) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.metadata.with(pairs)
	if err == nil && len(m.pairs) > r.limit {
		err = metadataTooLarge(len(m.pairs), r.limit)
	}
	if err == nil {
		r.metadata = m
	}
	return err
}

func (r *replyMetadata) get() Metadata {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metadata
}

type incomingKey struct{}

// MetadataFromContext returns the metadata of the call, message or stream whose handler or server
// interceptor has the context. It is empty if the client attached none, and if ctx does not come
// from a handler. Handlers of changes of a replicated state see none (see package group), because
// replicas must act on the request alone.
func MetadataFromContext(ctx context.Context) Metadata {
	if in, _ := ctx.Value(incomingKey{}).(*incoming); in != nil {
		return in.metadata
	}
	return Metadata{}
}

// SetReplyMetadata adds keys, each followed by its value, to the metadata that the client gets with
// the reply, or the error, of the call whose handler or interceptor has the context. It must be
// called before the handler returns, and before [ReplyBuilder.Build]. The error is an [*Error]:
// with [CodeInvalidArgument] for a key that is not allowed, with [CodeTooLarge] beyond the limit
// ([MaxMetadata]), and with [CodeFailedPrecondition] if ctx does not come from the handler of a
// call.
func SetReplyMetadata(ctx context.Context, pairs ...string) error {
	r := replyOf(ctx)
	if r == nil {
		return &Error{Code: CodeFailedPrecondition, Outcome: Executed,
			Msg: "there is no reply to set metadata of; give the context of a call's handler"}
	}
	if err := r.add(pairs); err != nil {
		err.Outcome = Executed // of the call, if its handler returns the error
		return err
	}
	return nil
}

// replyOf returns the metadata of the reply to the call whose handler has ctx, or nil.
func replyOf(ctx context.Context) *replyMetadata {
	if in, _ := ctx.Value(incomingKey{}).(*incoming); in != nil {
		return in.reply
	}
	if c, _ := ctx.Value(callKey{}).(*callContext); c != nil {
		return c.metadata().reply
	}
	return nil
}

// WithIncomingMetadata returns a context in which [MetadataFromContext] returns m. It is for those
// who run handlers without a [Server], and to hide what a client has sent. What the handler sets
// for the reply goes where it goes with ctx, and is dropped if ctx does not come from a handler.
func WithIncomingMetadata(ctx context.Context, m Metadata) context.Context {
	r := replyOf(ctx)
	if r == nil {
		r = &replyMetadata{limit: MaxMetadata}
	}
	return context.WithValue(ctx, incomingKey{}, &incoming{m, r})
}

// The wire form of metadata is a block behind the frame header: the length of the pairs, the pairs,
// and zeros up to a multiple of 8.

// putMetadata writes a block to b, which is long enough.
func putMetadata(b []byte, pairs string) {
	n := record.MetadataBlockLen(len(pairs))
	binary.NativeEndian.PutUint32(b, uint32(len(pairs)))
	clear(b[record.MetadataLen+copy(b[record.MetadataLen:], pairs) : n])
}

// getMetadata reads a block from shared memory.
func getMetadata(b []byte) (pairs string, err error) {
	if len(b) < record.MetadataLen {
		return "", errShortFrame
	}
	n := binary.NativeEndian.Uint32(b)
	if n == 0 || n > MaxMetadata {
		return "", fmt.Errorf("%w: metadata of %d bytes; the limit is %d", errBroken, n,
			MaxMetadata)
	}
	if len(b) < record.MetadataBlockLen(int(n)) {
		return "", errShortFrame
	}
	m, err := parseMetadata(string(b[record.MetadataLen : record.MetadataLen+n]))
	return m.pairs, err
}
