package group_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/group"
)

// childTalker writes lines in pieces, then is a bare replica.
func childTalker(args []string) error {
	for i := range 3 {
		fmt.Print("out ", i)
		fmt.Println(" end")
		fmt.Fprint(os.Stderr, "err ", i)
		fmt.Fprintln(os.Stderr, " end")
	}
	return childBare(nil)
}

func TestOutputPassesThrough(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prefix func(int) string
		want   string
	}{
		{"plain", nil, "out 0 end"},
		{"prefixed", func(i int) string { return fmt.Sprintf("[%d] ", i) }, "[1] out 0 end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := bareConfig(newDomain(t))
			cfg.Command = func(int) *exec.Cmd { return childCommand("talker") }
			var stdout, stderr bytes.Buffer
			cfg.Stdout, cfg.Stderr, cfg.Prefix = &stdout, &stderr, tt.prefix
			g, err := group.Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
			if tt.prefix != nil && (len(lines) != 6 || !slices.Contains(lines, tt.want)) ||
				!strings.Contains(stdout.String(), tt.want) {
				t.Errorf("standard output %q lacks %q", stdout.String(), tt.want)
			}
			if strings.Count(stderr.String(), " end") != 6 {
				t.Errorf("standard error %q", stderr.String())
			}
		})
	}
}

// A process that stood still while a replica died passes on all that the replica wrote, even if
// another process holds the pipe open.
func TestOutputForLateReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	text := strings.Repeat("last words\n", 5000)
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if lost := group.OutputOfLateReader(r, &got); got.String() != text || lost != 0 {
		t.Errorf("%d bytes of %d arrived, %d are counted as lost", got.Len(), len(text), lost)
	}
}

func TestOutputToFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("talker") }
	cfg.Stdout, cfg.Stderr = f, f
	g, err := group.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Shutdown(t.Context())
	if b, err := os.ReadFile(f.Name()); err != nil || bytes.Count(b, []byte(" end")) != 12 {
		t.Errorf("%q, %v", b, err)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	good := bareConfig(newDomain(t))
	for name, spoil := range map[string]func(*group.Config){
		"no service":      func(c *group.Config) { c.Service = "" },
		"service name":    func(c *group.Config) { c.Service = "a/b" },
		"no command":      func(c *group.Config) { c.Command = nil },
		"replicas":        func(c *group.Config) { c.Replicas = -1 },
		"too many":        func(c *group.Config) { c.Replicas = 1 << 20 },
		"negative time":   func(c *group.Config) { c.Grace = -1 },
		"survive, buffer": func(c *group.Config) { c.Survive, c.Stdout = true, new(bytes.Buffer) },
		"survive, prefix": func(c *group.Config) {
			c.Survive, c.Prefix = true, func(int) string { return "" }
		},
		"command is nil": func(c *group.Config) {
			c.Command = func(int) *exec.Cmd { return nil }
		},
		"domain's parent":  func(c *group.Config) { c.Domain = "/no/such/parent" },
		"long service":     func(c *group.Config) { c.Service = strings.Repeat("x", 80) },
		"negative replica": func(c *group.Config) { c.Replicas = -5 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			spoil(&cfg)
			if g, err := group.Start(t.Context(), cfg); err == nil {
				g.Shutdown(t.Context())
				t.Error("started")
			}
		})
	}
}
