// Package checkup looks for what goes wrong between processes of one machine: a domain in two
// places, limits that are nearly reached, a kernel or a sandbox that forbids what the runtime
// needs, servers that hang, and what dead processes have left. It changes nothing.
package checkup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/internal/domain"
	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"   // nothing to do
	Warn Level = "warn" // works, and may stop working
	Fail Level = "fail" // does not work
)

// A Finding is what one check found.
type Finding struct {
	Level Level  `json:"level"`
	Check string `json:"check"`
	Found string `json:"found"`
	Cure  string `json:"cure,omitempty"` // empty if nothing is to be done
}

// mostChannels is how many channels that are ok have a finding each, when people read.
const mostChannels = 20

// Brief returns findings for people: if many channels are ok, one finding counts them.
func Brief(all []Finding) []Finding {
	fine := func(f Finding) bool { return f.Level == OK && strings.HasPrefix(f.Check, channel) }
	n := 0
	for _, f := range all {
		if fine(f) {
			n++
		}
	}
	if n <= mostChannels {
		return all
	}
	first := slices.IndexFunc(all, fine)
	brief := append(slices.Clone(all[:first]), Finding{Level: OK, Check: "channels",
		Found: fmt.Sprintf("%d servers answer", n)})
	return append(brief, slices.DeleteFunc(slices.Clone(all[first:]), fine)...)
}

// A checkup collects findings.
type checkup struct {
	findings []Finding
	servers  []*answer // that tell what they serve
}

func (c *checkup) add(l Level, check, cure, format string, args ...any) {
	c.findings = append(c.findings, Finding{l, check, fmt.Sprintf(format, args...), cure})
}

// failed adds the failure of a check that the runtime depends on.
func (c *checkup) failed(check, cure string, err error) {
	c.add(Fail, check, cure, "%v", err)
}

// Run makes all checks of the machine and of a domain; the empty name is the default one. Each
// server has patience to answer.
func Run(ctx context.Context, name string, patience time.Duration) []Finding {
	c := &checkup{}
	c.kernel()
	c.limits()
	if dir := c.domain(name); dir != nil {
		c.place(dir)
		c.content(ctx, dir.Path(), patience)
		dir.Close()
	}
	return c.findings
}

// kernel tries what the runtime asks of the kernel.
func (c *checkup) kernel() {
	const size = 1 << 16
	if f, err := sys.NewMemory("checkup", size); err != nil {
		c.failed("shared memory", "", err)
	} else {
		if err := sys.SealMemory(f, size); err != nil {
			c.failed("shared memory", "", err)
		} else {
			c.add(OK, "shared memory", "", "can be made, and sealed")
		}
		f.Close()
	}
	if p, err := sys.OpenProcess(os.Getpid()); err != nil {
		c.failed("notice of death", "run Linux 5.10 or later, and allow pidfd_open", err)
	} else {
		c.add(OK, "notice of death", "", "the kernel tells of the end of a process")
		p.Close()
	}
	if bell, file, err := sys.NewDoorbell(); err != nil {
		c.failed("doorbells", "", err)
	} else {
		c.add(OK, "doorbells", "", "socket pairs can be made")
		bell.Close()
		file.Close()
	}
}

// few is the number of descriptors below which a limit is worth a word: a server of a few hundred
// clients needs as many.
const few = 1024

func (c *checkup) limits() {
	if n := sys.DescriptorLimit(); n < few {
		c.add(Warn, "open files", "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)",
			"at most %d in this process; each connection takes two", n)
	} else {
		c.add(OK, "open files", "", "at most %d in this process", n)
	}
	if w, err := sys.WatchDir(os.TempDir()); err != nil {
		c.failed("watches of folders", "", err)
	} else {
		w.Close()
		c.watches()
	}
}

// watches compares the inotify instances of this user with the limit.
func (c *checkup) watches() {
	limit, err := number("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		return // another kernel's; that a watch can be made was seen
	}
	used := 0
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == "anon_inode:inotify" && own(l) {
			used++
		}
	}
	level, cure := OK, ""
	if used*5 >= limit*4 {
		level, cure = Warn, "raise the sysctl fs.inotify.max_user_instances"
	}
	c.add(
		level,
		"watches of folders",
		cure,
		"this user has %d of %d inotify instances",
		used,
		limit,
	)
}

// own reports whether a file of /proc is of a process of this user.
func own(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	uid, err := sys.OwnerUID(info)
	return err == nil && uid == os.Geteuid()
}

