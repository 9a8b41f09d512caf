package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/foxglove/mcap/go/mcap"
	"github.com/klauspost/compress/zstd"
)

// ErrFull is the error of a Writer that has reached [Options.MaxSize].
var ErrFull = errors.New("the recording has the size that it may have")

// Options are those of a Writer.
type Options struct {
	// MaxSize is the size that the file never exceeds, in bytes; 0 for no limit.
	MaxSize int64
	// Program is the name and version of the program that records.
	Program string
	// Metadata describes the recording as a whole.
	Metadata map[string]string
}

// Totals are what a Writer has taken.
type Totals struct {
	Calls, Messages uint64 // that have ended
	Lost            uint64 // records
	Bytes           int64  // of the file
}

// A Writer writes a recording. Nothing that it writes is changed later, and the file always ends
// with a whole chunk, unless the process is killed within one write. The room for the end of the
// file is reserved ahead, so that a full disk leaves a file that is complete up to that moment. It
// is safe for concurrent use.
type Writer struct {
	mu     sync.Mutex
	out    output
	file   bytes.Buffer // what mcap has written and out has not
	mcap   *mcap.Writer // of the file
	inner  *mcap.Writer // of the records of the next chunk
	chunk  bytes.Buffer
	zstd   *zstd.Encoder
	err    error // the first one; nothing is written after it
	closed bool

	topics   map[string]*entry
	schemas  map[string]uint16
	indexes  map[uint16]*mcap.MessageIndex // of the next chunk
	pending  int                           // messages in the next chunk
	from, to uint64                        // their times
	begun    time.Time                     // when the next chunk was begun
	summary  int64                         // bytes that the end of the file takes, at most
	calls    uint32                        // the last sequence number
	lost     map[string]uint64             // by source
	totals   Totals
}

// An entry is a topic that the file has.
type entry struct {
	id     uint16
	source string
}

const (
	// chunkSize is how much a chunk has at least, unless it is older than chunkTime.
	chunkSize = 1 << 20
	chunkTime = time.Second
	// ending is more than the end of a file takes beside schemas, channels and chunk indexes.
	ending = 1 << 10
)

// Create creates a file, which must not exist. If it cannot be written at all, no file is left.
func Create(path string, o Options) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	w, err := start(newFileOutput(f, o.MaxSize), o)
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return w, nil
}

// NewWriter returns a Writer to a pipe, for instance.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	return start(&streamOutput{w: w, max: o.MaxSize}, o)
}

func start(out output, o Options) (*Writer, error) {
	w := &Writer{out: out, topics: make(map[string]*entry), schemas: make(map[string]uint16),
		indexes: make(map[uint16]*mcap.MessageIndex), lost: make(map[string]uint64),
		from: math.MaxUint64, summary: ending}
	var err error
	if w.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	// A chunk is compressed here, so that its size is known before it is written. Therefore neither
	// writer makes chunks by itself.
	if w.mcap, err = mcap.NewWriter(&w.file, &mcap.WriterOptions{IncludeCRC: true}); err != nil {
		return nil, err
	}
	if w.inner, err = mcap.NewWriter(&w.chunk, &mcap.WriterOptions{SkipMagic: true}); err != nil {
		return nil, err
	}
	if err := w.mcap.WriteHeader(&mcap.Header{Library: o.Program}); err != nil {
		return nil, err
	}
	about := maps.Clone(o.Metadata)
	if about == nil {
		about = make(map[string]string)
	}
	about["format"] = "1"
	if err := w.mcap.WriteMetadata(&mcap.Metadata{Name: metadataName,
		Metadata: about}); err != nil {
		return nil, err
	}
	if err := w.out.reserve(int64(w.file.Len()) + w.summary); err != nil {
		return nil, err
	}
	return w, w.write()
}

// NextCall returns the sequence number of a new call.
func (w *Writer) NextCall() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	return w.calls
}

// WriteBody writes a request, reply, item or message. at is its time in nanoseconds since 1970
// (UTC).
func (w *Writer) WriteBody(t *Topic, seq uint32, at int64, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.message(t, seq, at, body)
	if err == nil && t.Kind == Published {
		w.totals.Messages++
	}
	return err
}

