//go:build ipcinterleave

package ipc

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A mutant is a fault that is built into the package on purpose: in a file, other text.
type mutant struct{ name, file, from, to string }

var roleMutants = []mutant{
	{"the role is freed while a reader is needed", "client_role.go",
		"case readerNeeded(w):\n\t\t\treturn needsReader", "case false:\n\t\t\treturn needsReader"},
	{"the role is freed after the end", "client_role.go",
		"case w&roleEnded != 0:\n\t\t\treturn needsTeardown",
		"case false:\n\t\t\treturn needsTeardown"},
	{"the role is entrusted after the end", "client_role.go",
		"case w&roleEnded != 0, !readerNeeded(w), ", "case !readerNeeded(w), "},
	{"the role is entrusted although the server was not asked", "client_role.go",
		", !asked && w&rolePaused == 0:", ":"},
	{"the holder does not heed a notice", "client_role.go",
		"w&^roleState|roleHeld) {\n\t\t\t\treturn false",
		"w&^roleState|roleAsleep) {\n\t\t\t\tr.reads.Leave()\n\t\t\t\treturn true"},
	{"a waiter that finds the role held leaves no notice", "client_role.go",
		"case w&roleState == roleHeld && notify:", "case false:"},
	{"two goroutines take the role", "client_role.go",
		"case w&roleState == roleFree:", "case w&roleState == roleFree, w&roleState == roleHeld:"},
	{"the end does not take an idle role", "client_role.go",
		"return r.move(roleEnded, false)", "r.word.Or(roleEnded)\n\treturn notGranted"},
	{"a paused role is taken", "client_role.go",
		" && to&(rolePaused|roleEnded) != rolePaused:", ":"},
	{"the end does not take a paused role", "client_role.go",
		"to&(rolePaused|roleEnded) != rolePaused:", "to&rolePaused == 0:"},
	{"a caller that has parked does not try to take the role", "client_wait.go",
		"} else if c.takeRole() {", "} else if false {"},
	{"a waiter does not look before it sleeps", "client_wait.go",
		"return c.handleDoorbell(p) || p.done() }", "return p.done() }"},
	{"a new waiter does not look whether its call is completed", "client_wait.go",
		"return c.handleDoorbell(p) || p.done() }", "return c.handleDoorbell(p) }"},
	{"a waiter that ends its wait does not look for others that need one", "client_wait.go",
		"\tc.role.leaveWaiter()\n\tif c.waiterNeeded() {", "\tc.role.leaveWaiter()\n\tif false {"},
	{"the waiter is not poked when its call is completed", "client_wait.go",
		"if c.role.isWaiter(p) {", "if false {"},
	{"the role stays asleep when the inbox has room", "client_wait.go",
		"func (c *Conn) resume() {\n\tif c.takeRole() {",
		"func (c *Conn) resume() {\n\tif false {"},
	{"a pause is not taken back", "client_role.go",
		"r.word.And(^uint64(rolePaused))", ""},
	{"a call that is given up stays counted", "client_wait.go",
		"\tc.role.unpark()\n\tp.err = contextError(ctx)", "\tp.err = contextError(ctx)"},
}

