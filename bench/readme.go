package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipcgen/ipcgen/bench/internal/report"
)

// The summary stands between these lines of a README.
const (
	readmeFrom = "<!-- measured by bench -->\n"
	readmeTo   = "<!-- end of what was measured -->\n"
)

// splitReadme returns what stands before and after the summary of a README,
// with the lines that mark it.
func splitReadme(file string) (before, after []byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	from, to := bytes.Index(text, []byte(readmeFrom)), bytes.Index(text, []byte(readmeTo))
	if from < 0 || to < from {
		return nil, nil, fmt.Errorf("%s has no lines %q and %q", file, readmeFrom, readmeTo)
	}
	return text[:from+len(readmeFrom)], text[to:], nil
}

// writeReadme replaces the summary in a README, and the picture beside it by
// the one in the folder.
func writeReadme(file, folder string, summary []byte) error {
	before, after, err := splitReadme(file)
	if err != nil {
		return err
	}
	picture, err := os.ReadFile(filepath.Join(folder, filepath.Base(report.SummaryPicture)))
	if err != nil {
		return err
	}
	to := filepath.Join(filepath.Dir(file), report.SummaryPicture)
	return errors.Join(
		os.WriteFile(to, picture, 0o666),
		os.WriteFile(file, bytes.Join([][]byte{before, summary, after}, []byte("\n")), 0o666),
	)
}
