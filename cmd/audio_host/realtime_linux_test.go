package main_test

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRealtime plays for a second while primaries are killed: what was played is a part of the
// sweep that an undisturbed render gives, bit by bit, and the report marks each kill.
func TestRealtime(t *testing.T) {
	args := []string{"-frames", "512", "-channels", "1", "-cutoff", "300", "-out", "-"}
	whole, errOut, err := run(t, newDomain(t), append(args, "-length", "1m1s")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	domain := newDomain(t)
	report := filepath.Join(t.TempDir(), "report.html")
	live, errOut, err := run(t, domain, append(args, "-realtime", "1s", "-crash-every", "100ms",
		"-report", report)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	if len(live) < 4*512 || !strings.Contains(whole, live) {
		t.Errorf("%d bytes were played, which are not a part of the sweep", len(live))
	}
	m := regexp.MustCompile(`(\d+) blocks, \d+ xruns, (\d+) primaries killed`).
		FindStringSubmatch(errOut)
	if m == nil || m[1] != "94" {
		t.Fatalf("standard error is\n%swant 94 blocks", errOut)
	}
	page := readFile(t, report)
	if want := m[2] + " crashes</h1>"; !bytes.Contains(page, []byte(want)) ||
		strings.Count(string(page), `class="crash"`) == 0 && m[2] != "0" {
		t.Errorf("the report does not show %s crashes", m[2])
	}
	for _, outside := range []string{"http:", "https:", "src=", "@import", "url("} {
		if bytes.Contains(page, []byte(outside)) {
			t.Errorf("the report needs the network: %s", outside)
		}
	}
	nothingLeft(t, domain)
}

// TestRealtimeUsage gives flags that do not fit each other.
func TestRealtimeUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-realtime 1ms":                       "-realtime 1ms",
		"-realtime 1s -in x.wav":              "plays a sweep",
		"-out x.wav -crash-every 1s":          "need -realtime",
		"-realtime 1s -crash-every 1ms":       "-crash-every 1ms",
		"-realtime 1s -report no/folder/x.ht": "no/folder",
	} {
		domain := newDomain(t)
		out, errOut, err := run(t, domain, strings.Fields(args)...)
		if err == nil || !strings.Contains(errOut, want) {
			t.Errorf("%s: %v, want an error with %q\n%s%s", args, err, want, out, errOut)
		}
		nothingLeft(t, domain)
	}
}
