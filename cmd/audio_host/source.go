package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/wave"
)

// A source is where sound comes from.
type source interface {
	// Read reads as many frames as dst has room for, fewer at the end, and io.EOF behind it.
	Read(dst []byte) (frames int, err error)
	Format() wave.Format
	Frames() int64 // -1: not known
	Close() error
}

// A song is a file.
type song struct {
	*wave.Reader
	f    *os.File
	done int64
}

func openSong(ctx context.Context, path string) (*song, error) {
	// A named pipe blocks until it has a writer, and each read of it until the writer writes.
	f, err := leaving(ctx, func() (*os.File, error) { return os.Open(path) })
	if err != nil {
		return nil, err
	}
	r, err := openWave(ctx, f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &song{Reader: r, f: f}, nil
}

func openWave(ctx context.Context, f *os.File) (*wave.Reader, error) {
	var from io.Reader = f
	switch info, err := f.Stat(); {
	case err == nil && info.IsDir():
		return nil, errors.New("it is a directory")
	case err != nil || !info.Mode().IsRegular():
		from = slowReader{ctx, f}
	}
	r, err := wave.NewReader(from)
	if err != nil {
		return nil, err
	}
	if err := dsp.CheckFormat(int64(r.Format().Rate), r.Format().Channels); err != nil {
		return nil, err
	}
	if r.Frames() == 0 {
		return nil, errors.New("its header says that it has no samples")
	}
	return r, nil
}

// A slowReader reads from what may block without end.
type slowReader struct {
	ctx context.Context
	r   io.Reader
}

func (s slowReader) Read(p []byte) (int, error) {
	b, err := leaving(s.ctx, func() ([]byte, error) {
		b := make([]byte, len(p)) // p belongs to others when ctx has ended
		n, err := s.r.Read(b)
		return b[:n], err
	})
	return copy(p, b), err
}

// Read is that of the file, and refuses samples that are no sound.
func (s *song) Read(dst []byte) (int, error) {
	frames, err := s.Reader.Read(dst)
	if s.Format().Float {
		channels := s.Format().Channels
		for i := range frames * channels {
			x := math.Float32frombits(binary.LittleEndian.Uint32(dst[4*i:]))
			if x-x != 0 {
				frame := s.done + int64(i/channels)
				return 0, fmt.Errorf("%s: the sample of channel %d at %v (frame %d) is %v; repair "+
					"the file", s.f.Name(), i%channels+1, timeOf(frame, s.Format().Rate), frame, x)
			}
		}
	}
	s.done += int64(frames)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", s.f.Name(), err)
	}
	return frames, err
}

func (s *song) Close() error { return s.f.Close() }

// timeOf returns the time of a frame.
func timeOf(frame int64, rate uint32) time.Duration {
	return time.Duration(float64(frame) / float64(rate) * float64(time.Second)).Round(
		time.Microsecond)
}

// A sweep is a sine whose pitch rises from 20 Hz to 20 kHz or a little below half the rate, by the
// same number of octaves each second.
type sweep struct {
	format     wave.Format
	frames, at int64
	phase      float64 // in turns
}

// sweepLevel leaves room for the resonance of the filter.
const sweepLevel = 0.25

func newSweep(rate uint32, channels int, length time.Duration) *sweep {
	return &sweep{format: wave.Format{Rate: rate, Channels: channels, Bits: 32, Float: true},
		frames: frameOf(length, rate)}
}

func (s *sweep) Format() wave.Format { return s.format }
func (s *sweep) Frames() int64       { return s.frames }
func (s *sweep) Close() error        { return nil }

func (s *sweep) Read(dst []byte) (frames int, err error) {
	if s.at == s.frames {
		return 0, io.EOF
	}
	const lowest = 20.0
	octaves := math.Log2(min(20_000, 0.45*float64(s.format.Rate)) / lowest)
	for len(dst) >= 4*s.format.Channels && s.at < s.frames {
		x := float32(sweepLevel * math.Sin(2*math.Pi*s.phase))
		for range s.format.Channels {
			binary.LittleEndian.PutUint32(dst, math.Float32bits(x))
			dst = dst[4:]
		}
		hz := lowest * math.Exp2(octaves*float64(s.at)/float64(s.frames))
		_, s.phase = math.Modf(s.phase + hz/float64(s.format.Rate))
		s.at++
		frames++
	}
	return frames, nil
}
