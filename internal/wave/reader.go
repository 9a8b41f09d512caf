package wave

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// A Reader reads the samples of a file.
type Reader struct {
	r      *bufio.Reader
	format Format
	frames int64 // that the header announces; -1: until the end
	done   int64
	torn   bool // the file has ended within a frame
	behind bool // what is behind the samples was read
	buf    []byte
}

// NewReader reads the header of a file up to its samples.
func NewReader(r io.Reader) (*Reader, error) {
	f := &Reader{r: bufio.NewReaderSize(r, 64<<10)}
	if err := f.readHeader(); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends within its header", ErrFormat)
		}
		return nil, err
	}
	return f, nil
}

// Format returns the format of the file.
func (f *Reader) Format() Format { return f.format }

// Frames returns the number of frames that the file has by its header, or -1 if it was written
// without knowing.
func (f *Reader) Frames() int64 { return f.frames }

// others are the first bytes of files that people take for WAVE files.
var others = []struct{ magic, name string }{
	{"RF64", "an RF64 file"}, {"BW64", "a BW64 file"}, {"RIFX", "a RIFX file (big-endian)"},
	{"fLaC", "a FLAC file"}, {"OggS", "an Ogg file"}, {"ID3", "an MP3 file"},
	{"\xff\xfb", "an MP3 file"}, {"FORM", "an AIFF file"}, {"caff", "a CAF file"},
}

