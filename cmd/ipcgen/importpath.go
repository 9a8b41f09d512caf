package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// importPath returns the import path of a folder: the path of the module whose
// go.mod is in the folder or, nearest first, above it, and the way down from
// there. The folder need not exist yet.
func importPath(folder string) (string, error) {
	abs, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	for dir := abs; ; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, "go.mod")
		text, err := os.ReadFile(name)
		if err == nil {
			module := modfile.ModulePath(text)
			if module == "" {
				return "", fmt.Errorf("%s names no module; give the import path of the output folder with -import", name)
			}
			rel, err := filepath.Rel(dir, abs)
			if err != nil {
				return "", err
			}
			return path.Join(module, filepath.ToSlash(rel)), nil
		}
		// A folder on the way that is a file, or is missing, has no go.mod.
		if info, statErr := os.Stat(name); !errors.Is(err, fs.ErrNotExist) && statErr == nil && !info.IsDir() {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod in %s or above; run go mod init, or give the import path of the output folder with -import", abs)
		}
	}
}
