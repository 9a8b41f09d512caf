package ipcgen

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A block is a fenced block of a page and the text before it.
type block struct {
	before string // the paragraph above
	lang   string
	text   string
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// typed has the sections of pages that tell a reader what to type, by their headings.
var typed = map[string]string{
	"README.md":     "A new protocol in five minutes",
	"docs/audio.md": "Build your own",
}

// section returns the blocks below the heading of a page that tells what to type.
func section(t *testing.T, page string) []block {
	t.Helper()
	_, text, found := strings.Cut(read(t, page), "\n## "+typed[page]+"\n")
	if !found {
		t.Fatalf("%s has no section %q", page, typed[page])
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []block
	last := 0
	for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
		paragraphs := strings.Split(strings.TrimSpace(text[last:m[0]]), "\n\n")
		blocks = append(blocks,
			block{paragraphs[len(paragraphs)-1], text[m[2]:m[3]], text[m[4]:m[5]]})
		last = m[1]
	}
	return blocks
}

var fileName = regexp.MustCompile("in\\s`([^`]+)`:$")

// TestReadmeProtocol does what README.md tells a new user to do.
func TestReadmeProtocol(t *testing.T) { follow(t, "README.md", 7) }

// TestAudioModule does what docs/audio.md tells those to do who want a crash not to be heard.
func TestAudioModule(t *testing.T) { follow(t, "docs/audio.md", 7) }

// follow does what a page tells, word for word, in an empty folder beside a clone, and compares
// what each command prints.
func follow(t *testing.T, page string, commands int) {
	if testing.Short() {
		t.Skip("builds a module from nothing")
	}
	clone, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	beside := t.TempDir()
	if err := os.Symlink(clone, filepath.Join(beside, "ipcgen")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(beside, "hello")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "IPCGEN_DOMAIN="+filepath.Join(beside, "domain"),
		"GOFLAGS=", "GOWORK=off")
	ran := 0
	for _, b := range section(t, page) {
		if m := fileName.FindStringSubmatch(b.before); m != nil {
			path := filepath.Join(dir, m[1])
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(b.text), 0o666); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if b.lang != "console" {
			t.Fatalf("a block in %s that is neither a file nor a console:\n%s", b.lang, b.text)
		}
		for _, c := range strings.Split("\n"+b.text, "\n$ ")[1:] {
			line, want, _ := strings.Cut(strings.TrimSuffix(c, "\n"), "\n")
			if want != "" {
				want += "\n"
			}
			cmd := exec.Command("sh", "-c", "exec "+line)
			cmd.Dir, cmd.Env = dir, env
			if strings.Contains(b.before, "one terminal") {
				background(t, cmd, want)
			} else {
				var out, errOut bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errOut
				if err := cmd.Run(); err != nil {
					t.Fatalf("$ %s\n%v\n%s%s", line, err, out.String(), errOut.String())
				}
				if out.String() != want {
					t.Errorf("$ %s\nprinted:\n%swant:\n%s", line, out.String(), want)
				}
			}
			ran++
		}
	}
	if ran != commands {
		t.Errorf("%d commands ran, want %d", ran, commands)
	}
}

// background starts a command that goes on, waits until it has printed want,
// and ends it by Ctrl-C when the test is over.
func background(t *testing.T, cmd *exec.Cmd, want string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	interrupt := sync.OnceFunc(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) })
	watchdog := time.AfterFunc(5*time.Minute, interrupt)
	t.Cleanup(func() {
		watchdog.Stop()
		interrupt()
		io.Copy(io.Discard, out)
		// go run reports the signal as its own failure; the server's own words
		// would stand on standard error.
		cmd.Wait()
		if text := strings.TrimSpace(errOut.String()); text != "" && text != "signal: interrupt" {
			t.Errorf("%v said %q", cmd, text)
		}
	})
	got := make([]byte, len(want))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != want {
		t.Fatalf("%v printed %q (%v), want %q", cmd, got, err, want)
	}
}
