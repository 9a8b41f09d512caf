package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/internal/command"
	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/cluster"
)

// The processes of a machine are this program with one of these arguments and a configuration.
const (
	serverRole = "server"
	memberRole = "member"
)

// readyLine is what a child prints when it is ready.
const readyLine = "ready"

// A memberConfig is the configuration of a member.
type memberConfig struct {
	Name  string
	URL   string // of the machine's server
	Lease time.Duration
}

// runChild is a process of a machine. It ends with the process that has started it.
func runChild(role, config string) int {
	err := startChild(role, []byte(config))
	if err != nil {
		fmt.Printf("%v\n", err)
		return command.Failed
	}
	fmt.Println(readyLine)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it, or ends
	return command.OK
}

func startChild(role string, config []byte) error {
	if role == serverRole {
		var cfg cluster.Config
		if err := json.Unmarshal(config, &cfg); err != nil {
			return err
		}
		_, err := cluster.Start(cfg)
		return err
	}
	var cfg memberConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return err
	}
	nc, err := natsipc.Connect(cfg.URL, nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	return join(nc, cfg)
}

// election is how long the servers may take to elect a leader of theirs.
const election = 2 * time.Minute

// join joins the group, as soon as the cluster can tell of it.
func join(nc *nats.Conn, cfg memberConfig) error {
	ctx, cancel := context.WithTimeout(context.Background(), election)
	defer cancel()
	engine := audioservice.NewEngine()
	m, err := natsipc.JoinGroup(ctx, nc, natsipc.GroupConfig{
		Group: audioservice.Service, Member: cfg.Name, State: engine, Lease: cfg.Lease,
		Logger: slog.New(slog.DiscardHandler),
	}, audio.NewAudioControlService(engine))
	if err != nil {
		return err
	}
	go func() {
		<-m.Done()
		fmt.Printf("%s: %v\n", cfg.Name, m.Err())
		os.Exit(command.Failed)
	}()
	return nil
}

// A child is a process of a machine.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
}

// startProcess starts a child and waits until it is ready.
func startProcess(ctx context.Context, role string, config any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, role, string(text))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	told := make(chan string, 1)
	go func() {
		defer close(c.ended)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			select {
			case told <- lines.Text():
			default:
			}
		}
		_ = cmd.Wait() // it is killed as a rule
	}()
	select {
	case line := <-told:
		if line == readyLine {
			return c, nil
		}
		err = fmt.Errorf("a %s cannot start: %s", role, strings.TrimSpace(line))
	case <-c.ended:
		err = fmt.Errorf("a %s has ended at its start", role)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.kill()
	return nil, err
}

// kill ends the process at once, as the loss of its machine would.
func (c *child) kill() {
	if c == nil {
		return
	}
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
	_ = c.stdin.Close()
}
