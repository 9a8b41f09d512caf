package group_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/audioservice"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/internal/sys/systest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// patience limits the wait for what is certain to come, on any machine. Groups have it as their
// limits, too, where a test takes for granted that they are not exceeded.
const patience = 5 * time.Minute

// The test binary runs itself for the replicas of a test. With this variable set it is the child of
// that name, with its arguments in os.Args.
const childVar = "GROUP_TEST_CHILD"

// hastyVar leaves a child the times for which suspects wait. Otherwise they wait until the machine
// has done its part, however slow it is.
const hastyVar = "GROUP_TEST_HASTY"

var children = map[string]func(args []string) error{
	"bare":      childBare,
	"silent":    childSilent,
	"exit":      childExit,
	"host":      childHost,
	"panicky":   childPanicky,
	"audio":     childAudio,
	"crashy":    childCrashy,
	"quitter":   childQuitter,
	"list":      childList,
	"ledger":    childLedger,
	"deaf":      childDeaf,
	"slow":      childSlow,
	"glutton":   childGlutton,
	"talker":    childTalker,
	"rogue":     childRogue,
	"chatter":   childChatter,
	"endless":   childEndless,
	"parent":    childParent,
	"successor": childSuccessor,
	"orderly":   childOrderly,
	"publisher": childPublisher,
	"delegate":  childDelegate,

	"scribbler":     childScribbler,
	"rogue primary": childRoguePrimary,
	"rogue standby": childRogueStandby,
	"hasty":         childHasty,
	"early":         childEarly,
	"estranged":     childEstranged,
	"leaky":         childLeaky,
	"attacked":      childAttacked,
	"loading":       childLoading,
	"trap":          childTrap,
	"besieged":      childBesieged,
	"callers":       childCallers,
}

