package domain_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/domain"
)

func TestOpenByPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	for range 2 { // created, then found
		d, err := domain.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if d.Path() != path {
			t.Errorf("Path = %q, want %q", d.Path(), path)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", fi.Mode(), err)
	}
}

func TestOpenByName(t *testing.T) {
	run := t.TempDir()
	for _, tt := range []struct{ xdg, tmp, env, name, want string }{
		{xdg: run, name: "x", want: run + "/ipcgen/x"},
		{xdg: run, want: run + "/ipcgen/default"},
		{xdg: run, env: "y", want: run + "/ipcgen/y"},
		{xdg: run, env: run + "/z", want: run + "/z"},
		{tmp: run, name: "x", want: run + "/ipcgen-UID/x"},
	} {
		t.Setenv("XDG_RUNTIME_DIR", tt.xdg)
		t.Setenv("TMPDIR", tt.tmp)
		t.Setenv(domain.EnvVar, tt.env)
		d, err := domain.Open(tt.name)
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		d.Close()
		want := strings.Replace(tt.want, "UID", strconv.Itoa(os.Getuid()), 1)
		if d.Path() != want {
			t.Errorf("%+v: opened %q, want %q", tt, d.Path(), want)
		}
	}
}

func TestOpenRefusesUnsafe(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"symlink": func(p string) error {
			if err := os.Mkdir(p+".target", 0o700); err != nil {
				return err
			}
			return os.Symlink(p+".target", p)
		},
		"file":        func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"group":       func(p string) error { return mkdirMode(p, 0o710) },
		"others":      func(p string) error { return mkdirMode(p, 0o701) },
		"other owner": foreign,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			if err := prepare(path); err != nil {
				t.Skip(err)
			}
			d, err := domain.Open(path)
			if err == nil {
				d.Close()
				t.Fatal("opened")
			}
			var pe *domain.PathError
			if !errors.Is(err, domain.ErrUnsafe) || !errors.As(err, &pe) || pe.Path != path ||
				pe.Hint == "" {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOpenMissingParent(t *testing.T) {
	_, err := domain.Open(filepath.Join(t.TempDir(), "no", "such"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "audio_ctrl_0", "A-b.c", "0",
		strings.Repeat("x", domain.MaxNameLen)} {
		if err := domain.CheckName("channel", ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".a", "-a", "a/b", "a\\b", "a b", "a\x00", "ä",
		"a\xff", strings.Repeat("x", domain.MaxNameLen+1)} {
		if err := domain.CheckName("channel", bad); !errors.Is(err, domain.ErrName) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func mkdirMode(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // not reduced by the umask
}

// foreign creates a directory of another user, which only root can do.
func foreign(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chown(path, 4711, 4711)
}

// A command run by sudo, with the environment of the user, creates no domain that the user's own
// processes would have to refuse.
func TestRootMakesNoDomainForOthers(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	if err := foreign(run); err != nil || os.Geteuid() != 0 {
		t.Skip("only root can make another user's folder")
	}
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv(domain.EnvVar, "")
	for _, name := range []string{"", "x", run + "/x"} {
		d, err := domain.Open(name)
		if err == nil {
			d.Close()
			t.Errorf("opened %q", name)
			continue
		}
		if !errors.Is(err, domain.ErrUnsafe) || !strings.Contains(err.Error(), "uid 4711") ||
			!strings.Contains(err.Error(), "as that user") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if left, err := os.ReadDir(run); err != nil || len(left) > 0 {
		t.Errorf("made %v, %v", left, err)
	}
}

func TestClaim(t *testing.T) {
	open := func(path string) *domain.Dir {
		d, err := domain.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	path := filepath.Join(t.TempDir(), "d")
	a, b := open(path), open(path)
	claim, err := a.Claim("x")
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Claim("y")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := b.Claim("x"); !errors.Is(err, domain.ErrClaimed) {
		t.Errorf("a second claim: %v", err)
	}
	claim.Close()
	if claim, err = b.Claim("x"); err != nil {
		t.Fatal(err)
	}
	defer claim.Close()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if a.InPlace() {
		t.Error("a folder that was moved is said to be in place")
	}
	again, err := a.Again()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !again.InPlace() || again.Path() != path {
		t.Errorf("opened %q again", again.Path())
	}
}

func TestAbsenceNamesOtherDomains(t *testing.T) {
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv(domain.EnvVar, "")
	d, err := domain.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, want := range []string{"IPCGEN_DOMAIN is not set", "XDG_RUNTIME_DIR is set",
		"processes meet in", "each user has a domain of that name"} {
		if got := d.Absence("echo.sock"); !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
	p, err := domain.Open(filepath.Join(run, "shared"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := p.Absence("echo.sock"); got != "(given explicitly)" {
		t.Errorf("of a path: %q", got)
	}
}

// TestOpenUnderUmask creates a domain in processes whose umask takes the owner's rights. They fail,
// and leave nothing that stops the next one.
func TestOpenUnderUmask(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no umask")
	}
	if path := os.Getenv("DOMAIN_TEST_UMASK"); path != "" {
		d, err := domain.Open(path)
		if err == nil {
			d.Close()
		}
		fmt.Println(errors.Is(err, domain.ErrUnsafe), err)
		return
	}
	path := filepath.Join(t.TempDir(), "d")
	for _, mask := range []string{"777", "277", "177", "077", "022"} {
		cmd := exec.Command("/bin/sh", "-c", "umask "+mask+
			`; exec "$0" -test.run '^TestOpenUnderUmask$'`, os.Args[0])
		cmd.Env = append(os.Environ(), "DOMAIN_TEST_UMASK="+path)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("umask %s: %v, %s", mask, err, out)
		}
		bad := mask[0] != '0'
		if refused := strings.Contains(string(out), "true "); refused != bad ||
			bad && !strings.Contains(string(out), "umask") {
			t.Errorf("umask %s: %s", mask, out)
		}
		_, err = os.Stat(path)
		if there := err == nil; there == bad {
			t.Errorf("umask %s: %v", mask, err)
		}
		os.Remove(path)
	}
}
