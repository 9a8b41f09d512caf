package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// stuckVar names a file. Once it exists, new replicas of a test's group do nothing.
const stuckVar = "IPCCTL_TEST_STUCK"

// superviseAudio supervises two replicas of the demo until the process is killed.
func superviseAudio() {
	g, err := group.Start(context.Background(), group.Config{
		Service: audioservice.Service, Stdout: io.Discard, Stderr: io.Discard,
		ReadyTimeout: time.Hour,
		Command: func(i int) *exec.Cmd {
			cmd := exec.Command(os.Args[0], strconv.Itoa(i))
			if _, err := os.Stat(os.Getenv(stuckVar)); err == nil {
				cmd = exec.Command("sleep", "3600")
			}
			cmd.Env = append(os.Environ(), childEnv+"=audio")
			return cmd
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	<-g.Done()
}
