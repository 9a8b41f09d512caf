package group_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// containedConfig is a group whose replicas run in pid namespaces of their own, as in containers
// that share the domain's directory. Each replica has pid 1 there.
func containedConfig(domain string) group.Config {
	cfg := bareConfig(domain)
	cfg.Command = func(int) *exec.Cmd {
		cmd := childCommand("bare")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		return cmd
	}
	return cfg
}

// skipWithoutNamespaces skips a test if pid namespaces cannot be created.
func skipWithoutNamespaces(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Run(); err != nil {
		t.Skipf("no pid namespace can be made here: %v", err)
	}
}

func TestReplicasInOtherPIDNamespaces(t *testing.T) {
	skipWithoutNamespaces(t)
	g := startGroup(t, containedConfig(newDomain(t)))
	for range 3 {
		before := g.Status()
		syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL)
		after, err := g.WaitHealthy(t.Context(), before.Epoch)
		if err != nil || after.Primary == before.Primary {
			t.Fatalf("%+v, %v", after, err)
		}
	}
}

// A supervisor that cannot identify the processes in its places, because their pids belong to
// another namespace, reports that, and uses no pid.
func TestAdoptionFromOtherPIDNamespaceIsRefused(t *testing.T) {
	skipWithoutNamespaces(t)
	d := newDomain(t)
	killedHost(t, d, "contained", "survive")
	survivors := processesOf(d)
	if len(survivors) != 2 {
		t.Fatalf("survivors %v", survivors)
	}
	cfg := bareConfig(d)
	cfg.Survive = true
	_, err := group.Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "(pid 1) in another pid namespace") {
		t.Errorf("error %v", err)
	}
	var inUse *group.InUseError
	if errors.As(err, &inUse) {
		t.Errorf("error %v", err)
	}
	for _, pid := range survivors {
		if !running(pid) {
			t.Errorf("%d was ended", pid)
		}
		p, err := sys.OpenProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		syscall.Kill(pid, syscall.SIGKILL)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
	startGroup(t, cfg)
}

// processesOf returns the pids of the replicas in a domain.
func processesOf(domain string) (pids []int) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		env, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(env), "IPCGEN_DOMAIN="+domain+"\x00") {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
