package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// crowd is how many instances of a service live.
const crowd = 100

// serveCrowd serves the greeter as many instances, in one process.
func serveCrowd() {
	r, err := registry.Open("", nil)
	if err != nil {
		panic(err)
	}
	for i := range crowd {
		channel := fmt.Sprintf("crowd_%d", i)
		l, err := ipc.Listen(channel)
		if err != nil {
			panic(err)
		}
		go func() {
			panic(ipc.NewServer(greeter.NewGreeterService(polite{})).Serve(context.Background(), l))
		}()
		if _, err := r.Register(registry.Record{Name: fmt.Sprintf("crowd.%d", i), Service: "crowd",
			Control: channel}); err != nil {
			panic(err)
		}
	}
	fmt.Println("ready")
	select {}
}

// TestCrowd looks at a domain that has more servers than a screen has lines.
func TestCrowd(t *testing.T) {
	newDomain(t)
	servers := serve(t, "crowd")
	code, out, _ := ipcctl(t, "", "ls")
	last := 0
	for i := range crowd { // in the order of their numbers
		at := strings.Index(out, fmt.Sprintf("\ncrowd.%d ", i))
		if at < last {
			t.Fatalf("crowd.%d is not where it belongs: status %d\n%s", i, code, out)
		}
		last = at
	}
	if _, out, _ = ipcctl(t, "", "doctor", "-json", "-timeout", "20s"); strings.Count(out,
		`"check": "channel crowd_`) != crowd {
		t.Errorf("doctor -json: %s", out)
	}
	expect(t, 0, fmt.Sprintf("\ncrowd.%d ", crowd-1), "", "", "ls", "-rates")
	stopped := serve(t, "stopped")
	if err := stopped.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Many that are well take one line, and none hides the one that is not.
	// The stopped one costs the whole timeout, which a busy machine needs for the others.
	for timeout := 10 * time.Second; ; timeout *= 2 {
		code, out, _ = ipcctl(t, "", "doctor", "-timeout", timeout.String())
		if code == exitFailed && !strings.Contains(out, "channel crowd_") &&
			strings.Contains(out, fmt.Sprintf("ok    channels: %d servers answer\n", crowd)) &&
			strings.Contains(out, "fail  channel stopped: ") {
			break
		}
		if timeout > 2*time.Minute {
			t.Fatalf("doctor: status %d\n%s", code, out)
		}
	}

	// The view shows the servers around the chosen one, and its methods.
	keyboard, tty := pseudo(t)
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Row: 24, Col: 150}); err != nil {
		t.Fatal(err)
	}
	shown := newLineWriter()
	go io.Copy(shown, keyboard)
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), []string{"ipcctl", "top", "-interval", "50ms"}, tty, tty,
			io.Discard)
	}()
	shown.await(t, fmt.Sprintf("servers 1 to 17 of %d", crowd+1))
	shown.await(t, "METHODS OF crowd.0")
	fmt.Fprint(keyboard, strings.Repeat("j", 50))
	shown.await(t, "\x1b[7mcrowd.50 ")
	fmt.Fprint(keyboard, "q")
	if code := <-done; code != 0 {
		t.Errorf("status %d", code)
	}

	// The files that they leave are counted.
	if err := servers.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = servers.Wait()
	_ = stopped.Kill()
	_, _ = stopped.Wait()
	expect(t, 0, fmt.Sprintf(" of %d channels without a server", crowd+1), "", "", "doctor")
	expect(t, 0, fmt.Sprintf(" and %d more\n", crowd+1-10), "", "", "doctor")
}