func (f *Reader) readHeader() error {
	var head [12]byte
	n, err := io.ReadFull(f.r, head[:])
	if n == 0 && err == io.EOF {
		return fmt.Errorf("%w: it is empty", ErrFormat)
	}
	for _, o := range others {
		if strings.HasPrefix(string(head[:n]), o.magic) {
			return fmt.Errorf("%w: this is %s; convert it to WAVE, as with "+
				"\"ffmpeg -i in out.wav\"", ErrUnsupported, o.name)
		}
	}
	if n >= 4 && string(head[:4]) != "RIFF" || n == 12 && string(head[8:]) != "WAVE" {
		return fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	if err != nil {
		return err
	}
	known := false
	for {
		var chunk [8]byte
		if _, err := io.ReadFull(f.r, chunk[:]); err != nil {
			if err == io.EOF && known {
				return fmt.Errorf("%w: it has no samples (no data chunk)", ErrFormat)
			}
			return err
		}
		size := int64(binary.LittleEndian.Uint32(chunk[4:]))
		switch id := string(chunk[:4]); {
		case id == "data" && !known:
			return fmt.Errorf("%w: its samples come before their format", ErrFormat)
		case id == "data":
			return f.begin(size)
		case id == "fmt " && known:
			return fmt.Errorf("%w: it has two formats", ErrFormat)
		case id == "fmt ":
			if err := f.readFormat(size); err != nil {
				return err
			}
			known = true
		default:
			if _, err := io.CopyN(io.Discard, f.r, size+size%2); err != nil {
				return err
			}
		}
	}
}

// readFormat reads a chunk that describes the samples.
func (f *Reader) readFormat(size int64) error {
	if size < 16 {
		return fmt.Errorf("%w: its format has %d bytes", ErrFormat, size)
	}
	var b [40]byte
	n := min(size, int64(len(b)))
	if _, err := io.ReadFull(f.r, b[:n]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, f.r, size+size%2-n); err != nil {
		return err
	}
	le := binary.LittleEndian
	tag, align := le.Uint16(b[:]), int(le.Uint16(b[12:]))
	f.format = Format{Channels: int(le.Uint16(b[2:])), Rate: le.Uint32(b[4:]),
		Bits: int(le.Uint16(b[14:]))}
	if tag == tagExtensible {
		if n < int64(len(b)) || string(b[26:]) != guidTail {
			return fmt.Errorf("%w: its extended format is damaged, or one of no standard",
				ErrUnsupported)
		}
		if valid := int(le.Uint16(b[18:])); valid > f.format.Bits {
			return fmt.Errorf("%w: %d valid bits in samples of %d", ErrFormat, valid, f.format.Bits)
		}
		// A sample with fewer valid bits has them on top: it is read as one of all bits.
		f.format.Mask, tag = le.Uint32(b[20:]), le.Uint16(b[24:])
	}
	switch tag {
	case tagPCM:
	case tagFloat:
		f.format.Float = true
	default:
		return fmt.Errorf("%w: a WAVE file with compressed samples (format %#x); convert it to "+
			"PCM", ErrUnsupported, tag)
	}
	if err := f.format.check(); err != nil {
		return err
	}
	if align != f.format.frame() {
		return fmt.Errorf("%w: frames of %d bytes with %v", ErrFormat, align, f.format)
	}
	return nil
}

// begin prepares for a chunk of samples. Programs that write to a pipe cannot know its size, and
// leave the largest one there.
func (f *Reader) begin(size int64) error {
	frame := int64(f.format.frame())
	if size >= math.MaxUint32-frame {
		f.frames = -1
		return nil
	}
	if size%frame != 0 {
		return fmt.Errorf("%w: %d bytes of samples, in frames of %d", ErrFormat, size, frame)
	}
	f.frames = size / frame
	return nil
}

// Read reads frames to dst as little-endian float32 samples, as many as dst has room for, and
// returns their number. At the end it returns io.EOF, an error that matches [ErrUnsupported] if
// further samples follow the chunk that it has read, and an error that matches [ErrTruncated] if
// the file ends too early; the frames before that have been returned.
func (f *Reader) Read(dst []byte) (frames int, err error) {
	want := int64(len(dst) / (4 * f.format.Channels))
	if f.frames >= 0 {
		want = min(want, f.frames-f.done)
	}
	if want == 0 {
		if f.frames >= 0 && f.done == f.frames {
			return 0, f.readBehind()
		}
		return 0, nil
	}
	size := f.format.frame()
	if need := int(want) * size; len(f.buf) < need {
		f.buf = make([]byte, need)
	}
	n, err := io.ReadFull(f.r, f.buf[:int(want)*size])
	frames = n / size
	f.decode(dst, f.buf[:frames*size])
	f.done += int64(frames)
	f.torn = f.torn || n%size != 0
	switch {
	case err == nil || frames > 0 && (err == io.EOF || err == io.ErrUnexpectedEOF):
		return frames, nil // the next call finds the end again
	case err == io.EOF && f.frames < 0 && !f.torn:
		return 0, io.EOF
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return 0, fmt.Errorf("%w: %s", ErrTruncated, f.missing())
	}
	return frames, err
}

// readBehind reads what follows the samples, and returns io.EOF if none of it is sound: texts and
// pictures, or bytes that are no chunks, are of no use here.
func (f *Reader) readBehind() error {
	if f.behind {
		return io.EOF
	}
	for skip := f.frames * int64(f.format.frame()) % 2; ; {
		if _, err := io.CopyN(io.Discard, f.r, skip); err != nil {
			return f.endBehind(err)
		}
		var chunk [8]byte
		if _, err := io.ReadFull(f.r, chunk[:]); err != nil {
			return f.endBehind(err)
		}
		switch string(chunk[:4]) {
		case "data":
			return fmt.Errorf("%w: it has a second part of samples (data chunk) behind the first",
				ErrUnsupported)
		case "RIFF":
			return fmt.Errorf("%w: a second file follows the first", ErrUnsupported)
		}
		size := int64(binary.LittleEndian.Uint32(chunk[4:]))
		skip = size + size%2
	}
}

// endBehind returns how a file ends whose samples are complete.
func (f *Reader) endBehind(err error) error {
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	f.behind = true
	return io.EOF
}

func (f *Reader) missing() string {
	if f.frames < 0 {
		return fmt.Sprintf("it ends within frame %d", f.done)
	}
	return fmt.Sprintf("it has %d of %d frames", f.done, f.frames)
}

// decode writes the samples of src to dst as floats.
func (f *Reader) decode(dst, src []byte) {
	le := binary.LittleEndian
	put := func(x float32) {
		le.PutUint32(dst, math.Float32bits(x))
		dst = dst[4:]
	}
	switch {
	case f.format.Float:
		copy(dst, src)
	case f.format.Bits == 16:
		for ; len(src) > 0; src = src[2:] {
			put(float32(int16(le.Uint16(src))) / (1 << 15))
		}
	case f.format.Bits == 24:
		for ; len(src) > 0; src = src[3:] {
			v := int32(uint32(src[0])<<8 | uint32(src[1])<<16 | uint32(src[2])<<24)
			put(float32(v>>8) / (1 << 23))
		}
	default:
		for ; len(src) > 0; src = src[4:] {
			put(float32(float64(int32(le.Uint32(src))) / (1 << 31)))
		}
	}
}
