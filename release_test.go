package ipcgen

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// TestRelease makes a release of this checkout in a module proxy of its own, a folder, and does
// what the documentation tells users of a release to do: install the command, add it to a
// module as a tool, generate code and build it.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the module as its users do")
	}
	const version = "v0.1.0-rc.1"
	proxy := t.TempDir()
	publish(t, proxy, version)

	// A module cache of its own, or the made-up version would stay in the user's. The
	// dependencies come from the user's cache, and from the user's proxy what is not there.
	cache := filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download")
	bin := t.TempDir()
	env := append(os.Environ(),
		"GOPROXY=file://"+proxy+",file://"+cache+","+goEnv(t, "GOPROXY"),
		"GONOSUMDB=*", "GONOPROXY=", "GOPRIVATE=",
		"GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GOWORK=off", "GOBIN="+bin)
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("$ %s %s\n%v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}

	run("go", "install", modulePath+"/cmd/ipcgen@"+version)
	if help := run(filepath.Join(bin, "ipcgen"), "-h"); !strings.Contains(help, "usage: ipcgen") {
		t.Errorf("the installed command printed:\n%s", help)
	}

	run("go", "mod", "init", "example.com/hello")
	run("go", "get", "-tool", modulePath+"/cmd/ipcgen@"+version)
	schema := "namespace greeter;\ntable Hello { name: string; }\nrpc_service Greeter { " +
		"Greet(Hello): Hello; }\n"
	if err := os.WriteFile(filepath.Join(dir, "greeter.fbs"), []byte(schema), 0o666); err != nil {
		t.Fatal(err)
	}
	run("go", "tool", "ipcgen", "-o", "gen", "greeter.fbs")
	run("go", "mod", "tidy")
	run("go", "vet", "./...")
}

// TestReleaseSteps checks that docs/releasing.md drops the replacements of the modules of their own
// that users install: `go install` takes no version of a module with replacements.
func TestReleaseSteps(t *testing.T) {
	steps := read(t, "docs/releasing.md")
	for _, folder := range []string{"cmd/ipcctl", "nats"} {
		data, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		mod, err := modfile.Parse("go.mod", data, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(steps, "`"+folder+"`") {
			t.Errorf("docs/releasing.md does not name %s", folder)
		}
		for _, r := range mod.Replace {
			if edit := "go mod edit -dropreplace=" + r.Old.Path; !strings.Contains(steps, edit) {
				t.Errorf("docs/releasing.md lacks %q", edit)
			}
		}
	}
}

// publish puts the files of this checkout into a module proxy's folder.
func publish(t *testing.T, proxy, version string) {
	t.Helper()
	at := filepath.Join(proxy, filepath.FromSlash(modulePath), "@v")
	if err := os.MkdirAll(at, 0o777); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := zip.CreateFromDir(&archive, module.Version{Path: modulePath, Version: version},
		"."); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"list":            []byte(version + "\n"),
		version + ".info": []byte(`{"Version":"` + version + `"}`),
		version + ".mod":  mod,
		version + ".zip":  archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(at, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
