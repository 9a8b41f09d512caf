package wave_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/wave"
)

// write returns a file with these samples.
func write(t testing.TB, f wave.Format, samples []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.wav")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w, err := wave.NewWriter(file, f, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(samples); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// read reads all samples of a file, in pieces.
func read(file []byte) (f wave.Format, samples []byte, err error) {
	r, err := wave.NewReader(bytes.NewReader(file))
	if err != nil {
		return f, nil, err
	}
	buf := make([]byte, 4*r.Format().Channels*7)
	for {
		n, err := r.Read(buf)
		samples = append(samples, buf[:4*n*r.Format().Channels]...)
		if err == io.EOF {
			return r.Format(), samples, nil
		}
		if err != nil {
			return r.Format(), samples, err
		}
	}
}

func pack(samples ...float64) (b []byte) {
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(s)))
	}
	return b
}

// formats are all that the package can do, with up to eight channels.
func formats() (all []wave.Format) {
	for channels := 1; channels <= 8; channels++ {
		for _, bits := range []int{16, 24, 32} {
			all = append(all, wave.Format{Rate: 44_100, Channels: channels, Bits: bits})
		}
		all = append(all, wave.Format{Rate: 96_000, Channels: channels, Bits: 32, Float: true})
	}
	return all
}

// TestRoundTrip writes and reads in every format: samples that the format can hold come back.
func TestRoundTrip(t *testing.T) {
	for _, f := range formats() {
		var samples []byte
		for n := range 25 * f.Channels {
			samples = append(samples, pack(float64(n*n%200-100)/128)...)
		}
		got, back, err := read(write(t, f, samples))
		got.Mask = 0
		if err != nil || got != f || !bytes.Equal(back, samples) {
			t.Errorf("%v: read %v, %d bytes, %v", f, got, len(back), err)
		}
	}
}

// TestBytes compares files with what the standard says of them, byte by byte.
func TestBytes(t *testing.T) {
	for name, c := range map[string]struct {
		f       wave.Format
		samples []byte
		want    string
	}{
		"16 bit": {wave.Format{Rate: 8_000, Channels: 1, Bits: 16}, pack(0.5, -1, 1, 7),
			"RIFF\x2c\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00" +
				"\x80\x3e\x00\x00\x02\x00\x10\x00data\x08\x00\x00\x00" +
				"\x00\x40\x00\x80\xff\x7f\xff\x7f"},
		"24 bit, extended, padded": {wave.Format{Rate: 8_000, Channels: 1, Bits: 24}, pack(-0.5),
			"RIFF\x40\x00\x00\x00WAVEfmt \x28\x00\x00\x00\xfe\xff\x01\x00\x40\x1f\x00\x00" +
				"\xc0\x5d\x00\x00\x03\x00\x18\x00\x16\x00\x18\x00\x04\x00\x00\x00" +
				"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71" +
				"data\x03\x00\x00\x00\x00\x00\xc0\x00"},
		"float": {wave.Format{Rate: 8_000, Channels: 1, Bits: 32, Float: true}, pack(1),
			"RIFF\x36\x00\x00\x00WAVEfmt \x12\x00\x00\x00\x03\x00\x01\x00\x40\x1f\x00\x00" +
				"\x00\x7d\x00\x00\x04\x00\x20\x00\x00\x00fact\x04\x00\x00\x00\x01\x00\x00\x00" +
				"data\x04\x00\x00\x00\x00\x00\x80\x3f"},
	} {
		if got := write(t, c.f, c.samples); string(got) != c.want {
			t.Errorf("%s:\n% x\nwant\n% x", name, got, c.want)
		}
	}
}