func number(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// domain looks whether the domain's folder can be used.
func (c *checkup) domain(name string) *domain.Dir {
	dir, err := domain.Find(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.add(
			Warn,
			"domain",
			"start a server, or give the domain that it uses (-domain)",
			"%v",
			err,
		)
	case err != nil:
		c.failed("domain", "", err)
	default:
		c.add(OK, "domain", "", "%s", dir.Path())
		return dir
	}
	return nil
}

// place looks at where the domain lies.
func (c *checkup) place(dir *domain.Dir) {
	if other := dir.Elsewhere(); other != "" {
		if s, err := survey.Of(other); err == nil && len(s.Names()) > 0 {
			c.add(Warn, "second domain", "set IPCGEN_DOMAIN to one path in all processes",
				"processes with another XDG_RUNTIME_DIR meet in %s: %s", other, some(s.Names()))
		}
	}
	c.room(dir)
	if program := cleaner(dir.Path(), exists); program != "" {
		c.add(Warn, "cleaner", "a domain elsewhere (IPCGEN_DOMAIN), or an exception for the folder",
			"%s removes what is old, and does not ask who uses it; %s lies where it cleans",
			program, dir.Path())
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); strings.HasPrefix(run, "/run/user/") &&
		strings.HasPrefix(dir.Path(), run+"/") && !lingers(run) {
		c.add(Warn, "logout", "loginctl enable-linger, or a domain elsewhere (IPCGEN_DOMAIN)",
			"%s is removed when this user logs out", run)
	}
}

// lingers reports whether the folder of a user survives the logout, as far as it can be known.
func lingers(run string) bool {
	name := os.Getenv("USER")
	if name == "" {
		return true
	}
	if _, err := os.Stat("/var/lib/systemd/linger"); err != nil {
		return true // another system, with rules of its own
	}
	_, err := os.Stat(filepath.Join("/var/lib/systemd/linger", name))
	return err == nil
}

// content looks at what is in the domain at path.
func (c *checkup) content(ctx context.Context, path string, patience time.Duration) {
	s, err := survey.Of(path)
	if err != nil {
		c.failed("channels", "", err)
		return
	}
	if s.RegistryErr != nil {
		c.failed("registry", "stop the processes of the domain, and remove its folder .registry",
			s.RegistryErr)
	} else if s.Registry {
		c.add(OK, "registry", "", "%s", count(len(s.Instances), "instance"))
	}
	if left := s.Left(); len(left) > 0 {
		names := make([]string, len(left))
		for i, l := range left {
			names[i] = l.Name
		}
		c.add(OK, "left files", "", "of %s without a server, which do no harm (ipcctl gc removes "+
			"them): %s", count(len(left), "channel"), some(names))
	}
	c.ask(ctx, s, patience)
	c.versions()
}

// mostNamed is how many names a finding has.
const mostNamed = 10

// some lists names; of many, the first ones.
func some(names []string) string {
	text := strings.Join(names[:min(len(names), mostNamed)], ", ")
	if rest := len(names) - mostNamed; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}

// ask looks whether the servers answer.
func (c *checkup) ask(ctx context.Context, s *survey.Survey, patience time.Duration) {
	var mu sync.Mutex
	of := make(map[string]*checkup)
	s.EachLive(func(l survey.Channel) {
		one := new(checkup)
		one.server(ctx, s.Domain, l, patience)
		mu.Lock()
		defer mu.Unlock()
		of[l.Name] = one
	})
	for _, l := range s.Channels {
		if one := of[l.Name]; one != nil {
			c.findings = append(c.findings, one.findings...)
			c.servers = append(c.servers, one.servers...)
		}
	}
}

// channel begins the check of one, before its name.
const channel = "channel "

// server looks whether a server answers.
func (c *checkup) server(ctx context.Context, domain string, l survey.Channel,
	patience time.Duration) {
	check := channel + l.Name
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := ipc.Dial(ctx, l.Name, ipc.WithDomain(domain))
	switch ipc.CodeOf(err) {
	case ipc.CodeOK:
		defer conn.Close()
		c.add(OK, check, "", "%s answers", l.Process())
		if s, err := dynamic.Ask(ctx, conn, l.Name); err == nil {
			c.servers = append(c.servers, &answer{l.Name, s})
		}
	case ipc.CodeDeadlineExceeded:
		c.add(Fail, check, "see what the process does; kill -QUIT prints its goroutines",
			"%s has the channel, and does not answer within %v", l.Process(), patience)
	case ipc.CodePermissionDenied:
		c.add(OK, check, "", "%s answers, and refuses this process: %v", l.Process(), err)
	default:
		c.failed(check, "", err)
	}
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
