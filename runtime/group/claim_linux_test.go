package group_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// childParent is a bare replica that starts two programs which join, too, one before it has joined
// itself and one after that, and writes their results to the file in its argument.
func childParent(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	start := func() (*exec.Cmd, *os.File, *bytes.Buffer) {
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		cmd, said := exec.Command(os.Args[0]), new(bytes.Buffer)
		cmd.Env = append(os.Environ(), childVar+"=successor")
		cmd.Stdin, cmd.Stdout = r, said
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		r.Close()
		return cmd, w, said
	}
	early, earlyGo, earlySaid := start()
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	if err := r.Announce(registry.Record{}); err != nil {
		return err
	}
	late, lateGo, lateSaid := start()
	earlyGo.Close()
	lateGo.Close()
	early.Wait()
	late.Wait()
	name := fmt.Sprintf("%s.%d", args[0], os.Getpid())
	if err := os.WriteFile(name+".tmp", fmt.Appendf(nil, "%s%s", earlySaid, lateSaid),
		0o600); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	<-ctx.Done()
	return r.Close()
}

// childSuccessor joins when its standard input ends, and prints the result.
func childSuccessor([]string) error {
	bufio.NewReader(os.Stdin).ReadByte()
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		fmt.Println("refused:", err)
		return nil
	}
	if err := r.Announce(registry.Record{Name: fmt.Sprint("alone-", os.Getpid())}); err != nil {
		fmt.Println("not announced:", err)
		return nil
	}
	fmt.Println("supervised:", r.Supervised())
	return r.Close()
}

// A program that a replica starts does not take the replica's place, with the environment of a
// replica that has not joined yet or of one that has. The replica stays alive.
func TestProgramsOfAReplicaHaveNoRightToItsPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "said")
	cfg := bareConfig(newDomain(t))
	cfg.Command = func(int) *exec.Cmd { return childCommand("parent", file) }
	g := startGroup(t, cfg)
	before := g.Status()
	for _, r := range before.Replicas {
		name := fmt.Sprintf("%s.%d", file, r.PID)
		var said []byte
		eventually(t, "the programs have joined", func() bool {
			b, err := os.ReadFile(name)
			said = b
			return err == nil
		})
		want := fmt.Sprintf("process %d has the place of %s", r.PID, r.Name)
		if !strings.HasPrefix(string(said), "refused: ") || !strings.Contains(string(said), want) {
			t.Errorf("the program with the environment: %s", said)
		}
		if !strings.Contains(string(said), "supervised: false") {
			t.Errorf("the program without: %s", said)
		}
	}
	after := g.Status()
	if after.Epoch != before.Epoch || !after.Healthy() ||
		after.Replicas[0].Restarts+after.Replicas[1].Restarts != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// childOrderly is a bare replica that adds a line to a file when it has ended in order.
func childOrderly(args []string) error {
	if err := childBare(nil); err != nil {
		return err
	}
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, "ended")
	return err
}

// shellForms are commands of a shell that run a replica, "$0" "$1".
var shellForms = map[string]string{
	"waits":        `"$0" "$1"; exit $?`,
	"executes":     `exec "$0" "$1"`,
	"last command": `"$0" "$1"`,
	"background":   `"$0" "$1" & wait`,
	"subshells":    `( ( "$0" "$1"; true ); exit 0 )`,
	"pipeline":     `"$0" "$1" | cat`,
	"two shells":   `sh -c '"$0" "$1"; exit 0' "$0" "$1"; exit 0`,
	"session":      `setsid -w "$0" "$1"; exit 0`,
}

// wrappedConfig is a group whose replicas are started by a shell in a form.
func wrappedConfig(domain, form string) group.Config {
	cfg := bareConfig(domain)
	cfg.Command = func(int) *exec.Cmd {
		own := childCommand("orderly", domain+".ended")
		cmd := exec.Command("/bin/sh", "-c", shellForms[form], own.Path, own.Args[1])
		cmd.Env = own.Env
		return cmd
	}
	return cfg
}

// A shell that runs a replica does not get the replica's signals: each replica ends in order.
func TestReplicaInAShellEndsInOrder(t *testing.T) {
	for form := range shellForms {
		t.Run(form, func(t *testing.T) {
			cfg := wrappedConfig(newDomain(t), form)
			g := startGroup(t, cfg)
			if _, err := g.Failover(t.Context()); err != nil {
				t.Fatal(err)
			}
			shutdown(t, g)
			if b, _ := os.ReadFile(cfg.Domain + ".ended"); strings.Count(string(b),
				"ended\n") != 3 {
				t.Errorf("of three replicas there ended in order: %q", b)
			}
		})
	}
}

// A replica that the kernel does not kill with its supervisor, because a shell has started it, ends
// by itself.
func TestReplicaInAShellEndsWithItsSupervisor(t *testing.T) {
	for form := range shellForms {
		t.Run(form, func(t *testing.T) {
			d := newDomain(t)
			killedHost(t, d, "wrapped "+form)
			eventually(t, "all have ended", func() bool { return len(processesOf(d)) == 0 })
			startGroup(t, wrappedConfig(d, form))
		})
	}
}

// A replica in a shell that survives its supervisor is adopted, and ends in order.
func TestReplicaInAShellIsAdopted(t *testing.T) {
	for form := range shellForms {
		t.Run(form, func(t *testing.T) {
			cfg := wrappedConfig(newDomain(t), form)
			cfg.Survive = true
			killedHost(t, cfg.Domain, "wrapped "+form, "survive")
			g := startGroup(t, cfg)
			if s := g.Status(); s.Epoch != 1 {
				t.Errorf("adopted as %+v", s)
			}
			shutdown(t, g)
			if b, _ := os.ReadFile(cfg.Domain + ".ended"); strings.Count(string(b),
				"ended\n") != 2 {
				t.Errorf("of two replicas there ended in order: %q", b)
			}
		})
	}
}

