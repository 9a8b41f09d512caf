package ipc_test

import (
	"encoding/binary"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestTimeoutOfStoppedServer calls a process that does not run. What it has not taken in time it
// does not execute later.
func TestTimeoutOfStoppedServer(t *testing.T) {
	dir := t.TempDir()
	domain, path := filepath.Join(dir, "d"), filepath.Join(dir, "ledger")
	srv := startChild(t, "recorder", domain, ledgerEnv+"="+path)
	c := dial(t, ipc.WithDomain(domain),
		ipc.WithMethodTimeout("test.Echo/Record", 20*time.Millisecond))
	stopProcess(t, srv)
	w := &witness{claims: map[uint64]claim{}}
	for n := range uint64(3) {
		entry := &blob{Data: binary.LittleEndian.AppendUint64(nil, n)}
		_, err := ipc.Invoke(t.Context(), c, methodRecord, entry)
		want(t, err, ipc.CodeDeadlineExceeded, ipc.NotExecuted, "the timeout of 20ms")
		w.claims[n] = claim{"once", err}
	}
	want(t, inPlace(t.Context(), c, methodRecord, 0), ipc.CodeDeadlineExceeded, ipc.NotExecuted,
		"the timeout of 20ms")
	if err := srv.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	last := &blob{Data: binary.LittleEndian.AppendUint64(nil, 3)}
	_, err := ipc.Invoke(t.Context(), c, methodRecordAgain, last)
	if err != nil {
		t.Error(err)
	}
	w.claims[3] = claim{"again", err}
	w.check(t, path)
}
