package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	corePath    = "github.com/ipcgen/ipcgen"
	runtimePath = corePath + "/runtime"
)

// repository is the folder of the core module.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", corePath).Output()
	if err != nil {
		return "", fmt.Errorf("find the module %s: %w; run this in its bench folder", corePath, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// newModule makes the module of a user of ipcgen, who needs what the core
// module needs.
func newModule(dir, repo string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(repo, "go.mod"))
	if err != nil {
		return err
	}
	sum, err := os.ReadFile(filepath.Join(repo, "go.sum"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(mod), "module "+corePath+"\n", "module example.com/big\n", 1)
	text += fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %s\n", corePath, corePath, repo)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o666)
}