func TestMain(m *testing.M) {
	if err := systest.Obey(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	if os.Getenv(hastyVar) == "" {
		group.SetTrialTimes(patience)
	}
	if name := os.Getenv(childVar); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(systest.RunWithoutLeaks(m))
}

// childCommand returns the command of a child of this test binary.
func childCommand(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// With the race detector a process sleeps for a second before it exits.
	cmd.Env = append(os.Environ(), childVar+"="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// childBare is a replica without channels, until SIGTERM.
func childBare(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Announce(registry.Record{}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// childSilent never registers, and ignores SIGTERM.
func childSilent(args []string) error {
	signal.Ignore(syscall.SIGTERM)
	time.Sleep(time.Hour)
	return nil
}

func childExit(args []string) error {
	fmt.Fprintln(os.Stderr, "first line\nwent", args[0])
	if args[0] == "1" {
		return fmt.Errorf("as told")
	}
	return nil
}

func childPanicky([]string) error {
	panic("as told")
}

// childHost supervises replicas of a service in a domain until SIGTERM. With "survive", they
// survive its death.
func childHost(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	kind, form, _ := strings.Cut(args[1], " ")
	cfg := map[string]group.Config{
		"bare": bareConfig(args[0]), "contained": containedConfig(args[0]),
		"audio": audioConfig(args[0]), "list": listConfig(args[0], 2),
		"ledger":  ledgerConfig(args[0]),
		"chatter": chatterConfig(args[0]), "scarce": scarceConfig(args[0]),
		"leaky":   leakyConfig(args[0]),
		"wrapped": wrappedConfig(args[0], form), "quitter": quitterConfig(args[0]),
	}[kind]
	cfg.Survive = len(args) > 2
	if cfg.Replication != nil {
		cfg.Replication.MinSync = 1 // two replicas have every change that was answered
	}
	command := cfg.Command
	cfg.Command = func(i int) *exec.Cmd { // crash points are for the host alone
		cmd := command(i)
		cmd.Env = append(cmd.Env, sys.CrashEnv+"=")
		return cmd
	}
	g, err := group.Start(ctx, cfg)
	if err != nil {
		return err
	}
	for _, r := range g.Replicas() {
		fmt.Println(r.PID)
	}
	fmt.Println("up")
	<-g.Done()
	return g.Shutdown(context.Background())
}

// bareUntilHangup is a replica without channels until SIGHUP, and returns then.
func bareUntilHangup() (*group.Replica, error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return nil, err
	}
	if err := r.Announce(registry.Record{}); err != nil {
		return nil, err
	}
	<-hup
	return r, nil
}

// childQuitter gives up its registration at SIGHUP, and stays.
func childQuitter([]string) error {
	r, err := bareUntilHangup()
	if err != nil {
		return err
	}
	r.Close()
	select {}
}

// childDeaf serves until SIGHUP, and stays registered without an endpoint.
func childDeaf(args []string) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	r, err := group.Join(group.JoinConfig{})
	if err != nil {
		return err
	}
	ln, err := ipc.Listen("deaf_" + args[0])
	if err != nil {
		return err
	}
	srv := ipc.NewServer(ipc.WithFence(r))
	go srv.Serve(context.Background(), ln)
	if err := r.Announce(registry.Record{Control: "deaf_" + args[0]}); err != nil {
		return err
	}
	<-hup
	srv.Close()
	select {}
}

// childAudio is a replica of the audio demo's service.
func childAudio(args []string) error {
	if code := audioservice.Run(context.Background(), args, io.Discard, os.Stderr); code != 0 {
		os.Exit(code)
	}
	return nil
}

func audioConfig(domain string) group.Config {
	return group.Config{
		Service: audioservice.Service, Domain: domain,
		ReadyTimeout: time.Minute,
		Command:      func(i int) *exec.Cmd { return childCommand("audio", strconv.Itoa(i)) },
	}
}

func newDomain(t testing.TB) string {
	return filepath.Join(t.TempDir(), "domain")
}

func bareConfig(domain string) group.Config {
	return group.Config{
		Service: "svc", Domain: domain,
		ReadyTimeout: time.Minute,
		Command:      func(int) *exec.Cmd { return childCommand("bare") },
	}
}

// startGroup starts a group that the end of the test shuts down.
func startGroup(t testing.TB, cfg group.Config) *group.Group {
	t.Helper()
	g, err := group.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		shutdown(t, g)
		nothingLeft(t, cfg.Domain)
	})
	return g
}

// shutdown ends a group, and returns after all its events were delivered.
func shutdown(t testing.TB, g *group.Group) {
	t.Helper()
	if err := g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// nothingLeft checks that no process, record, page, socket or lock of the groups of a domain is
// left.
func nothingLeft(t testing.TB, domain string) {
	t.Helper()
	if pids := processesOf(domain); len(pids) > 0 {
		t.Errorf("processes %v run", pids)
	}
	files, err := os.ReadDir(domain)
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		if f.Name() != ".registry" && f.Name() != ".groups" {
			t.Errorf("left: %s", f.Name())
		}
	}
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if recs, err := r.List(""); err != nil || len(recs) != 0 {
		t.Errorf("in the registry: %v, %v", recs, err)
	}
	if dead, err := r.GC(); err != nil || len(dead) != 0 {
		t.Errorf("left for GC: %v, %v", dead, err)
	}
	left, _ := filepath.Glob(filepath.Join(domain, ".groups", "*"))
	orders, _ := filepath.Glob(filepath.Join(domain, ".groups", ".orders", "*"))
	left = append(orders, slices.DeleteFunc(left, func(name string) bool {
		return filepath.Base(name) == ".orders"
	})...)
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// An eventLog collects a group's events.
type eventLog struct {
	mu  sync.Mutex
	all []group.Event
}

func (l *eventLog) add(ev group.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, ev)
}

func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, ev := range l.all {
		fmt.Fprintf(&b, "%v %s: %s %v\n", ev.Kind, ev.Replica, ev.Cause, ev.Err)
	}
	return b.String()
}

func (l *eventLog) has(kind group.EventKind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range l.all {
		if ev.Kind == kind {
			return true
		}
	}
	return false
}
