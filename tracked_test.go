package ipcgen

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// largestTracked is how many bytes a file of the repository may have: everybody who clones it, and
// every module proxy, fetches them all.
const largestTracked = 1 << 20

// TestHouseTracked checks that the repository has sources alone: no program that somebody has built
// in a folder and committed with it, and nothing that is large. Where there is no repository, as in
// the module cache, there is nothing that was committed by mistake.
func TestHouseTracked(t *testing.T) {
	if _, err := os.Stat(".git"); err != nil {
		t.Skip("not a clone: ", err)
	}
	out, err := exec.Command("git", "ls-files", "-s", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	entries := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(entries) < 1000 {
		t.Fatalf("%d files are tracked", len(entries))
	}
	for _, entry := range entries {
		about, name, _ := strings.Cut(entry, "\t")
		info, err := os.Lstat(name)
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > largestTracked {
			t.Errorf("%s: %d bytes, at most %d", name, info.Size(), largestTracked)
		}
		if strings.HasPrefix(about, "100755") && !bytes.Equal(beginning(t, name, 2), []byte("#!")) {
			t.Errorf("%s: a file that can be executed, and no script", name)
		}
	}
}

// beginning returns the first n bytes of a file, or all that it has.
func beginning(t *testing.T, name string, n int64) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
