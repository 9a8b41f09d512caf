package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dependencies returns a rule for make, which ninja also understands: all outputs depend on all
// files that were read.
func dependencies(outputs, read []string) []byte {
	var b bytes.Buffer
	for i, path := range outputs {
		if i > 0 {
			b.WriteString(" \\\n")
		}
		b.WriteString(escapeForMake(path))
	}
	b.WriteByte(':')
	for _, path := range read {
		b.WriteString(" \\\n  " + escapeForMake(path))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// escapeForMake escapes the characters that make would not read as part of a file name.
func escapeForMake(path string) string {
	return strings.NewReplacer("$", "$$", "#", `\#`, " ", `\ `, "\t", "\\\t", ":",
		`\:`).Replace(filepath.ToSlash(path))
}

// validateDepfile returns an error if -depfile would overwrite a file by mistake.
func (c *command) validateDepfile() error {
	if c.depfile == "" {
		return nil
	}
	ext := filepath.Ext(c.depfile)
	if slices.Contains(c.paths, c.depfile) ||
		slices.Contains([]string{".fbs", ".bfbs", ".go"}, ext) {
		return fmt.Errorf("-depfile %s: this is not the name of a file of dependencies", c.depfile)
	}
	if info, err := os.Stat(c.depfile); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("-depfile %s: it is not a regular file", c.depfile)
	}
	return nil
}

// paths returns the paths of the files that the run produces.
func (t *tree) paths() []string {
	paths := make([]string, len(t.products))
	for i, p := range t.products {
		paths[i] = p.path
	}
	slices.Sort(paths)
	return paths
}
