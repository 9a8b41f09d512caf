package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/internal/sys/systest"
)

// A process of this test that is told which system calls fail becomes the command of its arguments.
func init() {
	if os.Getenv(systest.EnvVar) == "" {
		return
	}
	err := systest.Obey()
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKillWithoutPidfds kills primaries where the kernel, or a sandbox, does not offer pidfds: then
// the host does not learn when the kernel tells of a death.
func TestKillWithoutPidfds(t *testing.T) {
	t.Parallel()
	domain := newDomain(t)
	cmd := exec.Command(os.Args[0], hostPath, "-out", "-", "-length", "2s", "-crash-at", "1s")
	cmd.Env = append(os.Environ(), "IPCGEN_DOMAIN="+domain,
		systest.EnvVar+"=pidfd_open=ENOSYS,pidfd_send_signal=ENOSYS")
	var errOut strings.Builder
	cmd.Stderr = &errOut
	if err := start(t, cmd); err != nil ||
		!strings.Contains(errOut.String(), "1 primary killed on the way") {
		t.Errorf("%v\n%s", err, errOut.String())
	}
	nothingLeft(t, domain)
}
