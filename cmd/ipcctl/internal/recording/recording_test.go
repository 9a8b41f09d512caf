package recording

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// sample writes a recording of some calls.
func sample(t testing.TB, calls, length int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic := &Topic{Source: "s", Kind: Request, Protocol: "p.P", Method: "M", Table: "p.T",
		Definition: []byte("no schema")}
	for i := range calls {
		n := w.NextCall()
		if err := errors.Join(w.WriteBody(topic, n, int64(i+1), make([]byte, length)),
			w.WriteCall("s", n, int64(i+1), &Call{Method: "p.P.M", Kind: KindCall, Code: "ok"}),
			w.WriteEvent("s", uint64(i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func save(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.mcap")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRoundTrip reads what a Writer has written, in several chunks.
func TestRoundTrip(t *testing.T) {
	const calls = 5000
	path := save(t, sample(t, calls, 1000))
	c, err := Scan(path)
	if err != nil || c.Cut != nil {
		t.Fatal(c, err)
	}
	s := c.Sources["s"]
	m := s.Methods["p.P.M"]
	if m.Requests != calls || m.Ended != calls || m.Open() != 0 || s.Lost != calls-1 ||
		len(s.Topics) != 1 || string(s.Topics[0].Definition) != "no schema" || c.First != 1 {
		t.Errorf("%+v, %+v", s, m)
	}
}

// A brokenDisk takes so many bytes.
type brokenDisk struct{ left int }

var errDisk = errors.New("the disk is broken")

func (d *brokenDisk) Write(b []byte) (int, error) {
	if len(b) > d.left {
		return d.left, errDisk
	}
	d.left -= len(b)
	return len(b), nil
}

// TestWriteFails checks that the error of a disk is kept, and nothing is written after it.
func TestWriteFails(t *testing.T) {
	w, err := NewWriter(&brokenDisk{1 << 10}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic := &Topic{Source: "s", Kind: Message, Protocol: "p.P", Method: "M", Table: "p.T"}
	for err == nil {
		err = w.WriteBody(topic, w.NextCall(), 1, make([]byte, 1000))
	}
	again := w.WriteEvent("s", 1, nil)
	if !errors.Is(err, errDisk) || !errors.Is(again, errDisk) {
		t.Errorf("%v, and then %v", err, again)
	}
	w.Close()
	if err := w.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

// TestDiskFails cuts a file whose disk fails in the middle of a chunk at the end of the last one.
func TestDiskFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.mcap")
	w, err := Create(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic := &Topic{Source: "s", Kind: Message, Protocol: "p.P", Method: "M", Table: "p.T"}
	write := func() error { return w.WriteBody(topic, w.NextCall(), 1, make([]byte, 1<<20)) }
	for range 3 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	good := w.Totals().Bytes
	out := w.out.(*fileOutput)
	f := out.f
	defer f.Close()
	read, err := os.Open(path) // does not take writes
	if err != nil {
		t.Fatal(err)
	}
	out.f = read
	for err == nil {
		err = write()
	}
	if !errors.Is(err, os.ErrPermission) && !strings.Contains(err.Error(), "bad file descriptor") {
		t.Fatal(err)
	}
	w.Close()
	c, err := Scan(path)
	if err != nil || c.Cut == nil || c.Sources["s"].Methods["p.P.M"].Requests != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != good {
		t.Errorf("%d bytes instead of %d, %v", info.Size(), good, err)
	}
}

// FuzzReader reads what anybody may have written.
func FuzzReader(f *testing.F) {
	whole := sample(f, 3, 10)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(sample(f, 3, 2000))
	// An open chunk, as other programs write them.
	plain := bytes.ReplaceAll(whole, []byte("zstd"), []byte("lz4\x00"))
	f.Add(plain)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "f.mcap")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Scan(path)
		runtime.ReadMemStats(&after)
		// A chunk of a few bytes can stand for many zeros, up to the limit of a chunk.
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*maxChunk+1000*uint64(len(data)) {
			t.Errorf("%d bytes were allocated for %d", n, len(data))
		}
		var file *FileError
		if err != nil && !errors.As(err, &file) {
			t.Errorf("not an error of the file: %v", err)
		}
		r, err := Open(path)
		if err != nil {
			return
		}
		defer r.Close()
		for err == nil {
			_, err = r.Next()
		}
		if _, again := r.Next(); again != err {
			t.Errorf("%v, and then %v", err, again)
		}
		if err != io.EOF && !errors.As(err, &file) {
			t.Errorf("not an error of the file: %v", err)
		}
	})
}