var writerMutants = []mutant{
	{"a request that is withdrawn wakes nobody", "writer_role.go",
		"if !r.ring.Starve(n) {\n\t\tr.wakeWaiters()", "if !r.ring.Starve(n) {"},
	{"a writer does not look for space after its request", "shm/producer.go",
		"if _, ok, err := p.Reserve(n); ok || err != nil {\n\t\tp.room = -1\n\t\tp.Fed()\n" +
			"\t\treturn false\n\t}\n", ""},
	{"space is not requested again", "writer_role.go",
		"r.want != 0 && !r.requestSpace(r.want)", "r.want != 0 && r.ring.Used() == 0"},
	{"a notification wakes the writers, and flushes nothing", "writer_role.go",
		"!r.requestSpace(r.want) {\n\t\tr.flushSoon()", "!r.requestSpace(r.want) {"},
	{"no goroutine of a client waits for notifications of space", "writer_role.go",
		"if r.spaceRequested != nil {", "if false {"},
	{"a client's waiter does not look for space", "client_wait.go",
		"\tc.tx.recheckSpace()\n", ""},
	{"a message begins within another", "writer_role.go",
		"if !r.busy && r.flush() {\n\t\t\tdst, err", "if r.flush() {\n\t\t\tdst, err"},
	{"a cancellation is written within a message", "writer_role.go",
		"r.closed == nil && !r.busy && !r.flush()", "r.closed == nil && !r.flush()"},
	{"the end of a message in pieces wakes nobody", "writer_role.go",
		"r.busy, r.abort = false, !complete\n\tr.resumeWriters()",
		"r.busy, r.abort = false, !complete\n\tr.flushSoon()"},
	{"the peer is not told that a message is given up", "writer_role.go",
		"r.busy, r.abort = false, !complete", "r.busy = false"},
	{"another message precedes the abort", "writer_role.go",
		"if !r.busy && r.flush() {\n\t\t\tdst, err", "if !r.busy {\n\t\t\tdst, err"},
	{"a cancellation waits for the next message", "writer_role.go",
		"r.controls = append(r.controls, c)\n\t}\n\tr.flushSoon()",
		"r.controls = append(r.controls, c)\n\t}"},
	{"a cancellation requests no space", "writer_role.go",
		"if r.requestSpace(r.unflushed()) {", "if true {"},
	{"the abort of a message requests no space", "writer_role.go",
		"n = max(n, 1)", "n = max(n, 0)"},
	{"close wakes nobody", "writer_role.go",
		"r.closed = err\n\t\tr.wakeWaiters()", "r.closed = err"},
	{"a writer does not look whether the connection is closed", "writer_role.go",
		"if r.closed != nil {\n\t\t\terr := r.closed", "if false {\n\t\t\terr := r.closed"},
	{"the writer of pieces does not look whether the connection is closed", "writer_role.go",
		"if r.closed != nil {\n\t\t\treturn nil, r.closed",
		"if false {\n\t\t\treturn nil, r.closed"},
	{"a reply fails where a message would", "writer_role.go",
		"if r.failFast && block == nil {", "if r.failFast {"},
	{"a writer that parks keeps the role", "writer_role.go",
		"released := r.released\n\tr.mu.Unlock()\n\tdefer r.mu.Lock()",
		"released := r.released"},
}

var gatherMutants = []mutant{
	{"what is gathered wakes nobody", "writer_role.go",
		"r.gathers--\n\tr.settle()", "r.gathers--"},
	{"a writer that gathers waits for room, and the peer is not notified", "writer_role.go",
		"r.settle() // only the peer makes room", ""},
	{"a notification is owed although nobody gathers", "writer_role.go",
		"if wake && r.gathers > 0 {", "if wake {"},
	{"a gather is not taken back", "writer_role.go",
		"r.gathers--\n\tr.settle()", "r.settle()"},
	{"what is owed is forgotten", "writer_role.go",
		"r.owed = false\n\t\tr.wire.Notify()", "r.owed = false"},
	{"what is owed is told again and again", "writer_role.go",
		"r.owed = false\n\t\tr.wire.Notify()", "r.wire.Notify()"},
}

var flowMutants = []mutant{
	{"a consumer announces its wait after it has looked", "flow.go",
		"wait()\n\t\t\t}\n\t\t\tf.mu.Unlock()",
		"}\n\t\t\tf.mu.Unlock()\n\t\t\tif end == nil {\n\t\t\t\twait()\n\t\t\t}"},
	{"a producer announces its wait after it has looked", "flow.go",
		"\t\twait()\n\t\treturn 0, false, nil",
		"\t\tf.mu.Unlock()\n\t\twait()\n\t\tf.mu.Lock()\n\t\treturn 0, false, nil"},
	{"credit is told when the window is full", "flow.go", "f.told.Load() < f.window/2 {",
		"f.told.Load() <= f.window {"},
	{"more is sent than the window holds", "flow.go", "f.sent+cost-f.paid > f.peerWindow:",
		"f.sent+cost-f.paid > 2*f.peerWindow:"},
	{"the end of the call does not stop its producer", "flow.go",
		"\tif f.stop == nil && stop != nil {", "\tif false {"},
	{"items are taken after the peer was told how many were", "flow.go",
		"f.taken.Or(callFrozen) &^ callFrozen", "f.count()"},
	{"an item that comes wakes nobody", "server_streaming.go",
		"\t\tsignal(f.items)\n\t\treturn err", "\t\treturn err"},
	{"credit wakes nobody", "server_streaming.go", "\t\tsignal(f.room)\n\t\treturn err",
		"\t\treturn err"},
	{"the end wakes only one of a client's waits", "client_streaming.go",
		"wakes = [2]*pending{&f.items, &f.room}", "wakes[0] = &f.items"},
	{"the end of the context does not wake a client", "client_streaming.go",
		"\tf.flow.mu.Unlock()\n\tf.wake(&f.items, nil)", "\tf.flow.mu.Unlock()"},
}

