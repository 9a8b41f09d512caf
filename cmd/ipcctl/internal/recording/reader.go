package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/foxglove/mcap/go/mcap"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Errors of files.
var (
	// ErrForeign is the error of a file that is no recording of ipcctl.
	ErrForeign = errors.New("not a recording of ipcctl")
	// ErrCut is the error at the end of a file that lacks its end, as that of a recorder that was
	// killed. What comes before is whole.
	ErrCut = errors.New("the recording is cut off")
	// ErrDamaged is the error of a file whose contents cannot be right.
	ErrDamaged = errors.New("the recording is damaged")
)

// A FileError is an error of a file.
type FileError struct {
	Path   string
	Offset int64 // where it was found, in bytes
	Kind   error // ErrForeign, ErrCut or ErrDamaged
	Err    error // more about it; may be nil
}

func (e *FileError) Error() string {
	text := e.Path + ": " + e.Kind.Error()
	if e.Kind != ErrForeign {
		text += fmt.Sprintf(" at byte %d", e.Offset)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the kind and the cause.
func (e *FileError) Unwrap() []error { return []error{e.Kind, e.Err} }

// A Record is a message of a recording.
type Record struct {
	Topic *Topic
	Seq   uint32
	At    int64 // in nanoseconds since 1970 (UTC)
	// Data is the message. It is valid until the next call of Next.
	Data []byte
}

// Call returns the call that a record of the kind [Calls] has.
func (r *Record) Call() (*Call, error) { return decode[Call](r.Data) }

// Event returns the event that a record of the kind [Status] has.
func (r *Record) Event() (*Event, error) { return decode[Event](r.Data) }

func decode[T any](text []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return v, nil
}

// A Reader reads a recording from its start to its end. It also reads one whose chunks another tool
// has compressed again, or has merged with those of other files; it passes over what is not from
// ipcctl.
type Reader struct {
	path    string
	f       *os.File
	size    int64
	offset  counter
	lexer   *mcap.Lexer // of the file
	buf     []byte      // of its records
	zstd    *zstd.Decoder
	chunk   []byte      // what is in the chunk
	records *mcap.Lexer // of the chunk; nil outside
	record  []byte      // the buffer of its records
	schemas map[uint16]*mcap.Schema
	topics  map[uint16]*Topic // nil for those of other programs
	known   int               // bytes of schemas and topics
	ours    bool
	err     error // what Next returns from now on
}

// A counter counts what is read from a file.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// maxKnown limits the memory that schemas and topics take, in bytes.
const maxKnown = 256 << 20

// Open opens a recording.
func Open(path string) (*Reader, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		// It is not opened: that would wait for the writer of a pipe.
		return nil, &FileError{Path: path, Kind: ErrForeign, Err: errors.New("no regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{path: path, f: f, schemas: make(map[uint16]*mcap.Schema),
		topics: make(map[uint16]*Topic)}
	if err := r.begin(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) begin() error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	r.size = info.Size()
	r.offset.r = r.f
	magic := make([]byte, len(mcap.Magic))
	switch n, err := io.ReadFull(&r.offset, magic); {
	case !bytes.Equal(magic[:n], mcap.Magic[:n]):
		return &FileError{Path: r.path, Kind: ErrForeign, Err: errors.New("no MCAP file")}
	case err == io.EOF:
		return &FileError{Path: r.path, Kind: ErrForeign, Err: errors.New("an empty file")}
	case err == io.ErrUnexpectedEOF:
		return r.fail(ErrCut, nil)
	case err != nil:
		return err
	}
	if r.lexer, err = lexer(&r.offset, r.size); err != nil {
		return err
	}
	r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(maxChunk), zstd.WithDecoderLowmem(true))
	return err
}

// lexer returns a lexer of records that are all in size bytes. It leaves chunks closed, because it
// opens them without limits.
func lexer(r io.Reader, size int64) (*mcap.Lexer, error) {
	return mcap.NewLexer(r, &mcap.LexerOptions{SkipMagic: true, EmitChunks: true,
		MaxRecordSize: int(min(max(1, size), maxChunk+1<<20))})
}

// Close closes the file.
func (r *Reader) Close() error {
	r.zstd.Close()
	return r.f.Close()
}

func (r *Reader) fail(kind, err error) error {
	return &FileError{Path: r.path, Offset: r.offset.n, Kind: kind, Err: err}
}

// Next returns the next record. At the end it returns [io.EOF], or an error with [ErrCut] if the
// file lacks its end.
func (r *Reader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	record, err := r.next()
	if err != nil {
		r.err = err
	}
	return record, err
}

func (r *Reader) next() (*Record, error) {
	for {
		in := r.records
		l, buf := r.lexer, &r.buf
		if in != nil {
			l, buf = in, &r.record
		}
		token, data, err := l.Next(*buf)
		if err == io.EOF && in != nil {
			r.records = nil
			continue
		}
		if err != nil {
			return nil, r.stopped(err, in != nil)
		}
		if cap(data) > cap(*buf) {
			*buf = data
		}
		record, err := r.take(token, data, in != nil)
		if record != nil || err != nil {
			return record, err
		}
	}
}

// stopped returns the error for one of a lexer.
func (r *Reader) stopped(err error, inChunk bool) error {
	var cut *mcap.ErrTruncatedRecord
	var disk *os.PathError
	tooLong := errors.Is(err, mcap.ErrRecordTooLarge)
	switch {
	case errors.As(err, &disk):
		return err
	case inChunk:
		return r.fail(ErrDamaged, err)
	case errors.As(err, &cut), err == io.EOF, tooLong && r.size <= maxChunk: // beyond the file
		return r.fail(ErrCut, nil)
	}
	return r.fail(ErrDamaged, err)
}

// take takes in a record of the file. It returns nil if the record is no message for users.
func (r *Reader) take(token mcap.TokenType, data []byte, inChunk bool) (*Record, error) {
	var err error
	switch token {
	case mcap.TokenMetadata:
		if m, err := mcap.ParseMetadata(data); err == nil && m.Name == metadataName {
			r.ours = true
		}
	case mcap.TokenChunk:
		if inChunk {
			return nil, r.fail(ErrDamaged, mcap.ErrNestedChunk)
		}
		err = r.open(data)
	case mcap.TokenSchema:
		err = r.addSchema(data)
	case mcap.TokenChannel:
		err = r.addTopic(data)
	case mcap.TokenMessage:
		return r.message(data)
	case mcap.TokenDataEnd:
		if !r.ours {
			return nil, r.fail(ErrForeign, errors.New("an MCAP file of another program"))
		}
		return nil, io.EOF
	case mcap.TokenHeader:
		_, err = mcap.ParseHeader(data)
	}
	if err != nil {
		return nil, r.fail(ErrDamaged, err)
	}
	return nil, nil
}

// open decompresses a chunk.
func (r *Reader) open(data []byte) error {
	if err := checkChunk(data); err != nil {
		return err
	}
	c, err := mcap.ParseChunk(data)
	if err != nil {
		return err
	}
	if c.UncompressedSize > maxChunk {
		return fmt.Errorf("a chunk of %d bytes", c.UncompressedSize)
	}
	switch mcap.CompressionFormat(c.Compression) {
	case mcap.CompressionNone:
		r.chunk = append(r.chunk[:0], c.Records...)
	case mcap.CompressionZSTD:
		r.chunk, err = r.zstd.DecodeAll(c.Records, r.chunk[:0])
	case mcap.CompressionLZ4:
		var b bytes.Buffer
		_, err = io.Copy(&b, io.LimitReader(lz4.NewReader(bytes.NewReader(c.Records)),
			int64(c.UncompressedSize)+1))
		r.chunk = b.Bytes()
	default:
		return fmt.Errorf("a chunk is compressed by %.20q", c.Compression)
	}
	switch {
	case err != nil:
		return err
	case uint64(len(r.chunk)) != c.UncompressedSize:
		return fmt.Errorf("a chunk has %d bytes instead of %d", len(r.chunk), c.UncompressedSize)
	case c.UncompressedCRC != 0 && crc32.ChecksumIEEE(r.chunk) != c.UncompressedCRC:
		return errors.New("a chunk does not have its checksum")
	}
	r.records, err = lexer(bytes.NewReader(r.chunk), int64(len(r.chunk)))
	return err
}

// checkChunk checks the lengths in a chunk, which mcap believes.
func checkChunk(data []byte) error {
	const name, word = 8 + 8 + 8 + 4, 4 // where the name of the compression is, and its length
	if len(data) >= name+word {
		rest := data[name+word:]
		n := uint64(binary.LittleEndian.Uint32(data[name:]))
		if uint64(len(rest)) >= n+8 &&
			binary.LittleEndian.Uint64(rest[n:]) == uint64(len(rest))-n-8 {
			return nil
		}
	}
	return errors.New("the parts of a chunk do not have its length")
}

// know limits the memory of what is kept.
func (r *Reader) know(n int) error {
	if r.known += n + 256; r.known > maxKnown {
		return fmt.Errorf("schemas and channels have more than %d bytes", maxKnown)
	}
	return nil
}

func (r *Reader) addSchema(data []byte) error {
	s, err := mcap.ParseSchema(data)
	if err != nil || r.schemas[s.ID] != nil {
		return err
	}
	r.schemas[s.ID] = s
	return r.know(len(data))
}

func (r *Reader) addTopic(data []byte) error {
	c, err := mcap.ParseChannel(data)
	if err != nil || r.topics[c.ID] != nil {
		return err
	}
	t := &Topic{Source: c.Metadata[keySource], Kind: c.Metadata[keyKind],
		Protocol: c.Metadata[keyProtocol], Method: c.Metadata[keyMethod]}
	switch t.Kind {
	case Calls, Status:
		if c.MessageEncoding != jsonText {
			return fmt.Errorf("the channel %q has the encoding %q", c.Topic, c.MessageEncoding)
		}
	case Published, Request, Reply, Message, RequestItem, ReplyItem:
		if err := r.addMessages(t, c); err != nil {
			return err
		}
	default:
		return nil
	}
	if t.Source == "" || strings.ContainsAny(t.Source, "/\n") {
		return fmt.Errorf("the channel %q is of no server", c.Topic)
	}
	r.ours = true
	r.topics[c.ID] = t
	return r.know(len(data))
}

// addMessages takes in the channel of requests, replies, items or messages.
func (r *Reader) addMessages(t *Topic, c *mcap.Channel) error {
	s := r.schemas[c.SchemaID]
	if s == nil || t.Protocol == "" || (t.Method == "") != (t.Kind == Published) {
		return fmt.Errorf("the channel %q is not as ipcctl writes it", c.Topic)
	}
	t.Table = s.Name
	switch {
	case c.MessageEncoding == flatbuffer && s.Encoding == flatbuffer:
		t.Definition = s.Data
		return nil
	case c.MessageEncoding == jsonText && s.Encoding == jsonSchema &&
		(t.Kind == Published || t.Kind == Message):
		var of structSchema
		err := json.Unmarshal(s.Data, &of)
		t.JSON, t.Definition = true, of.Definition
		return err
	}
	return fmt.Errorf("the channel %q has the encoding %q", c.Topic, c.MessageEncoding)
}

func (r *Reader) message(data []byte) (*Record, error) {
	m, err := mcap.ParseMessage(data)
	if err != nil {
		return nil, r.fail(ErrDamaged, err)
	}
	t := r.topics[m.ChannelID]
	if t == nil {
		return nil, nil
	}
	return &Record{Topic: t, Seq: m.Sequence, At: int64(m.LogTime), Data: m.Data}, nil
}
