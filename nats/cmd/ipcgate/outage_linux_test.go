package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/nats/internal/natstest"
)

// TestOutageIsLogged stops the NATS server of an export and starts it again. The log of ipcgate
// says both, of both of its connections.
func TestOutageIsLogged(t *testing.T) {
	broker := natstest.Start(t)
	r, w := io.Pipe()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"export", "-nats", broker.ClientURL(), "-domain",
			filepath.Join(t.TempDir(), "d"), "x"}, w, w)
		w.Close()
	}()
	// await reads lines until each text was in one.
	await := func(texts ...string) {
		t.Helper()
		for missing := len(texts); missing > 0; {
			line, ok := <-lines
			if !ok {
				t.Fatalf("the command has ended without one of %q", texts)
			}
			for i, text := range texts {
				if text != "" && strings.Contains(line, text) {
					texts[i] = ""
					missing--
					break
				}
			}
		}
	}
	await("the export waits")
	broker.Stop()
	lost := `msg="the connection to NATS is lost" connection=`
	await(lost+"ipcgate ", lost+"\"")
	broker.Restart(t)
	again := `msg="connected to NATS again" connection=`
	await(again+"ipcgate ", again+"\"")
	cancel()
	for range lines {
	}
	if status := <-ended; status != 0 {
		t.Errorf("status %d", status)
	}
}