// TestBadFiles reads files that are none, or not whole.
func TestBadFiles(t *testing.T) {
	good := string(write(t, wave.Format{Rate: 8_000, Channels: 2, Bits: 16}, pack(1, 2, 3, 4)))
	set := func(at int, bytes string) string { return good[:at] + bytes + good[at+len(bytes):] }
	for name, c := range map[string]struct {
		file  string
		want  error
		named string
	}{
		"empty":              {"", wave.ErrFormat, "empty"},
		"text":               {"This is a letter to nobody.", wave.ErrFormat, "begin"},
		"a flac":             {"fLaC\x00\x00\x00\x22aaaaaaaa", wave.ErrUnsupported, "FLAC"},
		"an mp3":             {"ID3\x03", wave.ErrUnsupported, "MP3"},
		"an RF64":            {"RF64" + good[4:], wave.ErrUnsupported, "RF64"},
		"a header":           {good[:20], wave.ErrFormat, "header"},
		"no data":            {good[:36], wave.ErrFormat, "data"},
		"cut short":          {good[:len(good)-4], wave.ErrTruncated, "1 of 2"},
		"cut within a frame": {good[:len(good)-1], wave.ErrTruncated, "1 of 2"},
		"samples first":      {good[:12] + good[36:], wave.ErrFormat, "before"},
		"no rate":            {set(24, "\x00\x00\x00\x00"), wave.ErrFormat, "rate"},
		"no channels":        {set(22, "\x00\x00"), wave.ErrFormat, "channels"},
		"8 bit":              {set(32, "\x02\x00\x08\x00"), wave.ErrUnsupported, "8 bits"},
		"compressed":         {set(20, "\x11\x00"), wave.ErrUnsupported, "compressed"},
		"frames that differ": {set(32, "\x05\x00"), wave.ErrFormat, "5 bytes"},
		"half a frame":       {set(40, "\x06\x00\x00\x00"), wave.ErrFormat, "6 bytes"},
		"a huge chunk":       {good[:12] + "LIST\xff\xff\xff\xff", wave.ErrFormat, "header"},
		"a short format":     {set(16, "\x02\x00\x00\x00"), wave.ErrFormat, "2 bytes"},
		"extended, damaged":  {set(20, "\xfe\xff"), wave.ErrUnsupported, "extended"},
		"more samples":       {good + good[36:], wave.ErrUnsupported, "second part"},
		"more, behind texts": {good + "LIST\x03\x00\x00\x00abc\x00" + good[36:],
			wave.ErrUnsupported, "second part"},
		"two files": {good + good, wave.ErrUnsupported, "second file"},
	} {
		_, _, err := read([]byte(c.file))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.named) {
			t.Errorf("%s: %v, want %v and %q", name, err, c.want, c.named)
		}
	}
}

// TestUnknownLength reads what a program has written to a pipe, and chunks that are of no interest.
func TestUnknownLength(t *testing.T) {
	good := string(write(t, wave.Format{Rate: 8_000, Channels: 1, Bits: 16}, pack(0.5, 0.25)))
	piped := good[:12] + "LIST\x03\x00\x00\x00abc\x00" + good[12:40] +
		"\xff\xff\xff\xff" + good[44:]
	if _, samples, err := read([]byte(piped)); err != nil || !bytes.Equal(samples,
		pack(0.5, 0.25)) {
		t.Errorf("read % x, %v", samples, err)
	}
	if _, _, err := read([]byte(piped[:len(piped)-1])); !errors.Is(err, wave.ErrTruncated) {
		t.Errorf("half a sample at the end: %v", err)
	}
}

// TestBehind reads files with all that may come behind the samples and is no sound.
func TestBehind(t *testing.T) {
	f := wave.Format{Rate: 8_000, Channels: 1, Bits: 24}
	good := string(write(t, f, pack(0.5)))
	for _, behind := range []string{"LIST\x04\x00\x00\x00abcd", "LIST\xff\xff\xff\xffabc", "LI",
		"ID3 and the like"} {
		if _, samples, err := read([]byte(good + behind)); err != nil ||
			!bytes.Equal(samples, pack(0.5)) {
			t.Errorf("with %q behind: % x, %v", behind, samples, err)
		}
	}
	const chunk = 8 + 3 + 1
	_, _, err := read([]byte(good + good[len(good)-chunk:]))
	if !errors.Is(err, wave.ErrUnsupported) {
		t.Errorf("samples behind an odd number of bytes: %v", err)
	}
}

// TestTooLong begins a file that WAVE cannot hold.
func TestTooLong(t *testing.T) {
	f := wave.Format{Rate: 48_000, Channels: 8, Bits: 32, Float: true}
	if _, err := wave.NewWriter(nil, f, 1<<27); !errors.Is(err, wave.ErrTooLong) {
		t.Errorf("4 GiB of samples: %v", err)
	}
}

// FuzzReader reads any bytes: it ends without a panic, and what it reads can be written and read.
func FuzzReader(f *testing.F) {
	for _, format := range formats()[:8] {
		f.Add(write(f, format, pack(0.5, -0.5, 1, 0)))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		format, samples, err := read(file)
		if len(samples) > 4*len(file) {
			t.Fatalf("%d bytes of samples from %d", len(samples), len(file))
		}
		if err != nil {
			return
		}
		again, back, err := read(write(t, format, samples))
		if again.Mask = format.Mask; err != nil || again != format || len(back) != len(samples) {
			t.Fatalf("%v became %v, %d bytes %d: %v", format, again, len(samples), len(back), err)
		}
	})
}
