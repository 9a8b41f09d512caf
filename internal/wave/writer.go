package wave

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// A Writer writes a file.
type Writer struct {
	w       io.WriteSeeker
	buf     *bufio.Writer
	format  Format
	header  int
	bytes   int64
	clipped int64
	scratch []byte
}

// NewWriter begins a file at the position 0 of w. The file is complete when [Writer.Close] has
// returned nil. frames is how many are to come; 0 if that is not known.
func NewWriter(w io.WriteSeeker, format Format, frames int64) (*Writer, error) {
	if err := format.check(); err != nil {
		return nil, err
	}
	f := &Writer{w: w, buf: bufio.NewWriterSize(w, 256<<10), format: format}
	head := f.headerOf(0)
	f.header = len(head)
	if frames > f.room()/int64(format.frame()) {
		return nil, fmt.Errorf("%w: %d frames of %v are too many", ErrTooLong, frames, format)
	}
	_, err := f.buf.Write(head)
	return f, err
}

// room returns how many bytes of samples a file may have.
func (f *Writer) room() int64 { return math.MaxUint32 - int64(f.header) - 2 }

// headerOf returns the header of a file with so many bytes of samples.
func (f *Writer) headerOf(size int64) []byte {
	le, frame := binary.LittleEndian, f.format.frame()
	tag := uint16(tagPCM)
	if f.format.Float {
		tag = tagFloat
	}
	mask := f.format.Mask
	if mask == 0 && f.format.Channels < len(masks) {
		mask = masks[f.format.Channels]
	}
	// The standard asks for the extended form where readers could be in doubt.
	extended := f.format.Channels > 2 || f.format.Bits > 16 && !f.format.Float ||
		f.format.Mask != 0 && f.format.Mask != masks[min(f.format.Channels, len(masks)-1)]
	outer, length := tag, uint32(16)
	switch {
	case extended:
		outer, length = tagExtensible, 40
	case f.format.Float:
		length = 18
	}
	b := append([]byte(nil), "RIFF\x00\x00\x00\x00WAVEfmt "...)
	b = le.AppendUint32(b, length)
	b = le.AppendUint16(b, outer)
	b = le.AppendUint16(b, uint16(f.format.Channels))
	b = le.AppendUint32(b, f.format.Rate)
	b = le.AppendUint32(b, uint32(min(uint64(f.format.Rate)*uint64(frame), math.MaxUint32)))
	b = le.AppendUint16(b, uint16(frame))
	b = le.AppendUint16(b, uint16(f.format.Bits))
	switch {
	case extended:
		b = le.AppendUint16(b, 22)
		b = le.AppendUint16(b, uint16(f.format.Bits))
		b = le.AppendUint32(b, mask)
		b = le.AppendUint16(b, tag)
		b = append(b, guidTail...)
	case f.format.Float:
		b = le.AppendUint16(b, 0)
	}
	if f.format.Float { // which the standard asks of all that is not plain PCM
		b = append(b, "fact\x04\x00\x00\x00"...)
		b = le.AppendUint32(b, uint32(size/int64(frame)))
	}
	b = append(b, "data"...)
	b = le.AppendUint32(b, uint32(size))
	le.PutUint32(b[4:], uint32(int64(len(b))-8+size+size%2))
	return b
}

// Write writes little-endian float32 samples. Integers are rounded to the nearest one; samples that
// they cannot hold are clipped and counted.
func (f *Writer) Write(samples []byte) error {
	n := len(samples) / 4 * f.format.Bits / 8
	if f.bytes+int64(n) > f.room() {
		return fmt.Errorf("%w: write it in parts", ErrTooLong)
	}
	if cap(f.scratch) < n {
		f.scratch = make([]byte, n)
	}
	out := f.scratch[:n]
	f.encode(out, samples)
	written, err := f.buf.Write(out)
	f.bytes += int64(written)
	return err
}

func (f *Writer) encode(dst, src []byte) {
	le := binary.LittleEndian
	if f.format.Float {
		copy(dst, src)
		return
	}
	size := f.format.Bits / 8
	one := float64(int64(1) << (f.format.Bits - 1))
	for ; len(src) >= 4; src, dst = src[4:], dst[size:] {
		x := math.RoundToEven(float64(math.Float32frombits(le.Uint32(src))) * one)
		switch {
		case x != x:
			x = 0
			f.clipped++
		case x > one-1 || x < -one:
			// The loudest sample, 1, is one step more than an integer holds: not worth a count.
			if x != one {
				f.clipped++
			}
			x = max(-one, min(x, one-1))
		}
		v := uint32(int32(x))
		dst[0], dst[1] = byte(v), byte(v>>8)
		if size > 2 {
			dst[2] = byte(v >> 16)
		}
		if size > 3 {
			dst[3] = byte(v >> 24)
		}
	}
}

// Clipped returns the number of samples that integers could not hold.
func (f *Writer) Clipped() int64 { return f.clipped }

// Close writes what is left, and completes the header. It does not close the writer below.
func (f *Writer) Close() error {
	if f.bytes%2 != 0 {
		if err := f.buf.WriteByte(0); err != nil {
			return err
		}
	}
	if err := f.buf.Flush(); err != nil {
		return err
	}
	if _, err := f.w.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := f.w.Write(f.headerOf(f.bytes)); err != nil {
		return err
	}
	_, err := f.w.Seek(0, io.SeekEnd)
	return err
}
