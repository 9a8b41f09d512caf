package stage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/stage"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777),
		os.WriteFile(path, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if want == "" {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %q, %v", path, got, err)
		}
	} else if string(got) != want {
		t.Errorf("%s holds %q, want %q (%v)", path, got, want, err)
	}
}

// TestAFailureUndoesAll has the last of several steps fail, and finds all as it was.
func TestAFailureUndoesAll(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("changed"), "old")
	write(t, at("gone/away"), "old")
	was, err := os.Stat(at("changed"))
	if err != nil {
		t.Fatal(err)
	}
	c := stage.New(dir)
	err = errors.Join(c.Write(at("changed"), []byte("new")),
		c.Write(at("made/deep/new"), []byte("new")),
		c.Write(at("zzz"), []byte("new")), c.Remove(at("gone/away")))
	if err != nil {
		t.Fatal(err)
	}
	// What comes in between: a folder in the place of a file.
	write(t, at("zzz/file"), "mine")
	if err := c.Commit(); err == nil || !strings.Contains(err.Error(), "zzz") {
		t.Errorf("the error is %v", err)
	}
	if sig := c.Close(); sig != nil {
		t.Errorf("a signal: %v", sig)
	}
	holds(t, at("changed"), "old")
	holds(t, at("gone/away"), "old")
	holds(t, at("zzz/file"), "mine")
	holds(t, at("made"), "")
	holds(t, at(stage.Folder), "")
	if is, err := os.Stat(at("changed")); err != nil || !os.SameFile(was, is) {
		t.Error("the file that came back is a copy")
	}
}

// TestNothingIsTouchedBeforeCommit looks at the folder before it, and after a change
// that was not committed.
func TestNothingIsTouchedBeforeCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(dir, "sub", "file")
	c := stage.New(dir)
	if c.Close(); c.Abandoned() {
		t.Error("a change without anything in it left something")
	}
	c = stage.New(dir)
	if err := c.Write(file, []byte("text")); err != nil {
		t.Fatal(err)
	}
	holds(t, file, "")
	c.Close()
	holds(t, dir, "")

	c = stage.New(dir)
	if err := c.Write(file, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	holds(t, file, "text")

	c = stage.New(dir)
	if err := errors.Join(c.Remove(file), c.Commit()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	holds(t, filepath.Dir(file), "")
}
