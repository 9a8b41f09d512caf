package main_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestDocs runs the first commands of docs/audio.md in one shell: they print what the page says,
// but for what they have measured.
func TestDocs(t *testing.T) {
	page := string(readFile(t, "../../docs/audio.md"))
	_, block, _ := strings.Cut(page, "```console\n")
	block, _, found := strings.Cut(block, "```\n")
	if !found || strings.Count(block, "$ ") < 3 {
		t.Fatalf("the page begins with other commands:\n%s", block)
	}
	var script, want strings.Builder
	continued := false
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok || continued {
			script.WriteString(strings.ReplaceAll(command, "go run ./cmd/audio_host", hostPath))
			continued = strings.HasSuffix(line, "\\\n")
		} else {
			want.WriteString(line)
		}
	}
	domain := newDomain(t)
	cmd := exec.Command("sh", "-ec", script.String())
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "IPCGEN_DOMAIN="+domain)
	out, err := cmd.CombinedOutput()
	took := regexp.MustCompile(`rendered in [0-9.ms]+`)
	measured := regexp.MustCompile(`\d+(\.\d+)?( times| blocks of| %| blocks a second)`)
	normal := func(s string) string {
		return measured.ReplaceAllString(took.ReplaceAllString(s, "rendered in N"), "N$2")
	}
	if err != nil || normal(string(out)) != normal(want.String()) {
		t.Errorf("%v\n%s\nthe page has\n%s", err, out, &want)
	}
	nothingLeft(t, domain)
}