var runMutants = []mutant{
	{"the handler that has lost the role leaves its run", "server_message.go",
		"\t\tif !c.endInline(m.inline) {\n\t\t\tc.leaveMessages()\n\t\t\treturn false",
		"\t\tif !c.endInline(m.inline) {\n\t\t\treturn false"},
	{"the inbox does not wait for a handler that has lost the role", "server_handoff.go",
		"pace.foundSlow()\n\t\tc.inbox.hold()", "pace.foundSlow()"},
	{"the reader handles a message while others wait", "server_message.go",
		"!r.pace.slow() && !c.inbox.busy()", "!r.pace.slow()"},
	{"the run goes on before the role is handed off", "server_message.go",
		"\tc.handedOff()\n", ""},
	{"what is left of a run is lost", "server_message.go",
		"m.batch.rest(m.at)", "m.batch.rest(len(m.messages))"},
	{"what is left of a run stays in it", "server_message.go",
		"\tc.messages = messageRun{}\n", ""},
	{"a message that was handled is left, too", "server_message.go",
		"m.batch.rest(m.at)", "m.batch.rest(m.at - 1)"},
	{"messages that were handled stay in the run", "server_message.go",
		"m.batch, m.at = m.emptied(), 0", "m.at = 0"},
	{"two goroutines own the role", "server_handoff.go",
		"c.inline.CompareAndSwap(run|inlineSeen, next)",
		"c.inline.CompareAndSwap(run|inlineSeen, next) || true"},
	{"an inbox that has room does not say so", "inbox.go",
		"\t\tif freed {", "\t\tif freed && false {"},
	{"what the client has sent before it left is lost", "server_conn.go",
		"if ended {", "if ended || c.down.Load() != nil {"},
	{"a frame behind a run is lost", "receive.go",
		"-f.size() > n {\n\t\tr.ring.Unread()", "-f.size() > n {"},
}

// TestInterleaveMutants builds each fault into the package and expects the tests of every order to
// find it. It compiles the package, and the tests of every order alone, once per fault.
func TestInterleaveMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package for each fault")
	}
	for _, m := range roleMutants {
		t.Run(m.name, func(t *testing.T) { m.caught(t, "TestInterleaveReaderRole") })
	}
	for _, m := range writerMutants {
		t.Run(m.name, func(t *testing.T) { m.caught(t, "TestInterleaveWriterRole") })
	}
	for _, m := range gatherMutants {
		t.Run(m.name, func(t *testing.T) {
			m.caught(t, "TestInterleaveWriterRole$/^gathered.*")
		})
	}
	for _, m := range flowMutants {
		t.Run(m.name, func(t *testing.T) { m.caught(t, "TestInterleaveFlow") })
	}
	for _, m := range runMutants {
		t.Run(m.name, func(t *testing.T) { m.caught(t, "TestInterleaveMessageRun") })
	}
}

// caught fails unless the test finds the fault.
func (m *mutant) caught(t *testing.T, test string) {
	t.Parallel()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.from); n != 1 {
		t.Fatalf("%s has the text %q %d times", m.file, m.from, n)
	}
	dir := t.TempDir()
	mutated, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	write := func(name string, content []byte) {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(mutated, []byte(strings.Replace(string(text), m.from, m.to, 1)))
	replace := map[string]string{path: mutated}
	tests, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tests { // the others would have to be compiled, too
		if !strings.HasSuffix(name, "_interleave_test.go") {
			replace[filepath.Join(here, name)] = ""
		}
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	write(overlay, list)
	out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay,
		"-tags", "ipcinterleave", "-run", "^"+test+"$", "-failfast", ".").CombinedOutput()
	switch {
	case err == nil:
		t.Error("not found")
	case !strings.Contains(string(out), "--- FAIL"):
		t.Errorf("the fault does not compile, or the test crashes:\n%s", out)
	default:
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "_interleave_test.go") {
				t.Log(strings.TrimSpace(line))
				break
			}
		}
	}
}