// WriteCall writes that a call or message has ended.
func (w *Writer) WriteCall(source string, seq uint32, at int64, c *Call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := json.Marshal(c)
	if err == nil {
		err = w.message(&Topic{Source: source, Kind: Calls}, seq, at, text)
	}
	switch {
	case err != nil, c.Open:
		return err
	case c.Kind == KindMessage:
		w.totals.Messages++
	default:
		w.totals.Calls++
	}
	return nil
}

// WriteEvent writes what has happened to a server at the present time. If only the number of losses
// changes, e is nil.
func (w *Writer) WriteEvent(source string, lost uint64, e *Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost[source] == lost && e == nil {
		return nil
	}
	full := Event{Event: Lost}
	if e != nil {
		full = *e
	}
	full.Lost = lost
	w.totals.Lost += lost - w.lost[source]
	w.lost[source] = lost
	text, err := json.Marshal(&full)
	if err != nil {
		return err
	}
	return w.message(&Topic{Source: source, Kind: Status}, 0, time.Now().UnixNano(), text)
}

// message adds a message to the next chunk. The caller must hold w.mu.
func (w *Writer) message(t *Topic, seq uint32, at int64, data []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return os.ErrClosed
	}
	// What the message and perhaps its channel take in the chunk, and beside it.
	size, beside := 64+len(data), 64
	e := w.topics[t.key()]
	if e == nil {
		n := 2*len(t.Name()) + len(t.Table) + 2*len(t.Definition) + len(t.Properties) +
			len(callSchema) + 512
		size, beside = size+n, beside+n
	}
	if size > maxChunk {
		return fmt.Errorf("a message or schema of %d bytes is too long for a recording", size)
	}
	if w.chunk.Len() > 0 && w.chunk.Len()+size > chunkSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.ensure(size, beside); err != nil {
		return err
	}
	if e == nil {
		var err error
		if e, err = w.open(t); err != nil {
			return w.failed(err)
		}
	}
	m := &mcap.Message{ChannelID: e.id, Sequence: seq, LogTime: uint64(at),
		PublishTime: uint64(at), Data: data}
	index := w.indexes[e.id]
	if index == nil {
		index = &mcap.MessageIndex{ChannelID: e.id}
		w.indexes[e.id] = index
	}
	index.Add(m.LogTime, uint64(w.chunk.Len()))
	if err := w.inner.WriteMessage(m); err != nil {
		return w.failed(err)
	}
	if w.pending == 0 {
		w.begun = time.Now()
	}
	w.pending++
	w.from, w.to = min(w.from, m.LogTime), max(w.to, m.LogTime)
	return nil
}

