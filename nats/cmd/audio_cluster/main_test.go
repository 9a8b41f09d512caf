package main

import (
	"bytes"
	"os"
	"regexp"
	"testing"

	"github.com/ipcgen/ipcgen/internal/command"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && (os.Args[1] == serverRole || os.Args[1] == memberRole) {
		os.Exit(runChild(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// TestRun runs the command: the group survives the loss of the leader's machine.
func TestRun(t *testing.T) {
	var out, errOut bytes.Buffer
	if got := run(nil, &out, &errOut); got != command.OK {
		t.Fatalf("status %d\n%s%s", got, &out, &errOut)
	}
	want := regexp.MustCompile(`(?s)^cluster: starting 3 machines.*
cluster: (machine\d) leads the group audio_compute \(epoch \d+\)
cluster: StartStream\(48kHz, 2ch, 256\): status=0
cluster: SetParam\(Gain, 0.75\): status=0

\*\*\* KILLING (machine\d): its server and its member \*\*\*

cluster: GetParam\(Gain\) = 0.75
cluster: (machine\d) leads the group now \(epoch \d+\); the answer came .* after the loss
cluster: SetParam\(Gain, 0.5\): status=0
cluster: machine\d comes back
cluster: GetParam\(Gain\) = 0.5
cluster: done
$`)
	m := want.FindStringSubmatch(out.String())
	if m == nil || m[1] != m[2] || m[3] == m[2] || errOut.Len() > 0 {
		t.Errorf("output\n%s%s", &out, &errOut)
	}
	t.Log(out.String())
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"-h"}, command.OK},
		{[]string{"-x"}, command.Usage},
		{[]string{"x"}, command.Usage},
	} {
		var out, errOut bytes.Buffer
		if got := run(c.args, &out, &errOut); got != c.want {
			t.Errorf("%v: status %d\n%s%s", c.args, got, &out, &errOut)
		}
	}
}
