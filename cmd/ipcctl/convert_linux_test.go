package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const monsterSchema = `
include "part.fbs";
namespace game;
enum Color: byte { Red, Green, Blue }
table Monster { name: string (required); hp: short = 100; color: Color = Blue; parts: [Part]; }
table Other { x: int; }
root_type Monster;
`

// newSchema writes a schema that includes another one in the folder inc, and returns its path.
func newSchema(t *testing.T) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("inc", 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, "monster.fbs", monsterSchema)
	write(t, filepath.Join("inc", "part.fbs"), "namespace game; table Part { size: float; }")
	return "monster.fbs"
}

func convert(args ...string) []string {
	return append([]string{"convert", "-schema", "monster.fbs", "-I", "inc"}, args...)
}

const orc = `{
  "name": "Orc",
  "hp": 80,
  "color": "Red",
  "parts": [
    {
      "size": 0.1
    }
  ]
}
`

func TestConvert(t *testing.T) {
	newSchema(t)
	write(t, "orc.json", orc)
	expect(t, 0, "", "", "", convert("orc.json", "orc.bin")...)
	expect(t, 0, orc, "", "", convert("orc.bin", "-")...)
	expect(t, 0, `{"name":"Orc","hp":80,"color":"Red","parts":[{"size":0.1}]}`+"\n", "", "",
		convert("-indent", "0", "orc.bin", "-")...)

	// By standard input and output, with a length in front, by a binary schema, another type.
	_, buf, _ := ipcctl(t, orc, convert("-", "-")...)
	if file, err := os.ReadFile("orc.bin"); err != nil || string(file) != buf {
		t.Errorf("standard output is not what the file is: %v", err)
	}
	expect(t, 0, orc, "", buf, convert("-", "-")...)
	_, sized, _ := ipcctl(t, orc, convert("-size-prefixed", "-", "-")...)
	if len(sized) != len(buf)+4 || sized[4:] != buf {
		t.Errorf("with its length in front: %q", sized)
	}
	expect(t, 0, orc, "", sized, convert("-size-prefixed", "-", "-")...)
	expect(t, 1, "", "not the length", buf, convert("-size-prefixed", "-", "-")...)
	expect(
		t,
		0,
		"{\n  \"x\": 3\n}\n",
		"",
		"\x0c\x00\x00\x00\x00\x00\x06\x00\x08\x00\x04\x00\x06\x00"+
			"\x00\x00\x03\x00\x00\x00",
		convert("-type", "game.Other", "-", "-")...)
	_, small, _ := ipcctl(t, `{name: "x"}`, convert("-", "-")...)
	expect(t, 0, `"hp": 100`, "", small, convert("-defaults", "-", "-")...)
	expect(t, 1, "", "shorter than any message", `{name: "x"}`, convert("-to", "json", "-", "-")...)
}

// TestConvertAgain checks that out has the mode, the target of a link and the neighbours that it
// had, and that devices are written to.
func TestConvertAgain(t *testing.T) {
	newSchema(t)
	write(t, "old.bin", "old")
	if err := os.Chmod("old.bin", 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("old.bin", "link.bin"); err != nil {
		t.Fatal(err)
	}
	expect(t, 0, "", "", orc, convert("-", "link.bin")...)
	info, err := os.Lstat("old.bin")
	if err != nil || info.Mode() != 0o640 || info.Size() == 3 {
		t.Errorf("the target of the link: %v, %v", info, err)
	}
	if info, err := os.Lstat("link.bin"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	expect(t, 0, "", "", orc, convert("-", os.DevNull)...)
	expect(t, 1, "", "no space left on device", orc, convert("-", "/dev/full")...)
	if left, _ := filepath.Glob("*.tmp"); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

// TestConvertErrors checks that each error names what is wrong, and that out is as before.
func TestConvertErrors(t *testing.T) {
	newSchema(t)
	write(t, "out", "before")
	_, buf, _ := ipcctl(t, orc, convert("-", "-")...)
	for want, c := range map[string]struct {
		in   string
		args []string
	}{
		`standard input:3:8: parts[1]: the table game.Part has no field "siz"`: {
			"{name: \"x\",\n parts: [{}, {\n       siz: 1}]}", convert("-", "out")},
		"shorter than any message":            {buf[:10], convert("-", "out")},
		"more than 5 bytes; -max-size":        {orc, convert("-max-size", "5", "-", "out")},
		"did you mean game.Monster?":          {orc, convert("-type", "game.Monstr", "-", "out")},
		"no_such.json: no such file":          {orc, convert("no_such.json", "out")},
		"no_such/out":                         {orc, convert("-", "no_such/out")},
		"is a directory":                      {orc, convert("inc", "out")},
		"required field name of game.Monster": {"{}", convert("-", "out")},
		"part.fbs": {orc,
			[]string{"convert", "-schema", "monster.fbs", "-", "out"}},
		"declares no root_type; name a table:": {orc,
			[]string{"convert", "-schema", "inc/part.fbs", "-", "out"}},
	} {
		code, out, errOut := ipcctl(t, c.in, c.args...)
		if code != 1 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%q: status %d, printed %q and %q\nwant %s", c.args, code, out, errOut, want)
		}
		if text, err := os.ReadFile("out"); err != nil || string(text) != "before" {
			t.Fatalf("%q: out is %q, %v", c.args, text, err)
		}
	}
}

// TestConvertKilled kills conversions at all moments: out is what it was, or whole.
func TestConvertKilled(t *testing.T) {
	newSchema(t)
	var big bytes.Buffer
	big.WriteString(`{name: "x", parts: [`)
	for i := range 100_000 {
		fmt.Fprintf(&big, "{size: %d},", i)
	}
	big.WriteString("]}")
	write(t, "big.json", big.String())
	expect(t, 0, "", "", "", convert("big.json", "whole")...)
	whole, err := os.ReadFile("whole")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for size := range 12 {
		write(t, "out", "before")
		cmd := exec.Command(os.Args[0], convert("big.json", "out")...)
		cmd.Env = append(os.Environ(), childEnv+"=ipcctl")
		// The kernel ends the process at a byte of the output.
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", limitEnv, size*len(whole)/10))
		if err := cmd.Run(); err != nil {
			killed++
		}
		text, err := os.ReadFile("out")
		if err != nil || string(text) != "before" && !bytes.Equal(text, whole) {
			t.Fatalf("out has %d bytes, %v", len(text), err)
		}
	}
	if killed == 0 || killed == 12 {
		t.Errorf("%d of 12 were killed", killed)
	}
}

// limitEnv is the size of the largest file that the process may write, whereupon it dies.
const limitEnv = "IPCCTL_TEST_LIMIT"

func init() {
	var n uint64
	if _, err := fmt.Sscan(os.Getenv(limitEnv), &n); err == nil {
		_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n})
	}
}
