// Package wave reads and writes WAVE files as interleaved float32 samples: integers of 16, 24 and
// 32 bits and floats of 32 bits, in any number of channels. A [Reader] reads from a stream and
// trusts nothing that the file says; a [Writer] completes the header when it is closed.
//
// The project has a package of its own because none of the libraries that can be had reads all of
// these: github.com/go-audio/wav v1.1.0 ignores the format tag and decodes floats as integers,
// allocates what the size of a chunk says, and writes no WAVE_FORMAT_EXTENSIBLE.
package wave

import (
	"errors"
	"fmt"
)

// A Format is what the samples of a file are.
type Format struct {
	Rate     uint32 // frames per second
	Channels int
	Bits     int // of a sample, 16, 24 or 32
	Float    bool
	// Mask has a bit for the loudspeaker of each channel, in the order of the channels; 0 is the
	// usual order of so many channels.
	Mask uint32
}

// Errors of files. An error of this package matches one of them, or comes from the reader or writer
// below.
var (
	// ErrFormat means that the file is not a WAVE file, or damaged.
	ErrFormat = errors.New("not a valid WAVE file")
	// ErrUnsupported means that the file is a sound file of a kind that this package does not read.
	ErrUnsupported = errors.New("unsupported kind of file")
	// ErrTruncated means that the file ends before the samples that its header announces.
	ErrTruncated = errors.New("the file is cut short")
	// ErrTooLong means that a file would not fit the 32 bits that WAVE has for its size.
	ErrTooLong = errors.New("a WAVE file holds 4 GiB at most")
)

// mostChannels is the number of channels beyond which a header is taken to be damaged.
const mostChannels = 1024

// check returns an error that says what is wrong with the format.
func (f Format) check() error {
	switch {
	case f.Rate == 0:
		return fmt.Errorf("%w: a sample rate of 0", ErrFormat)
	case f.Channels < 1 || f.Channels > mostChannels:
		return fmt.Errorf("%w: %d channels", ErrFormat, f.Channels)
	case f.Float && f.Bits != 32:
		return fmt.Errorf("%w: floats of %d bits; convert them to 32", ErrUnsupported, f.Bits)
	case f.Bits != 16 && f.Bits != 24 && f.Bits != 32:
		return fmt.Errorf("%w: samples of %d bits; convert them to 16, 24 or 32", ErrUnsupported,
			f.Bits)
	}
	return nil
}

// String returns the format for people, such as "48000 Hz, 2 channels, 24 bit".
func (f Format) String() string {
	plural, kind := "s", ""
	if f.Channels == 1 {
		plural = ""
	}
	if f.Float {
		kind = " float"
	}
	return fmt.Sprintf("%d Hz, %d channel%s, %d bit%s", f.Rate, f.Channels, plural, f.Bits, kind)
}

// frame returns the length of a frame in the file.
func (f Format) frame() int { return f.Channels * f.Bits / 8 }

// Tags of formats.
const (
	tagPCM        = 1
	tagFloat      = 3
	tagExtensible = 0xFFFE
)

// guidTail follows the tag in the identifier of a format of WAVE_FORMAT_EXTENSIBLE.
const guidTail = "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"

// masks has the usual loudspeakers, by the number of channels.
var masks = [...]uint32{1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
