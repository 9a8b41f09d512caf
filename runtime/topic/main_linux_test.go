package topic_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// Tests with several processes run this test binary again, in a role that roleEnv names. A child
// says on its standard output when it is ready, and ends when its standard input does, so that none
// outlives the test.
const (
	roleEnv   = "IPC_TEST_ROLE"
	domainEnv = "IPC_TEST_DOMAIN"
	// inPlaceEnv makes a subscriber read in place.
	inPlaceEnv = "IPC_TEST_IN_PLACE"
	// killEnv makes a publisher kill itself when it has published that many messages.
	killEnv = "IPC_TEST_KILL"
	// subscribersEnv makes a publisher wait for that many subscribers instead of one.
	subscribersEnv = "IPC_TEST_SUBSCRIBERS"
	// letGoEnv has the LetGo of the publisher.
	letGoEnv = "IPC_TEST_LET_GO"
)

// messages is how many messages a publisher publishes.
const messages = 60

var roles = map[string]func(where ipc.RendezvousOption) error{
	"publisher":      publisherRole,
	"idle publisher": idlePublisherRole,
	"subscriber":     subscriberRole,
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := roles[role](ipc.WithDomain(os.Getenv(domainEnv))); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

// publisherRole publishes messages to the first subscriber, and ends in order.
func publisherRole(where ipc.RendezvousOption) error {
	limit, _ := time.ParseDuration(os.Getenv(letGoEnv))
	p := topic.NewPublisher(meter, topic.Options{Depth: 4, LetGo: limit})
	l, err := ipc.Listen(channelName, where)
	if err != nil {
		return err
	}
	srv := ipc.NewServer(p)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	fmt.Println("ready")
	subscribers, _ := strconv.Atoi(os.Getenv(subscribersEnv))
	for p.Subscribers() < max(1, subscribers) {
		time.Sleep(time.Millisecond)
	}
	last, _ := strconv.ParseUint(os.Getenv(killEnv), 10, 64)
	for n := range uint64(messages) {
		if last > 0 && n == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if n%2 == 0 {
			err = p.Publish(ctx, message(n))
		} else {
			m := message(n)
			err = p.Write(ctx, len(m), func(b []byte) error {
				copy(b, m)
				return nil
			})
		}
		cancel()
		if err != nil {
			return err
		}
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		return err
	}
	if err := <-served; err != ipc.ErrServerClosed {
		return err
	}
	return p.Close()
}

// subscriberRole reads all messages, or says that it was let go.
func subscriberRole(where ipc.RendezvousOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := topic.Subscribe(ctx, topic.Channel(channelName, where), meter, topic.SubscribeOptions{
		Policy: topic.Lossless, InPlace: os.Getenv(inPlaceEnv) != ""})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for n := uint64(0); n < messages; n++ {
		err := s.Read(ctx, func(m []byte, a topic.Arrival) error {
			if a.Number != n || a.Lost != 0 {
				return fmt.Errorf("%+v, not %d", a, n)
			}
			return checkMessage(m, n)
		})
		if ipc.CodeOf(err) == ipc.CodeResourceExhausted {
			os.Exit(letGo)
		}
		if err != nil {
			return err
		}
	}
	return s.Close()
}

// letGo is the status with which a subscriber ends that was told that it is too slow.
const letGo = 3

// A child is a process of this test.
type child struct {
	*exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when it has been reaped
}

// startChild starts a child in a role and waits until it is ready, has stopped or ended.
func startChild(t testing.TB, role, domain string, stderr io.Writer, env ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(exe), done: make(chan struct{})}
	c.Env = append(append(os.Environ(), roleEnv+"="+role, domainEnv+"="+domain), env...)
	c.Stderr = stderr
	if c.stdin, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = stdout
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	t.Cleanup(c.kill)
	go func() {
		_ = c.Wait()
		close(c.done)
	}()
	ready := make(chan struct{})
	go func() {
		defer out.Close()
		_, _ = bufio.NewReader(out).ReadString('\n')
		close(ready)
	}()
	for {
		select {
		case <-ready:
			return c
		case <-time.After(time.Millisecond):
			if c.stopped() {
				return c
			}
		}
	}
}

// stopped reports whether the child is stopped.
func (c *child) stopped() bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.Process.Pid) + "/stat")
	return err == nil && b[bytes.LastIndexByte(b, ')')+2] == 'T'
}

// kill ends the child by SIGKILL and reaps it.
func (c *child) kill() {
	_ = c.Process.Kill()
	<-c.done
}

// stop stops the child, and waits until it has stopped.
func (c *child) stop(t testing.TB) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for !c.stopped() {
		time.Sleep(time.Millisecond)
	}
}

// breaking are the options of a subscription that ends with its publisher.
func breaking(policy topic.Policy) topic.SubscribeOptions {
	return topic.SubscribeOptions{Policy: policy, OnBreak: func(why error) error { return why }}
}

// died reports whether why says that a publisher has died.
func died(why error) bool {
	return ipc.CodeOf(why) == ipc.CodeUnavailable && errors.Is(why, io.ErrUnexpectedEOF)
}