// ensure makes sure of the room for size more bytes in the chunk and some beside it, for the chunk
// as a whole, and for the end of the file. The caller must hold w.mu.
func (w *Writer) ensure(size, beside int) error {
	need := func() int64 {
		return w.out.size() + int64(w.chunk.Len()+size+beside+32*w.pending) + w.summary +
			w.indexSize(1)
	}
	err := w.out.reserve(need())
	if err != nil && w.chunk.Len() > 0 {
		// Compressed, the chunk takes less.
		if err := w.flush(); err != nil {
			return err
		}
		err = w.out.reserve(need())
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

// indexSize returns how much the index of the next chunk takes in the summary, and the indexes of
// its messages without their entries, if more channels are added.
func (w *Writer) indexSize(more int) int64 { return 128 + 32*int64(len(w.indexes)+more) }

// open adds a topic to the file. The caller must hold w.mu.
func (w *Writer) open(t *Topic) (*entry, error) {
	if len(w.topics) >= math.MaxUint16 {
		return nil, errors.New("a recording cannot have more than 65535 topics")
	}
	s := &mcap.Schema{Name: t.Table, Encoding: flatbuffer, Data: t.Definition}
	c := &mcap.Channel{ID: uint16(len(w.topics) + 1), Topic: t.Name(),
		MessageEncoding: flatbuffer, Metadata: map[string]string{keyKind: t.Kind,
			keySource: t.Source}}
	switch t.Kind {
	case Calls:
		s.Name, s.Encoding, s.Data = "ipcctl.Call", jsonSchema, []byte(callSchema)
		c.MessageEncoding = jsonText
	case Status:
		s.Name, s.Encoding, s.Data = "ipcctl.Event", jsonSchema, []byte(eventSchema)
		c.MessageEncoding = jsonText
	case Published:
		c.Metadata[keyProtocol] = t.Protocol
	default:
		c.Metadata[keyProtocol], c.Metadata[keyMethod] = t.Protocol, t.Method
	}
	if t.JSON {
		text, err := json.Marshal(structSchema{"object", t.Table, t.Properties, t.Definition})
		if err != nil {
			return nil, err
		}
		s.Encoding, s.Data, c.MessageEncoding = jsonSchema, text, jsonText
	}
	key := s.Name + "\x00" + string(s.Data)
	if s.ID = w.schemas[key]; s.ID == 0 {
		s.ID = uint16(len(w.schemas) + 1)
		w.schemas[key] = s.ID
		if err := w.inner.WriteSchema(s); err != nil {
			return nil, err
		}
		w.mcap.AddSchema(s)
		w.summary += int64(64 + len(s.Name) + len(s.Data))
	}
	c.SchemaID = s.ID
	if err := w.inner.WriteChannel(c); err != nil {
		return nil, err
	}
	w.mcap.AddChannel(c)
	w.summary += 256 + int64(len(c.Topic))
	for k, v := range c.Metadata {
		w.summary += int64(len(k) + len(v))
	}
	e := &entry{c.ID, t.Source}
	w.topics[t.key()] = e
	return e, nil
}

// A structSchema is the JSON schema of messages that are structs, with the binary schema that has
// the struct.
type structSchema struct {
	Type       string          `json:"type"`
	Title      string          `json:"title"`
	Properties json.RawMessage `json:"properties,omitempty"`
	Definition []byte          `json:"definition"`
}

// key identifies a topic. A server that is replaced by another version has new ones.
func (t *Topic) key() string {
	return t.Name() + "\x00" + t.Table + "\x00" + string(t.Definition)
}

// Flush writes the next chunk, if it is old enough.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.closed || w.pending == 0 || time.Since(w.begun) < chunkTime {
		return w.err
	}
	return w.flush()
}

// flush writes the next chunk. The caller must hold w.mu.
func (w *Writer) flush() error {
	records := w.chunk.Bytes()
	c := &mcap.Chunk{MessageStartTime: w.from, MessageEndTime: w.to,
		UncompressedSize: uint64(len(records)), UncompressedCRC: crc32.ChecksumIEEE(records),
		Compression: string(mcap.CompressionZSTD), Records: w.zstd.EncodeAll(records, nil)}
	if len(c.Records) >= len(records) {
		c.Compression, c.Records = string(mcap.CompressionNone), records
	}
	ids := slices.Sorted(maps.Keys(w.indexes))
	indexes := make([]*mcap.MessageIndex, len(ids))
	stats := w.mcap.Statistics
	for i, id := range ids {
		indexes[i] = w.indexes[id]
		n := uint64(len(indexes[i].Entries()))
		stats.MessageCount += n
		stats.ChannelMessageCounts[id] += n
	}
	w.summary += w.indexSize(0)
	if err := w.mcap.WriteChunkWithIndexes(c, indexes); err != nil {
		return w.failed(err)
	}
	w.chunk.Reset()
	clear(w.indexes)
	w.pending, w.from, w.to = 0, math.MaxUint64, 0
	return w.write()
}

// write passes on what mcap has written. The caller must hold w.mu.
func (w *Writer) write() error {
	err := w.out.append(w.file.Bytes())
	w.file.Reset()
	if err != nil {
		return w.failed(err)
	}
	return nil
}

func (w *Writer) failed(err error) error {
	if w.err == nil {
		w.err = err
	}
	return err
}

// Totals returns what was taken so far.
func (w *Writer) Totals() Totals {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.totals
	t.Bytes = w.out.size()
	return t
}

// Close completes the file, also if the disk is full or the file has its size: what was taken
// before is in it. It returns an error if the file lacks its end, or is not certain to be on the
// disk. Such a file can be read nevertheless.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	w.closed = true
	w.zstd.Close()
	return errors.Join(w.end(), w.out.close())
}

// end writes the rest of the chunk, and the summary. The caller must hold w.mu.
func (w *Writer) end() error {
	if w.out.failed() {
		return nil // it was reported
	}
	if w.chunk.Len() > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.mcap.Close(); err != nil {
		return err
	}
	return w.write()
}