// Capabilities on the executable remove the tether by which the kernel kills a replica with its
// supervisor. The replicas end by themselves.
func TestReplicasWithCapabilitiesEndWithTheirSupervisor(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file capabilities")
	}
	// Other users cannot reach a test's own folder.
	dir, err := os.MkdirTemp("", "ipcgen")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	exe := filepath.Join(dir, "replica")
	if b, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(exe, b, 0o755) != nil {
		t.Fatal("copying the program", err)
	}
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setcap", "cap_net_bind_service+ep",
		exe).CombinedOutput(); err != nil {
		t.Skipf("no capabilities on files here: %v: %s", err, out)
	}
	host := exec.Command(exe, filepath.Join(dir, "domain"), "bare")
	host.Env = append(os.Environ(), childVar+"=host", "GORACE=atexit_sleep_ms=0")
	host.Dir = dir
	host.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody,
		Gid: nobody}}
	killWhenUp(t, host)
	eventually(t, "all have ended", func() bool {
		return len(processesOf(filepath.Join(dir, "domain"))) == 0
	})
}

// quitterConfig is a group whose replicas notice a hang-up, also if this test ignores hang-ups.
func quitterConfig(domain string) group.Config {
	cfg := bareConfig(domain)
	cfg.Command = func(int) *exec.Cmd { return childCommand("quitter") }
	return cfg
}

// A survivor that is stopped when its supervisor dies gets no SIGHUP.
func TestStoppedSurvivorIsAdopted(t *testing.T) {
	d := newDomain(t)
	host := childCommand("host", d, "quitter", "survive")
	runHost(t, host)
	survivors := processesOf(d)
	if len(survivors) != 2 {
		t.Fatalf("replicas %v", survivors)
	}
	for _, pid := range survivors {
		syscall.Kill(pid, syscall.SIGSTOP)
		eventually(t, "it is stopped", func() bool {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return bytes.Contains(stat, []byte(") T "))
		})
	}
	host.Process.Kill()
	host.Wait()
	for _, pid := range survivors {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	cfg := quitterConfig(d)
	cfg.Survive = true
	g := startGroup(t, cfg)
	var adopted []int
	for _, r := range g.Replicas() {
		adopted = append(adopted, r.PID)
	}
	slices.Sort(adopted)
	slices.Sort(survivors)
	if !slices.Equal(adopted, survivors) {
		t.Errorf("survivors %v, now %v", survivors, adopted)
	}
}

// A sandbox, or an old kernel, that lacks handles on processes does not keep a group from starting,
// adopting and ending.
func TestGroupWithoutProcessHandles(t *testing.T) {
	for _, forbid := range []string{
		"pidfd_send_signal=EPERM", "pidfd_send_signal=ENOSYS", "pidfd_open-flags=EINVAL",
		"pidfd_open=ENOSYS", "pidfd_open=EPERM,pidfd_send_signal=EPERM", "set_robust_list=EPERM",
	} {
		t.Run(forbid, func(t *testing.T) {
			d := newDomain(t)
			host := childCommand("host", d, "bare", "survive")
			host.Env = append(host.Env, systest.EnvVar+"="+forbid)
			killWhenUp(t, host)
			survivors := processesOf(d)
			slices.Sort(survivors)
			host = childCommand("host", d, "bare", "survive")
			host.Env = append(host.Env, systest.EnvVar+"="+forbid)
			if strings.HasPrefix(forbid, "pidfd_open=") {
				out, err := host.CombinedOutput()
				if err == nil || !strings.Contains(string(out), "the system call pidfd_open") {
					t.Errorf("an adoption without handles: %v, %s", err, out)
				}
				for _, pid := range survivors {
					syscall.Kill(pid, syscall.SIGKILL)
				}
				eventually(t, "all have ended", func() bool { return len(processesOf(d)) == 0 })
				host = childCommand("host", d, "bare")
				host.Env = append(host.Env, systest.EnvVar+"="+forbid)
				survivors = nil
			}
			runHost(t, host)
			adopted := processesOf(d)
			slices.Sort(adopted)
			if survivors != nil && !slices.Equal(adopted, survivors) {
				t.Errorf("survivors %v, now %v", survivors, adopted)
			}
			host.Process.Signal(syscall.SIGTERM)
			if err := host.Wait(); err != nil {
				t.Error(err)
			}
			nothingLeft(t, d)
		})
	}
}

// A group whose replicas cannot be killed reports that, and ends.
func TestShutdownWithoutSignals(t *testing.T) {
	t.Parallel()
	cfg := bareConfig(newDomain(t))
	host := childCommand("host", cfg.Domain, "bare")
	var stderr bytes.Buffer
	host.Stderr = &stderr
	host.Env = append(host.Env, systest.EnvVar+"=pidfd_send_signal=EPERM,kill=EPERM")
	runHost(t, host)
	host.Process.Signal(syscall.SIGTERM)
	host.Wait()
	if !strings.Contains(stderr.String(), "cannot be killed: kill: operation not permitted") {
		t.Errorf("the supervisor: %s", &stderr)
	}
	eventually(t, "all have ended", func() bool { return len(processesOf(cfg.Domain)) == 0 })
}
