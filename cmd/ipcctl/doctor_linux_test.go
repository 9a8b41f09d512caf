package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctorVersions has servers whose schemas differ.
func TestDoctorVersions(t *testing.T) {
	newDomain(t)
	dir := t.TempDir()
	publish := func(channel, fields string) {
		schema := filepath.Join(dir, channel+".fbs")
		write(t, schema, "namespace a; attribute \"topic\"; table Status (topic) { "+fields+" }")
		s := start(t, strings.NewReader(""), "publish", "-keep", "-schema", schema, channel)
		s.err.await(t, "publishing a.Status")
		t.Cleanup(func() { s.cancel(); <-s.code })
	}
	publish("one", "speed: float;")
	publish("two", "speed: float;")
	if _, out, _ := ipcctl(t, "", "doctor"); strings.Contains(out, "versions of") {
		t.Errorf("one version: %s", out)
	}
	publish("three", "speed: float; more: int;")
	expect(t, 0, "ok    versions of a.Status: ", "", "", "doctor")
	expect(t, 0, "which understand each other", "", "", "doctor")
	publish("four", "speed: string;")
	expect(t, 0, "warn  versions of a.Status: ", "", "", "doctor")
	expect(t, 0, " cannot use ", "", "", "doctor")
	expect(t, 0, "      build all programs from one schema", "", "", "doctor")
}
